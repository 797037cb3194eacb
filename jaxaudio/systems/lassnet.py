"""LASS-Net: separate what you describe (Liu et al., 2022, arXiv:2203.15147).

A small BERT reads the query; a residual U-Net over the magnitude spectrogram of the mixture, biased by the query in
every block, predicts how much of each bin to keep. The mixture's phase is kept. BERT is trained along with the U-Net.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array

from jaxaudio.convert.rules import Rule, batch_norm, conv2d, conv_transpose2d, linear, prefixed
from jaxaudio.dsp.stft import istft, magnitude, stft
from jaxaudio.errors import ConfigError
from jaxaudio.nn.conv import Conv3x3, Pointwise, average_pool
from jaxaudio.nn.norm import BatchNorm
from jaxaudio.text import bert

Params = Any

_FLOOR = 1e-20  # of the power; invisible in float32, keeps the gradient finite in silence
_SLOPE = 0.01  # of every leaky ReLU
_UNSEEN = 2  # highest bins, which the U-Net does not see


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a LASS-Net.

    Attributes:
      sample_rate: samples per second of mixture and output.
      n_fft: STFT window in samples; n_fft / 2 must be a multiple of 2 ** len(channels).
      hop: samples between STFT frames.
      text: the query encoder.
      condition_size: length of the query embedding.
      channels: channels of the encoder blocks, from fine to coarse; the decoder mirrors them.
      bottleneck: channels at the coarsest resolution.
      momentum: torch momentum of every BatchNorm.
      chunk: seconds of (left context, kept centre, right context) of one window of chunked inference.
      dtype: compute dtype of the U-Net, "float32" or "bfloat16"; STFT, statistics and masks stay float32.

    Raises:
      ConfigError: `n_fft` does not fit the number of encoder blocks.
    """

    sample_rate: int = 32000
    n_fft: int = 1024
    hop: int = 512
    text: bert.Config = bert.BERT_MINI
    condition_size: int = 256
    channels: tuple[int, ...] = (32, 64, 128, 256, 384, 384)
    bottleneck: int = 384
    momentum: float = 0.1
    chunk: tuple[float, float, float] = (1.024, 8.192, 1.024)
    dtype: str = "float32"

    def __post_init__(self):
        # Halving (n - 1) / 2 and doubling 2 n + 1 undo each other only while the number of bins stays odd.
        if self.n_fft % (2 * self.time_multiple):
            raise ConfigError(
                f"{len(self.channels)} encoder blocks need an n_fft that is a multiple of {2 * self.time_multiple}, "
                f"not {self.n_fft}."
            )

    @property
    def time_multiple(self) -> int:
        """Frames are padded at the end to a multiple of this, the product of the poolings."""
        return 2 ** len(self.channels)


LASSNET = Config()
"""LASS-Net as published: 32 kHz, conditioned on the first token of BERT-mini."""

MINI = Config(
    sample_rate=16000,
    n_fft=512,
    hop=256,
    text=bert.Config(
        vocab_size=8600,
        hidden_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=640,
        max_position_embeddings=64,
        pooler=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    condition_size=128,
    channels=(16, 32, 64, 96, 128),
    bottleneck=128,
)
"""Small enough to train on a laptop, with a text encoder the size of the one in the package."""


class _Film(nn.Module):
    """Two-layer perceptron from the condition to a non-negative bias per channel; it shifts and does not scale."""

    features: int

    @nn.compact
    def __call__(self, x: Array, condition: Array) -> Array:
        y = nn.relu(nn.Dense(2 * self.features, name="linear_0")(condition))
        y = nn.relu(nn.Dense(self.features, name="linear_2")(y))
        return x + y[:, None, None].astype(x.dtype)


class _Block(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions, each biased by the condition (`ConvBlockResCond`)."""

    features: int
    momentum: float
    axis_name: str | None

    @nn.compact
    def __call__(self, *parts: Array, condition: Array, train: bool) -> Array:
        skip = parts[0]
        if [part.shape[-1] for part in parts] != [self.features]:
            skip = Pointwise(self.features, name="shortcut")(*parts)
            skip = _Film(self.features, name="film_res")(skip, condition)
        for i in (1, 2):
            norm = BatchNorm(momentum=self.momentum, axis_name=self.axis_name, name=f"bn{i}")
            active = [nn.leaky_relu(x, _SLOPE) for x in norm.parts(parts, train)]
            x = Conv3x3(self.features, bias=False, fast=not train, name=f"conv{i}")(*active)
            parts = (_Film(self.features, name=f"film{i}")(x, condition),)
        return skip + parts[0]


class _Upsample(nn.Module):
    """3x3 transposed convolution of stride 2 without its last row: (time, freq) -> (2 time, 2 freq + 1).

    Written as matrix products, one per row of the kernel, and shifted sums. Convolutions of the input that give the
    even and odd rows and columns are as fast, but their gradients are slow by an order of magnitude on CPUs.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, time, freq, inputs = x.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, inputs, self.features)).astype(x.dtype)

        def row(taps: Array) -> Array:
            """(batch, time, freq + 1, 2 features): columns 2 f and 2 f + 1 side by side; the third tap is 2 (f + 1)."""
            y = x @ taps.transpose(1, 0, 2).reshape(inputs, -1)
            here, after = jnp.split(y, [2 * self.features], -1)
            here = jnp.pad(here, ((0, 0), (0, 0), (0, 1), (0, 0)))
            return here + jnp.pad(after, ((0, 0), (0, 0), (1, 0), (0, self.features)))

        below = jnp.pad(row(kernel[2])[:, :-1], ((0, 0), (1, 0), (0, 0), (0, 0)))
        y = jnp.stack([row(kernel[0]) + below, row(kernel[1])], 2)
        return y.reshape(batch, 2 * time, 2 * freq + 2, self.features)[:, :, :-1]


