"""AudioSep: separate anything you describe (Liu et al., 2023, arXiv:2308.05037).

A residual U-Net over the magnitude spectrogram of a mixture, conditioned on the embedding of a query, predicts for each
bin how much of the magnitude to keep and how far to turn the phase. The query embedding comes from CLAP in the
published model and from a small sentence encoder in `MINI`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array

from jaxaudio.convert.rules import Rule, batch_norm, conv2d, conv_transpose2d, linear, prefixed
from jaxaudio.dsp.stft import istft, magnitude, stft
from jaxaudio.errors import ConfigError
from jaxaudio.nn.conv import Conv3x3, Pointwise, TiledTranspose, average_pool
from jaxaudio.nn.film import BiasTree
from jaxaudio.nn.norm import BatchNorm

Params = Any

_EPS = 1e-10
_SLOPE = 0.01  # of every leaky ReLU


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a ResUNet separator.

    Attributes:
      sample_rate: samples per second of mixture and output.
      n_fft: STFT window in samples; n_fft / 2 must be a multiple of the product of the frequency pools.
      hop: samples between STFT frames.
      condition_size: length of the query embedding.
      condition_scale: factor on the query embedding. Unit-length embeddings barely move normalised activations at
        first; the square root of their length makes the query heard from the first steps of training. 1 as published.
      stem: channels after the first 1x1 convolution.
      channels: channels of the encoder blocks, from fine to coarse; the decoder mirrors them.
      pools: (time, frequency) average-pooling factor after each encoder block.
      bottleneck: channels at the coarsest resolution.
      momentum: torch momentum of every BatchNorm.
      chunk: seconds of (left context, kept centre, right context) of one window of chunked inference.
      patch: (frames, bins) that share one position of the finest resolution; (1, 1) as published. Larger patches move
        work from the many fine positions to the channels, which is what small machines can afford.
      dtype: compute dtype of the U-Net, "float32" or "bfloat16"; STFT, statistics and masks stay float32.
    """

    sample_rate: int = 32000
    n_fft: int = 2048
    hop: int = 320
    condition_size: int = 512
    condition_scale: float = 1.0
    stem: int = 32
    channels: tuple[int, ...] = (32, 64, 128, 256, 384, 384)
    pools: tuple[tuple[int, int], ...] = ((2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (1, 2))
    bottleneck: int = 384
    momentum: float = 0.01
    chunk: tuple[float, float, float] = (1.0, 3.0, 1.0)
    patch: tuple[int, int] = (1, 1)
    dtype: str = "float32"

    @property
    def time_multiple(self) -> int:
        """Frames are padded at the end to a multiple of this: the patch times the product of the time pools."""
        return math.prod(time for time, _ in self.pools) * self.patch[0]


AUDIOSEP_BASE = Config()
"""ResUNet30 as published: 32 kHz, conditioned on 512-dimensional CLAP embeddings."""

AUDIOSEP_16K = Config(sample_rate=16000, n_fft=1024, hop=160)
"""The 16 kHz variant of the DCASE 2024 Task 9 baseline."""

MINI = Config(
    sample_rate=16000,
    n_fft=1024,
    hop=256,
    condition_size=384,
    condition_scale=20.0,
    channels=(32, 64, 96, 128, 160),
    pools=((2, 2), (2, 2), (2, 2), (2, 2), (1, 2)),
    bottleneck=160,
    chunk=(1.024, 4.096, 1.024),  # a multiple of what one position of the coarsest map covers: the grid stays in phase
    patch=(2, 4),
)
"""Small enough to train on a laptop; conditioned on 384-dimensional sentence embeddings."""


def _sites(config: Config) -> dict:
    """Channels of every conditioned BatchNorm, named as in the published checkpoint."""

    def block(inputs: int, outputs: int) -> dict:
        return {"beta1": inputs, "beta2": outputs}

    sites: dict[str, dict] = {}
    inputs = config.stem
    for i, outputs in enumerate(config.channels, 1):
        sites[f"encoder_block{i}"] = {"conv_block1": block(inputs, outputs)}
        inputs = outputs
    sites["conv_block7a"] = {"conv_block1": block(inputs, config.bottleneck)}
    inputs = config.bottleneck
    for i, outputs in enumerate(reversed(config.channels), 1):
        sites[f"decoder_block{i}"] = {"beta1": inputs, "conv_block2": block(2 * outputs, outputs)}
        inputs = outputs
    return sites


class _Block(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions (`ConvBlockRes`), over concatenated parts."""

    features: int
    momentum: float
    axis_name: str | None

    @nn.compact
    def __call__(self, *parts: Array, film: dict, train: bool) -> Array:
        same = [part.shape[-1] for part in parts] == [self.features]
        skip = parts[0] if same else Pointwise(self.features, name="shortcut")(*parts)
        for i in (1, 2):
            norm = BatchNorm(momentum=self.momentum, axis_name=self.axis_name, name=f"bn{i}")
            active = [nn.leaky_relu(x, _SLOPE) for x in norm.parts(parts, train, beta=film[f"beta{i}"])]
            parts = (Conv3x3(self.features, bias=False, fast=not train, name=f"conv{i}")(*active),)
        return skip + parts[0]


class _Encoder(nn.Module):
    features: int
    pool: tuple[int, int]
    momentum: float
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, film: dict, train: bool) -> tuple[Array, Array]:
        block = _Block(self.features, self.momentum, self.axis_name, name="conv_block1")
        x = block(x, film=film["conv_block1"], train=train)
        return average_pool(x, self.pool), x


class _Decoder(nn.Module):
    features: int
    factor: tuple[int, int]
    momentum: float
    axis_name: str | None

    @nn.compact
    def __call__(self, x: Array, skip: Array, film: dict, train: bool) -> Array:
        norm = BatchNorm(momentum=self.momentum, axis_name=self.axis_name, name="bn1")
        x = nn.leaky_relu(norm(x, train, beta=film["beta1"]), _SLOPE)
        x = TiledTranspose(self.features, self.factor, name="conv1")(x)
        block = _Block(self.features, self.momentum, self.axis_name, name="conv_block2")
        return block(x, skip, film=film["conv_block2"], train=train)


class _Base(nn.Module):
    config: Config
    axis_name: str | None = None

    @nn.compact
    def __call__(self, mag: Array, film: dict, train: bool) -> dict[str, Array]:
        """Maps magnitudes (batch, frames, bins) to logits (batch, padded frames, bins - 1, 3) and intermediates."""
        c = self.config
        made: dict[str, Array] = {}
        x = BatchNorm(momentum=c.momentum, axis_name=self.axis_name, name="bn0")(mag, train)
        made["mag_bn0"] = x
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % c.time_multiple), (0, 0)))[:, :, :-1]
        x = x.astype(c.dtype) if c.dtype != "float32" else x  # float64 stays what it is
        x = rearrange(x, "b (t u) (f v) -> b t f (u v)", u=c.patch[0], v=c.patch[1])
        x = Pointwise(c.stem, name="pre_conv")(x)
        skips = []
        for i, (features, pool) in enumerate(zip(c.channels, c.pools, strict=True), 1):
            name = f"encoder_block{i}"
            x, skip = _Encoder(features, pool, c.momentum, self.axis_name, name=name)(x, film[name], train)
            skips.append(skip)
            made[name] = x
        block = _Encoder(c.bottleneck, (1, 1), c.momentum, self.axis_name, name="conv_block7a")
        x, _ = block(x, film["conv_block7a"], train)
        made["conv_block7a"] = x
        for i, (features, pool) in enumerate(zip(reversed(c.channels), reversed(c.pools), strict=True), 1):
            name = f"decoder_block{i}"
            block = _Decoder(features, pool, c.momentum, self.axis_name, name=name)
            x = block(x, skips.pop(), film[name], train)
            made[name] = x
        x = Pointwise(3 * math.prod(c.patch), name="after_conv")(x).astype(mag.dtype)
        made["logits"] = rearrange(x, "b t f (u v k) -> b (t u) (f v) k", u=c.patch[0], v=c.patch[1])
        return made


class _ResUNet(nn.Module):
    """STFT -> conditioned U-Net -> complex mask -> inverse STFT."""

    config: Config
    axis_name: str | None = None

    @nn.compact
    def __call__(self, mixture: Array, condition: Array, train: bool = False) -> dict[str, Any]:
        c = self.config
        film = BiasTree(_sites(c), name="film")(condition * c.condition_scale)
        real, imag = stft(mixture, c.n_fft, c.hop)
        if queries := condition.shape[0] // mixture.shape[0] - 1:  # several queries share the STFT of one mixture
            real, imag = (jnp.repeat(x, queries + 1, axis=0) for x in (real, imag))
        mag = magnitude(real, imag, _EPS)
        made: dict[str, Any] = {"real": real, "imag": imag, "mag": mag, "film": film}
        made |= _Base(c, self.axis_name, name="base")(mag, film, train)
        made["waveform"] = _masked_waveform(c, real, imag, made["logits"], mixture.shape[-1])
        return made


def _masked_waveform(config: Config, real: Array, imag: Array, logits: Array, length: int) -> Array:
    """Applies logits (batch, frames', bins - 1, 3) = (magnitude, phase cosine, phase sine) and inverts the STFT."""
    frames = real.shape[1]
    logits = logits[:, :frames]
    turn_real, turn_imag = jnp.tanh(logits[..., 1]), jnp.tanh(logits[..., 2])
    gain = nn.sigmoid(logits[..., 0]) * jax.lax.rsqrt(jnp.maximum(turn_real**2 + turn_imag**2, _EPS**2))
    turn_real, turn_imag = turn_real * gain, turn_imag * gain
    x_real, x_imag = real[..., :-1], imag[..., :-1]
    nyquist = ((0, 0), (0, 0), (0, 1))  # the network does not see the Nyquist bin; the original leaves it empty
    out_real = jnp.pad(x_real * turn_real - x_imag * turn_imag, nyquist)
    out_imag = jnp.pad(x_real * turn_imag + x_imag * turn_real, nyquist)
    return istft(out_real, out_imag, config.hop, length=length)


def init(key: Array, config: Config) -> Params:
    """Random weights as a Linen variables dict {"params", "batch_stats"}; use `jax.eval_shape` for the shapes alone.

    The mask starts near one half everywhere and turns no phase: without the bias on its real part, the direction of a
    near-zero (real, imaginary) pair would be noise that training has to overcome first.
    """
    frames = max(config.time_multiple * config.hop, config.n_fft)
    params = _ResUNet(config).init(key, jnp.zeros((1, frames)), jnp.zeros((1, config.condition_size)))
    bias = params["params"]["base"]["after_conv"]["bias"]
    params["params"]["base"]["after_conv"]["bias"] = bias.at[1::3].set(1.0)
    return params


def separate(params: Params, config: Config, mixture: Array, condition: Array) -> Array:
    """Separates what the condition describes from a mixture, in one pass over its whole length.

    Args:
      params: variables of `init` or of a converted checkpoint.
      config: the configuration that they belong to.
      mixture: (batch, time) at `config.sample_rate`, more than n_fft / 2 samples long.
      condition: (batch, condition_size) query embeddings, or (batch, queries, condition_size).

    Returns:
      (batch, time), or (batch, queries, time) when several queries are asked of each mixture.
    """
    if condition.ndim == 2:
        return intermediates(params, config, mixture, condition)["waveform"]
    made = intermediates(params, config, mixture, rearrange(condition, "b q d -> (b q) d"))
    return rearrange(made["waveform"], "(b q) t -> b q t", q=condition.shape[1])


def intermediates(
    params: Params, config: Config, mixture: Array, condition: Array, train: bool = False
) -> dict[str, Any]:
    """Like `separate`, but returns everything computed on the way by name, as "conv_block7a" or "logits".

    With `train`, BatchNorm uses the statistics of this batch; the running ones stay as they are.
    """
    made, _ = _ResUNet(config).apply(params, mixture, condition, train, mutable=["batch_stats"])
    return made


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Params = None,
    *,
    config: Config,
    text: Callable[[Params, dict[str, Array]], Array] | None = None,
    audio: Callable[[Params, Array], Array] | None = None,
    text_ratio: float = 1.0,
    objective: Literal["l1", "snr"] = "l1",
    axis_name: str | None = None,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """Training loss, with BatchNorm in training mode.

    The query of each mixture is a text, the target itself heard by the audio branch of the query encoder, or now one
    and now the other: `text_ratio` is the probability of text, drawn once per batch (section 3.2 of the paper).

    Args:
      params: trainable parameters (the "params" collection).
      extra: {"batch_stats": ...}.
      batch: "mixture" and "segment" (the target), each (batch, time), and what `text` reads, e.g. "input_ids"; or
        "condition" (batch, condition_size) where the queries are embedded already.
      key: for the draw between text and audio; needed only if 0 < text_ratio < 1.
      frozen: parameters of the query encoder.
      config: the separator's configuration.
      text: (frozen, batch) -> (batch, condition_size); None takes batch["condition"].
      audio: (frozen, segment) -> (batch, condition_size); needed only if text_ratio < 1.
      text_ratio: probability of a text query, 0 to 1.
      objective: "l1", mean absolute error of the waveform as published, or "snr", the mean over items of the negative
        signal-to-noise ratio in dB, limited at 30 dB so that items solved already do not take over.
      axis_name: mapped axis that BatchNorm statistics are averaged over, under `jax.pmap`.

    Returns:
      (loss, (metrics, extra with updated statistics)).
    """
    condition = _condition(batch, key, frozen, text, audio, text_ratio)
    made, extra = _ResUNet(config, axis_name).apply(
        {"params": params, **extra}, batch["mixture"], condition, train=True, mutable=["batch_stats"]
    )
    target, error = batch["segment"], made["waveform"] - batch["segment"]
    l1 = jnp.mean(jnp.abs(error))
    power = jnp.mean(target**2, -1) + _EPS
    snr = jnp.mean(-10 * jnp.log10(jnp.mean(error**2, -1) / power + 1e-3))
    return {"l1": l1, "snr": -snr}[objective], ({"l1": l1, "snr": snr}, extra)


def _condition(
    batch: dict[str, Array],
    key: Array | None,
    frozen: Params,
    text: Callable[[Params, dict[str, Array]], Array] | None,
    audio: Callable[[Params, Array], Array] | None,
    text_ratio: float,
) -> Array:
    def of_text() -> Array:
        return batch["condition"] if text is None else jax.lax.stop_gradient(text(frozen, batch))

    def of_audio() -> Array:
        if audio is None:
            raise ConfigError(f"text_ratio {text_ratio} asks for audio queries; give an encoder that hears, like CLAP.")
        return jax.lax.stop_gradient(audio(frozen, batch["segment"]))

    if text_ratio >= 1:
        return of_text()
    if text_ratio <= 0:
        return of_audio()
    if key is None:
        raise ConfigError("hybrid queries are drawn at random: give a key.")
    return jax.lax.cond(jax.random.bernoulli(key, text_ratio), of_text, of_audio)


_BLOCK = r"(encoder_block\d|conv_block7a|decoder_block\d)"
_BASE = (
    Rule(r"i?stft\..*", None),  # fixed DFT kernels and window
    Rule(r"decoder_block\d\.bn2\..*", None),  # never used by the original
    *batch_norm("bn0", "base/bn0"),
    *batch_norm(rf"{_BLOCK}\.(bn1)", r"base/\1/\2"),
    *batch_norm(rf"{_BLOCK}\.(conv_block[12])\.(bn[12])", r"base/\1/\2/\3"),
    Rule(r"(pre_conv|after_conv)\.weight", r"params/base/\1/kernel", conv2d),
    Rule(r"(pre_conv|after_conv)\.bias", r"params/base/\1/bias"),
    Rule(r"(decoder_block\d)\.conv1\.weight", r"params/base/\1/conv1/kernel", conv_transpose2d),
    Rule(rf"{_BLOCK}\.(conv_block[12])\.(conv[12]|shortcut)\.weight", r"params/base/\1/\2/\3/kernel", conv2d),
    Rule(rf"{_BLOCK}\.(conv_block[12])\.shortcut\.bias", r"params/base/\1/\2/shortcut/bias"),
)
_FILM = (
    Rule(r"decoder_block\d->beta2\..*", None),  # belongs to the unused bn2
    Rule(rf"{_BLOCK}->(beta1)\.weight", r"params/film/\1/\2/kernel", linear),
    Rule(rf"{_BLOCK}->(beta1)\.bias", r"params/film/\1/\2/bias"),
    Rule(rf"{_BLOCK}->(conv_block[12])->(beta[12])\.weight", r"params/film/\1/\2/\3/kernel", linear),
    Rule(rf"{_BLOCK}->(conv_block[12])->(beta[12])\.bias", r"params/film/\1/\2/\3/bias"),
)

WEIGHTS = (*prefixed(r"ss_model\.base\.", _BASE), *prefixed(r"ss_model\.film\.", _FILM))
"""Conversion rules for the separator's part of `audiosep_base_4M_steps.ckpt`."""
