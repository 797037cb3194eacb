"""Golden cases of LASS-Net: ours on a case's inputs, results under the original's names and strides."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert, to_torch
from jaxaudio.systems import lassnet
from jaxaudio.text import bert
from tests.golden.cases.audiosep import thin
from tests.golden.weights import state_dict_of
from tests.precision import double_precision

Arrays = Mapping[str, np.ndarray]

_CONFIG = lassnet.LASSNET


def _params(case: Mapping, keys: Mapping, dtype: Any = np.float32) -> Any:
    target = jax.eval_shape(lambda: lassnet.init(jax.random.key(0), _CONFIG))
    params = convert(state_dict_of(keys, case), lassnet.WEIGHTS, target)
    return jax.tree.map(lambda x: x.astype(dtype), params)


def separation(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Text encoder and separator with their intermediates; the original's waveform ends at its last frame."""
    ids, attention = (jnp.asarray(inputs[name], jnp.int32) for name in ("input_ids", "attention_mask"))

    @jax.jit
    def run(params, wav, ids, attention):
        encoder = {"params": params["params"]["text_embedder"]["bert_layer"]}
        condition = lassnet.embed(params, _CONFIG, ids, attention)
        made = lassnet.intermediates(params, _CONFIG, wav, condition)
        frames = made["mag"].shape[1]
        phase = jnp.arctan2(made["imag"], made["real"])[:, :frames]
        return {
            "bert_last": bert.encode(encoder, _CONFIG.text, ids, attention)["last_hidden_state"],
            "cond": condition,
            "mag_s": made["mag"].transpose(0, 2, 1)[:, ::8, ::2],
            "phase_s": phase.transpose(0, 2, 1)[:, ::16, ::4],
            "bottleneck_s": made["conv_block7"].transpose(0, 3, 1, 2)[:, ::4],
            "mask": made["mask"][:, None, ::2, ::4],
            "logits_s": made["logits"][:, None, ::4, ::8],
            "est_wav": made["waveform"][:, None, : _CONFIG.hop * (frames - 1)],
        }

    made = run(_params(case, keys), jnp.asarray(inputs["wav"]), ids, attention)
    out = {name: np.asarray(x) for name, x in made.items()}
    if "phase_s" in inputs:
        # Reflection makes the first frame symmetric, its spectrum real, and the sign of pi a matter of rounding.
        turns = np.round((inputs["phase_s"] - out["phase_s"]) / (2 * np.pi))
        out["phase_s"] = out["phase_s"] + np.float32(2 * np.pi) * turns.astype(np.float32)
    return out


def train_step(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """One forward and backward pass with BatchNorm in training mode, in float32 and in float64."""
    single = _train(case, keys, inputs, np.float32)
    with double_precision():
        double = _train(case, keys, inputs, np.float64)
    return {**single, **{f"f64/{name}": x for name, x in double.items()}}


def _train(case: Mapping, keys: Mapping, inputs: Arrays, dtype: Any) -> dict[str, np.ndarray]:
    params = _params(case, keys, dtype)
    extra = {"batch_stats": params["batch_stats"]}
    batch = {"mixture": jnp.asarray(inputs["wav"], dtype), "segment": jnp.asarray(inputs["target_wav"], dtype)}
    ids, attention = (jnp.asarray(inputs[name], jnp.int32) for name in ("input_ids", "attention_mask"))

    @jax.jit
    def run(params, extra, batch, ids, attention):
        # The loss of the embedded query, and the chain rule through the embedding: one backward pass gives both slopes.
        condition, pull = jax.vjp(lambda p: lassnet.embed({"params": p}, _CONFIG, ids, attention), params)

        def loss(params, condition):
            return lassnet.loss(params, extra, {**batch, "condition": condition}, config=_CONFIG)

        (value, (_, new)), (grads, slope) = jax.value_and_grad(loss, (0, 1), has_aux=True)(params, condition)
        grads = jax.tree.map(jnp.add, grads, pull(slope)[0])
        made = lassnet.intermediates({"params": params, **extra}, _CONFIG, batch["mixture"], condition, train=True)
        return value, condition, slope, made["mask"], new, grads

    value, condition, slope, mask, new, grads = run(params["params"], extra, batch, ids, attention)
    out = {"loss": value, "cond": condition, "grad_cond": slope, "mask": mask[:, None, ::2, ::2]}
    text = [key for key in keys if key.endswith(("linear_layer.0.weight", "layer.3.output.dense.weight"))]
    slopes = to_torch({"params": grads}, lassnet.WEIGHTS, keys)
    out |= {f"grad/{key}": thin(slopes[key]) for key in (*case["named_parameters"], *text)}
    out |= {f"bn/{key}": x for key, x in to_torch(new, lassnet.WEIGHTS, keys).items()}
    return {name: np.asarray(x) for name, x in out.items()}


CASES = {"lassnet": separation, "lassnet_train_step": train_step}

BY_HAND = {"lassnet_train_step"}
"""It takes two minutes to compile; the step is that of audiosep_train_step, which is run."""
