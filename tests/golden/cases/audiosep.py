"""Golden cases of AudioSep's separator: ours on a case's inputs, results under the original's names and strides."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert, to_torch
from jaxaudio.dsp.chunk import chunked, plan
from jaxaudio.systems import audiosep
from jaxaudio.train.optim import adamw
from tests.golden.weights import state_dict_of
from tests.precision import double_precision

Arrays = Mapping[str, np.ndarray]

_CONFIG = audiosep.AUDIOSEP_BASE


def _params(case: Mapping, keys: Mapping, dtype: Any = np.float32) -> Any:
    state = {key: value for key, value in state_dict_of(keys, case).items() if "stft." not in key}
    target = jax.eval_shape(lambda: audiosep.init(jax.random.key(0), _CONFIG))
    return jax.tree.map(lambda x: x.astype(dtype), convert(state, audiosep.WEIGHTS, target))


def _first(x: jax.Array) -> np.ndarray:
    """(batch, time, frequency, channels) -> (batch, channels, time, frequency)."""
    return np.asarray(x).transpose(0, 3, 1, 2)


def separation(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """The whole network with its intermediates, or the chunked inference of the original."""
    params = _params(case, keys)
    mixture, condition = jnp.asarray(inputs["mixture"][:, 0]), jnp.asarray(inputs["condition"])
    if "out" in inputs:
        windows = plan(mixture.shape[1], *(round(s * _CONFIG.sample_rate) for s in _CONFIG.chunk))
        process = jax.jit(lambda x: audiosep.separate(params, _CONFIG, x, condition))
        return {"out": chunked(process, np.asarray(mixture), windows, out=np.zeros(mixture.shape, np.float32))}
    made = jax.jit(lambda p, x, c: audiosep.intermediates(p, _CONFIG, x, c))(params, mixture, condition)
    logits, film = _first(made["logits"]), made["film"]
    return {
        "waveform": made["waveform"][:, None],
        "mag_bn0_s": made["mag_bn0"][:, None, ::4, ::8],
        "mag_s": made["mag"][:, None, ::4, ::8],
        "cos_s": (made["real"] / made["mag"])[:, None, ::8, ::16],
        "sin_s": (made["imag"] / made["mag"])[:, None, ::8, ::16],
        "bottleneck": _first(made["conv_block7a"])[:, ::4],
        "enc1_pool_s": _first(made["encoder_block1"])[:, ::4, ::8, ::16],
        "dec6_s": _first(made["decoder_block6"])[:, ::4, ::8, ::32],
        "mask_logits_s": logits[:, :, ::4, ::8],
        "mask_mag_s": np.asarray(jax.nn.sigmoid(logits[:, :1, ::4, ::8])),
        "film_enc1_beta1": film["encoder_block1"]["conv_block1"]["beta1"][0],
        "film_dec6_cb2_beta2": film["decoder_block6"]["conv_block2"]["beta2"][0],
        "film_dec1_beta1": film["decoder_block1"]["beta1"][0],
    }


def thin(x: np.ndarray) -> np.ndarray:
    """The part of a large tensor that the training cases store."""
    if x.size <= 4096:
        return x
    if x.ndim == 2:
        return x[::4, ::8]
    return x[tuple(slice(None, None, max(1, size // 16)) for size in x.shape[:2])]


def train_step(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """One forward and backward pass in training mode, and three optimiser steps.

    In float32, and in float64 where that is stored: minutes, and therefore not in the copy that the tests run.
    """
    out = _train(case, keys, inputs, np.float32)
    if "f64/losses3_f64" not in inputs:
        return out
    with double_precision():
        double = _train(case, keys, inputs, np.float64)
    double["losses3_f64"] = double["losses3"]
    double["train_waveform_s"] = double["train_waveform"][:, ::4]
    return {**out, **{f"f64/{name}": value for name, value in double.items()}}


def _train(case: Mapping, keys: Mapping, inputs: Arrays, dtype: Any) -> dict[str, np.ndarray]:
    config, named = case["config"], case["named_parameters"]
    params = _params(case, keys, dtype)
    trained, extra = params["params"], {"batch_stats": params["batch_stats"]}
    batch = {"mixture": inputs["mixture"][:, 0], "segment": inputs["segment"], "condition": inputs["condition"]}
    batch = {name: jnp.asarray(value, dtype) for name, value in batch.items()}
    tx = adamw(
        config["lr"],
        b1=config["betas"][0],
        b2=config["betas"][1],
        eps=config["eps"],
        weight_decay=config["weight_decay"],
        amsgrad=config["amsgrad"],
    )
    loss = functools.partial(audiosep.loss, config=_CONFIG)

    @jax.jit
    def step(trained, extra, opt):
        # The loss does not return the waveform it was computed on: the same pass in training mode, which XLA does once.
        made = audiosep.intermediates({"params": trained, **extra}, _CONFIG, batch["mixture"], batch["condition"], True)
        (value, (_, extra)), grads = jax.value_and_grad(loss, has_aux=True)(trained, extra, batch)
        updates, opt = tx.update(grads, opt, trained)
        return jax.tree.map(jnp.add, trained, updates), extra, opt, value, grads, made["waveform"]

    def torch_names(tree: Any, collection: str = "params") -> dict[str, np.ndarray]:
        return to_torch({collection: tree}, audiosep.WEIGHTS, keys)

    out: dict[str, np.ndarray] = {}
    start, opt, losses = torch_names(trained), tx.init(trained), []
    for number in (1, 2, 3):
        trained, extra, opt, value, grads, waveform = step(trained, extra, opt)
        losses.append(np.asarray(value))
        if number == 1:
            slopes, statistics = torch_names(grads), torch_names(extra["batch_stats"], "batch_stats")
            out["loss"], out["train_waveform"] = np.asarray(value), np.asarray(waveform)
            out |= {f"grad/{key}": thin(slopes[key]) for key in named}
            out["grad_norm_named"] = np.array([np.linalg.norm(slopes[key]) for key in named])
            out["grad_norm_total"] = np.sqrt(sum(np.sum(np.square(g)) for g in slopes.values()))
            out |= {f"bn/{key}": x for key, x in statistics.items()}
            out |= {f"bn/{key}": np.int64(1) for key in keys if key.endswith("num_batches_tracked")}
            out |= {f"step1/{key}": thin(x) for key, x in torch_names(trained).items() if key in named}
    end = torch_names(trained)
    out |= {f"step3/{key}": thin(end[key]) for key in named}
    out |= {f"update3/{key}": thin(end[key] - start[key]) for key in named}
    out |= {f"bn3/{key}": x for key, x in torch_names(extra["batch_stats"], "batch_stats").items()}
    moments = {"exp_avg": opt[0].mu, "exp_avg_sq": opt[0].nu, "max_exp_avg_sq": opt[0].nu_max}
    for name, tree in moments.items():
        out[f"opt_after_conv_{name}"] = torch_names(tree)["ss_model.base.after_conv.weight"]
    out["losses3"] = np.stack(losses)
    separate = jax.jit(audiosep.separate, static_argnums=1)
    made = separate({"params": trained, **extra}, _CONFIG, batch["mixture"], batch["condition"])
    out["eval_waveform_after3_s"] = np.asarray(made)[:, ::4]
    return out


CASES = {
    "audiosep_resunet30": separation,
    "audiosep_resunet30_g06": separation,
    "audiosep_train_step": train_step,
}
