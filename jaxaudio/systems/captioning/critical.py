"""Self-critical training of captioners (Rennie et al., 2017, arXiv:1612.00563): captions that are drawn are rewarded by
how much better they are than the likeliest ones, in CIDEr-D or by another judge, all on the device.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.systems.captioning import losses
from jaxaudio.systems.captioning.model import Config, caption, caption_logits, encode, hear, noise, varied
from jaxaudio.text.decode import Sampling

Params = Any

Reward = Callable[[Array], Array]
"""How good captions are: ids (batch, length) without the start, whose first end ends them -> (batch,)."""

SIZES = 4  # n-grams of one to four words


def cider_d(ids: Array, mask: Array, references: Array, reference_mask: Array, sigma: float = 6.0) -> Array:
    """CIDEr-D (Vedantam et al., 2015, arXiv:1411.5726) of captions that are ids of words.

    Equal to `metrics.captions.cider_d` of the texts: how rare an n-gram is, is counted over the references of this
    batch, as the captioning code of DCASE 2021 does in training.

    Args:
      ids: (batch, length) words of captions, without start and end.
      mask: (batch, length), nonzero where there is a word; padding is at the end.
      references: (batch, references, length) words of what people said; all of a clip count, so repeat some where there
        are fewer.
      reference_mask: (batch, references, length).
      sigma: of the Gaussian on the difference in length.

    Returns:
      (batch,) in [0, 10].
    """
    batch, count, _ = references.shape
    mask, reference_mask = mask != 0, reference_mask != 0
    own, others = (ids, mask), (references, reference_mask)
    every = references.reshape(1, batch * count, -1), reference_mask.reshape(1, batch * count, -1)
    lengths, spoken = mask.sum(1), reference_mask.sum(2)
    near = jnp.exp(-jnp.square((lengths[:, None] - spoken).astype(jnp.float32)) / (2 * sigma**2))
    total = jnp.zeros((batch, count))
    for size in range(1, SIZES + 1):
        shared = _equal(_rows(own), others, size).sum(-1)  # (batch, references, places of the caption)
        mine = _equal(own, own, size).sum(-1)[:, None]
        theirs = _equal(others, others, size).sum(-1)
        rare_mine = _rarity(own, every, size, batch)[:, None]
        rare_theirs = _rarity((references.reshape(batch * count, -1), every[1][0]), every, size, batch)
        rare_theirs = rare_theirs.reshape(batch, count, -1)
        # A gram that occurs n times is met at n places, each of which stands for an nth of it.
        product = (jnp.minimum(mine, shared) * shared / jnp.maximum(mine, 1) * rare_mine**2).sum(-1)
        norms = jnp.sqrt((mine * rare_mine**2).sum(-1)) * jnp.sqrt((theirs * rare_theirs**2).sum(-1))
        total = total + near * jnp.where(norms > 0, product / jnp.where(norms > 0, norms, 1), product)
    return 10 * total.mean(1) / SIZES


def _rows(words: tuple[Array, Array]) -> tuple[Array, Array]:
    return words[0][:, None], words[1][:, None]


def _equal(a: tuple[Array, Array], b: tuple[Array, Array], size: int) -> Array:
    """Whether the n-grams that begin at each place of two rows are the same: (..., places of a, places of b) bool."""
    (ids, mask), (others, other_mask) = a, b
    one = (ids[..., :, None] == others[..., None, :]) & mask[..., :, None] & other_mask[..., None, :]
    same, rows, columns = one, one.shape[-2], one.shape[-1]
    for ahead in range(1, size):
        later = jnp.zeros_like(one)
        if ahead < min(rows, columns):
            later = later.at[..., : rows - ahead, : columns - ahead].set(one[..., ahead:, ahead:])
        same &= later
    return same


def _rarity(words: tuple[Array, Array], every: tuple[Array, Array], size: int, batch: int) -> Array:
    """Logarithm of the share of clips whose references have each n-gram, negated: (rows, places)."""

    def of_row(row: tuple[Array, Array]) -> Array:
        found = _equal((row[0][None, None], row[1][None, None]), every, size).any(-1)  # (1, batch * references, places)
        return found.reshape(batch, -1, row[0].shape[0]).any(1).sum(0)

    clips = jax.lax.map(of_row, words, batch_size=8)
    return jnp.log(float(batch)) - jnp.log(jnp.maximum(clips, 1).astype(jnp.float32))


class Rehearsal(NamedTuple):
    """What a captioner says of a batch; see `rehearse`.

    Attributes:
      drawn: (batch, length) ids of captions that were drawn, without the start, padded with ends.
      likeliest: the same of the likeliest words, given the same noise.
      log_probs: (batch, length) of what was drawn, which the gradient goes through.
      made: what `encode` gives.
    """

    drawn: Array
    likeliest: Array
    log_probs: Array
    made: dict[str, Any]


def rehearse(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    *,
    config: Config,
    length: int = 30,
) -> Rehearsal:
    """Draws a caption of each sound, and says the likeliest.

    The encoder of sound stays as it is, as in the captioning code of DCASE 2021. Captions are drawn without dropout, so
    that what is drawn has the probabilities that are learnt from. Words are drawn by cached decoding, and one pass over
    the whole captions gives their gradient.

    Args:
      params: the parameters.
      extra: {"batch_stats"}.
      batch: what is heard, as `objective.loss` takes it, and "index" (batch,) where noise is drawn.
      key: draws the captions, and noise for a captioner with it; without one the likeliest are drawn.
      config: of the captioner.
      length: most words of a caption, the end among them.
    """
    params = params | {"encoder": jax.lax.stop_gradient(params["encoder"])} if "encoder" in params else params
    variables = {"params": params, **extra}
    mel = batch["mel"] if "mel" in batch else hear(config, batch["audio"]) if "audio" in batch else None
    seen: dict[str, Any] = {name: batch[name] for name in ("video", "video_mask", "keywords") if name in batch}
    made, _ = encode(variables, config, mel, **seen)
    memory = made["memory"]
    if config.noise and key is not None:
        index = batch.get("index", jnp.arange(len(made["encoded"])))
        memory = varied(variables, config, memory, noise(key, config, index))
    held = jax.lax.stop_gradient((variables, memory))
    likeliest = caption(held[0], config, held[1], length).tokens
    drawn = likeliest if key is None else caption(held[0], config, held[1], length, Sampling(), None, key).tokens
    start = jnp.full_like(drawn[:, :1], config.words.start)
    logits = caption_logits(variables, config, memory, jnp.concatenate([start, drawn[:, :-1]], 1))
    log_probs = jnp.take_along_axis(jax.nn.log_softmax(logits), drawn[..., None], -1)[..., 0]
    return Rehearsal(drawn, likeliest, log_probs, made)


def rewarded(said: Rehearsal, reward: Reward, end: int) -> tuple[Array, dict[str, Array]]:
    """The self-critical loss of what was said.

    Args:
      said: of `rehearse`.
      reward: of captions; nothing flows back through it.
      end: id of what ends them.

    Returns:
      (loss (), {"reward": of what was drawn, "baseline": of the likeliest}).
    """
    baseline, gained = jax.vmap(reward)(jnp.stack([said.likeliest, said.drawn]))
    value = losses.self_critical(said.log_probs, gained - baseline, losses.until_end(said.drawn, end))
    return value, {"reward": gained.mean(), "baseline": baseline.mean()}


def told(batch: dict[str, Array], end: int) -> Reward:
    """CIDEr-D against what people said.

    Args:
      batch: "references_ids" and "references_mask" (batch, references, length), with start and end.
      end: id of what ends captions.
    """
    references = batch["references_ids"][..., 1:]
    known = batch["references_mask"][..., 1:] * (references != end)

    def reward(ids: Array) -> Array:
        return cider_d(ids, losses.until_end(ids, end) & (ids != end), references, known)

    return reward


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Any = None,
    *,
    config: Config,
    length: int = 30,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """The self-critical loss with CIDEr-D as the reward; see `rehearse` for how captions are drawn.

    Args:
      params: the parameters.
      extra: {"batch_stats"}.
      batch: as `objective.loss` takes it, and "references_ids" and "references_mask" (batch, references, length) of
        what people said, with start and end.
      key: draws the captions; without one the likeliest is drawn, whose reward is 0.
      frozen: not used.
      config: of the captioner.
      length: most words of a caption, the end among them.

    Returns:
      (loss, ({"reward": CIDEr-D of what was drawn, "baseline": of the likeliest}, {"batch_stats"} as they were)).
    """
    del frozen
    said = rehearse(params, extra, batch, key, config=config, length=length)
    value, metrics = rewarded(said, told(batch, config.words.end), config.words.end)
    return value, (metrics, extra)
