"""HTS-AT, the hierarchical token-semantic audio transformer (Chen et al., 2022): Swin on a folded log-mel.

The audio branch of CLAP, and the encoder of captioning and retrieval systems.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import Rule, conv2d, linear, split_qkv
from jaxaudio.dsp.augment import spec_augment
from jaxaudio.errors import UsageError
from jaxaudio.nn.attention import SelfAttention
from jaxaudio.nn.dropout import drop, split
from jaxaudio.nn.norm import BatchNorm

_HIDDEN = -100.0  # the logit offset between positions that the cyclic shift brought together; Swin's value
_CUBIC = -0.75  # torch's bicubic coefficient


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of HTS-AT.

    Attributes:
      mel_bins: mel bands of the input; `spec_size` is a multiple.
      spec_size: side of the square image; the input is stretched to spec_size**2 / mel_bins frames.
      patch_size: side and stride of a patch.
      embed_dim: channels of the first stage; they double at every stage.
      depths: blocks per stage.
      heads: attention heads per stage.
      window: side of the attention window in tokens.
      mlp_ratio: width of the perceptrons over that of their stage.
      classes: outputs of the token-semantic tagging head, or None to leave it out.
      repeat: how often each step in time of `fine_grained` and `framewise` stands there; WavCaps has a step per frame.
      drop_path: how often the last block is left out in training, in [0, 1); the first never is, those between
        are in proportion (stochastic depth, Huang et al., 2016, arXiv:1603.09382).
      augment: blank stripes of the spectrogram in training.
    """

    mel_bins: int = 64
    spec_size: int = 256
    patch_size: int = 4
    embed_dim: int = 128
    depths: tuple[int, ...] = (2, 2, 12, 2)
    heads: tuple[int, ...] = (4, 8, 16, 32)
    window: int = 8
    mlp_ratio: float = 4.0
    classes: int | None = None
    repeat: int = 1
    drop_path: float = 0.1
    augment: bool = True

    @property
    def frames(self) -> int:
        """Most input frames: 1024 as published."""
        return self.spec_size * self.strips

    @property
    def strips(self) -> int:
        """Stretches of time that are stacked to make the image square: 4 as published."""
        return self.spec_size // self.mel_bins

    @property
    def features(self) -> int:
        """Width of the embedding: 1024 for `BASE`, 768 for `TINY`."""
        return self.embed_dim << (len(self.depths) - 1)


BASE = Config()
TINY = Config(embed_dim=96, depths=(2, 2, 6, 2))
WAVCAPS = dataclasses.replace(TINY, repeat=32)
"""The encoder of WavCaps' captioners and retrieval (Mei et al., 2023, arXiv:2303.17395)."""


