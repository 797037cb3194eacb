"""An encoder that hears spectra and a decoder that speaks in them, in the place of convolutions over waveforms.

Both are stacks of Vocos' blocks (Siuzdak, 2024, arXiv:2306.00814) at the rate of the spectra, and the decoder ends in
an inverse STFT. That is much less work than `wave_autoencoder`, whose functions this module has too. The encoder hears
levels and no phases: those are the decoder's own.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.dsp.stft import magnitude, stft
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import vocos
from jaxaudio.nn.conv1d import Conv1d
from jaxaudio.nn.masked import kept
from jaxaudio.nn.receptive import Layer
from jaxaudio.precision import computed, wide

_WIDTH = 7  # taps of a block
# On magnitudes, under the logarithm: as noise 84 dB below full scale has them. What is weaker tells what was done to
# the files, and an encoder that hears it takes that for granted.
_FLOOR = 1e-3
_LEVEL, _SPREAD = -3.0, 2.5  # of their logarithms in sound at usual levels


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of an encoder and its decoder.

    Attributes:
      step: samples between spectra; their windows are four steps long.
      stride: spectra per frame of the latent.
      width: channels of the blocks.
      hidden: channels inside them.
      encoder_layers: blocks of the encoder.
      decoder_layers: blocks of the decoder.
      latent: channels of a frame.
      dtype: compute dtype, "float32" or "bfloat16"; spectra, latents and waveforms are float32.
    """

    step: int = 160
    stride: int = 2
    width: int = 384
    hidden: int = 1152
    encoder_layers: int = 8
    decoder_layers: int = 8
    latent: int = 512
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.step % 2 or min(self.step, self.stride) < 1:
            raise ConfigError(f"spectra lie an even number of samples apart, not {self.step}, one or more per frame.")

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return self.step * self.stride

    @property
    def n_fft(self) -> int:
        """Samples of a window."""
        return 4 * self.step

    def blocks(self, layers: int) -> vocos.Config:
        """Of one of the two stacks."""
        return vocos.Config(width=self.width, hidden=self.hidden, layers=layers)


class _Encoder(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array, real: Array | None = None) -> Array:
        c = self.config
        x = Conv1d(c.width, 3, name="embed")(kept(computed(x, c.dtype), real))
        x = vocos.Norm(name="norm")(x)
        x = _stack(c, c.encoder_layers, x, real)
        x = x.reshape(x.shape[0], -1, c.stride * c.width)
        return wide(nn.Dense(c.latent, dtype=x.dtype, name="out")(x))


class _Decoder(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, z: Array, real: Array | None = None) -> Array:
        c = self.config
        x = nn.Dense(c.stride * c.width, dtype=computed(z, c.dtype).dtype, name="in")(computed(z, c.dtype))
        x = x.reshape(x.shape[0], -1, c.width)
        x = _stack(c, c.decoder_layers, x, real)
        out = nn.Dense(c.n_fft + 2, dtype=x.dtype, name="out")(x)
        return vocos.spoken(wide(out), c.step, frames=real)


def _stack(config: Config, layers: int, x: Array, real: Array | None) -> Array:
    for i in range(layers):
        x = vocos.ConvNeXtBlock(config.blocks(layers), name=f"convnext_{i}")(x, real=real)
    return vocos.Norm(name="final_layer_norm")(x)


def init(key: Array, config: Config) -> dict[str, Any]:
    """Random parameters {"encoder": ..., "decoder": ...}; under `jax.eval_shape`, their shapes at no cost."""
    keys = jax.random.split(key)
    spectra = jnp.zeros((1, config.stride, config.n_fft // 2 + 1))
    return {
        "encoder": _Encoder(config).init(keys[0], spectra)["params"],
        "decoder": _Decoder(config).init(keys[1], jnp.zeros((1, 1, config.latent)))["params"],
    }


def encode(params: Any, config: Config, audio: Array, *, lengths: Array | None = None) -> Array:
    """Latents of waveforms.

    Args:
      params: of `init`.
      config: that they belong to.
      audio: (batch, time) at least one sample; zeros are added to whole frames.
      lengths: (batch,) int, samples of each item, if they differ; what follows is not heard.

    Returns:
      (batch, ceil(time / hop), latent); past an item's own frames they mean nothing.

    Raises:
      UsageError: another shape.
    """
    if audio.ndim != 2 or not audio.shape[1]:
        raise UsageError(f"a codec takes waveforms (batch, time), not {tuple(audio.shape)}.")
    real = None if lengths is None else -(-lengths // config.hop) * config.stride
    side = (config.n_fft - config.step) // 2
    audio = jnp.pad(kept(audio, lengths), ((0, 0), (side, side + -audio.shape[1] % config.hop)))
    size = magnitude(*stft(audio, config.n_fft, config.step, center=False), floor=_FLOOR**2)
    z: Any = _Encoder(config).apply({"params": params["encoder"]}, (jnp.log(size) - _LEVEL) / _SPREAD, real)
    return z


def decode_raw(params: Any, config: Config, z: Array, *, frames: Array | None = None) -> Array:
    """Waveforms (batch, frames * hop) of latents (batch, frames, latent); nothing keeps them within (-1, 1)."""
    real = None if frames is None else frames * config.stride
    audio: Any = _Decoder(config).apply({"params": params["decoder"]}, z, real)
    return audio


def decode(params: Any, config: Config, z: Array, length: int | None = None, frames: Array | None = None) -> Array:
    """Waveforms of latents, of exactly so many samples.

    Args:
      params: of `init`.
      config: that they belong to.
      z: (batch, frames, latent).
      length: samples, at most frames * hop, which is the default.
      frames: (batch,) int, frames of each item, if they differ; what follows is not heard.

    Returns:
      (batch, length), zeros past what an item's own frames make.

    Raises:
      UsageError: the frames do not make so many samples.
    """
    most = z.shape[1] * config.hop
    length = most if length is None else length
    if not 0 < length <= most:
        raise UsageError(f"{z.shape[1]} frames make 1 to {most} samples, not {length}.")
    audio = decode_raw(params, config, z, frames=frames)
    return kept(audio, None if frames is None else frames * config.hop)[:, :length]


def encoder_layers(config: Config) -> tuple[Layer, ...]:
    """What each output of the encoder's layers reads of its input, for `receptive`."""
    blocks = (Layer(_WIDTH),) * config.encoder_layers
    return (_spectra(config, transposed=False), Layer(3), *blocks, Layer(config.stride, stride=config.stride, pad=0))


def decoder_layers(config: Config) -> tuple[Layer, ...]:
    """The same of the decoder."""
    first = Layer(config.stride, stride=config.stride, pad=0, transposed=True)
    return (first, *(Layer(_WIDTH),) * config.decoder_layers, _spectra(config, transposed=True))


def _spectra(config: Config, *, transposed: bool) -> Layer:
    side = (config.n_fft - config.step) // 2
    return Layer(config.n_fft, stride=config.step, pad=side, transposed=transposed)
