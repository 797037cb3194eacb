"""Beam search: several sequences of each item side by side, all at the same place."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.errors import UsageError
from jaxaudio.text.decode import rules as rule
from jaxaudio.text.decode.decoder import Decoder
from jaxaudio.text.decode.rules import Allowed, Rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beam:
    """How the best sequences are looked for.

    Attributes:
      width: sequences that are followed at a time.
      length_penalty: a sequence of n tokens has the sum of its logarithmic probabilities over n to this power: 0 for
        the sum, 1 for the mean.
      stop: when an item is finished: "best" when `width` sequences have ended and none that goes on could become better
        than the worst of them if it ended now; "full" as soon as that many have ended.
      replace: whether sequences that end make room for others, as in Hugging Face's search, so that `width` go on; else
        the next place has fewer, as in the captioning code of DCASE 2021 (Mei et al., arXiv:2108.02752), where at the
        end those that go on fill only what room is left.
    """

    width: int = 3
    length_penalty: float = 1.0
    stop: Literal["best", "full"] = "best"
    replace: bool = True

    def __post_init__(self) -> None:
        if self.width < 1:
            raise UsageError(f"A beam of {self.width} sequences; give at least 1.")
        if self.stop not in ("best", "full"):
            raise UsageError(f"A search stops at the 'best' or when it is 'full', not at {self.stop!r}.")


DCASE = Beam(stop="full", replace=False)


class Beams(NamedTuple):
    """What `beam_search` gives, the best of an item first.

    Attributes:
      tokens: (batch, width, length) int32, padded after the end.
      lengths: (batch, width) int32, with the end.
      scores: (batch, width) as `Beam.length_penalty` says; minus infinity where there is no such sequence.
    """

    tokens: Array
    lengths: Array
    scores: Array


class _Search(NamedTuple):
    tokens: Array  # of the sequences that go on
    sums: Array
    ended: Beams
    over: Array  # (batch,)


def beam_search(
    decoder: Decoder,
    logits: Array,
    state: Any,
    rules: Rules,
    *,
    beam: Beam | None = None,
    seen: Array | None = None,
    allowed: Allowed | None = None,
) -> Beams:
    """The sequences of each item with the highest scores, by a beam search over all items at once.

    Args:
      decoder: the model; its state holds `width` neighbouring sequences of each item.
      logits: (batch, words) of the first token, after the prompt.
      state: of the model after the prompt, of `batch` sequences.
      rules: what may be said.
      beam: how to search.
      seen: (batch, words) bool: words of the prompt, for the repetition penalty.
      allowed: (words,) bool, or a function of the place () that gives it: the vocabulary.

    Raises:
      UsageError: the beam is wider than half the vocabulary.
    """
    beam = beam or Beam()
    width, (batch, words) = beam.width, logits.shape
    if 2 * width > words:
        raise UsageError(f"A beam of {width} over {words} words; give at most {words // 2}.")
    seen = None if seen is None else jnp.repeat(seen, width, 0)

    def score(sums: Array, place: Array) -> Array:
        return sums / (place + 1).astype(sums.dtype) ** beam.length_penalty

    def choose(search: _Search, place: Array, logits: Array) -> tuple[_Search, Array]:
        """Says one more word in every sequence; also the rows that those that go on came from."""
        said = search.tokens.reshape(batch * width, -1)
        shares = rule.apply(rules, jax.nn.log_softmax(logits), said, place, seen, allowed)
        sums = (search.sums[:, :, None] + shares.reshape(batch, width, words)).reshape(batch, -1)
        sums, best = jax.lax.top_k(sums, 2 * width if beam.replace else width)
        came, word = best // words, (best % words).astype(jnp.int32)
        tokens = jnp.take_along_axis(search.tokens, came[:, :, None], 1).at[:, :, place].set(word)
        ends = jnp.zeros(word.shape, bool) if rules.end is None else word == rules.end
        counts = ends & (jnp.arange(word.shape[1]) < width) & ~search.over[:, None]
        new = Beams(tokens, jnp.full(word.shape, place + 1), jnp.where(counts, score(sums, place), -jnp.inf))
        ended = _merged(search.ended, new)
        sums, kept = jax.lax.top_k(jnp.where(ends, -jnp.inf, sums), width)
        tokens, came = (_taken(x, kept) for x in (tokens, came))
        full = jnp.isfinite(ended.scores).all(-1)
        over = full if beam.stop == "full" else full & (score(sums[:, 0], place) <= ended.scores[:, -1])
        rows = came + width * jnp.arange(batch)[:, None]
        return _Search(tokens, sums, ended, search.over | over), rows.reshape(-1)

    def going(carry: Any) -> Array:
        place, search = carry[:2]
        return (place < rules.length) & ~jnp.all(search.over)

    def body(carry: Any) -> Any:
        place, search, rows, state = carry
        last = jax.lax.dynamic_index_in_dim(search.tokens, place - 1, 2, keepdims=False)
        logits, state = decoder.step(last.reshape(-1), decoder.take(state, rows))
        search, rows = choose(search, place, logits)
        return place + 1, search, rows, state

    nothing = Beams(
        jnp.full((batch, width, rules.length), rules.padding, jnp.int32),
        jnp.zeros((batch, width), jnp.int32),
        jnp.full((batch, width), -jnp.inf, logits.dtype),
    )
    # All sequences of an item are the same at first: one of them counts.
    sums = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf).astype(logits.dtype) + jnp.zeros((batch, 1), logits.dtype)
    begun = _Search(nothing.tokens, sums, nothing, jnp.zeros(batch, bool))
    each = jnp.repeat(jnp.arange(batch), width)
    search, rows = choose(begun, jnp.int32(0), logits[each])
    carry = (jnp.int32(1), search, rows, decoder.take(state, each))
    place, search, _, _ = jax.lax.while_loop(going, body, carry)
    room = width if beam.replace else width - jnp.isfinite(search.ended.scores).sum(-1, keepdims=True)
    left = jnp.where((jnp.arange(width) < room) & ~search.over[:, None], score(search.sums, place - 1), -jnp.inf)
    return _merged(search.ended, Beams(search.tokens, jnp.full(left.shape, place), left))


def _taken(x: Array, places: Array) -> Array:
    """Rows (batch, n) of every item of x (batch, rows, ...)."""
    return jnp.take_along_axis(x, places.reshape(*places.shape, *[1] * (x.ndim - 2)), 1)


def _merged(old: Beams, new: Beams) -> Beams:
    """The best of two, as many as in the first."""
    tokens, lengths, scores = (jnp.concatenate(pair, 1) for pair in zip(old, new, strict=True))
    scores, best = jax.lax.top_k(scores, old.scores.shape[1])
    return Beams(_taken(tokens, best), _taken(lengths, best), scores)
