"""RoBERTa encoder (Liu et al., 2019): BERT with positions counted over real tokens; the text half of CLAP."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxaudio.convert.rules import Rule, linear
from jaxaudio.text import bert
from jaxaudio.text.bert import Config, from_state, init, weights

__all__ = ["ROBERTA_BASE", "Config", "Projection", "encode", "from_state", "init", "position_ids", "project", "weights"]

ROBERTA_BASE = Config(
    vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, pad_token_id=1
)


def position_ids(input_ids: jax.Array, pad_token_id: int) -> jax.Array:
    """Positions (batch, length): real tokens count up from `pad_token_id + 1`, padding stays at `pad_token_id`."""
    real = (input_ids != pad_token_id).astype(jnp.int32)
    return jnp.cumsum(real, axis=1) * real + pad_token_id


def encode(
    params: dict[str, Any],
    config: Config,
    input_ids: jax.Array,
    attention_mask: jax.Array,
    *,
    hidden_states: bool = False,
    key: jax.Array | None = None,
) -> dict[str, Any]:
    """Contextual vectors, as `bert.encode`, with RoBERTa's positions; length at most 512 for `ROBERTA_BASE`."""
    positions = position_ids(input_ids, config.pad_token_id)
    return bert.encode(
        params, config, input_ids, attention_mask, position_ids=positions, hidden_states=hidden_states, key=key
    )


class Projection(nn.Module):
    """CLAP's head on either branch: linear, ReLU, linear, both to `width`."""

    width: int = 512

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, features) -> (batch, width), not normalised."""
        return nn.Dense(self.width, name="linear2")(jax.nn.relu(nn.Dense(self.width, name="linear1")(x)))


# Keys of a projection below `text_projection.` or `audio_projection.`: Hugging Face's names, and LAION's 0 and 2.
PROJECTION_WEIGHTS = tuple(
    rule
    for torch_name, name in (("linear1", "linear1"), ("linear2", "linear2"), ("0", "linear1"), ("2", "linear2"))
    for rule in (Rule(rf"{torch_name}\.weight", f"{name}/kernel", linear), Rule(rf"{torch_name}\.bias", f"{name}/bias"))
)


def project(params: dict[str, Any], pooled: jax.Array) -> jax.Array:
    """Apply a projection: `{"params": tree}` and (batch, features) -> (batch, width), not normalised."""
    out: Any = Projection(params["params"]["linear2"]["bias"].shape[0]).apply(params, pooled)
    return out
