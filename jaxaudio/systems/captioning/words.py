"""The word decoder of the CNN-Transformer captioners: sines for positions, norms after each part, own logits."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, linear, prefixed
from jaxaudio.nn import cache as caches, stack
from jaxaudio.nn.cache import Cache
from jaxaudio.nn.dropout import drop, split
from jaxaudio.nn.stack import Memory
from jaxaudio.precision import wide
from jaxaudio.text.decode import Decoder

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a decoder.

    Attributes:
      vocab_size: words.
      width: channels of words, memory and layers.
      layers: how many.
      heads: attention heads.
      hidden: channels inside the perceptrons.
      activation: of the perceptrons.
      dropout: of every kind, in training.
      start: id of what every caption begins with.
      end: id of what ends it; also its padding.
      adaptive: whether each layer attends to what is seen beside what is heard, and mixes both by a gate, see `Pair`.
    """

    vocab_size: int
    width: int = 128
    layers: int = 2
    heads: int = 4
    hidden: int = 2048
    activation: str = "gelu"
    dropout: float = 0.2
    start: int = 0
    end: int = 0
    adaptive: bool = False

    @property
    def stack(self) -> stack.Config:
        """Of the layers."""
        return stack.Config(
            width=self.width,
            layers=self.layers,
            heads=self.heads,
            hidden=self.hidden,
            memory=self.width,
            second=self.width if self.adaptive else 0,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.dropout,
            hidden_dropout=self.dropout,
        )


class Pair(NamedTuple):
    """The memory of a decoder that is adaptive.

    Attributes:
      heard: (batch, keys, width).
      seen: (batch, frames, width).
      mask: (batch, frames), nonzero where a frame is real; an item without any is told by what is heard alone.
    """

    heard: Array
    seen: Array
    mask: Array


def init(key: Array, config: Config) -> Params:
    """Random {"word_emb", "transformer_decoder", "dec_fc"}."""
    words, layers, out = jax.random.split(key, 3)
    bound = 1 / math.sqrt(config.width)
    kernel = jax.random.uniform(out, (config.width, config.vocab_size), minval=-bound, maxval=bound)
    return {
        "word_emb": jax.random.normal(words, (config.vocab_size, config.width)),
        "transformer_decoder": stack.init(layers, config.stack),
        "dec_fc": {"kernel": kernel, "bias": jnp.zeros(config.vocab_size)},
    }


def embed(params: Params, config: Config, ids: Array, start: Array | int = 0) -> Array:
    """Words with their positions' sines: (batch, time) ids, the first at `start` -> (batch, time, width)."""
    x = params["word_emb"][ids] * math.sqrt(config.width)
    return x + stack.positions(ids.shape[1], config.width, start).astype(x.dtype)


def memorise(params: Params, config: Config, memory: Array | Pair, mask: Array | None = None) -> Memory:
    """What the decoder keeps of a memory (batch, keys, width) whose real keys the mask (batch, keys) tells.

    An adaptive decoder takes a `Pair`; the mask is then of what is heard.
    """
    p, layers = params["transformer_decoder"], config.stack
    if isinstance(memory, Pair):
        return stack.memorise(p, layers, memory.heard, mask, second=memory.seen, second_mask=memory.mask)
    return stack.memorise(p, layers, memory, mask)


def hidden(
    params: Params, config: Config, memory: Memory, ids: Array, mask: Array | None = None, *, key: Array | None = None
) -> Array:
    """What the layers make of whole captions: (batch, time, width); arguments as `logits`."""
    keys = split(key, 2)
    x = drop(embed(params, config, ids), config.dropout, keys[0])
    return stack.apply(params["transformer_decoder"], config.stack, x, mask=mask, memory=memory, key=keys[1])


def logits(
    params: Params, config: Config, memory: Memory, ids: Array, mask: Array | None = None, *, key: Array | None = None
) -> Array:
    """What follows each word of whole captions.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      memory: of `memorise`.
      ids: (batch, time), the first of which is `config.start`.
      mask: (batch, time), 0 where padded.
      key: draws dropout, in training.

    Returns:
      (batch, time, words).
    """
    return spoken(params, hidden(params, config, memory, ids, mask, key=key))


def spoken(params: Params, x: Array) -> Array:
    """Logits (..., words) of hidden states (..., width)."""
    return stack.dense(params["dec_fc"], wide(x))


def read(params: Params, config: Config, memory: Memory, length: int) -> tuple[Array, Cache]:
    """The beginning of captions of up to `length` words: (logits (batch, words), cache)."""
    batch = memory.key.shape[1]
    start = jnp.full(batch, config.start, jnp.int32)
    return decoder(params, config, memory).step(start, stack.empty(config.stack, batch, length))


def decoder(params: Params, config: Config, memory: Memory) -> Decoder:
    """The model for `text.decode`; its state is the cache that `read` returns."""

    def step(tokens: Array, cache: Cache) -> tuple[Array, Cache]:
        x = embed(params, config, tokens[:, None], cache.length)
        x, cache = stack.extend(params["transformer_decoder"], config.stack, x, cache, memory=memory)
        return spoken(params, x)[:, 0], cache

    return Decoder(step, caches.take)


def weights(prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names.

    Args:
      prefix: regular expression before the keys.
      path: where the tree of `init` is.
    """
    rules = (
        Rule(r"pos_encoder\.pe", None),  # sines
        Rule(r"word_emb\.weight", "word_emb"),
        Rule(r"dec_fc\.weight", "dec_fc/kernel", linear),
        Rule(r"dec_fc\.bias", "dec_fc/bias"),
        *stack.torch_weights(r"transformer_decoder\.", "transformer_decoder"),
    )
    return prefixed(prefix, rules, path)
