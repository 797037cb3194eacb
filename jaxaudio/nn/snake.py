"""Snake activations (Ziyin et al., 2020), and their use without aliasing in BigVGAN (Lee et al., 2023, section 3)."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_TAPS = 12
_TINY = 1e-9  # the guard of DAC and BigVGAN against a slope of zero
_PI = (3.140625, 0.0009670257568359375)  # the first 8 and the next 11 bits of pi; whole multiples of them are exact


class Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha, with a frequency per channel."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., channels) -> the same."""
        alpha = self.param("alpha", nn.initializers.ones, (x.shape[-1],))
        alpha, size = alpha.astype(x.dtype), (1 / (alpha + _TINY)).astype(x.dtype)
        return x + size * sine_squared(alpha * x)


class SnakeBeta(nn.Module):
    """x + sin(alpha x)^2 / beta, with a frequency and an inverse size per channel.

    Attributes:
      log_scale: the parameters are logarithms of alpha and beta.
    """

    log_scale: bool = True

    @nn.compact
    def __call__(self, *parts: Array) -> tuple[Array, ...]:
        """Applies it to each of several (..., channels)."""
        start = nn.initializers.zeros if self.log_scale else nn.initializers.ones
        alpha = self.param("alpha", start, (parts[0].shape[-1],))
        beta = self.param("beta", start, (parts[0].shape[-1],))
        if self.log_scale:
            alpha, beta = jnp.exp(alpha), jnp.exp(beta)
        alpha, size = alpha.astype(parts[0].dtype), (1 / (beta + _TINY)).astype(parts[0].dtype)
        return tuple(x + size * sine_squared(alpha * x) for x in parts)


@jax.custom_jvp
def sine_squared(x: Array) -> Array:
    """sin(x)^2, to the precision of float32 for numbers of up to 2e5.

    It repeats itself after pi and is even there, so one polynomial of x^2 is all of it; `jnp.sin` costs a CPU more than
    the convolution beside it.
    """
    if x.dtype == jnp.float64:
        return jnp.square(jnp.sin(x))
    u = jnp.square(_reduced(x))
    return (u * _polynomial(_sine_polynomial(), u)).astype(x.dtype)


@sine_squared.defjvp
def _sine_of_twice(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Its slope, of x alone: what the polynomial computes on the way is not worth keeping."""
    (x,), (dx,) = primals, tangents
    if x.dtype == jnp.float64:
        return sine_squared(x), jnp.sin(2 * x) * dx
    y = _reduced(x)
    slopes = _sine_polynomial() * np.arange(1, 1 + len(_sine_polynomial()))
    return sine_squared(x), (2 * y * _polynomial(slopes, jnp.square(y))).astype(x.dtype) * dx


def _reduced(x: Array) -> Array:
    """In [-pi / 2, pi / 2], a multiple of pi away from x."""
    y = x.astype(jnp.float32)
    turns = jnp.round(y * np.float32(1 / np.pi))
    for part in (*_PI, np.pi - sum(_PI)):
        y = y - turns * np.float32(part)
    return jnp.clip(y, -np.float32(np.pi / 2), np.float32(np.pi / 2))


def _polynomial(coefficients: np.ndarray, u: Array) -> Any:
    *rest, value = (np.float32(c) for c in coefficients)
    for coefficient in reversed(rest):
        value = value * u + coefficient
    return value


@functools.lru_cache(maxsize=1)
def _sine_polynomial() -> np.ndarray:
    """Coefficients, constant first, of sin(x)^2 / x^2 as a polynomial of x^2 for |x| <= pi / 2, to 3e-10."""
    domain = [0, (np.pi / 2) ** 2]
    fit = np.polynomial.Chebyshev.interpolate(lambda u: np.sinc(np.sqrt(u) / np.pi) ** 2, 6, domain)
    return fit.convert(domain=[-1, 1], kind=np.polynomial.Polynomial).coef


class SmoothSnake(nn.Module):
    """SnakeBeta, named "act", at twice the rate: interpolate, activate, filter and decimate.

    The two halves of the doubled signal, its even and its odd samples, never meet in memory: each is six taps of the
    input, and the result twelve taps of both.

    Attributes:
      log_scale: see `SnakeBeta`.
    """

    log_scale: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, channels) -> the same."""
        wide = jnp.promote_types(x.dtype, jnp.float32)
        taps = (2 * low_pass_filter()).astype(wide)  # doubling the rate halves the level
        time, reach = x.shape[1], _TAPS // 4
        padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)), mode="edge")

        def between(first: int) -> Array:
            """Every second sample of the doubled signal: sum of taps[11 - first - 2 i] x[t + i - 3 + first]."""
            parts = (
                taps[_TAPS - 1 - first - 2 * i] * padded[:, i + first : i + first + time] for i in range(_TAPS // 2)
            )
            return functools.reduce(jnp.add, parts)

        even, odd = SnakeBeta(self.log_scale, name="act")(between(0), between(1))
        return _decimate(even, odd).astype(x.dtype)


def _decimate(even: Array, odd: Array) -> Array:
    """Low-pass and drop every second sample of a signal given by its even and its odd ones, its ends repeated."""
    taps, time, reach = low_pass_filter().astype(even.dtype), even.shape[1], _TAPS // 4
    first, last = even[:, :1], odd[:, -1:]
    # Of the taps, 0, 2, ... fall on odd samples from t - 3 on, and 1, 3, ... on even ones from t - 2 on.
    odd = jnp.concatenate([first] * reach + [odd] + [last] * (reach - 1), axis=1)
    even = jnp.concatenate([first] * (reach - 1) + [even] + [last] * reach, axis=1)
    parts = [taps[2 * i + k] * x[:, i : i + time] for i in range(_TAPS // 2) for k, x in enumerate((odd, even))]
    return functools.reduce(jnp.add, parts)


@functools.lru_cache(maxsize=1)
def low_pass_filter() -> np.ndarray:
    """BigVGAN's filter for half the band: 12 taps of a Kaiser-windowed sinc of unit sum, in float64."""
    cutoff, transition = 0.25, 1.2  # in cycles per sample of the doubled signal
    attenuation = 2.285 * (_TAPS // 2 - 1) * np.pi * transition + 7.95  # 51 dB, by Kaiser's formula
    beta = 0.1102 * (attenuation - 8.7)
    time = np.arange(_TAPS) - (_TAPS - 1) / 2
    taps = np.kaiser(_TAPS, beta) * np.sinc(2 * cutoff * time)
    return taps / taps.sum()
