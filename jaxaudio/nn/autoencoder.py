"""The variational autoencoder of mel spectrograms in AudioLDM, AudioLDM 2 and FlowSep (AutoencoderKL).

A resnet that halves time and frequency at every level but the coarsest, one attention layer in the middle, and its
mirror image (Rombach et al., 2022, arXiv:2112.10752; Liu et al., 2023, arXiv:2301.12503, section 3.2).
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.convert.rules import Rule, conv2d
from jaxaudio.errors import UsageError
from jaxaudio.nn.attention import attend
from jaxaudio.nn.conv import Conv3x3, Pointwise
from jaxaudio.nn.resnet import Downsample, GroupNorm, ResnetBlock, Upsample
from jaxaudio.precision import computed, wide

_LOGVAR_RANGE = (-30.0, 20.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of an autoencoder.

    Attributes:
      mels: bands of the spectrogram; a multiple of `factor`.
      channels: of the finest level.
      multipliers: channels of each level, from fine to coarse, in multiples of `channels`.
      blocks: residual blocks of a level of the encoder; the decoder's have one more.
      latent: channels of the latent.
      groups: of every group normalisation.
      dtype: compute dtype, "float32" or "bfloat16"; norms and softmax, and what is returned, stay float32.
    """

    mels: int = 64
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 4)
    blocks: int = 2
    latent: int = 8
    groups: int = 32
    dtype: str = "float32"

    @property
    def factor(self) -> int:
        """Frames, and mel bands, per position of the latent."""
        return 1 << (len(self.multipliers) - 1)


AUDIOLDM_16K = Config()
"""AudioLDM and AudioLDM 2 at 16 kHz, and FlowSep: (1024, 64) log-mels to (256, 16, 8) latents; 55 M parameters."""

AUDIOLDM_48K = Config(mels=256, multipliers=(1, 2, 4, 8), latent=16)
"""AudioLDM at 48 kHz: (1024, 256) log-mels to (128, 32, 16) latents."""


class _Attention(nn.Module):
    """Self-attention with one head over all positions, added to its input."""

    groups: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = GroupNorm(self.groups, name="norm")(x)
        query, key, value = (Pointwise(x.shape[-1], name=name)(y) for name in "qkv")
        query, key, value = (z.reshape(z.shape[0], -1, 1, z.shape[-1]) for z in (query, key, value))
        return x + Pointwise(x.shape[-1], name="proj_out")(attend(query, key, value).reshape(x.shape))


class _Middle(nn.Module):
    groups: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, Array]:
        x = ResnetBlock(x.shape[-1], groups=self.groups, name="block_1")(x)
        attended = _Attention(self.groups, name="attn_1")(x)
        return ResnetBlock(x.shape[-1], groups=self.groups, name="block_2")(attended), attended


class _Level(nn.Module):
    """Residual blocks, and a change of resolution after them."""

    features: int
    blocks: int
    groups: int
    resample: Literal["down", "up"] | None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for i in range(self.blocks):
            x = ResnetBlock(self.features, groups=self.groups, name=f"block_{i}")(x)
        if self.resample == "down":
            return Downsample(self.features, padding="end", name="downsample")(x)
        return x if self.resample is None else Upsample(self.features, name="upsample")(x)


class _Encoder(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array) -> dict[str, Array]:
        c = self.config
        made = {}
        x = Conv3x3(c.channels, name="conv_in")(x)
        for i, multiplier in enumerate(c.multipliers):
            features, last = multiplier * c.channels, i == len(c.multipliers) - 1
            down = None if last else "down"
            x = made[f"down_{i}"] = _Level(features, c.blocks, c.groups, down, name=f"down_{i}")(x)
        x, made["attention"] = _Middle(c.groups, name="mid")(x)
        x = nn.silu(GroupNorm(c.groups, name="norm_out")(x))
        return {**made, "out": Conv3x3(2 * c.latent, name="conv_out")(x)}


class _Decoder(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, z: Array) -> dict[str, Array]:
        c = self.config
        made = {}
        x = Conv3x3(c.channels * c.multipliers[-1], name="conv_in")(z)
        x, made["attention"] = _Middle(c.groups, name="mid")(x)
        for i, multiplier in reversed(list(enumerate(c.multipliers))):
            features = multiplier * c.channels
            up = "up" if i else None
            x = made[f"up_{i}"] = _Level(features, c.blocks + 1, c.groups, up, name=f"up_{i}")(x)
        x = made["last"] = nn.silu(GroupNorm(c.groups, name="norm_out")(x))
        return {**made, "out": Conv3x3(1, name="conv_out")(x)}


