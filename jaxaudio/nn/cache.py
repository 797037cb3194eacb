"""Keys and values of the positions so far, which let a causal stack read a sequence part by part."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.errors import UsageError


class Cache(NamedTuple):
    """What a causal stack has seen.

    Attributes:
      key: (layers, batch, capacity, heads, dim).
      value: the same.
      length: () int32, positions so far.
    """

    key: Array
    value: Array
    length: Array


def empty(layers: int, batch: int, capacity: int, heads: int, dim: int, dtype: str = "float32") -> Cache:
    """A cache for `capacity` positions of each item."""
    shape = (layers, batch, capacity, heads, dim)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((), jnp.int32))


def check(cache: Cache, positions: int, *, causal: bool) -> None:
    """Refuses, with a UsageError, a stack that is not causal, and more positions than a cache could hold."""
    if not causal:
        raise UsageError("Only a causal stack can be run in parts; give the whole to `apply`.")
    if positions > cache.key.shape[2]:
        raise UsageError(f"{positions} positions do not fit a cache of {cache.key.shape[2]}; make a larger one.")


def write(cached: tuple[Array, Array], new: tuple[Array, Array], place: Array | int) -> tuple[Array, Array]:
    """One layer's keys and values (batch, capacity, heads, dim) with new ones (batch, time, heads, dim) at `place`."""
    key, value = (
        jax.lax.dynamic_update_slice_in_dim(old, part.astype(old.dtype), place, 1)
        for old, part in zip(cached, new, strict=True)
    )
    return key, value


def take(cache: Cache, rows: Array) -> Cache:
    """The cache of some items of the batch, in that order and as often as they are named: rows (new batch,) int."""
    return Cache(cache.key[:, rows], cache.value[:, rows], cache.length)
