"""Levels: decibels, root mean square, peak, and the gains that reach a wanted level.

Every function is finite, with finite gradients, for digital silence. Gains leave silence as it is.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxaudio.precision import wide


def as_float(x: ArrayLike) -> Array:
    """The array in float32, or in its own type when that is wider; integers are not rescaled."""
    return wide(jnp.asarray(x))


def safe_sqrt(x: Array) -> Array:
    """Square root whose gradient at zero is zero instead of infinite."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def power_to_db(
    power: ArrayLike,
    *,
    ref: float = 1.0,
    amin: float = 1e-10,
    top_db: float | None = None,
    axis: int | Sequence[int] | None = None,
) -> Array:
    """Power in decibels, 10 log10(max(power, amin) / max(ref, amin)).

    Args:
      power: non-negative values of any shape.
      ref: the power that is 0 dB.
      amin: smallest power; what lies below counts as this.
      top_db: raise everything more than this below the maximum to that line.
      axis: the axes of the maximum for `top_db`, all by default; give (-2, -1) to keep batch items apart.
    """
    power = as_float(power)
    db = 10 * jnp.log10(jnp.maximum(power, amin)) - 10 * jnp.log10(jnp.asarray(max(ref, amin), power.dtype))
    if top_db is None:
        return db
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    return jnp.maximum(db, jnp.max(db, axis=axes, keepdims=True) - top_db)


def amplitude_to_db(
    amplitude: ArrayLike,
    *,
    ref: float = 1.0,
    amin: float = 1e-5,
    top_db: float | None = None,
    axis: int | Sequence[int] | None = None,
) -> Array:
    """Amplitude in decibels, 20 log10(max(|amplitude|, amin) / max(ref, amin)); arguments as in `power_to_db`."""
    squared = jnp.square(as_float(amplitude))
    return power_to_db(squared, ref=ref**2, amin=amin**2, top_db=top_db, axis=axis)


def db_to_power(db: ArrayLike) -> Array:
    """10^(db / 10): the power of a level, relative to the power at 0 dB."""
    return 10 ** (as_float(db) / 10)


def db_to_amplitude(db: ArrayLike) -> Array:
    """10^(db / 20): the amplitude of a level, or the factor of a gain."""
    return 10 ** (as_float(db) / 20)


def rms(x: ArrayLike, axis: int | Sequence[int] = -1, *, keepdims: bool = False) -> Array:
    """Root mean square over `axis` (time, by default)."""
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    return safe_sqrt(jnp.mean(jnp.square(as_float(x)), axis=axes, keepdims=keepdims))


def peak(x: ArrayLike, axis: int | Sequence[int] = -1, *, keepdims: bool = False) -> Array:
    """Largest absolute sample over `axis` (time, by default)."""
    axes = tuple(axis) if isinstance(axis, Sequence) else axis
    return jnp.max(jnp.abs(as_float(x)), axis=axes, keepdims=keepdims)


def normalize_rms(x: ArrayLike, db: float = -20.0, axis: int | Sequence[int] = -1) -> Array:
    """Scales x so that its RMS over `axis` is `db` decibels below full scale; silence stays silent."""
    return _scaled_to(x, rms(x, axis, keepdims=True), db)


def normalize_peak(x: ArrayLike, db: float = 0.0, axis: int | Sequence[int] = -1) -> Array:
    """Scales x so that its peak over `axis` is `db` decibels re full scale; silence stays silent."""
    return _scaled_to(x, peak(x, axis, keepdims=True), db)


def _scaled_to(x: ArrayLike, level: Array, db: float) -> Array:
    audible = level > 0
    return as_float(x) * jnp.where(audible, 10 ** (db / 20) / jnp.where(audible, level, 1), 1)
