"""Convolutions along time with about half the multiplications (Winograd, 1980; Lavin and Gray, 2016, arXiv:1509.09308).

Four outputs of a filter of r taps need r + 3 products of sums of inputs with sums of taps, instead of 4 r. A CPU gains
once channels are many, since a product then is one of matrices; GPUs and TPUs have better ways.
"""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.nn.direct import convolve1d

_TILE = 4
_LARGE = 10_000_000  # numbers of an input that are transformed at once
_POINTS = (0, 1, -1, Fraction(1, 2), -2, 2)  # where the polynomials are multiplied, besides infinity


def convolve(x: Array, kernel: Array) -> Array:
    """Convolution that keeps (time, frequency), zeros beyond the edges.

    Args:
      x: (batch, time, frequency, channels).
      kernel: (height, width, channels, features), both odd.

    Returns:
      (batch, time, frequency, features), within a few units of float32's precision of the direct sum.
    """
    batch, time, freq, channels = x.shape
    height = kernel.shape[0]
    taps = 3 if height == 3 else _TILE
    groups, tiles, reach = -(-height // taps), -(-time // _TILE), height // 2
    out, of_kernel, of_input = _transforms(taps)

    kernel = after(kernel, x)
    kernel = jnp.pad(kernel, ((0, groups * taps - height), (0, 0), (0, 0), (0, 0)))
    kernel = kernel.reshape(groups, taps, *kernel.shape[1:])
    kernels = [_combine(weights, [kernel[:, k] for k in range(taps)]) for weights in of_kernel]

    x = jnp.pad(x, ((0, 0), (reach, _TILE * (tiles + groups) - time - reach), (0, 0), (0, 0)))
    x = x.reshape(batch, tiles + groups, _TILE, freq, channels)
    step = -(-tiles // -(-x.size // _LARGE))
    pieces: list[Array] = []
    for start in range(0, tiles, step):
        part = x[:, start : min(start + step, tiles) + groups]
        part = after(part, pieces[-1]) if pieces else part
        rows = [part[:, i // _TILE : part.shape[1] - 1 + i // _TILE, i % _TILE] for i in range(len(of_input))]
        products = [_product(_combine(weights, rows), kernels[i]) for i, weights in enumerate(of_input)]
        pieces.append(jnp.stack([_combine(weights, products) for weights in out], axis=2))
    return jnp.concatenate(pieces, 1).reshape(batch, tiles * _TILE, freq, -1)[:, :time]


def after(x: Array, *first: Array) -> Array:
    """The array x as it is, but not before the arrays `first` are there.

    XLA's scheduler for CPUs runs what it can as early as it can. Left alone, it prepares the kernels of a whole network
    before the first layer, and runs parallel branches side by side, and keeps all of that in memory.
    """
    never = functools.reduce(jnp.logical_or, [array[(0,) * array.ndim] > jnp.inf for array in first])
    return jnp.where(never, jnp.zeros_like(x), x)


def _product(x: Array, kernel: Array) -> Array:
    """(batch, tiles, frequency, channels) with (groups, width, channels, features): tiles unpadded, frequency padded.

    Written as one-dimensional convolutions: XLA hands those of two dimensions to a library that uses one core.
    """
    groups, width = kernel.shape[:2]
    tiles = x.shape[1] - groups + 1
    if width == 1:
        return _along_time(x, kernel[:, 0], tiles)
    parts = [_along_frequency(x[:, i : i + tiles], kernel[i]) for i in range(groups)]
    return functools.reduce(jnp.add, parts)


def _along_time(x: Array, kernel: Array, tiles: int) -> Array:
    batch, _, freq, channels = x.shape
    y = convolve1d(x.reshape(batch, -1, channels), kernel, (0, 0), freq)
    return y.reshape(batch, tiles, freq, -1)


def _along_frequency(x: Array, kernel: Array) -> Array:
    reach = kernel.shape[0] // 2
    y = convolve1d(x.reshape(-1, *x.shape[2:]), kernel, (reach, reach))
    return y.reshape(*x.shape[:3], -1)


def _combine(weights: np.ndarray, terms: list[Array]) -> Array:
    parts = [term * np.asarray(w, term.dtype) for w, term in zip(weights, terms, strict=True) if w]
    return functools.reduce(jnp.add, parts)


def upsampled(x: Array, kernel: Array) -> Array:
    """`convolve` of x with every position repeated to two by two, for a 3x3 kernel, in a quarter of its products.

    Of the taps a, b, c around a repeated position x, with neighbours u and v, the sums a u + (b + c) x and
    (a + b) x + c v are a (u - x) + s x and s x + c (v - x), s = a + b + c: three products for two outputs on each axis.

    Args:
      x: (batch, time, frequency, channels).
      kernel: (3, 3, channels, features).

    Returns:
      (batch, 2 * time, 2 * frequency, features).
    """
    batch, time, freq, _ = x.shape
    kernel = after(kernel, x)
    rows: list[Array] = []  # for each product along time, the outputs at even and odd frequencies
    for axis_part, taps in zip(_differences(x, 1), _sums(kernel), strict=True):
        part = after(axis_part, rows[-1]) if rows else axis_part
        low, middle, high = (a @ b for a, b in zip(_differences(part, 2), _sums(taps), strict=True))
        rows.append(jnp.stack([low + middle, middle + high], 3))
    return jnp.stack([rows[0] + rows[1], rows[1] + rows[2]], 2).reshape(batch, 2 * time, 2 * freq, -1)


def _differences(x: Array, axis: int) -> tuple[Array, Array, Array]:
    """What precedes along the axis minus x, x, and what follows minus x; zeros beyond the ends."""
    pad = [(0, 0)] * x.ndim
    pad[axis] = (1, 1)
    padded, size = jnp.pad(x, pad), x.shape[axis]
    before, after = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in (0, 2))
    return before - x, x, after - x


def _sums(kernel: Array) -> tuple[Array, Array, Array]:
    return kernel[0], kernel[0] + kernel[1] + kernel[2], kernel[2]


@functools.lru_cache(maxsize=4)
def _transforms(taps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices that turn products into outputs (4, n), taps into factors (n, taps), and inputs into factors (n, n)."""
    points = [Fraction(p) for p in _POINTS[: _TILE + taps - 2]]
    count = len(points) + 1
    out = [[p**i for p in points] + [Fraction(i == _TILE - 1)] for i in range(_TILE)]
    of_kernel, of_input = [], []
    for p in points:
        others = [q for q in points if q != p]
        scale = functools.reduce(lambda a, q: a * (p - q), others, Fraction(1))
        of_kernel.append([p**k / scale for k in range(taps)])
        of_input.append(_with_roots(others, count))
    of_kernel.append([Fraction(k == taps - 1) for k in range(taps)])
    of_input.append(_with_roots(points, count))
    return np.array(out, np.float64), np.array(of_kernel, np.float64), np.array(of_input, np.float64)


def _with_roots(roots: list[Fraction], count: int) -> list[Fraction]:
    """Coefficients, constant first, of the monic polynomial with these roots, filled up to `count`."""
    coefficients = [Fraction(1)]
    for root in roots:
        raised, scaled = [Fraction(0), *coefficients], [*(root * c for c in coefficients), Fraction(0)]
        coefficients = [a - b for a, b in zip(raised, scaled, strict=True)]
    return coefficients + [Fraction(0)] * (count - len(coefficients))
