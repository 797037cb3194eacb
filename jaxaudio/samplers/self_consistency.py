"""What shortcut models learn: to take in one step what they would have taken in two (Frans et al., 2025).

arXiv:2410.12557, section 3. The network is told the size of its step besides the time: `predict(x, t, step)` is its
velocity, for t (batch,) from noise at 0 to data at 1 and step (batch,). It learns the velocity itself where the step is
the smallest, and elsewhere what its own two steps of half the size lead to.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.errors import ConfigError
from jaxaudio.samplers.objectives import flow_point

Predict = Callable[[Array, Array, Array], Array]


class Target(NamedTuple):
    """Two steps as one.

    Attributes:
      x: where they start, (batch, ...).
      velocity: what one step of twice the size should say there; no gradient passes.
      halfway: where the first of them ends.
      first: its velocity.
      second: the velocity of the other.
    """

    x: Array
    velocity: Array
    halfway: Array
    first: Array
    second: Array


def target(
    predict: Predict,
    data: Array,
    noise: Array,
    t: Array,
    half: Array,
    *,
    smallest: float = 0.0,
    limit: float | None = None,
) -> Target:
    """What a step of size 2 * half at time t should say, by two steps of size half.

    Args:
      predict: the teacher: the network itself or its moving average, with conditions (and guidance) bound to it.
      data: (batch, ...).
      noise: like data.
      t: (batch,) in [0, 1 - 2 * half].
      half: (batch,) size of the small steps.
      smallest: noise that remains at t = 1.
      limit: the state halfway and the target are kept within plus and minus this; the published code has 4.
    """

    def kept(x: Array) -> Array:
        return x if limit is None else jnp.clip(x, -limit, limit)

    x = flow_point(data, noise, t, smallest)[0]
    first = predict(x, t, half)
    halfway = kept(x + half.reshape(-1, *[1] * (x.ndim - 1)).astype(x.dtype) * first)
    second = predict(halfway, t + half, half)
    made = Target(x, kept((first + second) / 2), halfway, first, second)
    return jax.tree.map(jax.lax.stop_gradient, made)


def step_exponents(rows: int, finest: int, *, favour_large: bool = False) -> np.ndarray:
    """How the published code shares the sizes of steps, 2^-k, among the rows that learn from two steps.

    Args:
      rows: how many rows there are.
      finest: sizes from 2^-(finest - 1) to 1, 7 where the smallest step is 1 / 128.
      favour_large: half the rows to k = 1 and 0 in equal parts, the rest shared among the others.

    Returns:
      (rows,) int k, falling but for what is left over, which has k = 0.

    Raises:
      ConfigError: no sizes.
    """
    if finest < 1:
        raise ConfigError(f"{finest} sizes of steps: give 1 or more.")
    if favour_large:
        each = rows // 2 // finest
        shared = np.repeat(finest - 1 - np.arange(max(finest - 2, 0)), each)
        shared = np.concatenate([shared, np.ones(rows // 4, int)])
    else:
        shared = np.repeat(finest - 1 - np.arange(finest), rows // finest)
    return np.pad(shared[:rows], (0, max(rows - len(shared), 0))).astype(np.int32)


def draw_times(keys: Array, finest: int) -> tuple[Array, Array]:
    """Times and halves of steps, for each item by its own key: k uniform in 0 ... finest - 1, t on the grid of 2^-k.

    Args:
      keys: (batch,).
      finest: log2 of the number of smallest steps.

    Returns:
      (t, half): (batch,) each; a step goes from t to t + 2 * half, and half is at least 2^-finest.
    """

    def draw(key: Array) -> tuple[Array, Array]:
        size, place = jax.random.split(key)
        steps = 2 ** jax.random.randint(size, (), 0, finest)
        return jax.random.randint(place, (), 0, steps) / steps, 0.5 / steps

    return jax.vmap(draw)(keys)
