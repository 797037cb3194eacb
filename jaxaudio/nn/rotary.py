"""Rotary position embedding (Su et al., 2021, arXiv:2104.09864), in the half-split form of Llama."""

import jax.numpy as jnp
import numpy as np
from jax import Array


def angles(length: int, dim: int, base: float = 10000.0, start: Array | int = 0) -> Array:
    """How far each pair of numbers turns at each position: position * base^(-2 i / dim) for pair i.

    Args:
      length: number of positions.
      dim: numbers that turn, an even part of a head.
      base: the slowest pair turns once in about 2 pi * base positions.
      start: the first position, () or (batch,) int.

    Returns:
      (length, dim / 2) radians; with a batch of starts (batch, length, dim / 2).
    """
    positions = jnp.asarray(start)[..., None] + jnp.arange(length)
    return positions[..., None] * jnp.asarray(base ** (-np.arange(0, dim, 2) / dim))


def rotate(x: Array, angles: Array) -> Array:
    """Turns pair i, the numbers i and i + half, by the i-th angle; what lies beyond 2 * half of them stays.

    Args:
      x: (batch, time, heads, dim), queries or keys.
      angles: ([batch,] time, half) of `angles`.

    Returns:
      x turned, in its dtype.
    """
    half = angles.shape[-1]
    dtype = jnp.promote_types(x.dtype, angles.dtype)
    cos, sin = (f(angles)[..., None, :].astype(dtype) for f in (jnp.cos, jnp.sin))
    first, second, rest = jnp.split(x, (half, 2 * half), -1)
    turned = [(first * cos - second * sin), (second * cos + first * sin)]
    return jnp.concatenate([*(part.astype(x.dtype) for part in turned), rest], -1)
