"""T5 and FLAN-T5 encoders (Raffel et al., 2020, arXiv:1910.10683; Chung et al., 2022): token ids to one vector each."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, State, convert, linear
from jaxaudio.nn.attention import attention_weights, padding_bias


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of a T5 encoder with a gated perceptron (version 1.1 and FLAN), named as the published `config.json`.

    Attributes:
      vocab_size: rows of the word table.
      d_model: width.
      d_kv: channels of an attention head; heads times it need not be the width.
      d_ff: width of each layer's perceptron.
      num_layers: layers.
      num_heads: heads per layer.
      relative_attention_num_buckets: distances that have a bias of their own; an even number.
      relative_attention_max_distance: everything farther shares one.
      layer_norm_epsilon: of every norm.
      pad_token_id: padding id.
      eos_token_id: what ends every text.
    """

    vocab_size: int = 32128
    d_model: int = 1024
    d_kv: int = 64
    d_ff: int = 2816
    num_layers: int = 24
    num_heads: int = 16
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6
    pad_token_id: int = 0
    eos_token_id: int = 1


FLAN_T5_SMALL = Config(d_model=512, d_ff=1024, num_layers=8, num_heads=6)
FLAN_T5_BASE = Config(d_model=768, d_ff=2048, num_layers=12, num_heads=12)
FLAN_T5_LARGE = Config()  # FlowSep, AudioLDM 2 and audioldm_16k_crossattn_t5


def relative_buckets(length: int, buckets: int, max_distance: int) -> Array:
    """The bucket of key minus query position, (queries, keys) of `length` each, in [0, buckets).

    Half of the buckets are for keys after the query. Of each half, the first half counts distances one by one, the rest
    grow with the logarithm up to `max_distance`, and the last takes what is farther (section 2.1).
    """
    distance = jnp.arange(length)[None, :] - jnp.arange(length)[:, None]
    half, away = buckets // 2, jnp.abs(distance)
    exact = half // 2
    growth = jnp.log(jnp.maximum(away, 1) / exact) / math.log(max_distance / exact) * (half - exact)
    far = jnp.minimum(exact + growth.astype(jnp.int32), half - 1)
    return jnp.where(away < exact, away, far) + jnp.where(distance > 0, half, 0)


class _Attention(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array, bias: Array) -> Array:
        c = self.config
        query, key, value = (
            nn.Dense(c.num_heads * c.d_kv, use_bias=False, dtype=x.dtype, name=name)(x).reshape(
                *x.shape[:2], c.num_heads, c.d_kv
            )
            for name in "qkv"
        )
        weights = attention_weights(query, key, bias, scale=1.0).astype(x.dtype)  # trained without 1 / sqrt(dim)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(*x.shape[:2], -1)
        return nn.Dense(c.d_model, use_bias=False, dtype=x.dtype, name="o")(y)


class _Perceptron(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array) -> Array:
        def dense(width: int, name: str) -> nn.Dense:
            return nn.Dense(width, use_bias=False, dtype=x.dtype, name=name)

        gate, y = (dense(self.config.d_ff, name)(x) for name in ("wi_0", "wi_1"))
        return dense(self.config.d_model, "wo")(jax.nn.gelu(gate, approximate=True) * y)


def _norm(c: Config, x: Array, name: str) -> Array:
    """Scale to unit mean square, in at least float32, without taking the mean away and without a shift."""
    return nn.RMSNorm(epsilon=c.layer_norm_epsilon, dtype=x.dtype, name=name)(x)


class _Residual(nn.Module):
    """Normalise, apply a part under its published name, add to the input."""

    config: Config
    part: type[nn.Module]
    part_name: str

    @nn.compact
    def __call__(self, x: Array, *args: Array) -> Array:
        return x + self.part(self.config, name=self.part_name)(_norm(self.config, x, "layer_norm"), *args)


