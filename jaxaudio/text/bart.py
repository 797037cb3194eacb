"""BART (Lewis et al., 2020, arXiv:1910.13461): an encoder, and a decoder that attends to it; norms after each part."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, prefixed
from jaxaudio.errors import UsageError
from jaxaudio.nn import cache as caches, stack
from jaxaudio.nn.cache import Cache
from jaxaudio.nn.dropout import drop, split
from jaxaudio.nn.stack import Memory
from jaxaudio.precision import wide
from jaxaudio.text.decode import Decoder

Params = Any

OFFSET = 2
"""Rows before position 0 in the position tables, a leftover of the padding id."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes, named as the published `config.json` names them.

    Attributes:
      vocab_size: rows of the word table, which also makes the logits.
      d_model: width.
      encoder_layers: layers of the encoder.
      decoder_layers: layers of the decoder.
      encoder_attention_heads: heads in the encoder.
      decoder_attention_heads: heads in the decoder.
      encoder_ffn_dim: channels inside the encoder's perceptrons.
      decoder_ffn_dim: channels inside the decoder's.
      max_position_embeddings: the longest sequence.
      dropout: after the tables and each part, in training.
      attention_dropout: on the attention weights.
      activation_dropout: inside the perceptrons.
      decoder_start_token_id: what a sequence begins with.
      eos_token_id: what ends it.
      pad_token_id: what stands after it.
      dtype: compute dtype.
    """

    vocab_size: int = 50265
    d_model: int = 768
    encoder_layers: int = 6
    decoder_layers: int = 6
    encoder_attention_heads: int = 12
    decoder_attention_heads: int = 12
    encoder_ffn_dim: int = 3072
    decoder_ffn_dim: int = 3072
    max_position_embeddings: int = 1024
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.1
    decoder_start_token_id: int = 2
    eos_token_id: int = 2
    pad_token_id: int = 1
    dtype: str = "float32"

    def _stack(self, **parts: Any) -> stack.Config:
        return stack.Config(
            width=self.d_model,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            hidden_dropout=self.activation_dropout,
            dtype=self.dtype,
            **parts,
        )

    @property
    def encoder(self) -> stack.Config:
        """Of the encoder's layers."""
        return self._stack(
            layers=self.encoder_layers,
            heads=self.encoder_attention_heads,
            hidden=self.encoder_ffn_dim,
            causal=False,
        )

    @property
    def decoder(self) -> stack.Config:
        """Of the decoder's layers."""
        return self._stack(
            layers=self.decoder_layers,
            heads=self.decoder_attention_heads,
            hidden=self.decoder_ffn_dim,
            memory=self.d_model,
        )


BART_BASE = Config()


def init(key: Array, config: Config) -> Params:
    """Random {"shared", "final_logits_bias", "encoder", "decoder"}; the last two with positions, a norm and layers."""
    words, *keys = jax.random.split(key, 5)

    def half(table: Array, layers: Array, of: stack.Config) -> Params:
        shape = (config.max_position_embeddings + OFFSET, config.d_model)
        places = 0.02 * jax.random.normal(table, shape)
        return {
            "embed_positions": places,
            "layernorm_embedding": stack.norm_init(config.d_model),
            **stack.init(layers, of),
        }

    return {
        "shared": 0.02 * jax.random.normal(words, (config.vocab_size, config.d_model)),
        "final_logits_bias": jnp.zeros(config.vocab_size),
        "encoder": half(keys[0], keys[1], config.encoder),
        "decoder": half(keys[2], keys[3], config.decoder),
    }


def _embedded(params: Params, half: str, x: Array, start: Array | int = 0) -> Array:
    """Token ids, or vectors in their place, with the positions' vectors added, normalised."""
    if jnp.issubdtype(x.dtype, jnp.integer):
        x = params["shared"][x]
    places = jax.lax.dynamic_slice_in_dim(params[half]["embed_positions"], start + OFFSET, x.shape[1])
    return stack.layer_norm(params[half]["layernorm_embedding"], x + places)


