"""What causal language models share: prompts of unequal length, their cache, and the way to `decode`."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.errors import UsageError
from jaxaudio.nn import cache as caches
from jaxaudio.nn.cache import Cache
from jaxaudio.text.decode import Decoder


class Reading(NamedTuple):
    """Where a language model is in its sequences.

    Attributes:
      cache: of the positions so far.
      mask: (rows, capacity), 0 where a prompt is padded, on the left; 1 for all that follow it.
      padded: (rows,) int32, how many positions are.
    """

    cache: Cache
    mask: Array
    padded: Array

    @property
    def start(self) -> Array:
        """(rows,) the number of each sequence's next position, without the padded ones."""
        return self.cache.length - self.padded


def padding(mask: Array) -> Array:
    """How many positions are padded: mask (rows, time), 0 where they are -> (rows,) int32."""
    return jnp.sum(1 - mask.astype(jnp.int32), 1)


def begin(cache: Cache, mask: Array) -> Reading:
    """The reading before prompts with a mask (rows, time) are read, into an empty cache that has room for more.

    Raises:
      UsageError: the cache has no room for the prompts.
    """
    mask = mask.astype(jnp.int32)
    room = cache.key.shape[2] - mask.shape[1]
    if room < 0:
        raise UsageError(f"A prompt of {mask.shape[1]} tokens does not fit a cache of {cache.key.shape[2]}.")
    return Reading(cache, jnp.pad(mask, ((0, 0), (0, room)), constant_values=1), padding(mask))


def take(reading: Reading, rows: Array) -> Reading:
    """The readings of some sequences, in that order and as often as they are named."""
    return Reading(caches.take(reading.cache, rows), reading.mask[rows], reading.padded[rows])


def decoder(extend: Callable[[Array, Reading], tuple[Array, Reading]]) -> Decoder:
    """A model for `decode` from a function: (ids (rows, time), reading) -> (logits (rows, time, words), reading)."""

    def step(tokens: Array, reading: Reading) -> tuple[Array, Reading]:
        logits, reading = extend(tokens[:, None], reading)
        return logits[:, -1], reading

    return Decoder(step, take)


def mean_loss(logits: Array, labels: Array, ignored: int = -100) -> Array:
    """The cross entropy of each next token, a mean over those that count.

    Args:
      logits: (batch, time, words).
      labels: (batch, time) ids; what `logits` says at a position is about the label of the next.
      ignored: the label that does not count.

    Returns:
      () in nats.
    """
    logits, labels = logits[:, :-1], labels[:, 1:]
    counted = labels != ignored
    words = jnp.where(counted, labels, 0)[..., None]
    each = -jnp.take_along_axis(jax.nn.log_softmax(logits), words, -1)[..., 0]
    return jnp.sum(each * counted) / jnp.maximum(jnp.sum(counted), 1)