class _Autoencoder(nn.Module):
    config: Config

    def setup(self) -> None:
        c = self.config
        self.encoder, self.decoder = _Encoder(c), _Decoder(c)
        self.quant_conv, self.post_quant_conv = Pointwise(2 * c.latent), Pointwise(c.latent)

    def encode(self, mel: Array) -> dict[str, Array]:
        made = self.encoder(computed(mel, self.config.dtype))
        return {**made, "moments": wide(self.quant_conv(made["out"]))}

    def decode(self, z: Array) -> dict[str, Array]:
        made = self.decoder(self.post_quant_conv(computed(z, self.config.dtype)))
        return {**made, "mel": wide(made["out"])}

    def both(self, mel: Array) -> Array:
        return self.decode(self.encode(mel)["moments"][..., : self.config.latent])["mel"]


def init(key: Array, config: Config) -> Any:
    """Random variables {"params": ...}; under `jax.eval_shape`, their shapes at no cost."""
    return _Autoencoder(config).init(key, jnp.zeros((1, config.factor, config.mels, 1)), method="both")


def encode(params: Any, config: Config, mel: Array) -> tuple[Array, Array]:
    """The posterior of the latent given a spectrogram.

    Args:
      params: variables of `init` or of a converted checkpoint.
      config: the configuration that they belong to.
      mel: (batch, frames, mels, 1) log-mel; frames a multiple of `config.factor`.

    Returns:
      Mean and logarithm of the variance, each (batch, frames / factor, mels / factor, latent).

    Raises:
      UsageError: the spectrogram's shape does not divide.
    """
    made = encode_intermediates(params, config, mel)
    return made["mean"], made["logvar"]


def decode(params: Any, config: Config, z: Array) -> Array:
    """The spectrogram of a latent (batch, time, frequency, latent), not scaled: (batch, factor * time, mels, 1)."""
    return decode_intermediates(params, config, z)["mel"]


def encode_intermediates(params: Any, config: Config, mel: Array) -> Any:
    """Like `encode`, but returns everything computed on the way by name: "down_0", "attention", "moments", ..."""
    if mel.ndim != 4 or mel.shape[3] != 1 or mel.shape[2] != config.mels or mel.shape[1] % config.factor:
        raise UsageError(
            f"The autoencoder takes (batch, frames, {config.mels}, 1) with a multiple of {config.factor} frames, "
            f"not {mel.shape}: pad the spectrogram."
        )
    made: Any = _Autoencoder(config).apply(params, mel, method="encode")
    mean, logvar = jnp.split(made["moments"], 2, -1)
    return {**made, "mean": mean, "logvar": jnp.clip(logvar, *_LOGVAR_RANGE)}


def decode_intermediates(params: Any, config: Config, z: Array) -> Any:
    """Like `decode`, but returns everything computed on the way by name: "attention", "up_2", ..., "mel".

    "last" is the input of the last layer.
    """
    if z.ndim != 4 or z.shape[2:] != (config.mels // config.factor, config.latent):
        size = f"(batch, time, {config.mels // config.factor}, {config.latent})"
        raise UsageError(f"The autoencoder's latents are {size}, not {z.shape}: is it the latent of another variant?")
    return _Autoencoder(config).apply(params, z, method="decode")


def sample(mean: Array, logvar: Array, key: Array, index: Array | None = None) -> Array:
    """Draws from the posterior.

    Args:
      mean: (batch, ...) as `encode` gives it.
      logvar: the same shape.
      key: typed PRNG key.
      index: (batch,) each item's number, which alone decides its draw; 0, 1, 2, ... when left out.
    """
    index = jnp.arange(mean.shape[0]) if index is None else index
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    noise = jax.vmap(lambda k: jax.random.normal(k, mean.shape[1:], mean.dtype))(keys)
    return mean + jnp.exp(0.5 * logvar) * noise


def kl(mean: Array, logvar: Array) -> Array:
    """Divergence of the posterior from a standard normal, (batch,): the MEAN over the latent, as AudioLDM has it."""
    each = 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1 - logvar)
    return jnp.mean(each, axis=tuple(range(1, each.ndim)))


