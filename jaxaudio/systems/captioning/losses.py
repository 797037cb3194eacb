"""What captioners are trained on: cross entropy with a smoothed target, and what the papers add to it."""

import jax
import jax.numpy as jnp
from jax import Array


def smoothed(
    logits: Array,
    targets: Array,
    mask: Array | None = None,
    *,
    smoothing: float = 0.1,
    everywhere: bool = False,
    ignored: Array | int | None = None,
) -> Array:
    """Cross entropy with label smoothing (Szegedy et al., 2016, section 7).

    Args:
      logits: (..., words).
      targets: (...) ids.
      mask: (...), nonzero where a position counts; all do by default, padding too, as in the captioning code of DCASE
        2021.
      smoothing: probability that the target gives away: to all other words alike.
      everywhere: to all words, the target among them, as `torch.nn.functional.cross_entropy` does.
      ignored: a word that gets none, and whose own positions add nothing, but are counted in the mean.

    Returns:
      () the mean in nats.
    """
    shares = jax.nn.log_softmax(logits)
    words = logits.shape[-1]
    own = jnp.take_along_axis(shares, targets[..., None], -1)[..., 0]
    rest = shares.sum(-1)
    if ignored is not None:
        rest = rest - shares[..., ignored]
    if everywhere:
        each = -(1 - smoothing) * own - smoothing / words * rest
    else:
        each = -(1 - smoothing) * own - smoothing / (words - 1) * (rest - own)
    if ignored is not None:
        each = jnp.where(targets == ignored, 0, each)
    return masked_mean(each, mask)


def masked_mean(x: Array, mask: Array | None = None) -> Array:
    """Mean of x over the positions where the mask of its shape is not zero; of all without one."""
    if mask is None:
        return x.mean()
    kept = (mask != 0).astype(x.dtype)
    return jnp.sum(x * kept) / jnp.maximum(jnp.sum(kept), 1)


def distilled(logits: Array, teacher: Array, mask: Array | None = None, *, temperature: float = 1.0) -> Array:
    """How far a student's words are from a teacher's (Hinton et al., 2015, arXiv:1503.02531).

    Args:
      logits: (..., words) of the student.
      teacher: (..., words), which the gradient does not go through.
      mask: (...), nonzero where a position counts; all do by default.
      temperature: both are divided by it; the divergence is multiplied by its square, for gradients of one size.

    Returns:
      () the mean Kullback-Leibler divergence in nats.
    """
    wanted = jax.nn.log_softmax(jax.lax.stop_gradient(teacher) / temperature)
    given = jax.nn.log_softmax(logits / temperature)
    return temperature**2 * masked_mean((jnp.exp(wanted) * (wanted - given)).sum(-1), mask)


def self_critical(log_probs: Array, reward: Array, mask: Array) -> Array:
    """The loss of self-critical training (Rennie et al., 2017, arXiv:1612.00563).

    Args:
      log_probs: (batch, length) of the words that were drawn, which the gradient goes through.
      reward: (batch,) how much better the drawn caption is than the greedy one.
      mask: (batch, length), nonzero up to the end, which counts.

    Returns:
      () the mean over the batch of the sum over the words.
    """
    gained = jax.lax.stop_gradient(reward)[:, None] * mask
    return -jnp.mean(jnp.sum(log_probs * gained, 1))


def until_end(ids: Array, end: int) -> Array:
    """Which positions of captions (batch, length) count: all up to the first end, that among them. Bool."""
    ended = jnp.cumsum(ids == end, 1)
    return ended - (ids == end) == 0


def selection(scores: Array, unpaired: Array) -> Array:
    """CL4AC's contrastive loss (Liu et al., 2021, arXiv:2107.09990, section 2.2): which captions are of the sound?

    Args:
      scores: (batch, 2) of the sounds' own captions, class 1 for "of the sound".
      unpaired: (batch, 2) of captions of other sounds, class 0.

    Returns:
      () cross entropy, the mean over both.
    """
    own, other = jax.nn.log_softmax(scores)[:, 1], jax.nn.log_softmax(unpaired)[:, 0]
    return -(own.mean() + other.mean()) / 2
