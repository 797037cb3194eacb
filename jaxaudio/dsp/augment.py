"""What is done to spectrograms in training: stripes are blanked (SpecAugment: Park et al., 2019, arXiv:1904.08779), and
the colour and the noise of another microphone are put over them.
"""

import jax
import jax.numpy as jnp
from jax import Array


def drop_stripes(key: Array, x: Array, *, axis: int, count: int, width: int) -> Array:
    """Sets stripes of each item to zero.

    Args:
      key: each item draws its own from it, by its place in the batch; or (batch,) keys, one each.
      x: (batch, time, frequency[, channels]).
      axis: 1 for stripes of time, 2 for stripes of frequency.
      count: stripes per item.
      width: each is narrower than this, uniformly from 0, and lies anywhere.
    """
    size = x.shape[axis]

    def kept(key: Array) -> Array:
        wide, start = jax.random.split(key)
        lengths = jax.random.randint(wide, (count, 1), 0, min(width, size))
        starts = jax.random.randint(start, (count, 1), 0, size - lengths)
        places = jnp.arange(size)
        return ~((places >= starts) & (places < starts + lengths)).any(0)

    keys = key if key.ndim else jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(x.shape[0]))
    mask = jax.vmap(kept)(keys)
    shape = [x.shape[0], *(size if i == axis else 1 for i in range(1, x.ndim))]
    return jnp.where(mask.reshape(shape), x, 0)


def spec_augment(
    key: Array,
    x: Array,
    *,
    time: tuple[int, int] = (2, 64),
    frequency: tuple[int, int] = (2, 8),
) -> Array:
    """Blanks stripes of time and of frequency, (how many, width) of each, as PANNs and the captioners after it do.

    Args:
      key: draws the stripes.
      x: (batch, time, frequency[, channels]), normalised, so that zero is its mean.
      time: stripes of so many frames.
      frequency: stripes of so many bins.
    """
    keys = key if key.ndim else jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(x.shape[0]))
    pairs = jax.vmap(jax.random.split)(keys)
    x = drop_stripes(pairs[:, 0], x, axis=1, count=time[0], width=time[1])
    return drop_stripes(pairs[:, 1], x, axis=2, count=frequency[0], width=frequency[1])


def another_microphone(
    key: Array, x: Array, *, share: float = 0.5, colour: float = 6.0, noise: tuple[float, float] = (-70.0, -30.0)
) -> Array:
    """Colours log-mel spectrograms and fills their silence, as if they were recorded elsewhere.

    Args:
      key: draws for each item; () or (batch,).
      x: (batch, time, mels) in dB.
      share: of the items; the others stay as they are, so that clean sounds are known as well.
      colour: standard deviation in dB of a smooth curve over the bands, of four cosines.
      noise: lowest and highest level in dB, under the loudest band of an item, of a noise that has a colour too.
    """
    bands = jnp.arange(x.shape[2]) / x.shape[2]
    waves = jnp.cos(jnp.pi * jnp.arange(1, 5)[:, None] * bands)

    def of_item(key: Array, x: Array) -> Array:
        chosen, curve, hiss, level = jax.random.split(key, 4)
        colours = colour / 2**0.5 * jax.random.normal(curve, (2, 4)) @ waves
        loudest = (x + colours[0]).max()
        floor = loudest + jax.random.uniform(level, (), minval=noise[0], maxval=noise[1]) + colours[1]
        # The power of a band of noise is exponential from frame to frame.
        power = jax.random.exponential(hiss, x.shape) * 10 ** (floor / 10)
        made = 10 * jnp.log10(10 ** ((x + colours[0]) / 10) + power)
        return jnp.where(jax.random.uniform(chosen) < share, made, x)

    keys = key if key.ndim else jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(x.shape[0]))
    return jax.vmap(of_item)(keys, x)