def latent_scale(z: Array) -> Array:
    """The factor that gives latents unit variance: 1 / std over all of them, with the unbiased variance, as published.

    AudioLDM takes it from the first training batch and stores it in the checkpoint.
    """
    return 1 / jnp.std(z, ddof=1)


def weights(config: Config) -> tuple[Rule, ...]:
    """Conversion rules, for the names of the original and of `diffusers` (of both its generations)."""

    def conv(key: str, path: str) -> tuple[Rule, Rule]:
        return Rule(rf"{key}\.weight", f"params/{path}/kernel", _kernel), Rule(rf"{key}\.bias", f"params/{path}/bias")

    def norm(key: str, path: str) -> tuple[Rule, Rule]:
        return Rule(rf"{key}\.weight", f"params/{path}/scale"), Rule(rf"{key}\.bias", f"params/{path}/bias")

    def block(key: str, path: str) -> tuple[Rule, ...]:
        return (
            *norm(rf"{key}\.(?P<leaf>norm[12])", rf"{path}/\g<leaf>"),
            *conv(rf"{key}\.(?P<leaf>conv[12])", rf"{path}/\g<leaf>"),
            *conv(rf"{key}\.(?:nin|conv)_shortcut", f"{path}/nin_shortcut"),
        )

    def middle(key: str, path: str, blocks: tuple[str, str]) -> tuple[Rule, ...]:
        attention, at = rf"{key}\.(?:attn_1|attentions\.0)", f"{path}/attn_1"
        return (
            *block(rf"{key}\.{blocks[0]}", f"{path}/block_1"),
            *block(rf"{key}\.{blocks[1]}", f"{path}/block_2"),
            *norm(rf"{attention}\.(?:group_)?norm", f"{at}/norm"),
            *conv(rf"{attention}\.(?:to_)?(?P<leaf>[qkv])", rf"{at}/\g<leaf>"),
            *(rule for name in ("query", "key", "value") for rule in conv(rf"{attention}\.{name}", f"{at}/{name[0]}")),
            *conv(rf"{attention}\.(?:proj_out|to_out\.0|proj_attn)", f"{at}/proj_out"),
        )

    half, levels = r"(?P<half>encoder|decoder)", range(len(config.multipliers))
    rules = [
        *conv("(quant_conv|post_quant_conv)", r"\1"),
        *conv(rf"{half}\.(?P<leaf>conv_in|conv_out)", r"\g<half>/\g<leaf>"),
        *norm(rf"{half}\.(?:norm_out|conv_norm_out)", r"\g<half>/norm_out"),
        *middle(rf"{half}\.mid", r"\g<half>/mid", (r"block_1", r"block_2")),
        *middle(rf"{half}\.mid_block", r"\g<half>/mid", (r"resnets\.0", r"resnets\.1")),
        *block(r"(encoder|decoder)\.(down|up)\.(\d)\.block\.(\d)", r"\1/\2_\3/block_\4"),
        *conv(r"(encoder|decoder)\.(down|up)\.(\d)\.((?:down|up)sample)\.conv", r"\1/\2_\3/\4/conv"),
        *block(r"encoder\.down_blocks\.(\d)\.resnets\.(\d)", r"encoder/down_\1/block_\2"),
        *conv(r"encoder\.down_blocks\.(\d)\.downsamplers\.0\.conv", r"encoder/down_\1/downsample/conv"),
    ]
    for i in levels:  # diffusers counts the decoder's levels from the coarsest
        theirs, ours = rf"decoder\.up_blocks\.{len(levels) - 1 - i}", f"decoder/up_{i}"
        rules += block(rf"{theirs}\.resnets\.(\d)", rf"{ours}/block_\1")
        rules += conv(rf"{theirs}\.upsamplers\.0\.conv", f"{ours}/upsample/conv")
    return tuple(rules)


def _kernel(x: np.ndarray) -> np.ndarray:
    """The weight of a convolution, or of the linear layer that diffusers makes of a 1x1 convolution."""
    return conv2d(x[:, :, None, None] if x.ndim == 2 else x)
