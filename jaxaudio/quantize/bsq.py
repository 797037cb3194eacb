"""Binary spherical quantisation: the corner of a cube that a unit vector points to.

Zhao et al., 2024, arXiv:2406.07548. A vector of `dim` numbers becomes `dim` bits, its signs, without a codebook. The
first is the most significant.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.errors import ConfigError
from jaxaudio.precision import wide
from jaxaudio.quantize.vq import straight_through

_TINY = 1e-8  # inside logarithms
_MOST = 30  # bits in an int32


class Quantized(NamedTuple):
    """What became of vectors (..., dim).

    Attributes:
      z: (..., dim) corners of length 1; gradients pass through, by 1 / sqrt(dim), as in the published code.
      codes: (...) int32, 0 to 2^dim - 1.
    """

    z: Array
    codes: Array


def quantize(x: Array) -> Quantized:
    """Quantises unit vectors (..., dim); a number that is not above zero gives the bit 0.

    Raises:
      ConfigError: more than 30 numbers, whose bits no int32 holds.
    """
    basis = _basis(x.shape[-1])
    signs = jnp.where(x > 0, 1, -1).astype(x.dtype)
    codes = jnp.sum(jnp.where(x > 0, basis, 0), -1, dtype=jnp.int32)
    return Quantized(straight_through(x, signs) * x.shape[-1] ** -0.5, codes)


def lookup(codes: Array, dim: int) -> Array:
    """The corners (..., dim) of length 1 that codes (...) name, float32."""
    bits = codes[..., None] // _basis(dim) % 2
    return (2 * bits - 1).astype(jnp.float32) * dim**-0.5


def commitment(x: Array) -> Array:
    """Mean over unit vectors (..., dim) of the squared distance to their corners: (), reported but not lowered."""
    signs = jnp.where(x > 0, 1, -1).astype(x.dtype)
    return jnp.mean(jnp.sum(jnp.square(signs * x.shape[-1] ** -0.5 - x), -1))


def entropy_penalty(x: Array) -> Array:
    """What keeps the bits sure and used: each vector's entropy, less the entropy of the mean over all of them.

    Every bit is taken by itself (equation 12 with groups of one).

    Args:
      x: (..., dim) unit vectors.

    Returns:
      () in nats. It is of the whole batch, not a mean over items.
    """
    one = jax.nn.sigmoid(4 * wide(x) * x.shape[-1] ** -0.5)
    mean = jnp.mean(one.reshape(-1, x.shape[-1]), 0)
    return jnp.mean(jnp.sum(_entropy(one), -1)) - jnp.sum(_entropy(mean))


def _entropy(p: Array) -> Array:
    return -(p * jnp.log(p + _TINY) + (1 - p) * jnp.log(1 - p + _TINY))


def _basis(dim: int) -> np.ndarray:
    if dim > _MOST:
        raise ConfigError(f"A code of {dim} bits does not fit an int32; quantise at most {_MOST} numbers.")
    return 2 ** np.arange(dim - 1, -1, -1, dtype=np.int32)
