"""Batches whose items have lengths of their own."""

import jax.numpy as jnp
from jax import Array


def kept(x: Array, real: Array | None) -> Array:
    """(batch, time, ...) with zeros past each item's first `real` (batch,) positions; None keeps all."""
    if real is None:
        return x
    mask = jnp.arange(x.shape[1]) < real[:, None]
    return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0)