class _Encoder(nn.Module):
    features: int
    momentum: float
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, condition: Array, train: bool) -> tuple[Array, Array]:
        for i in (1, 2):
            x = _Block(self.features, self.momentum, self.axis_name, name=f"conv_block{i}")(
                x, condition=condition, train=train
            )
        return average_pool(x, (2, 2)), x


class _Decoder(nn.Module):
    features: int
    momentum: float
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, skip: Array, condition: Array, train: bool) -> Array:
        x = nn.relu(BatchNorm(momentum=self.momentum, axis_name=self.axis_name, name="bn1")(x, train))
        parts = _Upsample(self.features, name="conv1")(x), skip
        for i in (2, 3):
            block = _Block(self.features, self.momentum, self.axis_name, name=f"conv_block{i}")
            parts = (block(*parts, condition=condition, train=train),)
        return parts[0]


class _UNet(nn.Module):
    config: Config
    axis_name: str | None = None

    @nn.compact
    def __call__(self, mag: Array, condition: Array, train: bool = False) -> dict[str, Array]:
        """Maps magnitudes (batch, frames, bins) to mask logits of the same shape and to intermediates, by name."""
        c = self.config
        made: dict[str, Array] = {}
        frames = mag.shape[1]
        x = jnp.pad(mag, ((0, 0), (0, -frames % c.time_multiple), (0, 0)))[:, :, :-_UNSEEN, None]
        x = x.astype(c.dtype) if c.dtype != "float32" else x  # float64 stays what it is
        skips = []
        for i, features in enumerate(c.channels, 1):
            name = f"encoder_block{i}"
            x, skip = _Encoder(features, c.momentum, self.axis_name, name=name)(x, condition, train)
            skips.append(skip)
            made[name] = x
        x = _Block(c.bottleneck, c.momentum, self.axis_name, name="conv_block7")(x, condition=condition, train=train)
        made["conv_block7"] = x
        for i, features in enumerate(reversed(c.channels), 1):
            name = f"decoder_block{i}"
            x = _Decoder(features, c.momentum, self.axis_name, name=name)(x, skips.pop(), condition, train)
            made[name] = x
        x = _Block(c.channels[0], c.momentum, self.axis_name, name="after_conv_block1")(
            x, condition=condition, train=train
        )
        x = Pointwise(1, name="after_conv2")(x)[:, :frames, :, 0].astype(mag.dtype)
        made["logits"] = jnp.pad(x, ((0, 0), (0, 0), (0, _UNSEEN)))  # so half of the unseen bins is kept
        return made


class _TextEmbedder(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, input_ids: Array, attention_mask: Array, deterministic: bool = True) -> Array:
        positions = jnp.broadcast_to(jnp.arange(input_ids.shape[1]), input_ids.shape)
        encoder = bert.Encoder(self.config.text, name="bert_layer")
        made = encoder(input_ids, attention_mask, jnp.zeros_like(input_ids), positions, deterministic=deterministic)
        return nn.relu(nn.Dense(self.config.condition_size, name="linear_layer_0")(made["last_hidden_state"][:, 0]))


