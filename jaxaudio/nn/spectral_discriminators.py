"""Discriminators of neural codecs, which judge complex spectra: DAC's (Kumar et al., 2023) and Encodec's."""

import dataclasses
import functools
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, conv2d
from jaxaudio.dsp.stft import magnitude, stft
from jaxaudio.dsp.window import get_window
from jaxaudio.nn.discriminators import Features, Stack, WeightNormConv, fold, length, period_layers, weight_norm

_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default for convolutions
_PEAK = 0.8  # of what DAC's discriminators hear
_SILENT = 1e-20  # on the power: nothing beside the 1e-6 added to magnitudes


@dataclasses.dataclass(frozen=True, kw_only=True)
class BandConfig:
    """Shape of DAC's discriminators, of folded waveforms and of bands of complex spectra.

    Attributes:
      periods: one discriminator folds the waveform by each of them.
      period_channels: of its layers; all but the last have stride 3.
      windows: lengths of Hann windows, in samples, one discriminator for each; they move by a quarter.
      bands: (from, to) of the spectrum, as fractions, each with layers of its own.
      channels: of these layers.
      alignment: frames lie where strided convolutions would put them ("strided", audiotools' `match_stride`: time / hop
        of them, rounded up), as in DAC, or are centred on every hop ("centred"), as in SD-Codec.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    windows: tuple[int, ...] = (2048, 1024, 512)
    bands: tuple[tuple[float, float], ...] = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
    channels: int = 32
    alignment: Literal["strided", "centred"] = "strided"


DAC = BandConfig()
"""As published, for all rates (42.5 M parameters)."""

SDCODEC = BandConfig(alignment="centred")
"""As published for SD-Codec (Bie et al., 2024)."""

MINI_BANDS = BandConfig(
    periods=(2, 3, 5), period_channels=(8, 16, 32, 64), windows=(512, 256), channels=8, alignment="centred"
)
"""Small enough to train on a laptop (0.2 M parameters)."""


class BandDiscriminators(nn.Module):
    """DAC's multi-period and multi-resolution, multi-band discriminators.

    Attributes:
      config: their shapes.
    """

    config: BandConfig = DAC

    @nn.compact
    def __call__(self, x: Array) -> tuple[list[Array], Features]:
        """Judges waveforms, their mean removed and their peaks set to 0.8.

        Args:
          x: (batch, time), longer than half the largest window.

        Returns:
          The score (batch, places) of every discriminator, the periods' first, and the outputs of its layers, the last
          of which is the score.
        """
        c, made = self.config, []
        x = x - jnp.mean(x, -1, keepdims=True)
        x = _PEAK * x / (jnp.max(jnp.abs(x), -1, keepdims=True) + 1e-9)
        layer = functools.partial(weight_norm, start=_INIT)
        for i, period in enumerate(c.periods):
            stack = Stack(period_layers(c.period_channels), layer, name=f"discriminators_{i}")
            made.append(stack(fold(x, period, whole=True)))
        for i, window in enumerate(c.windows, len(c.periods)):
            made.append(_Bands(c.bands, c.channels, name=f"discriminators_{i}")(complex_frames(x, window, c.alignment)))
        return [score for score, _ in made], [features for _, features in made]


class _Bands(nn.Module):
    bands: tuple[tuple[float, float], ...]
    channels: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, list[Array]]:
        bins, ends, features = x.shape[2], [], []
        for b, (low, high) in enumerate(self.bands):
            y = x[:, :, int(low * bins) : int(high * bins)]
            for i, (reach, stride) in enumerate([(9, 1), (9, 2), (9, 2), (9, 2), (3, 1)]):
                layer = WeightNormConv(self.channels, (3, reach), (1, stride), start=_INIT, name=f"band_convs_{b}_{i}")
                y = nn.leaky_relu(layer(y), 0.1)
                features.append(y)
            ends.append(y)
        x = WeightNormConv(1, (3, 3), start=_INIT, name="conv_post")(jnp.concatenate(ends, 2))
        return x.reshape(x.shape[0], -1), [*features, x]


def complex_frames(x: Array, window: int, alignment: Literal["strided", "centred"]) -> Array:
    """(batch, time) -> (batch, frames, bins, 2) real and imaginary parts; see `BandConfig.alignment`."""
    hop = window // 4
    if alignment == "centred":
        return jnp.stack(stft(x, window, hop), -1)
    side = (window - hop) // 2
    x = jnp.pad(x, ((0, 0), (side, side + -x.shape[1] % hop)), mode="reflect")
    return jnp.stack(stft(x, window, hop), -1)[:, 2:-2]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrumConfig:
    """Shape of Encodec's multi-scale STFT discriminators (Defossez et al., 2022), as stable-audio-tools has them.

    Attributes:
      channels: of all layers but the last.
      windows: lengths of transforms and Hann windows in samples, any number, one discriminator for each.
      hops: samples between their frames.
      stride: of the three dilated layers along frequency: 2 in Encodec, 1 in later stable-audio-tools.
      scale_power: spectra are multiplied by (magnitude + 1e-6) to this power; -0.5 compresses them, 0 does not.
    """

    channels: int = 32
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    hops: tuple[int, ...] = (512, 256, 128, 64, 32)
    stride: int = 1
    scale_power: float = 0.0


ENCODEC = SpectrumConfig(stride=2)
"""As published by Encodec for one channel."""

MINI_SPECTRUM = SpectrumConfig(channels=8, windows=(512, 200, 78), hops=(128, 50, 20), stride=2, scale_power=-0.5)
"""Small enough to train on a laptop (13 k parameters)."""


class SpectrumDiscriminators(nn.Module):
    """Encodec's discriminators of whole complex spectra at several resolutions.

    Attributes:
      config: their shapes.
    """

    config: SpectrumConfig = ENCODEC

    @nn.compact
    def __call__(self, x: Array) -> tuple[list[Array], Features]:
        """Judges waveforms.

        Args:
          x: (batch, time), at least as long as the largest window.

        Returns:
          The score (batch, places) of every discriminator, and the outputs of its layers but the last.
        """
        c = self.config
        made = [
            _Spectrum(c.channels, c.stride, name=f"discriminators_{i}")(scaled_frames(x, window, hop, c.scale_power))
            for i, (window, hop) in enumerate(zip(c.windows, c.hops, strict=True))
        ]
        return [score for score, _ in made], [features for _, features in made]


class _Spectrum(nn.Module):
    channels: int
    stride: int

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, list[Array]]:
        layers = [((3, 9), 1, 1), *(((3, 9), self.stride, dilation) for dilation in (1, 2, 4)), ((3, 3), 1, 1)]
        features = []
        for i, (size, stride, dilation) in enumerate(layers):
            layer = WeightNormConv(self.channels, size, (1, stride), (dilation, 1), start=_INIT, name=f"convs_{i}")
            x = nn.leaky_relu(layer(x), 0.2)
            features.append(x)
        x = WeightNormConv(1, (3, 3), start=_INIT, name="conv_post")(x)
        return x.reshape(x.shape[0], -1), features


def scaled_frames(x: Array, window: int, hop: int, power: float = 0.0) -> Array:
    """(batch, time) -> (batch, frames, bins, 2): the spectrum over the window's norm, compressed by `power`.

    Nothing is padded: the first frame begins with the signal.
    """
    norm = float((get_window("hann", window) ** 2).sum() ** 0.5)
    real, imag = (part / norm for part in stft(x, window, hop, center=False))
    spectrum = jnp.stack([real, imag], -1)
    return spectrum * (magnitude(real, imag, _SILENT) + 1e-6)[..., None] ** power if power else spectrum


def _rules(key: str, path: str) -> tuple[Rule, ...]:
    return (
        Rule(rf"{key}\.(?:weight_g|parametrizations\.weight\.original0)", f"params/{path}/weight_g", length),
        Rule(rf"{key}\.(?:weight_v|parametrizations\.weight\.original1)", f"params/{path}/weight_v", conv2d),
        Rule(rf"{key}\.bias", f"params/{path}/bias"),
    )


BAND_WEIGHTS = (
    *_rules(r"discriminators\.(\d+)\.convs\.(\d+)\.0", r"discriminators_\1/convs_\2"),
    *_rules(r"discriminators\.(\d+)\.band_convs\.(\d+)\.(\d+)\.0", r"discriminators_\1/band_convs_\2_\3"),
    *_rules(r"discriminators\.(\d+)\.conv_post", r"discriminators_\1/conv_post"),
)
"""Conversion rules from the keys of DAC's and SD-Codec's discriminator checkpoints."""

SPECTRUM_WEIGHTS = (
    *_rules(r"discriminators\.discriminators\.(\d+)\.convs\.(\d+)\.conv", r"discriminators_\1/convs_\2"),
    *_rules(r"discriminators\.discriminators\.(\d+)\.conv_post\.conv", r"discriminators_\1/conv_post"),
    Rule(r"discriminators\.discriminators\.\d+\.spec_transform\.window", None),
)
"""Conversion rules from the keys of stable-audio-tools' `EncodecDiscriminator`."""


def module(config: BandConfig | SpectrumConfig) -> nn.Module:
    """The discriminators of a configuration."""
    return BandDiscriminators(config) if isinstance(config, BandConfig) else SpectrumDiscriminators(config)


def judge(variables: Any, config: BandConfig | SpectrumConfig, x: Array) -> tuple[list[Array], Features]:
    """Scores and features of waveforms (batch, time), see the two modules."""
    judged: Any = module(config).apply(variables, x)
    return judged


def init(key: Array, config: BandConfig | SpectrumConfig) -> Any:
    """Random variables {"params": ...} of the discriminators."""
    return module(config).init(key, jnp.zeros((1, 2 * max(config.windows))))
