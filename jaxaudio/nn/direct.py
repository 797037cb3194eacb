"""Convolutions as XLA computes them, and what it takes to see a concatenation, or a repetition, without writing it."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


def convolve1d(x: Array, kernel: Array, padding: tuple[int, int], dilation: int = 1) -> Array:
    """Convolution (batch, time, channels) x (width, channels, features), with so many zeros before and after."""
    layout = ("NWC", "WIO", "NWC")
    return jax.lax.conv_general_dilated(x, kernel, (1,), (padding,), None, (dilation,), layout)


def convolve2d(x: Array, kernel: Array) -> Array:
    """Convolution (batch, time, frequency, channels) x (height, width, channels, features) that keeps the size."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def repeated(x: Array) -> Array:
    """Every position of (batch, time, frequency, channels) two by two times."""
    batch, time, freq, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (batch, time, 2, freq, 2, channels))
    return x.reshape(batch, 2 * time, 2 * freq, channels)


def shares(x: Array, parts: Sequence[Array], axis: int = -1) -> list[Array]:
    """Splits x along an axis of channels: what belongs to each of `parts`, which stand for their concatenation."""
    return jnp.split(x, np.cumsum([part.shape[-1] for part in parts])[:-1], axis)
