"""Connectionist temporal classification (Graves et al., 2006): the loss, and reading labels off a network's outputs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxaudio.errors import UsageError
from jaxaudio.precision import wide

_NEVER = -1e30  # a log-probability; minus infinity would make gradients undefined


def ctc_loss(
    logits: ArrayLike,
    logit_lengths: ArrayLike,
    labels: ArrayLike,
    label_lengths: ArrayLike,
    blank: int = 0,
    zero_infinity: bool = True,
) -> Array:
    """Minus the log-probability of the labels, summed over every way to spread them over the frames.

    In float32 at least, with log-probabilities, frame by frame.

    Args:
      logits: (batch, frames, symbols), before the softmax.
      logit_lengths: (batch,) frames that count, at least 1.
      labels: (batch, labels) without blanks; what lies past `label_lengths` is ignored.
      label_lengths: (batch,) labels that count.
      blank: the symbol for "nothing new".
      zero_infinity: items whose labels do not fit their frames count 0, with no gradient, instead of infinity.

    Returns:
      (batch,) in nats; see `mean_ctc_loss` for the usual mean.

    Raises:
      UsageError: arrays of other ranks, or a blank that is no symbol.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if logits.ndim != 3 or labels.ndim != 2 or not 0 <= blank < logits.shape[-1]:
        raise UsageError(
            f"CTC of logits {logits.shape}, labels {labels.shape} and blank {blank}: give (batch, frames, symbols), "
            "(batch, labels) and one of the symbols."
        )
    batch, frames, symbols = logits.shape
    logit_lengths, label_lengths = jnp.asarray(logit_lengths), jnp.asarray(label_lengths)
    scores = jax.nn.log_softmax(wide(logits))

    # Labels with blanks around each: 2 * labels + 1 states. A state is reached from itself, from the one before, and,
    # past a blank between two different labels, from the one before that.
    labels = jnp.clip(labels, 0, symbols - 1)
    states = jnp.full((batch, 2 * labels.shape[1] + 1), blank, labels.dtype).at[:, 1::2].set(labels)
    may_skip = (states != blank) & (states != jnp.roll(states, 2, 1)) & (jnp.arange(states.shape[1]) >= 2)
    emitted = jnp.take_along_axis(scores, states[:, None], 2)

    def advance(before: Array, now: tuple[Array, Array]) -> tuple[Array, None]:
        said, time = now
        one, two = (jnp.pad(before, ((0, 0), (n, 0)), constant_values=_NEVER)[:, : before.shape[1]] for n in (1, 2))
        ways = jnp.stack([before, one, jnp.where(may_skip, two, _NEVER)])
        after = jax.nn.logsumexp(ways, 0) + said
        return jnp.where((time < logit_lengths)[:, None], after, before), None

    first = jnp.where(jnp.arange(states.shape[1]) < 2, emitted[:, 0], _NEVER)
    rest = (emitted[:, 1:].swapaxes(0, 1), jnp.arange(1, frames))
    last, _ = jax.lax.scan(advance, first, rest)
    ends = 2 * label_lengths[:, None] - jnp.arange(2)  # the blank after the last label, or that label
    reached = jnp.take_along_axis(last, jnp.maximum(ends, 0), 1)
    total = jax.nn.logsumexp(jnp.where(ends >= 0, reached, _NEVER), 1)
    possible = total > _NEVER / 2
    return jnp.where(possible, -jnp.where(possible, total, 0.0), 0.0 if zero_infinity else jnp.inf)


def mean_ctc_loss(
    logits: ArrayLike, logit_lengths: ArrayLike, labels: ArrayLike, label_lengths: ArrayLike, blank: int = 0
) -> Array:
    """Mean over the batch of each item's loss per label, impossible ones counted 0; arguments as in `ctc_loss`."""
    each = ctc_loss(logits, logit_lengths, labels, label_lengths, blank)
    return jnp.mean(each / jnp.maximum(jnp.asarray(label_lengths), 1))


