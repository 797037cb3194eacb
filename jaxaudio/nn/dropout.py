"""Dropout by explicit keys: one for a batch, or one for each of its items, which no other item changes."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array


def split(key: Array | None, count: int) -> tuple[Any, ...]:
    """So many new keys, or of a batch of keys (batch,) so many batches; None gives Nones."""
    if key is None:
        return (None,) * count
    if key.ndim == 0:
        return tuple(jax.random.split(key, count))
    return tuple(jnp.moveaxis(jax.vmap(lambda k: jax.random.split(k, count))(key), 1, 0))


def drop(x: Array, rate: float, key: Array | None) -> Array:
    """Zeroes a part of x (batch, ...) and scales the rest up; nothing without a key or a rate.

    Args:
      x: anything with items along its first axis.
      rate: how much is zeroed, in [0, 1).
      key: () or (batch,).
    """
    if key is None or not rate:
        return x
    if key.ndim == 0:
        kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    else:
        kept = jax.vmap(lambda k: jax.random.bernoulli(k, 1 - rate, x.shape[1:]))(key)
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)
