"""In what precision networks compute, and where they must not go below float32."""

import jax.numpy as jnp
from jax import Array


def wide(x: Array) -> Array:
    """X in float32 at least: for sums, norms and softmaxes of half-precision networks, and for what they hand over."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def computed(x: Array, dtype: str) -> Array:
    """X in a configuration's compute dtype; "float32" leaves everything as it is, float64 too."""
    return x if dtype == "float32" else x.astype(dtype)
