"""Leaves of convolutional resnets over (time, frequency): group normalisation, resampling by two, the plain block."""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.nn import winograd
from jaxaudio.nn.conv import Pointwise


class GroupNorm(nn.Module):
    """Group normalisation with torch's conventions; statistics in at least float32.

    Attributes:
      groups: number of groups; must divide the channels.
      epsilon: added to the variance.
    """

    groups: int = 32
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Normalises (batch, ..., channels) over everything but batch and group, then scales and shifts by channel."""
        channels = x.shape[-1]
        weight = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        flat = x.reshape(x.shape[0], -1, channels)
        wide = flat.astype(jnp.promote_types(x.dtype, jnp.float32))
        mean = self._group_mean(wide)
        # Two passes: E[x^2] - E[x]^2 loses the digits that parity asks for.
        var = self._group_mean(jnp.square(wide - mean[:, None]))
        scale = weight * jax.lax.rsqrt(var + self.epsilon)
        shift = bias - mean * scale
        return (flat * scale[:, None].astype(x.dtype) + shift[:, None].astype(x.dtype)).reshape(x.shape)

    def _group_mean(self, x: Array) -> Array:
        """(batch, positions, channels) -> (batch, channels), the same within a group."""
        each = jnp.mean(x, axis=1).reshape(x.shape[0], self.groups, -1)
        return jnp.broadcast_to(jnp.mean(each, -1, keepdims=True), each.shape).reshape(x.shape[0], -1)


class Conv3x3(nn.Module):
    """3x3 convolution with bias that keeps (time, frequency).

    Attributes:
      features: output channels.
      repeat: of the input with every position repeated to two by two.
    """

    features: int
    repeat: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, frequency, channels) -> (batch, time, frequency, features)."""
        shape = (3, 3, x.shape[-1], self.features)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return (convolve_repeated if self.repeat else convolve)(x, kernel) + bias


class Upsample(nn.Module):
    """Every position repeated to two by two, then a 3x3 convolution named "conv".

    Attributes:
      features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, frequency, channels) -> (batch, 2 * time, 2 * frequency, features)."""
        return Conv3x3(self.features, repeat=True, name="conv")(x)


class Downsample(nn.Module):
    """3x3 convolution with stride 2, named "conv".

    Attributes:
      features: output channels.
      padding: "both" pads a zero on either side of both axes, as U-Nets do; "end" only after the last position, as the
        AutoencoderKL does. For even sizes both halve.
    """

    features: int
    padding: Literal["both", "end"] = "both"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, frequency, channels) -> (batch, time / 2, frequency / 2, features), rounded up for "both"."""
        pad = (1, 1) if self.padding == "both" else (0, 1)
        conv = nn.Conv(self.features, (3, 3), strides=2, padding=(pad, pad), dtype=x.dtype, name="conv")
        return conv(x)


class ResnetBlock(nn.Module):
    """Two rounds of normalise, SiLU, 3x3 convolution, added to the input (or to a 1x1 convolution of it).

    Attributes:
      features: output channels.
      epsilon: of the normalisations.
      groups: of the normalisations.
    """

    features: int
    epsilon: float = 1e-6
    groups: int = 32

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, frequency, channels) -> (batch, time, frequency, features)."""
        y = x
        for i in (1, 2):
            y = nn.silu(GroupNorm(self.groups, self.epsilon, name=f"norm{i}")(y))
            y = Conv3x3(self.features, name=f"conv{i}")(y)
        skip = x if x.shape[-1] == self.features else Pointwise(self.features, name="nin_shortcut")(x)
        return skip + y


def convolve(x: Array, kernel: Array) -> Array:
    """3x3 convolution that keeps (time, frequency), zeros beyond the edges, by the fastest way.

    Args:
      x: (batch, time, frequency, channels).
      kernel: (3, 3, channels, features).
    """
    if not _many_channels(x, kernel):
        return _direct(x, kernel)
    # Transforming the kernel doubles it, which pays when many positions share it.
    on_cpu = winograd.convolve if math.prod(x.shape[:3]) >= 1024 else _by_columns
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=_direct)


def convolve_repeated(x: Array, kernel: Array) -> Array:
    """`convolve` of x with every position repeated to two by two."""
    if not _many_channels(x, kernel):
        return _direct_repeated(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=winograd.upsampled, default=_direct_repeated)


def _many_channels(x: Array, kernel: Array) -> bool:
    return min(kernel.shape[2:]) >= 128 and x.dtype != jnp.bfloat16


def _direct(x: Array, kernel: Array) -> Array:
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=layout)


def _by_columns(x: Array, kernel: Array) -> Array:
    """Frequency neighbours become channels, time a dilated axis: XLA's library for CPUs is slow at deep, small maps."""
    batch, time, freq, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    x = jnp.concatenate([padded[:, :, i : i + freq] for i in range(3)], -1).reshape(batch, time * freq, 3 * channels)
    kernel = kernel.reshape(3, 3 * channels, -1)
    y = jax.lax.conv_general_dilated(x, kernel, (1,), ((freq, freq),), None, (freq,), ("NWC", "WIO", "NWC"))
    return y.reshape(batch, time, freq, -1)


def _direct_repeated(x: Array, kernel: Array) -> Array:
    batch, time, freq, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, time, 2, freq, 2, channels))
    return _direct(x.reshape(batch, 2 * time, 2 * freq, channels), kernel)
