"""Discriminators: PatchGAN for spectrograms (Isola et al., 2017), HiFi-GAN's for waveforms (Kong et al., 2020)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.convert.rules import Rule, batch_norm, conv1d, conv2d
from jaxaudio.nn.norm import BatchNorm
from jaxaudio.nn.weight_norm import fuse

Features = list[list[Array]]

_NORMAL = nn.initializers.normal(0.02)  # of both papers
_TINY = 1e-12  # torch's guard in spectral norm


@dataclasses.dataclass(frozen=True, kw_only=True)
class PatchConfig:
    """Shape of a PatchGAN.

    Attributes:
      channels: of the first layer; the next ones double them, up to eight times.
      layers: with stride 2, the first included; two of stride 1 follow.
    """

    channels: int = 64
    layers: int = 3


PATCH_GAN = PatchConfig()
"""What AudioLDM's autoencoder is trained against (2.8 M parameters)."""


class PatchGAN(nn.Module):
    """4x4 convolutions with batch normalisation; each output judges one patch of the spectrogram.

    Attributes:
      config: its shape.
      axis_name: mapped axis that statistics are averaged over, under `jax.pmap`.
    """

    config: PatchConfig = PATCH_GAN
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        """(batch, time, frequency, 1) -> (batch, patches, patches, 1) logits, high for what seems real."""
        c = self.config

        def conv(x: Array, features: int, stride: int, index: int, bias: bool) -> Array:
            layer = nn.Conv(
                features, (4, 4), stride, padding=1, use_bias=bias, kernel_init=_NORMAL, name=f"main_{index}"
            )
            return layer(x)

        x = nn.leaky_relu(conv(x, c.channels, 2, 0, True), 0.2)
        for i in range(1, c.layers + 1):
            x = conv(x, c.channels << min(i, 3), 2 if i < c.layers else 1, 3 * i - 1, False)
            x = nn.leaky_relu(BatchNorm(axis_name=self.axis_name, name=f"main_{3 * i}")(x, train), 0.2)
        return conv(x, 1, 1, 3 * c.layers + 2, True)


