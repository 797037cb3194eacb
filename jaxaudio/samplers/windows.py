"""Latents longer than a network was trained on: overlapping windows, blended at every evaluation.

Each evaluation of the long state is the weighted mean of the evaluations of its windows (MultiDiffusion, Bar-Tal et
al. 2023). The windows agree on where they overlap before anything is decoded, so there are no seams and no jumps.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.errors import ConfigError

Array = jax.Array


def starts(length: int, size: int, overlap: int, unit: int = 1) -> np.ndarray:
    """Where windows of `size` begin that cover `length` and overlap by `overlap` or a little more.

    They begin at multiples of `unit`, of which all three are whole numbers.

    Raises:
      ConfigError: an overlap that leaves no way to go.
    """
    if not 0 <= overlap < size:
        raise ConfigError(f"windows of {size} cannot overlap by {overlap}: give 0 to {size - 1}.")
    count = 1 + max(0, -(-(length - size) // (size - overlap)))
    return unit * np.round(np.linspace(0, max(length - size, 0), count) / unit).astype(np.int32)


def windowed(
    predict: Callable[..., Array], length: int, size: int, overlap: int, *along: Array, unit: int = 1
) -> Callable[[Array, Array], Array]:
    """Makes of a network for windows one for the whole.

    Args:
      predict: (x (batch, size, ...), t, *windows of `along`) -> output of x's shape.
      length: of the whole, along x's second axis.
      size: of a window.
      overlap: of neighbouring windows, over which one fades into the other.
      *along: (batch, length, ...) what the network is told of each window besides, as a mixture.
      unit: see `starts`.

    Returns:
      predict for x (batch, length, ...); one window may cover everything.
    """
    if length <= size:
        return lambda x, t: predict(x, t, *along)
    begins = starts(length, size, overlap, unit)
    ramp = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)) / (overlap + 1)
    fade = np.clip(ramp, 0, 1)
    total = np.zeros(length)
    for begin in begins:
        total[begin : begin + size] += fade

    def whole(x: Array, t: Array) -> Array:
        shape = (-1, *[1] * (x.ndim - 2))

        def add(out: Array, begin: Array) -> tuple[Array, None]:
            window, *told = (jax.lax.dynamic_slice_in_dim(whole, begin, size, 1) for whole in (x, *along))
            part = predict(window, t, *told)
            before = jax.lax.dynamic_slice_in_dim(out, begin, size, 1)
            part = before + part * jnp.asarray(fade, part.dtype).reshape(shape)
            return jax.lax.dynamic_update_slice_in_dim(out, part, begin, 1), None

        summed, _ = jax.lax.scan(add, jnp.zeros_like(x), jnp.asarray(begins))
        return summed / jnp.asarray(total, x.dtype).reshape(shape)

    return whole
