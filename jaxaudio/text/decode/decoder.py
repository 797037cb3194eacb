"""What decoding asks of a model, the guidance of one, and several as one."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.errors import UsageError


def _rows(state: Any, rows: Array) -> Any:
    return jax.tree.map(lambda x: x[rows], state)


class Decoder(NamedTuple):
    """A model that reads sequences token by token.

    What does not change from token to token, the sound that is described, say, is best closed over by `step`.

    Attributes:
      step: (tokens (rows,) int32, state) -> (logits (rows, words) of what follows, state).
      take: (state, rows (n,) int32) -> the state of these sequences, in this order and as often as they are named; by
        default the rows of every array.
    """

    step: Callable[[Array, Any], tuple[Array, Any]]
    take: Callable[[Any, Array], Any] = _rows


class Pairs(NamedTuple):
    """The state of sequences that go through a model twice.

    Attributes:
      state: of the model: all sequences with their condition, then all without.
      rows: (rows,) int32; as many as there are sequences.
    """

    state: Any
    rows: Array


def guided(decoder: Decoder, logits: Array, state: Any, scale: float | Array) -> tuple[Decoder, Array, Pairs]:
    """Classifier-free guidance (Ho & Salimans, 2022): logits are u + scale (c - u).

    c is what the model says under its condition and u what it says without. Both go through it in one batch.

    Args:
      decoder: the model.
      logits: (2 rows, words) of the first token: of all sequences with their condition, then of all without.
      state: likewise.
      scale: 1 for the condition alone, more for more than it.

    Returns:
      (decoder, logits, state) of `rows` sequences.
    """
    rows = logits.shape[0] // 2

    def mixed(logits: Array) -> Array:
        given, free = jnp.split(logits, 2)
        return free + scale * (given - free)

    def step(tokens: Array, pairs: Pairs) -> tuple[Array, Pairs]:
        logits, state = decoder.step(jnp.concatenate([tokens, tokens]), pairs.state)
        return mixed(logits), Pairs(state, pairs.rows)

    def take(pairs: Pairs, rows: Array) -> Pairs:
        twice = jnp.concatenate([rows, rows + pairs.rows.shape[0]])
        return Pairs(decoder.take(pairs.state, twice), rows)

    return Decoder(step, take), mixed(logits), Pairs(state, jnp.arange(rows, dtype=jnp.int32))


class Members(NamedTuple):
    """The state of sequences that go through several models.

    Attributes:
      states: of each model.
    """

    states: tuple[Any, ...]


def together(
    decoders: Sequence[Decoder],
    logits: Sequence[Array],
    states: Sequence[Any],
    weights: Sequence[float] | None = None,
) -> tuple[Decoder, Array, Members]:
    """Several models as one: its logits are the weighted mean of the logarithms of their probabilities.

    Args:
      decoders: models with the same words.
      logits: (rows, words) of the first token, from each.
      states: of each.
      weights: of each, which are made to sum to one; alike by default.

    Returns:
      (decoder, logits, state).

    Raises:
      UsageError: no model, or not as many of one kind as of another.
    """
    shares = [1.0] * len(decoders) if weights is None else list(weights)
    if not decoders or not len(decoders) == len(logits) == len(states) == len(shares) or sum(shares) <= 0:
        raise UsageError(
            f"{len(decoders)} models, {len(logits)} logits, {len(states)} states, weights {shares}: give one for each."
        )

    def mixed(each: Sequence[Array]) -> Array:
        weighted = [share / sum(shares) * jax.nn.log_softmax(x) for share, x in zip(shares, each, strict=True)]
        return functools.reduce(jnp.add, weighted)

    def step(tokens: Array, members: Members) -> tuple[Array, Members]:
        made = [decoder.step(tokens, state) for decoder, state in zip(decoders, members.states, strict=True)]
        return mixed([logits for logits, _ in made]), Members(tuple(state for _, state in made))

    def take(members: Members, rows: Array) -> Members:
        return Members(tuple(d.take(state, rows) for d, state in zip(decoders, members.states, strict=True)))

    return Decoder(step, take), mixed(logits), Members(tuple(states))
