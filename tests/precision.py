"""Double precision for a while."""

import jax
from jax import experimental


def double_precision():
    """A context with 64-bit arrays; jax moved the function from `jax.experimental` to `jax` after 0.7."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else experimental.enable_x64(True)