def greedy(logits: ArrayLike, lengths: ArrayLike, blank: int = 0) -> tuple[Array, Array]:
    """The likeliest symbol of every frame, repetitions merged, then blanks left out.

    Args:
      logits: (batch, frames, symbols), or log-probabilities.
      lengths: (batch,) frames that count.
      blank: the symbol for "nothing new".

    Returns:
      labels (batch, frames) int32, -1 past the end, and their number (batch,).
    """
    best = jnp.argmax(jnp.asarray(logits), -1).astype(jnp.int32)
    frames = best.shape[1]
    before = jnp.pad(best, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    kept = (best != blank) & (best != before) & (jnp.arange(frames) < jnp.asarray(lengths)[:, None])
    place = jnp.where(kept, jnp.cumsum(kept, 1) - 1, frames)  # past the end is dropped
    rows = jnp.arange(len(best))[:, None]
    return jnp.full_like(best, -1).at[rows, place].set(best, mode="drop"), jnp.sum(kept, 1)


def beam_search(log_probs: ArrayLike, *, blank: int = 0, width: int = 50) -> list[tuple[list[int], float]]:
    """The likeliest labels of one item, their alignments summed, by prefix beam search (Graves, 2012; on the host).

    Args:
      log_probs: (frames, symbols) after the log-softmax; cut to the item's length.
      blank: the symbol for "nothing new".
      width: number of prefixes kept after each frame.

    Returns:
      up to `width` pairs of labels and log-probability, the likeliest first.
    """
    # Of each prefix, log-probabilities of its alignments that end with a blank, and with its last label.
    prefixes: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, -np.inf)}
    for frame in np.asarray(log_probs, np.float64):
        made: dict[tuple[int, ...], list[float]] = {}
        for prefix, (quiet, said) in prefixes.items():
            either = np.logaddexp(quiet, said)
            here = made.setdefault(prefix, [-np.inf, -np.inf])
            here[0] = np.logaddexp(here[0], either + frame[blank])
            if prefix:
                here[1] = np.logaddexp(here[1], said + frame[prefix[-1]])
            for symbol, score in enumerate(frame):
                if symbol == blank:
                    continue
                longer = made.setdefault((*prefix, symbol), [-np.inf, -np.inf])
                again = prefix and prefix[-1] == symbol  # needs a blank between the two
                longer[1] = np.logaddexp(longer[1], (quiet if again else either) + score)
        possible = [item for item in made.items() if max(item[1]) > -np.inf]
        ranked = sorted(possible, key=lambda item: -float(np.logaddexp(item[1][0], item[1][1])))
        prefixes = {prefix: (float(a), float(b)) for prefix, (a, b) in ranked[:width]}
    return [(list(prefix), float(np.logaddexp(*ends))) for prefix, ends in prefixes.items()]


class Prefix(NamedTuple):
    """Where a prefix may end, for `extend`.

    Attributes:
      said: (frames,) log-probability of its alignments up to each frame that end with its last label.
      quiet: (frames,) the same, ending with a blank.
      last: its last label; None of the empty prefix.
    """

    said: np.ndarray
    quiet: np.ndarray
    last: int | None


def empty_prefix(log_probs: ArrayLike, blank: int = 0) -> Prefix:
    """The prefix without labels, of log_probs (frames, symbols)."""
    log_probs = np.asarray(log_probs)
    return Prefix(np.full(len(log_probs), -np.inf), np.cumsum(log_probs[:, blank]), None)


def extend(log_probs: ArrayLike, prefix: Prefix, symbol: int, blank: int = 0) -> tuple[float, Prefix]:
    """Adds one label to a prefix (Watanabe et al., 2017, algorithm 2), for decoders that search label by label.

    Args:
      log_probs: (frames, symbols) after the log-softmax.
      prefix: from `empty_prefix` or from here.
      symbol: the label, not the blank.
      blank: the symbol for "nothing new".

    Returns:
      Log-probability that the whole labelling begins with the longer prefix, whatever follows it, and that prefix.
      That it ends with a prefix is np.logaddexp(prefix.said[-1], prefix.quiet[-1]).

    Raises:
      UsageError: the symbol is the blank.
    """
    if symbol == blank:
        raise UsageError(f"Symbol {symbol} is the blank, which no labelling holds: give another one.")
    log_probs = np.asarray(log_probs)
    said, quiet = np.full((2, len(log_probs)), -np.inf, log_probs.dtype)
    # What the label may follow: after a label like it there must be a blank.
    before = prefix.quiet if symbol == prefix.last else np.logaddexp(prefix.said, prefix.quiet)
    if prefix.last is None:
        said[0] = log_probs[0, symbol]
    started = said[0]
    for t in range(1, len(log_probs)):
        said[t] = np.logaddexp(said[t - 1], before[t - 1]) + log_probs[t, symbol]
        quiet[t] = np.logaddexp(said[t - 1], quiet[t - 1]) + log_probs[t, blank]
        started = np.logaddexp(started, before[t - 1] + log_probs[t, symbol])
    return float(started), Prefix(said, quiet, symbol)