class _LassNet(nn.Module):
    """STFT -> U-Net -> mask -> inverse STFT, given the condition; the text embedder is apart."""

    config: Config
    axis_name: str | None = None

    @nn.compact
    def __call__(self, mixture: Array, condition: Array, train: bool = False) -> dict[str, Array]:
        c = self.config
        real, imag = _stft(c, mixture)
        if queries := condition.shape[0] // mixture.shape[0] - 1:  # several queries share the STFT of one mixture
            real, imag = (jnp.repeat(x, queries + 1, axis=0) for x in (real, imag))
        frames = 1 + mixture.shape[-1] // c.hop
        mag = magnitude(real, imag, _FLOOR)[:, :frames]
        made = {"real": real, "imag": imag, "mag": mag}
        made |= _UNet(c, self.axis_name, name="UNet")(mag, condition, train)
        made["mask"] = mask = nn.sigmoid(made["logits"])
        mask = jnp.pad(mask, ((0, 0), (0, real.shape[1] - frames), (0, 0)), mode="edge")
        made["waveform"] = istft(real * mask, imag * mask, c.hop, length=mixture.shape[-1])
        return made


def _stft(config: Config, x: Array) -> tuple[Array, Array]:
    """The centred STFT, with one more frame where the last one is centred before the end of the signal.

    That frame serves synthesis only. Without it the last samples lie under the fading half of a single window, and
    dividing by that window turns whatever the mask did into clicks; the original cuts them off instead.
    """
    half, rest = config.n_fft // 2, -x.shape[-1] % config.hop
    x = jnp.pad(jnp.pad(x, ((0, 0), (half, half)), mode="reflect"), ((0, 0), (0, rest)))
    return stft(x, config.n_fft, config.hop, center=False)


def init(key: Array, config: Config) -> Params:
    """Random weights as a Linen variables dict {"params", "batch_stats"}; use `jax.eval_shape` for the shapes alone."""
    first, second = jax.random.split(key)
    ids = jnp.zeros((1, 1), jnp.int32)
    text = _TextEmbedder(config).init(first, ids, ids)
    mixture, condition = jnp.zeros((1, config.n_fft)), jnp.zeros((1, config.condition_size))
    made = _LassNet(config).init(second, mixture, condition)
    return {"params": {"text_embedder": text["params"], **made["params"]}, "batch_stats": made["batch_stats"]}


def embed(params: Params, config: Config, input_ids: Array, attention_mask: Array) -> Array:
    """Query embeddings, the condition of `separate`.

    Args:
      params: variables of `init` or of a converted checkpoint.
      config: the configuration that they belong to.
      input_ids: (batch, length) token ids; the original puts [CLS] before the words and no [SEP] after them.
      attention_mask: (batch, length), 1 for a token and 0 for padding.

    Returns:
      (batch, condition_size), none negative.
    """
    variables = {"params": params["params"]["text_embedder"]}
    condition: Any = _TextEmbedder(config).apply(variables, input_ids, attention_mask)
    return condition


def separate(params: Params, config: Config, mixture: Array, condition: Array) -> Array:
    """Separates what the condition describes from a mixture, in one pass over its whole length.

    The original fills every mixture up with silence to ten seconds, leaves longer ones as they are, and returns
    hop * (frames - 1) samples; here any length is taken as it is and given back. Its samples are the same.

    Args:
      params: variables of `init` or of a converted checkpoint.
      config: the configuration that they belong to.
      mixture: (batch, time) at `config.sample_rate`; a signal shorter than half a window is reflected repeatedly.
      condition: (batch, condition_size) of `embed`, or (batch, queries, condition_size).

    Returns:
      (batch, time), or (batch, queries, time) when several queries are asked of each mixture.
    """
    if condition.ndim == 2:
        return _apply(params, config, mixture, condition)["waveform"]
    queries = condition.shape[1]
    made = _apply(params, config, mixture, rearrange(condition, "b q d -> (b q) d"))
    return rearrange(made["waveform"], "(b q) t -> b q t", q=queries)


def intermediates(
    params: Params, config: Config, mixture: Array, condition: Array, train: bool = False
) -> dict[str, Array]:
    """Like `separate`, but returns everything computed on the way by name, as "conv_block7" or "mask".

    With `train`, BatchNorm uses the statistics of this batch; the running ones stay as they are.
    """
    return _apply(params, config, mixture, condition, train)


