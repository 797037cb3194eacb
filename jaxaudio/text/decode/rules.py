"""What may be said next: rules that change the scores of the words."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from jaxaudio.errors import UsageError

Allowed = Array | Callable[[Array], Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """When a sequence ends, and what it may hold.

    Attributes:
      length: most tokens, the end among them.
      end: the token that ends a sequence; None for none: all are `length` long.
      pad: what stands after the end; the end token by default.
      least: tokens that come before the end at least.
      first: the token that every sequence begins with, if any.
      close: whether a sequence that is as long as may be has the end as its last token. Like the first token it adds
        nothing to a sequence's score.
      repetition_penalty: what the score of a word that was said is divided by where it is positive, and multiplied with
        where it is negative (Keskar et al., 2019, arXiv:1909.05858, section 4.1, with the sign minded); 1 for none.
      no_repeat: no sequence of so many tokens comes twice; 0 for no such rule.
    """

    length: int
    end: int | None = None
    pad: int | None = None
    least: int = 0
    first: int | None = None
    close: bool = False
    repetition_penalty: float = 1.0
    no_repeat: int = 0

    def __post_init__(self) -> None:
        if self.length < 1 or not 0 <= self.least < max(self.length, 1):
            raise UsageError(f"Sequences of {self.least} to {self.length} tokens; give length > least >= 0.")
        if self.repetition_penalty <= 0:
            raise UsageError(f"A repetition penalty of {self.repetition_penalty}; give a positive one, 1 for none.")
        if self.no_repeat < 0:
            raise UsageError(f"no_repeat={self.no_repeat}; give the length of what may not come twice, 0 for no rule.")

    @property
    def padding(self) -> int:
        """The token after the end."""
        return self.pad if self.pad is not None else self.end if self.end is not None else 0


def apply(
    rules: Rules, scores: Array, tokens: Array, place: Array, seen: Array | None = None, allowed: Allowed | None = None
) -> Array:
    """The scores of what may come at a place, minus infinity for the others.

    Args:
      rules: the rules.
      scores: (rows, words): logits, or logarithms of probabilities.
      tokens: (rows, length) int32: what was said before `place`; the rest is not read.
      place: () int32 in [0, length).
      seen: (rows, words) bool: words that count as said from the beginning, those of a prompt.
      allowed: (words,) or (rows, words) bool, or a function of `place` that gives it: the vocabulary.
    """
    words = jnp.arange(scores.shape[1])
    said = jnp.arange(tokens.shape[1]) < place
    if rules.repetition_penalty != 1:
        rows = jnp.arange(tokens.shape[0])[:, None]
        before = jnp.zeros(scores.shape, bool) if seen is None else seen
        before = before.at[rows, tokens].max(jnp.broadcast_to(said, tokens.shape))
        punished = jnp.where(scores > 0, scores / rules.repetition_penalty, scores * rules.repetition_penalty)
        scores = jnp.where(before, punished, scores)
    banned = jnp.zeros((1, scores.shape[1]), bool)
    if rules.no_repeat:
        banned = banned | _repeats(tokens, place, rules.no_repeat, scores.shape[1])
    if rules.end is not None:
        banned = banned | ((place < rules.least) & (words == rules.end))
    if allowed is not None:
        vocabulary = allowed if isinstance(allowed, Array) else allowed(place)
        banned = banned | ~vocabulary
    scores = jnp.where(banned, -jnp.inf, scores)
    for token, forced in ((rules.first, place == 0), (rules.end if rules.close else None, place == rules.length - 1)):
        if token is not None:  # what was not chosen costs nothing
            scores = jnp.where(forced, jnp.where(words == token, 0.0, -jnp.inf), scores)
    return scores


def _repeats(tokens: Array, place: Array, size: int, words: int) -> Array:
    """(rows, words) whether a word would complete a sequence of `size` tokens that is there already."""
    rows, length = tokens.shape
    starts = jnp.arange(length - size + 1)
    if size > length:
        return jnp.zeros((rows, words), bool)
    windows = tokens[:, starts[:, None] + jnp.arange(size)]
    last = jnp.take(tokens, place - size + 1 + jnp.arange(size - 1), axis=1, mode="clip")
    again = (windows[:, :, :-1] == last[:, None]).all(-1) & (starts + size <= place)
    return jnp.zeros((rows, words), bool).at[jnp.arange(rows)[:, None], windows[:, :, -1]].max(again)
