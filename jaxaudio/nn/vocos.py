"""Vocos, a vocoder that speaks in spectra: frames in, an inverse STFT out (Siuzdak, 2024, arXiv:2306.00814).

It works at the rate of the frames throughout, so it costs a small part of what upsampling vocoders do.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, conv1d, linear
from jaxaudio.dsp.stft import istft
from jaxaudio.errors import ConfigError
from jaxaudio.nn.conv1d import Conv1d
from jaxaudio.nn.masked import kept
from jaxaudio.precision import wide

_WIDTH = 7  # taps of the convolutions
_LOUDEST = 1e2  # magnitudes are clipped there
_INIT = nn.initializers.truncated_normal(0.02)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a Vocos.

    Attributes:
      sample_rate: samples per second of the waveform.
      mels: bands of the spectrogram.
      width: channels of the backbone.
      hidden: channels inside each of its blocks.
      layers: number of blocks.
      n_fft: length of the inverse transform.
      hop: samples per frame.
      padding: "same" gives frames * hop samples, a frame in the middle of each hop; "center" (frames - 1) * hop, from
        the first frame to the last.
      embeddings: number of conditions that choose the norms' scales and shifts; 0 for plain norms.
      mean: taken off the log-mels first. The norm after the first convolution hides the level of spectra that are far
        from zero, which the published networks learn to see in spite of it.
      spread: that they are divided by then.
      noise: channels of normal noise beside the mels, which follow from a frame's number. The network is the same at
        every frame: without noise, what stays the same is made to repeat a hundred times a second, and rain hums.
      dtype: compute dtype, "float32" or "bfloat16"; spectra and waveform are float32.
    """

    sample_rate: int = 24000
    mels: int = 100
    width: int = 512
    hidden: int = 1536
    layers: int = 8
    n_fft: int = 1024
    hop: int = 256
    padding: Literal["same", "center"] = "center"
    embeddings: int = 0
    mean: float = 0.0
    spread: float = 1.0
    noise: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.padding not in ("same", "center"):
            raise ConfigError(f"a Vocos pads 'same' or 'center', not {self.padding!r}.")
        if self.padding == "same" and (self.n_fft - self.hop) % 2:
            raise ConfigError(f"'same' needs n_fft - hop to be even, not {self.n_fft - self.hop}.")


MEL_24KHZ = Config()
"""charactr/vocos-mel-24khz (13.5 M parameters); hears `front_ends.VOCOS_24K`."""


class Norm(nn.Module):
    """Layer normalisation, whose scale and shift a condition may choose.

    Attributes:
      embeddings: number of conditions; 0 for one scale and shift.
    """

    embeddings: int = 0

    @nn.compact
    def __call__(self, x: Array, condition: Array | None = None) -> Array:
        """(batch, time, channels), and (batch,) int conditions if there are any -> the same."""
        channels = x.shape[-1]
        shape = (self.embeddings, channels) if self.embeddings else (channels,)
        scale = self.param("scale", nn.initializers.ones, shape)
        shift = self.param("bias", nn.initializers.zeros, shape)
        if self.embeddings:
            scale, shift = (table[condition][:, None] for table in (scale, shift))
        y = wide(x)
        y = y - jnp.mean(y, -1, keepdims=True)
        y = y / jnp.sqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + 1e-6)
        return (y * scale + shift).astype(x.dtype)


class Depthwise(nn.Module):
    """A convolution in time of each channel by itself."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, channels) -> the same."""
        kernel = self.param("kernel", _INIT, (_WIDTH, x.shape[-1])).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],)).astype(x.dtype)
        reach, time = _WIDTH // 2, x.shape[1]
        x = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
        # One fused pass over memory, where grouped convolutions are slow on CPUs.
        return sum((x[:, i : i + time] * kernel[i] for i in range(1, _WIDTH)), x[:, :time] * kernel[0]) + bias


class ConvNeXtBlock(nn.Module):
    """A residual block of one depthwise convolution and two dense layers (Liu et al., 2022, arXiv:2201.03545).

    Attributes:
      config: sizes.
    """

    config: Config

    @nn.compact
    def __call__(self, x: Array, condition: Array | None = None, real: Array | None = None) -> Array:
        """(batch, time, channels) -> the same; see `masked.kept` for `real`."""
        c = self.config
        y = Depthwise(name="dwconv")(kept(x, real))
        y = Norm(c.embeddings, name="norm")(y, condition)
        y = nn.Dense(c.hidden, dtype=x.dtype, kernel_init=_INIT, name="pwconv1")(y)
        y = nn.Dense(c.width, dtype=x.dtype, kernel_init=_INIT, name="pwconv2")(nn.gelu(y, approximate=False))
        gamma = self.param("gamma", nn.initializers.constant(1 / c.layers), (c.width,))
        return x + gamma.astype(x.dtype) * y