class _Block(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array, bias: Array) -> Array:
        x = _Residual(self.config, _Attention, "SelfAttention", name="layer_0")(x, bias)
        return _Residual(self.config, _Perceptron, "DenseReluDense", name="layer_1")(x)


class Encoder(nn.Module):
    """Word table, layers and the final norm: the leaf under `encode`."""

    config: Config
    dtype: str = "float32"

    @nn.compact
    def __call__(self, input_ids: Array, attention_mask: Array) -> dict[str, Any]:
        """Arrays as in `encode`; returns its dict with every hidden state."""
        c = self.config
        x = nn.Embed(c.vocab_size, c.d_model, name="shared")(input_ids)
        x = x.astype(self.dtype) if self.dtype != "float32" else x
        buckets = relative_buckets(x.shape[1], c.relative_attention_num_buckets, c.relative_attention_max_distance)
        table = nn.Embed(c.relative_attention_num_buckets, c.num_heads, name="relative_attention_bias")
        bias = table(buckets).transpose(2, 0, 1)[None]  # one for all layers
        bias = bias + padding_bias(attention_mask, bias.dtype)
        states = [x]
        for i in range(c.num_layers):
            states.append(_Block(c, name=f"block_{i}")(states[-1], bias))
        return {"last_hidden_state": _norm(c, states[-1], "final_layer_norm"), "hidden_states": tuple(states)}


_LAYER = r"encoder\.block\.(?P<block>\d+)\.layer\.(?P<layer>[01])\."
_PATH = r"params/block_\g<block>/layer_\g<layer>"
WEIGHTS = (
    Rule(r"(?:shared|encoder\.embed_tokens)\.weight", "params/shared/embedding"),  # one tensor, stored once or twice
    Rule(
        r"encoder\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.weight",
        "params/relative_attention_bias/embedding",
    ),
    Rule(_LAYER + r"layer_norm\.weight", _PATH + "/layer_norm/scale"),
    Rule(_LAYER + r"(?P<part>\w+)\.(?P<name>\w+)\.weight", _PATH + r"/\g<part>/\g<name>/kernel", linear),
    Rule(r"encoder\.final_layer_norm\.weight", "params/final_layer_norm/scale"),
    Rule(r"(?:decoder|lm_head)\..*", None),  # of a whole T5
)
"""Conversion rules for the keys of transformers' T5EncoderModel, which AudioLDM 2 and FlowSep also have."""


def from_state(state: State, config: Config) -> dict[str, Any]:
    """Parameters from a published state dict {key: torch-layout array}; raises CheckpointError when it does not fit."""
    return convert(state, WEIGHTS, jax.eval_shape(lambda: init(jax.random.key(0), config)))


def init(key: Array, config: Config) -> dict[str, Any]:
    """Random parameters `{"params": tree}`; under `jax.eval_shape`, their shapes at no cost."""
    ids = jnp.zeros((1, 1), jnp.int32)
    return dict(Encoder(config).init(key, ids, ids))


def encode(
    params: dict[str, Any],
    config: Config,
    input_ids: Array,
    attention_mask: Array,
    *,
    hidden_states: bool = False,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Contextual vectors of a batch of token sequences.

    Args:
      params: `{"params": tree}` from `init` or a converted checkpoint.
      config: the sizes of `params`.
      input_ids: (batch, length) token ids in [0, vocab_size); any length.
      attention_mask: (batch, length), 1 for a real token, 0 for padding.
      hidden_states: also return the embeddings and the output of every layer, before the final norm.
      dtype: compute dtype, "float32" or "bfloat16"; norms and softmax stay float32.

    Returns:
      A dict: `last_hidden_state` (batch, length, d_model), padded positions included; on request `hidden_states`, a
      tuple of `num_layers + 1` arrays like it.
    """
    out: Any = Encoder(config, dtype).apply(params, input_ids, attention_mask)
    return out if hidden_states else {"last_hidden_state": out["last_hidden_state"]}
