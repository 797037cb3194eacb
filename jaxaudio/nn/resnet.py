"""Leaves of convolutional resnets over (time, frequency): group normalisation, resampling by two, the plain block."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.nn.conv import Conv3x3, Pointwise
from jaxaudio.precision import wide


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
        y = wide(flat)
        mean = self._group_mean(y)
        # Two passes: E[x^2] - E[x]^2 loses the digits that parity asks for.
        var = self._group_mean(jnp.square(y - mean[:, None]))
        scale = weight * jax.lax.rsqrt(var + self.epsilon)
        shift = bias - mean * scale
        return (flat * scale[:, None].astype(x.dtype) + shift[:, None].astype(x.dtype)).reshape(x.shape)

    def _group_mean(self, x: Array) -> Array:
        """(batch, positions, channels) -> (batch, channels), the same within a group."""
        each = jnp.mean(x, axis=1).reshape(x.shape[0], self.groups, -1)
        return jnp.broadcast_to(jnp.mean(each, -1, keepdims=True), each.shape).reshape(x.shape[0], -1)


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
