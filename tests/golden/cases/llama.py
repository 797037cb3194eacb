"""Golden cases of the causal Llama stack: a language model's logits, with and without its cache."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import Rule, convert, linear
from jaxaudio.nn import llama
from tests.golden.weights import state_dict_of

WEIGHTS = (
    *llama.weights(r"model\.", "stack"),
    Rule(r"model\.embed_tokens\.weight", "embedding"),
    Rule(r"lm_head\.weight", "head", linear),
)


def language_model(case: Mapping, keys: Mapping, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits of the batch, padded on the left; the loss; and greedy decoding by the cache."""
    c = case["config"]
    config = llama.Config(
        width=c["hidden_size"],
        layers=c["num_hidden_layers"],
        heads=c["num_attention_heads"],
        kv_heads=c["num_key_value_heads"],
        hidden=c["intermediate_size"],
        epsilon=c["rms_norm_eps"],
        base=c.get("rope_theta", 10000.0),
    )
    width, words = config.width, c["vocab_size"]
    target = {
        "stack": jax.eval_shape(lambda: llama.init(jax.random.key(0), config)),
        "embedding": jax.ShapeDtypeStruct((words, width), jnp.float32),
        "head": jax.ShapeDtypeStruct((width, words), jnp.float32),
    }
    params = convert(state_dict_of(keys, case), WEIGHTS, target)
    ids, mask = (jnp.asarray(inputs[name], jnp.int32) for name in ("input_ids", "attention_mask"))
    padded = jnp.sum(1 - mask, 1)

    @jax.jit
    def whole(params: Any, ids: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        made = llama.intermediates(params["stack"], config, params["embedding"][ids], mask=mask, start=-padded)
        return made["out"] @ params["head"], made

    @jax.jit
    def greedy(params: Any, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
        new = inputs["greedy_new_ids_item0"].size
        size = ids.shape[1] + new
        seen = jnp.pad(mask, ((0, 0), (0, new)), constant_values=1)

        def step(x: jax.Array, cache: llama.Cache) -> tuple[jax.Array, llama.Cache]:
            x = params["embedding"][x]
            x, cache = llama.extend(params["stack"], config, x, cache, mask=seen, start=cache.length - padded)
            return x[:, -1] @ params["head"], cache

        def body(carry: Any, _: None) -> Any:
            logits, cache = carry
            word = jnp.argmax(logits, -1)
            return step(word[:, None], cache), (word, logits)

        first = step(ids, llama.empty(config, ids.shape[0], size))
        _, (words, logits) = jax.lax.scan(body, first, length=new)
        return words.T, jnp.swapaxes(logits, 0, 1)

    logits, made = whole(params, ids)
    words, steps = greedy(params, ids)
    labels = jnp.asarray(inputs["labels"])[:, 1:]
    each = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), jnp.maximum(labels, 0)[..., None], -1)[..., 0]
    counted = labels != -100
    out = {
        # What the model says at a padded position is not used by anything.
        "logits": np.where(np.asarray(mask)[..., None] != 0, logits, inputs["logits"]),
        "hidden1_item0": made["hidden"][0, :1],
        "final_hidden_item0": made["out"][:1],
        "greedy_new_ids_item0": words[0],
        "greedy_step_logits_item0": steps[0],
        "greedy_ids_batch": jnp.concatenate([ids, words], 1),
        "loss": -jnp.sum(each * counted) / jnp.sum(counted),
    }
    return {name: np.asarray(x) for name, x in out.items()}


CASES: dict[str, Callable] = dict.fromkeys(("hf_llama_small", "hf_llama_gqa_small"), language_model)
