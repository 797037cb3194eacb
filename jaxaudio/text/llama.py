"""Llama as a language model (Touvron et al., 2023, arXiv:2302.13971): words, the stack of `nn.llama`, and logits."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, linear
from jaxaudio.nn import llama
from jaxaudio.precision import wide
from jaxaudio.text import causal
from jaxaudio.text.causal import Reading
from jaxaudio.text.decode import Decoder

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes, named as the published `config.json` names them.

    Attributes:
      vocab_size: rows of the word table.
      hidden_size: width.
      intermediate_size: channels inside the perceptrons.
      num_hidden_layers: layers.
      num_attention_heads: heads of the queries.
      num_key_value_heads: heads of keys and values, which divide them.
      rms_norm_eps: of every norm.
      rope_theta: base of the rotary positions.
      tie_word_embeddings: whether the word table also makes the logits.
      dtype: compute dtype.
    """

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    dtype: str = "float32"

    @property
    def stack(self) -> llama.Config:
        """Of the layers."""
        return llama.Config(
            width=self.hidden_size,
            layers=self.num_hidden_layers,
            heads=self.num_attention_heads,
            kv_heads=self.num_key_value_heads,
            hidden=self.intermediate_size,
            base=self.rope_theta,
            epsilon=self.rms_norm_eps,
            dtype=self.dtype,
        )


VICUNA_7B = Config()


def init(key: Array, config: Config) -> Params:
    """Random {"embed_tokens", "stack"} and, where it is not tied, {"lm_head"} (width, words)."""
    words, layers, head = jax.random.split(key, 3)
    shape = (config.vocab_size, config.hidden_size)
    params = {"embed_tokens": 0.02 * jax.random.normal(words, shape), "stack": llama.init(layers, config.stack)}
    return params if config.tie_word_embeddings else params | {"lm_head": 0.02 * jax.random.normal(head, shape[::-1])}


def embed(params: Params, x: Array) -> Array:
    """The vectors (batch, time, width) of token ids (batch, time); vectors in their place stay what they are."""
    return params["embed_tokens"][x] if jnp.issubdtype(x.dtype, jnp.integer) else x


def _spoken(params: Params, x: Array) -> Array:
    return wide(x) @ (params["lm_head"] if "lm_head" in params else params["embed_tokens"].T)


def intermediates(params: Params, config: Config, x: Array, mask: Array | None = None) -> dict[str, Array]:
    """Like `logits`, but {"hidden": (layers, batch, time, width) after each layer, "out": after the norm, "logits"}."""
    start = 0 if mask is None else -causal.padding(mask)
    made = llama.intermediates(params["stack"], config.stack, embed(params, x), mask=mask, start=start)
    return made | {"logits": _spoken(params, made["out"])}


def logits(params: Params, config: Config, x: Array, mask: Array | None = None) -> Array:
    """What follows each position of whole sequences.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, time) token ids, or (batch, time, width) vectors in their place.
      mask: (batch, time), 0 where a sequence is padded, on its left.

    Returns:
      (batch, time, words) float32; anything at padded positions.
    """
    return intermediates(params, config, x, mask)["logits"]


def extend(params: Params, config: Config, x: Array, reading: Reading) -> tuple[Array, Reading]:
    """Reads what follows: ids (rows, time), or vectors -> (logits (rows, time, words), reading)."""
    x, cache = llama.extend(
        params["stack"], config.stack, embed(params, x), reading.cache, mask=reading.mask, start=reading.start
    )
    return _spoken(params, x), reading._replace(cache=cache)


def read(params: Params, config: Config, x: Array, mask: Array, length: int) -> tuple[Array, Reading]:
    """Reads prompts, to be continued by `decode`.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, time) token ids, or (batch, time, width) vectors in their place, padded on the left.
      mask: (batch, time), 0 where padded.
      length: most tokens that are to follow.

    Returns:
      (logits (batch, words) of the next token, reading).
    """
    reading = causal.begin(llama.empty(config.stack, x.shape[0], x.shape[1] + length), mask)
    made, reading = extend(params, config, x, reading)
    return made[:, -1], reading


def decoder(params: Params, config: Config) -> Decoder:
    """The model for `decode`; its state is the reading that `read` returns."""
    return causal.decoder(lambda x, reading: extend(params, config, x, reading))


def weights(prefix: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names, behind `prefix` (a regular expression)."""
    return (
        *llama.weights(rf"{prefix}model\.", "stack"),
        Rule(rf"{prefix}model\.embed_tokens\.weight", "embed_tokens"),
        Rule(rf"{prefix}model\..*rotary_emb\.inv_freq", None),
        Rule(rf"{prefix}lm_head\.weight", "lm_head", linear),
    )


WEIGHTS = weights()
