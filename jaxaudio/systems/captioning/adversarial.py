"""Captions that differ, by training against two readers (Mei et al., 2022, arXiv:2110.06691).

A captioner with noise in its memory is rewarded by what a critic thinks of the captions that it draws: whether people
could have said them (natural), and whether they are of what is heard (semantic); CIDEr-D counts as well. No code of the
paper is public: the parts are the paper's, their sizes, and which captions the second reader learns from, are ours.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.nn import stack
from jaxaudio.systems.captioning import losses
from jaxaudio.systems.captioning.critical import Reward

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Critic:
    """Shape of the two readers, each with words and layers of its own.

    Attributes:
      vocab_size: words, as the captioner has them.
      end: id of what ends captions, which is read too: a caption without one was cut off.
      sound: channels of what the captioner's encoder of sound gives.
      width: channels of words, layers, and of the space that captions and sounds share.
      layers: Transformer layers of each reader, which see all of a caption.
      heads: their attention heads.
      hidden: channels inside their perceptrons.
    """

    vocab_size: int
    end: int
    sound: int
    width: int = 128
    layers: int = 1
    heads: int = 4
    hidden: int = 256

    @property
    def stack(self) -> stack.Config:
        """Of the layers of one reader."""
        return stack.Config(
            width=self.width, layers=self.layers, heads=self.heads, hidden=self.hidden, causal=False, norm="pre"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """What a caption is rewarded for; 0 leaves a part out.

    Attributes:
      natural: factor on the probability that people said it, in [0, 1].
      semantic: factor on the probability that it is of the sound, in [0, 1].
      cider: factor on CIDEr-D, in [0, 10]; good captioners have about 1.
    """

    natural: float = 1.0
    semantic: float = 1.0
    cider: float = 1.0


def init(key: Array, critic: Critic) -> Params:
    """Random {"natural", "semantic"}."""
    keys = iter(jax.random.split(key, 7))

    def reader() -> Params:
        words = 0.02 * jax.random.normal(next(keys), (critic.vocab_size, critic.width))
        return {"word_emb": words, "layers": stack.init(next(keys), critic.stack)}

    return {
        "natural": reader() | {"out": stack.dense_init(next(keys), critic.width, 1)},
        "semantic": reader()
        | {
            "words": stack.dense_init(next(keys), critic.width, critic.width),
            "sound": stack.dense_init(next(keys), critic.sound, critic.width),
            "scale": jnp.full((), math.log(5.0), jnp.float32),
            "bias": jnp.zeros(()),
        },
    }


def naturalness(params: Params, critic: Critic, ids: Array) -> Array:
    """How sure it is that people said captions (batch, length), without start: (batch,) before the sigmoid."""
    p = params["natural"]
    return stack.dense(p["out"], _read(p, critic, ids))[:, 0]


def embed_captions(params: Params, critic: Critic, ids: Array) -> Array:
    """Captions (batch, length), without start, in the space of sounds: (batch, width) of unit length."""
    p = params["semantic"]
    return _unit(stack.dense(p["words"], _read(p, critic, ids)))


def embed_sounds(params: Params, critic: Critic, embedding: Array) -> Array:
    """What `captioning.encode` gives as "embedding" (batch, frames, critic.sound): (batch, width) of unit length."""
    return _unit(stack.dense(params["semantic"]["sound"], embedding.max(1) + embedding.mean(1)))


def agreement(params: Params, sounds: Array, captions: Array) -> Array:
    """How sure it is that captions are of sounds, of their cosines (...): before the sigmoid."""
    p = params["semantic"]
    return jnp.exp(p["scale"]) * (sounds * captions).sum(-1) + p["bias"]


def _read(params: Params, critic: Critic, ids: Array) -> Array:
    """The mean over the words and the end of what a reader makes of captions: (batch, width)."""
    mask = losses.until_end(ids, critic.end)
    x = params["word_emb"][ids] * critic.width**0.5 + stack.positions(ids.shape[1], critic.width)
    x = stack.apply(params["layers"], critic.stack, x, mask=mask)
    kept = mask[..., None].astype(x.dtype)
    return jnp.where(mask[..., None], x, 0).sum(1) / kept.sum(1)


def _unit(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + 1e-12)


def others(batch: dict[str, Array], end: int) -> Array:
    """Which captions of a batch are of other sounds: (sounds, captions) bool.

    What people said of a sound is not, whoever said it; nor, where tags are told, is what is said of a sound that
    shares one.

    Args:
      batch: "ids" (batch, length) with start and end, "references_ids" (batch, references, length) where there are
        some, and "tags" (batch, concepts) where they are told.
      end: id of what ends captions.
    """
    ids = batch["ids"][:, 1:]
    own = ids[:, None]
    if "references_ids" in batch:
        own = jnp.concatenate([own, batch["references_ids"][..., 1:]], 1)
    size = max(ids.shape[1], own.shape[2])
    ids, own = _longer(ids, size, end), _longer(own, size, end)
    kept, owned = losses.until_end(ids, end), losses.until_end(own.reshape(-1, size), end).reshape(own.shape)
    ids, own = jnp.where(kept, ids, end), jnp.where(owned, own, end)
    same = (own[:, :, None] == ids[None, None]).all(-1).any(1)
    if "tags" in batch:
        same |= (batch["tags"] @ batch["tags"].T) > 0
    return ~same


def _longer(ids: Array, length: int, end: int) -> Array:
    """Captions (..., less) filled up with ends."""
    return jnp.pad(ids, [(0, 0)] * (ids.ndim - 1) + [(0, length - ids.shape[-1])], constant_values=end)


def critic_loss(
    params: Params, critic: Critic, embedding: Array, real: Array, made: Array, other: Array
) -> tuple[Array, dict[str, Array]]:
    """What the critic minimises: cross entropy of both readers.

    The first tells what people said from what was drawn; the second, captions of a sound from people's captions of
    others. What was drawn is nothing to the second, which would else learn the first one's task.

    Args:
      params: of `init`.
      critic: their shape.
      embedding: (batch, frames, critic.sound) of the sounds.
      real: (batch, length) people's captions of them, without start.
      made: (batch, any length) captions that were drawn.
      other: (batch, batch) of `others`.

    Returns:
      (loss (), {"natural_real", "natural_made", "semantic_own", "semantic_other": mean probabilities, "natural_loss",
      "semantic_loss"}).
    """
    size = max(real.shape[1], made.shape[1])
    both = jnp.concatenate([_longer(x, size, critic.end) for x in (real, made)])
    spoken, drawn = jnp.split(naturalness(params, critic, both), [len(real)])
    natural = (jax.nn.softplus(-spoken).mean() + jax.nn.softplus(drawn).mean()) / 2
    sounds, captions = embed_sounds(params, critic, embedding), embed_captions(params, critic, real)
    right = agreement(params, sounds, captions)
    wrong = agreement(params, sounds[:, None], captions[None])
    # A sound whose batch holds nothing else adds its own caption alone.
    missed = jnp.where(other, jax.nn.softplus(wrong), 0).sum(1) / jnp.maximum(other.sum(1), 1)
    semantic = (jax.nn.softplus(-right) + missed).mean() / 2
    return natural + semantic, {
        "natural_loss": natural,
        "semantic_loss": semantic,
        "natural_real": jax.nn.sigmoid(spoken).mean(),
        "natural_made": jax.nn.sigmoid(drawn).mean(),
        "semantic_own": jax.nn.sigmoid(right).mean(),
        "semantic_other": losses.masked_mean(jax.nn.sigmoid(wrong), other),
    }


def reward(
    params: Params | None, critic: Critic, embedding: Array, weights: Weights | None = None, cider: Reward | None = None
) -> Reward:
    """What captions of sounds are worth, for `critical.rewarded`.

    Args:
      params: of `init`; None for CIDEr-D alone.
      critic: their shape.
      embedding: (batch, frames, critic.sound) of the sounds.
      weights: of the parts; all 1 by default.
      cider: `critical.told` of the batch, where it counts.
    """
    weights = weights or Weights()
    sounds = None if params is None else embed_sounds(params, critic, embedding)

    def judged(ids: Array) -> Array:
        value = jnp.zeros(len(ids))
        if sounds is not None:
            value += weights.natural * jax.nn.sigmoid(naturalness(params, critic, ids))
            alike = agreement(params, sounds, embed_captions(params, critic, ids))
            value += weights.semantic * jax.nn.sigmoid(alike)
        return value if cider is None or not weights.cider else value + weights.cider * cider(ids)

    return judged
