"""One sequence per item: the likeliest word each time, or one drawn."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import io_callback

from jaxaudio.errors import UsageError
from jaxaudio.text.decode import rules as rule
from jaxaudio.text.decode.decoder import Decoder
from jaxaudio.text.decode.rules import Allowed, Rules


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a word is drawn: the logits by the temperature, then the likeliest, then what remains by chance.

    Attributes:
      temperature: what logits are divided by; 0 for the likeliest word every time.
      top_k: how many of the likeliest words may be drawn; 0 for all (Fan et al., 2018, arXiv:1805.04833).
      top_p: the likeliest words that make up so much probability, in (0, 1] (Holtzman et al., 2020, arXiv:1904.09751).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise UsageError(
                f"temperature {self.temperature}, top_k {self.top_k}, top_p {self.top_p}: "
                "give temperature >= 0, top_k >= 0 and top_p in (0, 1]."
            )


GREEDY = Sampling(temperature=0.0)


class Generated(NamedTuple):
    """What `generate` gives.

    Attributes:
      tokens: (batch, length) int32, padded after the end.
      lengths: (batch,) int32, with the end.
      log_probs: (batch, length) of each token under the model, whatever the rules and the temperature; 0 after the end.
      logits: (batch, length, words) under the model where asked for, zero after the end; else None.
    """

    tokens: Array
    lengths: Array
    log_probs: Array
    logits: Array | None


def warped(scores: Array, sampling: Sampling) -> Array:
    """Scores (rows, words) for a temperature above 0, minus infinity where a word may not be drawn."""
    scores = scores / sampling.temperature
    if sampling.top_k:
        least = jax.lax.top_k(scores, min(sampling.top_k, scores.shape[-1]))[0][..., -1:]
        scores = jnp.where(scores < least, -jnp.inf, scores)
    if sampling.top_p < 1:
        falling = jnp.sort(scores, -1, descending=True)
        shares = jax.nn.softmax(falling)
        # A word stays where those before it make up less than top_p: the first always does.
        kept = jnp.cumsum(shares, -1) - shares < sampling.top_p
        least = jnp.min(jnp.where(kept, falling, jnp.inf), -1, keepdims=True)
        scores = jnp.where(scores < least, -jnp.inf, scores)
    return scores


def generate(
    decoder: Decoder,
    logits: Array,
    state: Any,
    rules: Rules,
    *,
    sampling: Sampling = GREEDY,
    key: Array | None = None,
    seen: Array | None = None,
    allowed: Allowed | None = None,
    on_token: Callable[[Any, Any], None] | None = None,
    keep_logits: bool = False,
) -> Generated:
    """One sequence per item, until all have ended.

    An item's sequence depends on itself and on its place in the batch alone: its words are drawn by keys of their own.

    Args:
      decoder: the model.
      logits: (batch, words) of the first token, after the prompt.
      state: of the model after the prompt.
      rules: what may be said.
      sampling: how words are drawn.
      key: where they are drawn by chance.
      seen: (batch, words) bool: words of the prompt, for the repetition penalty.
      allowed: (words,) or (batch, words) bool, or a function of the place () that gives it: the vocabulary.
      on_token: called on the host with (place, tokens (batch,)) as soon as they are known, in order.
      keep_logits: return the logits, too.

    Raises:
      UsageError: words are to be drawn, and there is no key.
    """
    if sampling.temperature and key is None:
        raise UsageError("Words are drawn by chance at this temperature: give a key, or temperature 0.")
    batch, words = logits.shape
    keys = None if key is None else jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(batch))

    def choose(made: Generated, place: Array, logits: Array, over: Array) -> tuple[Generated, Array]:
        scores = rule.apply(rules, logits, made.tokens, place, seen, allowed)
        if sampling.temperature and keys is not None:
            drawn = jax.vmap(lambda key: jax.random.fold_in(key, place))(keys)
            word = jax.vmap(jax.random.categorical)(drawn, warped(scores, sampling))
        else:
            word = jnp.argmax(scores, -1)
        word = jnp.where(over, rules.padding, word).astype(jnp.int32)
        share = jnp.take_along_axis(jax.nn.log_softmax(logits), word[:, None], 1)[:, 0]
        kept = None if made.logits is None else made.logits.at[:, place].set(jnp.where(over[:, None], 0, logits))
        made = Generated(
            made.tokens.at[:, place].set(word),
            made.lengths + ~over,
            made.log_probs.at[:, place].set(jnp.where(over, 0, share)),
            kept,
        )
        if on_token is not None:
            io_callback(on_token, None, place, word, ordered=True)
        return made, over if rules.end is None else over | (word == rules.end)

    def going(carry: Any) -> Array:
        place, over = carry[:2]
        return (place < rules.length) & ~jnp.all(over)

    def body(carry: Any) -> Any:
        place, over, made, state = carry
        last = jax.lax.dynamic_index_in_dim(made.tokens, place - 1, 1, keepdims=False)
        logits, state = decoder.step(last, state)
        made, over = choose(made, place, logits, over)
        return place + 1, over, made, state

    nothing = Generated(
        jnp.full((batch, rules.length), rules.padding, jnp.int32),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros((batch, rules.length), logits.dtype),
        jnp.zeros((batch, rules.length, words), logits.dtype) if keep_logits else None,
    )
    begun, over = choose(nothing, jnp.int32(0), logits, jnp.zeros(batch, bool))
    return jax.lax.while_loop(going, body, (jnp.int32(1), over, begun, state))[2]