@functools.lru_cache(maxsize=32)
def _bicubic_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Bicubic interpolation with aligned corners and repeated ends, as a (size_out, size_in) matrix."""
    position = np.arange(size_out) * (size_in - 1) / max(size_out - 1, 1)
    base = np.floor(position).astype(int)
    matrix = np.zeros((size_out, size_in))
    for tap in range(-1, 3):
        d = np.abs(position - base - tap)
        near = ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1
        far = _CUBIC * (((d - 5) * d + 8) * d - 4)
        np.add.at(matrix, (np.arange(size_out), np.clip(base + tap, 0, size_in - 1)), np.where(d <= 1, near, far))
    return matrix


def _check(log_mel: jax.Array, config: Config) -> None:
    _, frames, bands = log_mel.shape
    if frames > config.frames or bands != config.mel_bins:
        raise UsageError(
            f"HTS-AT takes {config.frames} frames of {config.mel_bins} bands at most, not {frames} of {bands}: crop."
        )


def fold(log_mel: jax.Array, config: Config) -> jax.Array:
    """Stretches a log-mel in time to `config.frames` and stacks its strips: low to high bands of the first quarter, ...

    Args:
      log_mel: (batch, frames, mel_bins), at most `config.frames` frames.
      config: the sizes.

    Returns:
      (batch, spec_size, spec_size), rows are bands within strips, columns are time within a strip.

    Raises:
      UsageError: too many frames, or another number of bands.
    """
    _check(log_mel, config)
    batch, frames, bands = log_mel.shape
    if frames < config.frames:
        matrix = jnp.asarray(_bicubic_matrix(frames, config.frames), log_mel.dtype)
        log_mel = jnp.einsum("ij,bjf->bif", matrix, log_mel, precision="highest")
    strips = log_mel.reshape(batch, config.strips, config.spec_size, bands)
    return strips.swapaxes(2, 3).reshape(batch, config.spec_size, config.spec_size)


@functools.lru_cache(maxsize=8)
def _relative_index(window: int) -> np.ndarray:
    """Row of the bias table for every (query, key) pair of a window: (window**2, window**2)."""
    row, column = np.divmod(np.arange(window * window), window)
    offset = window - 1
    return (row[:, None] - row + offset) * (2 * window - 1) + (column[:, None] - column + offset)


@functools.lru_cache(maxsize=8)
def _shift_bias(side: int, window: int, shift: int) -> np.ndarray:
    """Logit offsets that keep the wrapped-around parts of shifted windows apart: (windows, window**2, window**2)."""
    part = np.searchsorted([side - window, side - shift], np.arange(side), side="right")
    label = part[:, None] * 3 + part
    count = side // window
    label = label.reshape(count, window, count, window).swapaxes(1, 2).reshape(count * count, window * window)
    return np.where(label[:, :, None] != label[:, None, :], _HIDDEN, 0.0)


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)


class _WindowAttention(nn.Module):
    """Self-attention within windows, with a learnt bias per relative position."""

    heads: int
    window: int
    shift: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, side, side, channels) -> the same."""
        batch, side, _, channels = x.shape
        window, count = self.window, side // self.window
        shape = ((2 * window - 1) ** 2, self.heads)
        table = self.param("relative_position_bias_table", nn.initializers.truncated_normal(0.02), shape)
        bias = table[_relative_index(window)].transpose(2, 0, 1)[None]
        if self.shift:
            x = jnp.roll(x, (-self.shift, -self.shift), (1, 2))
            bias = bias + jnp.asarray(_shift_bias(side, window, self.shift)[:, None], bias.dtype)
            bias = jnp.tile(bias, (batch, 1, 1, 1))
        x = x.reshape(batch, count, window, count, window, channels).swapaxes(2, 3)
        x = SelfAttention(self.heads, name="self")(x.reshape(-1, window * window, channels), bias)
        x = nn.Dense(channels, name="proj")(x).reshape(batch, count, count, window, window, channels)
        x = x.swapaxes(2, 3).reshape(batch, side, side, channels)
        return jnp.roll(x, (self.shift, self.shift), (1, 2)) if self.shift else x


