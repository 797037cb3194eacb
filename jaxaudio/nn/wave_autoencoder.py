"""The convolutional encoder and decoder of waveforms in DAC (Kumar et al., 2023, arXiv:2306.06546, section 3.1).

SD-Codec shares them. Snake activations, residual units of dilated convolutions, and strides that shorten the signal on
the way in and lengthen it on the way out.
"""

import dataclasses
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.convert.rules import Rule, conv1d, conv_transpose1d
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn.conv1d import Conv1d, Strided1d, Transpose1d
from jaxaudio.nn.masked import kept
from jaxaudio.nn.receptive import Layer, context_of_samples
from jaxaudio.nn.snake import Snake
from jaxaudio.precision import computed, wide

_DILATIONS = (1, 3, 9)
_WIDTH = 7  # taps of the convolutions that keep the length
_LAST_WIDTH = 3  # of the one that gives the latent
_START = nn.initializers.truncated_normal(0.02)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of an encoder and its decoder.

    Attributes:
      channels: of the encoder's first convolution; every stride doubles them.
      rates: strides of the encoder; the decoder's are the reverse.
      latent: channels of a frame.
      decoder_channels: of the decoder's first convolution; every stride halves them.
      crop: what the decoder cuts off either end after an odd stride, half of it rounded up (DAC, whose outputs are
        shorter than frames * hop) or down (SD-Codec, whose outputs are longer).
      dtype: compute dtype, "float32" or "bfloat16"; latents and waveforms are float32.
    """

    channels: int = 64
    rates: tuple[int, ...] = (2, 4, 8, 8)
    latent: int = 1024
    decoder_channels: int = 1536
    crop: Literal["up", "down"] = "up"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) < 2:
            raise ConfigError(f"strides are 2 or more, not {self.rates}.")
        if self.decoder_channels % (1 << len(self.rates)):
            raise ConfigError(f"{self.decoder_channels} decoder channels cannot be halved {len(self.rates)} times.")
        if self.crop not in ("up", "down"):
            raise ConfigError(f"crop is 'up' or 'down', not {self.crop!r}.")

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.rates)

    def cropped(self, rate: int) -> int:
        """Outputs that the decoder cuts off either end after a stride."""
        return (rate + (self.crop == "up")) // 2


HOP_512 = Config()
"""Of the DACs at 44.1 kHz."""

HOP_320 = Config(rates=(2, 4, 5, 8))
"""Of the DACs at 24 and 16 kHz."""


class _Conv(nn.Module):
    """Convolution over a signal with zeros around it; or, not padded, only where it lies within the signal."""

    features: int
    width: int
    dilation: int = 1
    padded: bool = True

    @nn.compact
    def __call__(self, x: Array, real: Array | None = None) -> Array:
        conv = Conv1d(self.features, self.width, self.dilation, start=_START)
        nn.share_scope(self, conv)
        x = kept(x, real) if self.width > 1 else x
        return conv(x) if self.padded else _trimmed(conv(x), (self.width - 1) * self.dilation // 2)


def _trimmed(x: Array, count: int) -> Array:
    return x[:, count : x.shape[1] - count]


class _ResidualUnit(nn.Module):
    dilation: int
    padded: bool

    @nn.compact
    def __call__(self, x: Array, real: Array | None) -> Array:
        y = Snake(name="block_0")(x)
        y = _Conv(x.shape[-1], _WIDTH, self.dilation, self.padded, name="block_1")(y, real)
        y = _Conv(x.shape[-1], 1, name="block_3")(Snake(name="block_2")(y))
        return _trimmed(x, (x.shape[1] - y.shape[1]) // 2) + y


class _Down(nn.Module):
    rate: int
    padded: bool

    @nn.compact
    def __call__(self, x: Array, real: Array | None) -> Array:
        for i, dilation in enumerate(_DILATIONS):
            x = _ResidualUnit(dilation, self.padded, name=f"block_{i}")(x, real)
        pad = (self.rate + 1) // 2 if self.padded else 0
        down = Strided1d(2 * x.shape[-1], 2 * self.rate, self.rate, pad, _START, name="block_4")
        return down(kept(Snake(name="block_3")(x), real))


class _Up(nn.Module):
    rate: int
    crop: int
    more: int
    padded: bool

    @nn.compact
    def __call__(self, x: Array, real: Array | None) -> tuple[Array, Array | None]:
        up = Transpose1d(x.shape[-1] // 2, 2 * self.rate, self.rate, self.crop, self.more, _START, name="block_1")
        x = up(kept(Snake(name="block_0")(x), real))
        if real is not None:
            real = jnp.where(real > 0, (real + 1) * self.rate - 2 * self.crop + self.more, 0)
        for i, dilation in enumerate(_DILATIONS):
            x = _ResidualUnit(dilation, self.padded, name=f"block_{i + 2}")(x, real)
        return x, real


class _Encoder(nn.Module):
    config: Config
    padded: bool = True

    @nn.compact
    def __call__(self, x: Array, frames: Array | None = None) -> Array:
        c = self.config
        real = None if frames is None else frames * c.hop
        x = _Conv(c.channels, _WIDTH, 1, self.padded, name="block_0")(computed(x, c.dtype)[..., None], real)
        for i, rate in enumerate(c.rates):
            x = _Down(rate, self.padded, name=f"block_{i + 1}")(x, real)
            real = None if real is None else real // rate
        x = Snake(name=f"block_{len(c.rates) + 1}")(x)
        return wide(_Conv(c.latent, _LAST_WIDTH, 1, self.padded, name=f"block_{len(c.rates) + 2}")(x, real))


class _Decoder(nn.Module):
    config: Config
    padded: bool = True
    exact: bool = False

    @nn.compact
    def __call__(self, z: Array, real: Array | None = None) -> Array:
        c = self.config
        x = _Conv(c.decoder_channels, _WIDTH, 1, self.padded, name="model_0")(computed(z, c.dtype), real)
        for i, rate in enumerate(reversed(c.rates)):
            crop = c.cropped(rate) if self.padded else 0
            more = 2 * crop - rate if self.exact else 0
            x, real = _Up(rate, crop, more, self.padded, name=f"model_{i + 1}")(x, real)
        x = Snake(name=f"model_{len(c.rates) + 1}")(x)
        x = _Conv(1, _WIDTH, 1, self.padded, name=f"model_{len(c.rates) + 2}")(x, real)
        return jnp.tanh(wide(x[..., 0]))


def init(key: Array, config: Config) -> dict[str, Any]:
    """Random parameters {"encoder": ..., "decoder": ...}; under `jax.eval_shape`, their shapes at no cost."""
    keys = jax.random.split(key)
    return {
        "encoder": _Encoder(config).init(keys[0], jnp.zeros((1, config.hop)))["params"],
        "decoder": _Decoder(config).init(keys[1], jnp.zeros((1, 1, config.latent)))["params"],
    }


def encode(params: Any, config: Config, audio: Array, *, padded: bool = True, lengths: Array | None = None) -> Array:
    """Latents of waveforms.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      audio: (batch, time) at least one sample; zeros are added to the next multiple of `config.hop`.
      padded: surround the signal by zeros at every layer. Without, only what lies within the signal is computed, as
        DAC's windows over long signals do.
      lengths: (batch,) int, samples of each item, if they differ; what follows is not heard.

    Returns:
      (batch, frames, latent), frames = ceil(time / hop) if padded; past an item's own they mean nothing.

    Raises:
      UsageError: another shape.
    """
    if audio.ndim != 2 or not audio.shape[1]:
        raise UsageError(f"a codec takes waveforms (batch, time), not {tuple(audio.shape)}.")
    frames = None
    if lengths is not None:
        audio, frames = kept(audio, lengths), -(-lengths // config.hop)
    audio = jnp.pad(audio, ((0, 0), (0, -audio.shape[1] % config.hop)))
    z: Any = _Encoder(config, padded).apply({"params": params["encoder"]}, audio, frames)
    return z


def decode_raw(params: Any, config: Config, z: Array, *, padded: bool = True, frames: Array | None = None) -> Array:
    """Waveforms of latents as the published decoders compute them: with odd strides not quite frames * hop samples.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      z: (batch, frames, latent).
      padded: as in `encode`.
      frames: (batch,) int, frames of each item, if they differ; what follows is not heard.

    Returns:
      (batch, `raw_length(config, frames)`) in (-1, 1); fewer if not padded.
    """
    audio: Any = _Decoder(config, padded).apply({"params": params["decoder"]}, z, frames)
    return audio


def decode(params: Any, config: Config, z: Array, length: int | None = None, frames: Array | None = None) -> Array:
    """Waveforms of latents, of exactly so many samples.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      z: (batch, frames, latent).
      length: samples, at most frames * hop, which is the default.
      frames: as in `decode_raw`.

    Returns:
      (batch, length): `decode_raw`, and where it is too short, the samples that its odd strides cut off; zeros past
      what an item's own frames make.

    Raises:
      UsageError: the frames do not make so many samples.
    """
    count = z.shape[1]
    most = count * config.hop
    length = most if length is None else length
    if not 0 < length <= most:
        raise UsageError(f"{count} frames make 1 to {most} samples, not {length}.")
    audio = decode_raw(params, config, z, frames=frames)[:, :most]
    missing = most - audio.shape[1]
    if frames is not None:
        audio = kept(audio, frames * config.hop - missing)
    if missing <= (0 if frames is not None else most - length):
        return audio[:, :length]
    size = min(count, _tail(config))

    def exact(z: Array, real: Array | None = None) -> Any:
        return _Decoder(config, exact=True).apply({"params": params["decoder"]}, z, real)

    if frames is None:
        more = exact(z[:, -size:])
        return jnp.concatenate([audio, more[:, more.shape[1] - missing :]], 1)[:, :length]
    begins, own = jnp.maximum(frames - size, 0), jnp.minimum(frames, size)
    last = jax.vmap(lambda z, begin: jax.lax.dynamic_slice_in_dim(z, begin, size))(z, begins)
    more = exact(last, own)

    def joined(audio: Array, more: Array, frames: Array, own: Array) -> Array:
        end = jax.lax.dynamic_slice_in_dim(more, own * config.hop - missing, missing)
        return jax.lax.dynamic_update_slice_in_dim(audio, end, frames * config.hop - missing, 0)

    return jax.vmap(joined)(jnp.pad(audio, ((0, 0), (0, missing))), more, frames, own)[:, :length]


def raw_length(config: Config, frames: int) -> int:
    """Samples of `decode_raw`."""
    for rate in reversed(config.rates):
        frames = (frames + 1) * rate - 2 * config.cropped(rate)
    return frames


def _tail(config: Config) -> int:
    """Frames on which the last samples depend."""
    return 1 + context_of_samples(decoder_layers(config), config.hop)[0]


def encoder_layers(config: Config) -> tuple[Layer, ...]:
    """What each output of the encoder's layers reads of its input, for `receptive`."""
    units = tuple(Layer(_WIDTH, dilation=d) for d in _DILATIONS)
    downs = ((*units, Layer(2 * rate, stride=rate, pad=(rate + 1) // 2)) for rate in config.rates)
    return (Layer(_WIDTH), *(layer for down in downs for layer in down), Layer(_LAST_WIDTH))


def decoder_layers(config: Config) -> tuple[Layer, ...]:
    """The same of the decoder."""
    units = tuple(Layer(_WIDTH, dilation=d) for d in _DILATIONS)
    ups = ((Layer(2 * r, stride=r, pad=config.cropped(r), transposed=True), *units) for r in reversed(config.rates))
    return (Layer(_WIDTH), *(layer for up in ups for layer in up), Layer(_WIDTH))


def _alpha(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1)


def _weights() -> tuple[Rule, ...]:
    rules: list[Rule] = []
    key, path = r"(encoder|decoder)\.(block|model)\.(\d+)", r"\1/\2_\3"
    for depth in range(3):
        if depth == 1:
            up = r"decoder\.model\.(\d+)\.block\.1\.weight"
            rules.append(Rule(up, r"decoder/model_\1/block_1/kernel", conv_transpose1d))
        rules += [
            Rule(rf"{key}\.weight", f"{path}/kernel", conv1d),
            Rule(rf"{key}\.bias", f"{path}/bias"),
            Rule(rf"{key}\.alpha", f"{path}/alpha", _alpha),
        ]
        key, path = rf"{key}\.block\.(\d+)", rf"{path}/block_\{4 + depth}"
    return tuple(rules)


WEIGHTS = _weights()
"""Conversion rules from the `encoder` and `decoder` entries of DAC's and SD-Codec's checkpoints."""

TRANSPOSED = r"(?:.*/)?decoder/model_\d+/block_1"
"""Where the transposed convolutions are, for `weight_norm.split`."""
