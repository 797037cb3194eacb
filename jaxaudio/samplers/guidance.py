"""Classifier-free guidance: away from one condition, towards another."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array


def classifier_free(
    network: Callable[[Array, Array, Any], Array],
    condition: Any,
    negative: Any,
    scale: float | Array,
    *,
    rescale: float = 0.0,
    together: bool = False,
    where: Array | None = None,
    interval: tuple[float, float] | None = None,
) -> Callable[[Array, Array], Array]:
    """Binds conditions to a network, and guides it (Ho & Salimans 2022), in one batch of twice the size.

    The output is negative + scale * (positive - negative): 1 is the condition alone (one plain batch), 0 the negative
    alone, below 0 away from the condition.

    Args:
      network: (x, t, condition) -> output, for any batch size, linear in none of them.
      condition: tree of arrays with the batch leading.
      negative: the same tree for what is not wanted: the empty prompt, or a negative one.
      scale: strength of the guidance.
      rescale: from 0 to 1, how much of the standard deviation that guidance adds to each item is taken back (Lin et al.
        2024, section 3.4).
      together: measure that deviation over the whole batch at once, as TaDiCodec does: then what becomes of an item
        depends on the others.
      where: broadcastable to x, nonzero where it is measured: not at the padding of shorter items.
      interval: (lowest, highest) t at which to guide; elsewhere the condition alone is evaluated, at half the cost
        (Kynkäänniemi et al. 2024).

    Returns:
      predict(x, t), as `sample` wants it.
    """

    def plain(x: Array, t: Array) -> Array:
        return network(x, t, condition)

    def guided(x: Array, t: Array) -> Array:
        both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), negative, condition)
        away, towards = jnp.split(network(jnp.concatenate([x, x]), t, both), 2)
        out = away + scale * (towards - away)
        if rescale:
            axes = tuple(range(0 if together else 1, out.ndim))
            counted = jnp.broadcast_to(1 if where is None else where != 0, out.shape).astype(out.dtype)
            spread = _deviation(towards, counted, axes) / jnp.maximum(_deviation(out, counted, axes), 1e-12)
            out = out * (1 - rescale + rescale * spread)
        return out.astype(towards.dtype)

    if isinstance(scale, int | float) and scale == 1:
        return plain
    if interval is None:
        return guided
    low, high = interval
    return lambda x, t: jax.lax.cond((low <= t) & (t <= high), guided, plain, x, t)


def _deviation(x: Array, counted: Array, axes: tuple[int, ...]) -> Array:
    """Standard deviation of what is counted, 0 where nothing is."""
    number = jnp.maximum(jnp.sum(counted, axes, keepdims=True), 1)
    mean = jnp.sum(x * counted, axes, keepdims=True) / number
    return jnp.sqrt(jnp.sum(jnp.square(x - mean) * counted, axes, keepdims=True) / number)


def dropped(keys: Array, rate: float, condition: Any, negative: Any) -> Any:
    """Conditions for training with guidance: each item's own with probability 1 - rate, else the negative one.

    Args:
      keys: (batch,) typed keys, one per item.
      rate: probability of the negative, 0 to 1.
      condition: tree of arrays with the batch leading.
      negative: the same tree.
    """
    drop = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(keys)

    def choose(wanted: Array, other: Array) -> Array:
        return jnp.where(drop.reshape(-1, *[1] * (wanted.ndim - 1)), other, wanted)

    return jax.tree.map(choose, condition, negative)