class _Mlp(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = jax.nn.gelu(nn.Dense(self.width, name="fc1")(x), approximate=False)
        return nn.Dense(x.shape[-1], name="fc2")(hidden)


class _Block(nn.Module):
    heads: int
    window: int
    shift: int
    mlp_ratio: float
    drop_path: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        first, second = split(key, 2)
        x = x + self._kept(_WindowAttention(self.heads, self.window, self.shift, name="attn")(_norm("norm1")(x)), first)
        return x + self._kept(_Mlp(int(x.shape[-1] * self.mlp_ratio), name="mlp")(_norm("norm2")(x)), second)

    def _kept(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        """What a part adds, of the items that do not leave it out; more of it, so that its mean stays."""
        return x if key is None else x * drop(jnp.ones((x.shape[0], 1, 1, 1), x.dtype), self.drop_path, key)


class _PatchMerging(nn.Module):
    """Joins the tokens of each 2 x 2 square, in the order of the original: down the columns first."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, side, _, channels = x.shape
        x = x.reshape(batch, side // 2, 2, side // 2, 2, channels).transpose(0, 1, 3, 4, 2, 5)
        x = x.reshape(batch, side // 2, side // 2, 4 * channels)
        return nn.Dense(2 * channels, use_bias=False, name="reduction")(_norm("norm")(x))


class _Stage(nn.Module):
    config: Config
    index: int

    @nn.compact
    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, list[jax.Array]]:
        c, side = self.config, x.shape[1]
        keys = split(key, c.depths[self.index])
        before, blocks = sum(c.depths[: self.index]), sum(c.depths)
        window = min(c.window, side)
        states = []
        for i in range(c.depths[self.index]):
            shift = window // 2 if i % 2 and side > window else 0
            rate = c.drop_path * (before + i) / max(blocks - 1, 1)
            x = _Block(c.heads[self.index], window, shift, c.mlp_ratio, rate, name=f"blocks_{i}")(x, keys[i])
            states.append(x)
        last = self.index == len(c.depths) - 1
        return (x if last else _PatchMerging(name="downsample")(x)), states


class _PatchEmbed(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        size = (self.config.patch_size, self.config.patch_size)
        x = nn.Conv(self.config.embed_dim, size, strides=size, padding="VALID", name="proj")(image[..., None])
        return _norm("norm")(x)


class HTSAT(nn.Module):
    """The whole encoder; apply it to variables with the collections "params" and "batch_stats"."""

    config: Config

    @nn.compact
    def __call__(self, log_mel: jax.Array, train: bool = False, key: jax.Array | None = None) -> Any:
        """Encodes a log-mel.

        Args:
          log_mel: (batch, frames, mel_bins), at most `config.frames` frames; shorter ones are stretched.
          train: normalise the bands by this batch's statistics, and update the running ones.
          key: () or (batch,), draws SpecAugment's stripes and the blocks that are left out; without it neither happens.

        Returns:
          A dict; take what you need inside `jit`, and the rest is never computed:
          `embedding` (batch, features), the mean token; `fine_grained` (batch, time, features), the mean over
          frequency, 32 steps as published, each `config.repeat` times; with `config.classes`, the probabilities
          `clipwise` (batch, classes) and `framewise` (batch, time, classes), and `tscam_conv`, the logits of the
          latter; and on the way `image`, `patch_embed`, `layers_I_blocks_J`, `layers_I` and `norm` as maps (batch,
          side, side[, channels]) with frequency within strips down the rows, and time along the columns.
        """
        c = self.config
        _check(log_mel, c)  # before the norm, which would fail less clearly
        first, *keys = split(key, 1 + len(c.depths))
        x = BatchNorm(name="bn0")(log_mel, train)
        out = {"image": fold(x if first is None or not c.augment else spec_augment(first, x), c)}
        x = out["patch_embed"] = _PatchEmbed(c, name="patch_embed")(out["image"])
        for i in range(len(c.depths)):
            x, states = _Stage(c, i, name=f"layers_{i}")(x, keys[i])
            out |= {f"layers_{i}_blocks_{j}": state for j, state in enumerate(states)} | {f"layers_{i}": x}
        x = out["norm"] = _norm("norm")(x)
        batch, side, _, features = x.shape
        # Unfold the strips: (batch, bands, time, features), time running through all strips.
        x = x.reshape(batch, c.strips, side // c.strips, side, features).swapaxes(1, 2)
        x = x.reshape(batch, side // c.strips, c.strips * side, features)
        out["fine_grained"] = jnp.repeat(jnp.mean(x, 1), c.repeat, 1)
        out["embedding"] = jnp.mean(x, (1, 2))
        if c.classes is not None:
            kernel = (side // c.strips, 3)
            conv = nn.Conv(c.classes, kernel, padding=((0, 0), (1, 1)), name="tscam_conv")
            logits = out["tscam_conv"] = conv(x)[:, 0]
            out["clipwise"] = jax.nn.sigmoid(jnp.mean(logits, 1))
            out["framewise"] = jnp.repeat(jax.nn.sigmoid(logits), c.repeat, 1)
        return out


def init(key: jax.Array, config: Config) -> Any:
    """Random variables {"params": ..., "batch_stats": ...}; under `jax.eval_shape`, their shapes at no cost."""
    return HTSAT(config).init(key, jnp.zeros((1, config.frames, config.mel_bins)))


def apply(
    params: Any, config: Config, log_mel: jax.Array, *, train: bool = False, key: jax.Array | None = None
) -> tuple[Any, Any]:
    """What the encoder makes of log-mel spectrograms: (the dict of `HTSAT`, the statistics, new in training)."""
    made, changed = HTSAT(config).apply(params, log_mel, train, key, mutable=["batch_stats"])
    return made, changed["batch_stats"]


def weights(config: Config, path: str = "") -> tuple[Rule, ...]:
    """Conversion rules from the keys of LAION, WavCaps and Hugging Face to the variables.

    Args:
      config: a tagging head that it lacks is dropped.
      path: where the encoder lies below "params" and "batch_stats", e.g. "audio_branch/".
    """
    tree = f"params/{path}"

    def affine(key: str, target: str, op=linear) -> tuple[Rule, Rule]:
        return Rule(rf"{key}\.weight", f"{tree}{target}/kernel", op), Rule(rf"{key}\.bias", f"{tree}{target}/bias")

    def norm(key: str, target: str) -> tuple[Rule, Rule]:
        return Rule(rf"{key}\.weight", f"{tree}{target}/scale"), Rule(rf"{key}\.bias", f"{tree}{target}/bias")

    block, at = r"layers\.(\d+)\.blocks\.(\d+)", r"layers_\1/blocks_\2"
    bn, stats = "(?:bn0|batch_norm)", f"batch_stats/{path}bn0"
    qkv = [rf"{tree}{at}/attn/self/{name}" for name in ("query", "key", "value")]
    head = affine("tscam_conv", "tscam_conv", conv2d) if config.classes else (Rule(r"tscam_conv\.(weight|bias)", None),)
    return (
        # The front-end's fixed kernels and the positions and masks of the windows are computed, not loaded.
        Rule(r"(spectrogram_extractor|audio_feats_extractor\.mel_trans)\.stft\.conv_(real|imag)\.weight", None),
        Rule(r"(logmel_extractor|audio_feats_extractor\.log_trans)\.melW", None),
        Rule(rf"{block}\.(attn|attention\.self)\.relative_position_index", None),
        Rule(rf"{block}\.attn_mask", None),
        *norm(bn, "bn0"),
        Rule(rf"{bn}\.running_mean", f"{stats}/mean"),
        Rule(rf"{bn}\.running_var", f"{stats}/var"),
        Rule(rf"{bn}\.num_batches_tracked", None),
        *affine(r"patch_embed\.proj", "patch_embed/proj", conv2d),
        *norm(r"patch_embed\.norm", "patch_embed/norm"),
        *norm(rf"{block}\.(?:norm1|layernorm_before)", f"{at}/norm1"),
        *norm(rf"{block}\.(?:norm2|layernorm_after)", f"{at}/norm2"),
        Rule(
            rf"{block}\.(?:attn|attention\.self)\.relative_position_bias_table",
            f"{tree}{at}/attn/relative_position_bias_table",
        ),
        Rule(rf"{block}\.attn\.qkv\.weight", tuple(f"{q}/kernel" for q in qkv), split_qkv),
        Rule(rf"{block}\.attn\.qkv\.bias", tuple(f"{q}/bias" for q in qkv), split_qkv),
        *affine(rf"{block}\.attention\.self\.(query|key|value)", rf"{at}/attn/self/\3"),
        *affine(rf"{block}\.(?:attn\.proj|attention\.output\.dense)", f"{at}/attn/proj"),
        *affine(rf"{block}\.(?:mlp\.fc1|intermediate\.dense)", f"{at}/mlp/fc1"),
        *affine(rf"{block}\.(?:mlp\.fc2|output\.dense)", f"{at}/mlp/fc2"),
        Rule(r"layers\.(\d+)\.downsample\.reduction\.weight", rf"{tree}layers_\1/downsample/reduction/kernel", linear),
        *norm(r"layers\.(\d+)\.downsample\.norm", r"layers_\1/downsample/norm"),
        *norm("norm", "norm"),
        *head,
        Rule(r"head\.(weight|bias)", None),  # a linear layer that the original never calls
    )
