"""Convolutions as XLA computes them, and what it takes to see a concatenation, or a repetition, without writing it."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_FEW = 1024  # positions whose neighbours are worth writing side by side


def convolve1d(x: Array, kernel: Array, padding: tuple[int, int], dilation: int = 1) -> Array:
    """Convolution (batch, time, channels) x (width, channels, features), with so many zeros before and after."""

    def plain(x: Array, kernel: Array) -> Array:
        layout = ("NWC", "WIO", "NWC")
        return jax.lax.conv_general_dilated(x, kernel, (1,), (padding,), None, (dilation,), layout)

    # XLA's convolutions on CPUs are up to twice as slow as its matrix products where features are a multiple of 512:
    # what lies one row of the kernel apart then has the same place in the cache.
    width, _, features = kernel.shape
    rows = x.shape[0] * x.shape[1]
    if features % 512 or (width > 2 and rows > _FEW):
        return plain(x, kernel)

    def products(x: Array, kernel: Array) -> Array:
        x = jnp.pad(x, ((0, 0), padding, (0, 0)))
        length = x.shape[1] - (width - 1) * dilation
        parts = [x[:, i * dilation : i * dilation + length] for i in range(width)]
        if rows > _FEW:
            return functools.reduce(jnp.add, (part @ taps for part, taps in zip(parts, kernel, strict=True)))
        return jnp.concatenate(parts, -1) @ kernel.reshape(-1, features)

    return jax.lax.platform_dependent(x, kernel, cpu=products, default=plain)


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
