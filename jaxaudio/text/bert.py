"""BERT encoder (Devlin et al., 2019): token ids in, one vector per token or per sentence out."""

import dataclasses
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxaudio.convert.rules import Rule, State, convert, linear
from jaxaudio.nn.attention import padding_bias
from jaxaudio.nn.transformer import PostNormLayer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of a BERT or RoBERTa encoder, named as the published `config.json` names them.

    Attributes:
      vocab_size: rows of the word table.
      hidden_size: width; a multiple of `num_attention_heads`.
      num_hidden_layers: layers.
      num_attention_heads: heads per layer.
      intermediate_size: width of each layer's perceptron.
      max_position_embeddings: rows of the position table: the longest input (RoBERTa: `pad_token_id + 1` less).
      type_vocab_size: rows of the segment table.
      layer_norm_eps: of every layer norm.
      pad_token_id: padding id; RoBERTa counts positions from the one after it.
      pooler: whether the weights hold the tanh pooler of the first token.
      hidden_dropout_prob: dropout after embeddings and projections, active only when `encode` is given a key.
      attention_probs_dropout_prob: dropout on attention weights, likewise.
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int = 0
    pooler: bool = True
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1


BERT_BASE = Config()
BERT_MINI = Config(
    hidden_size=256, num_hidden_layers=4, num_attention_heads=4, intermediate_size=1024, pooler=False
)  # prajjwal1/bert-mini, as LASS-Net uses it
MINILM_L6 = Config(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)  # all-MiniLM-L6-v2


class _Embeddings(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, input_ids, token_type_ids, position_ids, *, deterministic: bool):
        c = self.config
        tables = {
            "word_embeddings": (c.vocab_size, input_ids),
            "position_embeddings": (c.max_position_embeddings, position_ids),
            "token_type_embeddings": (c.type_vocab_size, token_type_ids),
        }
        x = sum(nn.Embed(rows, c.hidden_size, name=name)(ids) for name, (rows, ids) in tables.items())
        x = nn.LayerNorm(epsilon=c.layer_norm_eps, use_fast_variance=False, name="LayerNorm")(x)
        return nn.Dropout(c.hidden_dropout_prob, name="dropout")(x, deterministic=deterministic)


class _Layers(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x, bias, *, deterministic: bool):
        c = self.config
        states = [x]
        for i in range(c.num_hidden_layers):
            layer = PostNormLayer(
                heads=c.num_attention_heads,
                intermediate=c.intermediate_size,
                epsilon=c.layer_norm_eps,
                dropout=c.hidden_dropout_prob,
                attention_dropout=c.attention_probs_dropout_prob,
                name=f"layer_{i}",
            )
            states.append(layer(states[-1], bias, deterministic=deterministic))
        return tuple(states)


class _Pooler(nn.Module):
    width: int

    @nn.compact
    def __call__(self, hidden):
        return jnp.tanh(nn.Dense(self.width, name="dense")(hidden[:, 0]))


class Encoder(nn.Module):
    """Embeddings, layers and the optional pooler: the leaf under `encode`."""

    config: Config

    @nn.compact
    def __call__(self, input_ids, attention_mask, token_type_ids, position_ids, *, deterministic: bool = True):
        """Arrays as in `encode`, none optional; returns its dict with every hidden state."""
        c = self.config
        x = _Embeddings(c, name="embeddings")(input_ids, token_type_ids, position_ids, deterministic=deterministic)
        states = _Layers(c, name="encoder")(x, padding_bias(attention_mask, x.dtype), deterministic=deterministic)
        out = {"last_hidden_state": states[-1], "hidden_states": states}
        if c.pooler:
            out["pooler_output"] = _Pooler(c.hidden_size, name="pooler")(states[-1])
        return out