class _Generator(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, mel: Array, condition: Array | None = None, first: Array | int = 0) -> dict[str, Array]:
        c = self.config
        x = (mel - c.mean) / c.spread
        if c.noise:
            x = jnp.concatenate([x, _noise(*mel.shape[:2], c.noise, first).astype(x.dtype)], -1)
        x = x.astype(c.dtype) if c.dtype != "float32" else x  # float64 stays what it is
        x = Conv1d(c.width, _WIDTH, name="embed")(x)
        x = Norm(c.embeddings, name="norm")(x, condition)
        for i in range(c.layers):
            x = ConvNeXtBlock(c, name=f"convnext_{i}")(x, condition)
        backbone = Norm(name="final_layer_norm")(x)
        out = nn.Dense(c.n_fft + 2, dtype=x.dtype, name="out")(backbone)
        out = wide(out)
        return {"backbone": backbone, "out": out, "waveform": spoken(out, c.hop, c.padding)}


def spoken(out: Array, hop: int, padding: Literal["same", "center"] = "same", frames: Array | None = None) -> Array:
    """Waveforms of a network's last layer: log-magnitudes, clipped at 100, then phases (Vocos, section 3.3).

    Args:
      out: (batch, frames, n_fft + 2).
      hop: samples per frame.
      padding: see `Config`.
      frames: (batch,) int, frames of each item, if they differ.
    """
    size, phase = jnp.split(out, 2, axis=-1)
    size = jnp.minimum(jnp.exp(size), _LOUDEST)
    same = padding == "same"
    waveform = istft(size * jnp.cos(phase), size * jnp.sin(phase), hop, center=not same, frames=frames)
    edge = (out.shape[-1] - 2 - hop) // 2 if same else 0
    return waveform[:, edge : waveform.shape[1] - edge]


def _noise(batch: int, frames: int, channels: int, first: Array | int) -> Array:
    """(batch, frames, channels), frame by frame the same whatever is computed with it."""
    numbers = jnp.broadcast_to(jnp.asarray(first, jnp.int32), (batch,))[:, None] + jnp.arange(frames)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), numbers.reshape(-1))
    return jax.vmap(lambda key: jax.random.normal(key, (channels,)))(keys).reshape(batch, frames, channels)


def init(key: Array, config: Config) -> Any:
    """Random variables {"params": ...}; under `jax.eval_shape`, their shapes at no cost."""
    condition = jnp.zeros((1,), jnp.int32) if config.embeddings else None
    return _Generator(config).init(key, jnp.zeros((1, 2, config.mels)), condition)


def generate(
    params: Any, config: Config, mel: Array, condition: Array | None = None, *, first: Array | int = 0
) -> Array:
    """Makes waveforms of log-mel spectrograms.

    Args:
      params: variables of `init` or of a converted checkpoint.
      config: the configuration that they belong to.
      mel: (batch, frames, mels), natural logarithm.
      condition: (batch,) int, 0 to embeddings - 1, where the configuration has embeddings.
      first: number of the first frame, () or (batch,) int, where it is part of a longer sound: its noise follows.

    Returns:
      (batch, samples) as `Config.padding` says; nothing keeps it within (-1, 1).
    """
    return intermediates(params, config, mel, condition, first=first)["waveform"]


def intermediates(
    params: Any, config: Config, mel: Array, condition: Array | None = None, *, first: Array | int = 0
) -> Any:
    """Like `generate`, but returns {"backbone", "out", "waveform"}: "out" is log-magnitudes, then phases."""
    return _Generator(config).apply(params, mel, condition, first)


def _norm(key: str, path: str) -> tuple[Rule, ...]:
    """A norm, plain or with embeddings."""
    return (
        Rule(rf"{key}\.(?:weight|scale\.weight)", f"params/{path}/scale"),
        Rule(rf"{key}\.(?:bias|shift\.weight)", f"params/{path}/bias"),
    )


WEIGHTS = (
    Rule(r"feature_extractor\..*|head\.istft\.window", None),  # windows and filters, computed here
    Rule(r"backbone\.embed\.weight", "params/embed/kernel", conv1d),
    Rule(r"backbone\.embed\.bias", "params/embed/bias"),
    *_norm(r"backbone\.(norm|final_layer_norm)", r"\1"),
    *_norm(r"backbone\.convnext\.(\d+)\.norm", r"convnext_\1/norm"),
    Rule(r"backbone\.convnext\.(\d+)\.gamma", r"params/convnext_\1/gamma"),
    Rule(r"backbone\.convnext\.(\d+)\.dwconv\.weight", r"params/convnext_\1/dwconv/kernel", lambda x: x[:, 0].T),
    Rule(r"backbone\.convnext\.(\d+)\.(pwconv[12])\.weight", r"params/convnext_\1/\2/kernel", linear),
    Rule(r"backbone\.convnext\.(\d+)\.(dwconv|pwconv[12])\.bias", r"params/convnext_\1/\2/bias"),
    Rule(r"head\.out\.weight", "params/out/kernel", linear),
    Rule(r"head\.out\.bias", "params/out/bias"),
)
"""Conversion rules for the published names."""