def encode(params: Params, config: Config, x: Array, mask: Array | None = None, *, key: Array | None = None) -> Array:
    """The encoder's output.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, time) token ids, or (batch, time, d_model) vectors in their place.
      mask: (batch, time), 0 where padded.
      key: draws dropout, in training.

    Returns:
      (batch, time, d_model).

    Raises:
      UsageError: more positions than the table has.
    """
    if x.shape[1] > config.max_position_embeddings:
        raise UsageError(
            f"{x.shape[1]} positions; this model has {config.max_position_embeddings}: give a shorter one."
        )
    keys = split(key, 2)
    x = drop(_embedded(params, "encoder", x), config.dropout, keys[0])
    return stack.apply(params["encoder"], config.encoder, x, mask=mask, key=keys[1])


def memorise(params: Params, config: Config, encoded: Array, mask: Array | None = None) -> Memory:
    """What the decoder keeps of the encoder's output (batch, time, d_model)."""
    return stack.memorise(params["decoder"], config.decoder, encoded, mask)


def logits(
    params: Params, config: Config, memory: Memory, ids: Array, mask: Array | None = None, *, key: Array | None = None
) -> Array:
    """What follows each position of whole sequences.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      memory: of `memorise`.
      ids: (batch, time) token ids, the first of which is `decoder_start_token_id`.
      mask: (batch, time), 0 where padded.
      key: draws dropout, in training.

    Returns:
      (batch, time, words) float32.
    """
    keys = split(key, 2)
    x = drop(_embedded(params, "decoder", ids), config.dropout, keys[0])
    x = stack.apply(params["decoder"], config.decoder, x, mask=mask, memory=memory, key=keys[1])
    return _spoken(params, x)


def _spoken(params: Params, x: Array) -> Array:
    return wide(x) @ params["shared"].T + params["final_logits_bias"]


def read(params: Params, config: Config, memory: Memory, length: int) -> tuple[Array, Cache]:
    """The beginning of sequences of up to `length` tokens about a memory: (logits (batch, words), cache)."""
    if length > config.max_position_embeddings:
        raise UsageError(f"{length} tokens; this model has {config.max_position_embeddings} positions.")
    batch = memory.key.shape[1]
    start = jnp.full(batch, config.decoder_start_token_id, jnp.int32)
    return decoder(params, config, memory).step(start, stack.empty(config.decoder, batch, length))


def decoder(params: Params, config: Config, memory: Memory) -> Decoder:
    """The model for `decode`; its state is the cache that `read` returns."""

    def step(tokens: Array, cache: Cache) -> tuple[Array, Cache]:
        x = _embedded(params, "decoder", tokens[:, None], cache.length)
        x, cache = stack.extend(params["decoder"], config.decoder, x, cache, memory=memory)
        return _spoken(params, x)[:, 0], cache

    return Decoder(step, caches.take)


def weights(prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names.

    Args:
      prefix: regular expression before the keys.
      path: where the tree of `init` is.
    """
    half = r"model\.(encoder|decoder)\."
    rules = (
        Rule(r"final_logits_bias", "final_logits_bias", lambda x: x[0]),
        Rule(r"(?:model\.shared|lm_head|model\.(?:encoder|decoder)\.embed_tokens)\.weight", "shared"),
        Rule(rf"{half}embed_positions\.weight", r"\1/embed_positions"),
        Rule(rf"{half}layernorm_embedding\.weight", r"\1/layernorm_embedding/scale"),
        Rule(rf"{half}layernorm_embedding\.bias", r"\1/layernorm_embedding/bias"),
        *stack.weights(r"model\.encoder\.", "encoder"),
        *stack.weights(r"model\.decoder\.", "decoder"),
    )
    return prefixed(prefix, rules, path)


WEIGHTS = weights()