def _apply(params: Params, config: Config, mixture: Array, condition: Array, train: bool = False) -> dict[str, Array]:
    variables = {"params": {"UNet": params["params"]["UNet"]}, "batch_stats": params["batch_stats"]}
    made, _ = _LassNet(config).apply(variables, mixture, condition, train, mutable=["batch_stats"])
    return made


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Params = None,
    *,
    config: Config,
    axis_name: str | None = None,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """Training loss: mean absolute error of the masked magnitude, with BatchNorm in training mode.

    The authors published no training code; the loss is that of section 3 of the paper, on linear magnitudes.

    Args:
      params: trainable parameters (the "params" collection), the text embedder's among them.
      extra: {"batch_stats": ...}.
      batch: "mixture" and "segment" (the target), each (batch, time), with "input_ids" and "attention_mask", each
        (batch, length); or with "condition" (batch, condition_size) where the queries are embedded already. "index"
        (batch,), the places in the global batch, makes dropout independent of how the batch is split.
      key: for the dropout of the text embedder; None for none.
      frozen: not used; nothing is frozen.
      config: the configuration.
      axis_name: mapped axis that BatchNorm statistics are averaged over, under `jax.pmap`.

    Returns:
      (loss, (metrics, extra with updated statistics)).
    """
    condition = batch["condition"] if "condition" in batch else _embed_batch(params, config, batch, key)
    made, extra = _LassNet(config, axis_name).apply(
        {"params": {"UNet": params["UNet"]}, **extra}, batch["mixture"], condition, train=True, mutable=["batch_stats"]
    )
    target = magnitude(*stft(batch["segment"], config.n_fft, config.hop), _FLOOR)
    l1 = jnp.mean(jnp.abs(made["mask"] * made["mag"] - target))
    return l1, ({"l1": l1}, extra)


def _embed_batch(params: Params, config: Config, batch: dict[str, Array], key: Array | None) -> Array:
    ids, mask = batch["input_ids"], batch["attention_mask"]
    if key is None:
        return embed({"params": params}, config, ids, mask)

    def one(ids: Array, mask: Array, index: Array) -> Array:
        variables, rngs = {"params": params["text_embedder"]}, {"dropout": jax.random.fold_in(key, index)}
        return _TextEmbedder(config).apply(variables, ids[None], mask[None], deterministic=False, rngs=rngs)[0]

    return jax.vmap(one)(ids, mask, batch.get("index", jnp.arange(len(ids))))


def _block(key: str, path: str) -> tuple[Rule, ...]:
    return (
        *batch_norm(rf"{key}\.(?P<norm>bn[12])", rf"{path}/\g<norm>"),
        Rule(rf"{key}\.(?P<conv>conv[12]|shortcut)\.weight", rf"params/{path}/\g<conv>/kernel", conv2d),
        Rule(rf"{key}\.shortcut\.bias", rf"params/{path}/shortcut/bias"),
        Rule(
            rf"{key}\.(?P<film>film\w+)\.linear\.(?P<i>\d)\.weight",
            rf"params/{path}/\g<film>/linear_\g<i>/kernel",
            linear,
        ),
        Rule(rf"{key}\.(?P<film>film\w+)\.linear\.(?P<i>\d)\.bias", rf"params/{path}/\g<film>/linear_\g<i>/bias"),
    )


_UNET = (
    *_block(r"((?:en|de)coder_block\d)\.(conv_block\d)", r"UNet/\1/\2"),
    *_block(r"(conv_block7|after_conv_block1)", r"UNet/\1"),
    *batch_norm(r"(decoder_block\d)\.bn1", r"UNet/\1/bn1"),
    Rule(r"(decoder_block\d)\.conv1\.weight", r"params/UNet/\1/conv1/kernel", conv_transpose2d),
    Rule(r"after_conv2\.weight", "params/UNet/after_conv2/kernel", conv2d),
    Rule(r"after_conv2\.bias", "params/UNet/after_conv2/bias"),
)

WEIGHTS = (
    *prefixed(r"module\.UNet\.", _UNET),
    *prefixed(r"module\.text_embedder\.bert_layer\.", bert.weights(LASSNET.text), "params/text_embedder/bert_layer"),
    Rule(r"module\.text_embedder\.linear_layer\.0\.weight", "params/text_embedder/linear_layer_0/kernel", linear),
    Rule(r"module\.text_embedder\.linear_layer\.0\.bias", "params/text_embedder/linear_layer_0/bias"),
)
"""Conversion rules for the state dict under "model" in the published `LASSNet.pt`."""
