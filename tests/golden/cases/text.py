"""Golden cases of the text encoders: our modules on a case's inputs, results under the original's names and strides."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert, prefixed
from jaxaudio.text import bert, roberta
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]


def _config(published: Mapping[str, Any], **changes: Any) -> bert.Config:
    names = {field.name for field in dataclasses.fields(bert.Config)}
    return bert.Config(**({k: v for k, v in published.items() if k in names} | changes))


def hf_bert(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """BertModel with pooler, every position compared."""
    config = _config(case["config"])
    params = bert.from_state(state_dict_of(keys, case), config)
    ids = (jnp.asarray(inputs[name], jnp.int32) for name in ("input_ids", "attention_mask", "token_type_ids"))
    out = jax.jit(lambda p, *x: bert.encode(p, config, *x, hidden_states=True))(params, *ids)
    ours = {
        "embeddings": out["hidden_states"][0],
        "hidden1": out["hidden_states"][1],
        "last_hidden_state": out["last_hidden_state"],
        "pooler_output": out["pooler_output"],
    }
    return {name: np.asarray(x) for name, x in ours.items()}


def clap_text(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """ClapTextModelWithProjection; the stored hidden states hold every 16th channel."""
    config = _config(case["config"], pad_token_id=1)
    rules = (
        *prefixed(r"text_model\.", roberta.weights(config), "text_model"),
        *prefixed(r"text_projection\.", roberta.PROJECTION_WEIGHTS, "text_projection"),
    )
    key = jax.random.key(0)
    width = config.hidden_size
    projection = roberta.Projection(case["config"]["projection_dim"])
    target = {
        "text_model": jax.eval_shape(lambda: roberta.init(key, config))["params"],
        "text_projection": jax.eval_shape(lambda: projection.init(key, jnp.zeros((1, width))))["params"],
    }
    params = convert(state_dict_of(keys, case), rules, target)

    @jax.jit
    def run(params, ids, mask):
        out = roberta.encode({"params": params["text_model"]}, config, ids, mask)
        embeds = roberta.project({"params": params["text_projection"]}, out["pooler_output"])
        return {
            "last_hidden": out["last_hidden_state"][..., ::16],
            "pooler": out["pooler_output"],
            "text_embeds": embeds,
            "text_embeds_normalized": bert.unit(embeds),
        }

    out = run(params, *(jnp.asarray(inputs[name], jnp.int32) for name in ("input_ids", "attention_mask")))
    return {name: np.asarray(x) for name, x in out.items()}


CASES: dict[str, Callable[[Mapping, Mapping, Arrays], dict[str, np.ndarray]]] = {
    "hf_bert_small": hf_bert,
    "hf_bert_base": hf_bert,
    "clap_text_with_projection": clap_text,
}