_LINEAR = tuple(f"attention.self.{x}" for x in ("query", "key", "value")) + (
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


def weights(config: Config) -> tuple[Rule, ...]:
    """Conversion rules from the published keys to the tree under "params"; a pooler that `config` lacks is dropped."""

    def rules(key: str, path: str, *, norm: bool = False) -> tuple[Rule, Rule]:
        scale = Rule(f"{key}.weight", f"{path}/scale") if norm else Rule(f"{key}.weight", f"{path}/kernel", linear)
        return scale, Rule(f"{key}.bias", f"{path}/bias")

    def in_layer(name: str, *, norm: bool = False) -> tuple[Rule, Rule]:
        path = rf"encoder/layer_\g<layer>/{name.replace('.', '/')}"
        return rules(r"encoder\.layer\.(?P<layer>\d+)\." + re.escape(name), path, norm=norm)

    return (
        Rule(r"embeddings\.(position|token_type)_ids", None),  # constant buffers that old checkpoints carry
        Rule(r"embeddings\.(?P<table>\w+_embeddings)\.weight", r"embeddings/\g<table>/embedding"),
        *rules(r"embeddings\.LayerNorm", "embeddings/LayerNorm", norm=True),
        *(rule for name in _LINEAR for rule in in_layer(name)),
        *(rule for name in _NORMS for rule in in_layer(name, norm=True)),
        *(rules(r"pooler\.dense", "pooler/dense") if config.pooler else (Rule(r"pooler\..*", None),)),
    )


def from_state(state: State, config: Config) -> dict[str, Any]:
    """Parameters from a published state dict {key: torch-layout array}; raises CheckpointError when it does not fit."""
    target = jax.eval_shape(lambda: init(jax.random.key(0), config))
    return {"params": convert(state, weights(config), target["params"])}


def init(key: jax.Array, config: Config) -> dict[str, Any]:
    """Random parameters `{"params": tree}`; under `jax.eval_shape`, their shapes at no cost."""
    ids = jnp.zeros((1, 1), jnp.int32)
    return dict(Encoder(config).init(key, ids, ids, ids, ids))


def encode(
    params: dict[str, Any],
    config: Config,
    input_ids: jax.Array,
    attention_mask: jax.Array,
    token_type_ids: jax.Array | None = None,
    *,
    position_ids: jax.Array | None = None,
    hidden_states: bool = False,
    key: jax.Array | None = None,
) -> dict[str, Any]:
    """Contextual vectors of a batch of token sequences.

    Args:
      params: `{"params": tree}` from `init` or a converted checkpoint.
      config: the sizes of `params`.
      input_ids: (batch, length) token ids in [0, vocab_size); length at most `max_position_embeddings`.
      attention_mask: (batch, length), 1 for a real token, 0 for padding.
      token_type_ids: (batch, length) segment ids; all zero when left out.
      position_ids: (batch, length); 0, 1, 2, ... when left out.
      hidden_states: also return the embeddings and the output of every layer.
      key: makes dropout active (training); without it the result is deterministic.

    Returns:
      A dict: `last_hidden_state` (batch, length, hidden); with a pooler, `pooler_output` (batch, hidden) in (-1, 1); on
      request, `hidden_states`, a tuple of `num_hidden_layers + 1` arrays like the first.
    """
    if position_ids is None:
        position_ids = jnp.broadcast_to(jnp.arange(input_ids.shape[1]), input_ids.shape)
    if token_type_ids is None:
        token_type_ids = jnp.zeros_like(input_ids)
    out: Any = Encoder(config).apply(
        params,
        input_ids,
        attention_mask,
        token_type_ids,
        position_ids,
        deterministic=key is None,
        rngs=None if key is None else {"dropout": key},
    )
    return out if hidden_states else {name: x for name, x in out.items() if name != "hidden_states"}


def sentence_embedding(
    params: dict[str, Any], config: Config, input_ids: jax.Array, attention_mask: jax.Array
) -> jax.Array:
    """Unit-length mean of the last hidden states over the real tokens (Sentence-BERT, section 3): (batch, hidden)."""
    hidden = encode(params, config, input_ids, attention_mask)["last_hidden_state"]
    return unit(masked_mean(hidden, attention_mask))


def masked_mean(hidden: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean over the positions where `mask` is 1: (batch, length, width), (batch, length) -> (batch, width)."""
    weights = mask.astype(hidden.dtype)[..., None]
    return (hidden * weights).sum(1) / jnp.maximum(weights.sum(1), 1)


def unit(x: jax.Array) -> jax.Array:
    """Scale the last axis to Euclidean length 1; a zero vector stays zero."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
