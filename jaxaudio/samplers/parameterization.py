"""What a network predicts, and exact conversions between all of it.

With x = alpha * data + sigma * noise, everything that a network is trained to predict is a combination of data and
noise, so any two of them and x are linearly related:

    x0        data
    epsilon   noise
    v         alpha * noise - sigma * data      (Salimans & Ho 2022)
    velocity  noise - data                      (rectified flow, in the direction of growing sigma)
    score     -noise / sigma                    (Song et al. 2021)
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxaudio.errors import ConfigError

Quantity = Literal["x0", "epsilon", "v", "velocity", "score"]
QUANTITIES = ("x0", "epsilon", "v", "velocity", "score")


def parts(quantity: str, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """Weights of data and noise in a quantity; the score counts as noise here, `coefficients` scales it."""
    known = {"x0": (1, 0), "epsilon": (0, 1), "score": (0, 1), "v": (-sigma, alpha), "velocity": (-1, 1)}
    if quantity not in known:
        raise ConfigError(f"No prediction {quantity!r}; there are {', '.join(QUANTITIES)}.")
    return known[quantity]


def coefficients(source: str, target: str, alpha: Any, sigma: Any) -> tuple[Any, Any]:
    """The numbers (p, q) with target = p * x + q * source.

    Not finite where the source says nothing about the target: epsilon about data at alpha = 0, x0 about noise at
    sigma = 0.
    """
    (data, noise), (to_data, to_noise) = parts(source, alpha, sigma), parts(target, alpha, sigma)
    same = source == target or {source, target} == {"epsilon", "score"}
    determinant = alpha * noise - sigma * data
    p = 0 * alpha if same else (to_data * noise - to_noise * data) / determinant
    q = 1 + 0 * alpha if same else (alpha * to_noise - sigma * to_data) / determinant
    if source == "score" != target:
        q = -sigma * q
    elif target == "score" != source:
        p, q = -p / sigma, -q / sigma
    return p, q


def convert(value: Any, x: Any, alpha: Any, sigma: Any, *, source: str, target: str) -> Any:
    """Turns a prediction of one kind into another.

    Args:
      value: what was predicted, of the shape of x.
      x: alpha * data + sigma * noise.
      alpha: weight of the data, broadcastable to x.
      sigma: weight of the noise.
      source: what `value` is, one of `QUANTITIES`.
      target: what is wanted.

    Raises:
      ConfigError: a quantity that is not known.
    """
    p, q = coefficients(source, target, alpha, sigma)
    return value if source == target else p * x + q * value


def preconditioned(
    network: Callable[[jax.Array, jax.Array], jax.Array], sigma_data: float = 0.5
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Wraps a network of EDM's kind so that it predicts "x0" (Karras et al. 2022, table 1, last column).

    Args:
      network: (x of unit variance, log(sigma) / 4) -> output, for an `edm` schedule.
      sigma_data: standard deviation of the data.
    """

    def predict(x: jax.Array, t: jax.Array) -> jax.Array:
        sigma = jnp.exp(4 * t)
        total = sigma**2 + sigma_data**2
        output = network(x / jnp.sqrt(total), t)
        return sigma_data**2 / total * x + sigma * sigma_data / jnp.sqrt(total) * output

    return predict