def patch_weights(config: PatchConfig) -> tuple[Rule, ...]:
    """Conversion rules from the keys of taming-transformers' NLayerDiscriminator."""
    norms = "|".join(str(3 * i) for i in range(1, config.layers + 1))
    return (
        *batch_norm(rf"main\.({norms})", r"main_\1"),
        Rule(r"main\.(\d+)\.weight", r"params/main_\1/kernel", conv2d),
        Rule(r"main\.(\d+)\.bias", r"params/main_\1/bias"),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class WaveConfig:
    """Shape of HiFi-GAN's discriminators.

    Attributes:
      periods: one discriminator folds the waveform by each of them.
      period_channels: of its layers; all but the last have stride 3.
      scales: discriminators of the waveform itself, each at half the rate of the one before.
      scale_layers: (channels, width, stride, groups) of their layers.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    scales: int = 3
    scale_layers: tuple[tuple[int, int, int, int], ...] = (
        (128, 15, 1, 1),
        (128, 41, 2, 4),
        (256, 41, 2, 16),
        (512, 41, 4, 16),
        (1024, 41, 4, 16),
        (1024, 41, 1, 16),
        (1024, 5, 1, 1),
    )


HIFIGAN = WaveConfig()
"""As published."""


class WeightNormConv(nn.Module):
    """Convolution over one or two axes whose kernel is a direction and a length per output channel.

    Attributes:
      features: output channels.
      size: taps along each axis, odd; missing axes have one.
      stride: along each axis; one for missing ones.
      dilation: the same.
      groups: of channels that do not mix.
      start: initial direction.
    """

    features: int
    size: tuple[int, ...]
    stride: tuple[int, ...] = (1,)
    dilation: tuple[int, ...] = (1,)
    groups: int = 1
    start: Callable[..., Array] = _NORMAL

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, *axes, channels) -> (batch, *axes, features); zeros beyond the ends, lengths divided by strides."""
        size = (*self.size, *[1] * (x.ndim - 2 - len(self.size)))
        v = self.param("weight_v", self.start, (*size, x.shape[-1] // self.groups, self.features))
        axes = tuple(range(v.ndim - 1))
        g = self.param("weight_g", lambda _: jnp.sqrt(jnp.sum(jnp.square(v), axes)))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        kernel = fuse({"weight_g": g, "weight_v": v})["kernel"]
        return _convolve(x, kernel, self.stride, self.groups, self.dilation) + bias


def weight_norm(features: int, width: int, stride: int = 1, groups: int = 1, **options: Any) -> WeightNormConv:
    """`WeightNormConv` along the first axis, for `Stack`."""
    return WeightNormConv(features, (width,), (stride,), groups=groups, **options)


class _SpectralNorm(nn.Module):
    """The same with the kernel divided by its largest singular value, as one power iteration per call estimates it."""

    features: int
    width: int
    stride: int = 1
    groups: int = 1

    train: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        weight = self.param("weight_orig", _NORMAL, (self.width, x.shape[-1] // self.groups, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        matrix = weight.transpose(2, 1, 0).reshape(self.features, -1)
        u = self.variable("spectral", "u", lambda: _unit(jnp.ones(self.features)))
        v = self.variable("spectral", "v", lambda: _unit(jnp.ones(matrix.shape[1])))
        if self.train and not self.is_initializing():
            frozen = jax.lax.stop_gradient(matrix)
            v.value = _unit(u.value @ frozen)
            u.value = _unit(frozen @ v.value)
        return _convolve(x, weight / (u.value @ matrix @ v.value), (self.stride,), self.groups) + bias


def _unit(x: Array) -> Array:
    return x / jnp.maximum(jnp.sqrt(jnp.sum(jnp.square(x))), _TINY)


def _convolve(x: Array, kernel: Array, stride: tuple[int, ...], groups: int, dilation: tuple[int, ...] = (1,)) -> Array:
    layout = ("NWC", "WIO", "NWC") if x.ndim == 3 else ("NHWC", "HWIO", "NHWC")
    stride, dilation = ((*steps, *[1] * (x.ndim - 2 - len(steps))) for steps in (stride, dilation))
    padding = [(size // 2 * step, size // 2 * step) for size, step in zip(kernel.shape, dilation)]
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        stride,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=layout,
        feature_group_count=groups,
    )


class Stack(nn.Module):
    """Layers with leaky ReLUs and a last one of a single channel.

    Attributes:
      layers: arguments of each.
      layer: makes them, and the last one, named "convs_0" and on, and "conv_post".
    """

    layers: tuple[tuple[int, ...], ...]
    layer: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: Array) -> tuple[Array, list[Array]]:
        """Returns the scores (batch, places) and the outputs of all layers, the last one's included."""
        features = []
        for i, layer in enumerate(self.layers):
            x = nn.leaky_relu(self.layer(*layer, name=f"convs_{i}")(x), 0.1)
            features.append(x)
        x = self.layer(1, 3, name="conv_post")(x)
        return x.reshape(x.shape[0], -1), [*features, x]


def period_layers(channels: tuple[int, ...]) -> tuple[tuple[int, int, int], ...]:
    """(channels, width, stride) of the layers of a period's `Stack`."""
    return tuple((n, 5, 1 if i == len(channels) - 1 else 3) for i, n in enumerate(channels))


def fold(x: Array, period: int, *, whole: bool = False) -> Array:
    """Waveforms (batch, time) -> (batch, rows, period, 1), the last row completed by reflection.

    Args:
      x: waveforms.
      period: in samples, fewer than there are.
      whole: what folds evenly gets a further row, as in DAC.
    """
    missing = -x.shape[1] % period
    x = jnp.pad(x, ((0, 0), (0, missing or whole * period)), mode="reflect")
    return x.reshape(x.shape[0], -1, period, 1)


class _MultiPeriod(nn.Module):
    config: WaveConfig

    @nn.compact
    def __call__(self, x: Array) -> tuple[list[Array], Features]:
        layers, made = period_layers(self.config.period_channels), []
        for i, period in enumerate(self.config.periods):
            made.append(Stack(layers, weight_norm, name=f"discriminators_{i}")(fold(x, period)))
        return [score for score, _ in made], [features for _, features in made]


class _MultiScale(nn.Module):
    config: WaveConfig

    @nn.compact
    def __call__(self, x: Array, train: bool) -> tuple[list[Array], Features]:
        made = []
        for i in range(self.config.scales):
            if i:  # mean of four samples at every second one, of zeros beyond the ends
                x = nn.avg_pool(x[..., None], (4,), (2,), ((2, 2),))[..., 0]
            layer = weight_norm if i else functools.partial(_SpectralNorm, train=train)
            made.append(Stack(self.config.scale_layers, layer, name=f"discriminators_{i}")(x[..., None]))
        return [score for score, _ in made], [features for _, features in made]


class WaveDiscriminators(nn.Module):
    """HiFi-GAN's multi-period ("mpd") and multi-scale ("msd") discriminators.

    The first scale's spectral norm keeps its estimates in the collection "spectral".

    Attributes:
      config: their shapes.
    """

    config: WaveConfig = HIFIGAN

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> tuple[list[Array], Features]:
        """Judges waveforms.

        Args:
          x: (batch, time), more samples than the largest period.
          train: improve the estimates of spectral norm by one step.

        Returns:
          The score (batch, places) of every discriminator, the periods' first, and the outputs of its layers.
        """
        period_scores, period_features = _MultiPeriod(self.config, name="mpd")(x)
        scale_scores, scale_features = _MultiScale(self.config, name="msd")(x, train)
        return period_scores + scale_scores, period_features + scale_features


def length(x: np.ndarray) -> np.ndarray:
    """A weight_g of any layout -> (channels,), for rules."""
    return x.reshape(-1)


def _wave_rules() -> tuple[Rule, ...]:
    rules: list[Rule] = []
    for key, name in ((r"convs\.(\d)", r"convs_\2"), ("conv_post", "conv_post")):
        spectral, at = rf"msd\.discriminators\.(0)\.{key}", rf"msd/discriminators_\1/{name}"
        rules += [
            Rule(rf"{spectral}\.weight_orig", f"params/{at}/weight_orig", conv1d),
            Rule(rf"{spectral}\.weight_([uv])", f"spectral/{at}/" + (r"\3" if "convs" in key else r"\2")),
        ]
        for kind, op in (("mpd", conv2d), ("msd", conv1d)):
            normal, at = rf"{kind}\.discriminators\.(\d)\.{key}", rf"params/{kind}/discriminators_\1/{name}"
            rules += [
                Rule(rf"{normal}\.(?:weight_g|parametrizations\.weight\.original0)", f"{at}/weight_g", length),
                Rule(rf"{normal}\.(?:weight_v|parametrizations\.weight\.original1)", f"{at}/weight_v", op),
                Rule(rf"{normal}\.bias", f"{at}/bias"),
            ]
    return tuple(rules)


WAVE_WEIGHTS = _wave_rules()
"""Conversion rules from the `mpd` and `msd` entries of HiFi-GAN's discriminator checkpoints, so prefixed."""


def init_waves(key: Array, config: WaveConfig) -> Any:
    """Random variables {"params": ..., "spectral": ...} of `WaveDiscriminators`."""
    return WaveDiscriminators(config).init(key, jnp.zeros((1, 64 * max(config.periods))))


def init_patches(key: Array, config: PatchConfig) -> Any:
    """Random variables {"params": ..., "batch_stats": ...} of `PatchGAN`."""
    return PatchGAN(config).init(key, jnp.zeros((1, 64, 64, 1)))
