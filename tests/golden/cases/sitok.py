"""Golden cases of the speech tokenizers by diffusion and of shortcut models."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio import samplers
from jaxaudio.convert.rules import convert, to_torch
from jaxaudio.nn import velocity as flow
from jaxaudio.quantize import bsq
from jaxaudio.samplers import objectives, self_consistency
from jaxaudio.systems import tadicodec
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]


def _tadicodec_config(c: Mapping[str, Any]) -> tadicodec.Config:
    return tadicodec.Config(
        front_end=dataclasses.replace(tadicodec.TADICODEC.front_end, n_mels=c["mel_dim"]),
        width=c["hidden_size"],
        encoder_layers=c["encoder_num_layers"],
        decoder_layers=c["decoder_num_layers"],
        heads=c["num_heads"],
        factor=c["down_sample_factor"],
        bits=c["vq_emb_dim"],
        words=c["text_vocab_size"] if c["use_text_cond"] else 0,
        smallest=c["sigma"],
    )


def tadicodec_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Both variants of a training step with their gradients, the encoder, the decoder, and three ways to sample."""
    config = _tadicodec_config(case["config"])
    target = jax.eval_shape(lambda: tadicodec.init(jax.random.key(0), config))
    params = convert(state_dict_of(keys, case), tadicodec.WEIGHTS, target)
    x, mask, text, text_mask, t, noise, prompts = (
        jnp.asarray(inputs[name]) for name in ("x", "x_mask", "text_ids", "text_mask", "t", "noise", "prompt_len")
    )
    words = {"text": text, "text_mask": text_mask}

    @jax.jit
    def train(params: Any, prompts: jax.Array, kept: jax.Array) -> Any:
        def value(params: Any) -> Any:
            return tadicodec.objective(params, config, x, mask, t, noise, prompts=prompts, kept=kept, **words)

        return jax.value_and_grad(value, has_aux=True)(params)

    @jax.jit
    def inside(params: Any) -> Any:
        made = tadicodec.analysis(params, config, x, mask)
        context = tadicodec.heard(params, config, jnp.asarray(inputs["dec_cond"]), mask=mask, **words)
        return made, flow.intermediates(params["params"]["decoder"], config.decoder, x, t, context)

    out: dict[str, Any] = {}
    count = x.shape[0]
    for name, lengths, kept in (("prompt", prompts, True), ("noprompt_dropcond", jnp.zeros_like(prompts), False)):
        (loss, made), slopes = train(params, lengths, jnp.full((count,), kept))
        grads = to_torch(slopes, tadicodec.WEIGHTS, keys)
        out |= {
            f"{name}_flow_pred": made["velocity"],
            f"{name}_x_pred": made["estimate"],
            f"{name}_final_mask": made["asked"],
            f"{name}_diff_loss": made["flow_loss"],
            f"{name}_vq_loss": made["vq_loss"],
            f"{name}_commit_loss": made["commitment"],
            f"{name}_loss": loss,
            f"{name}_grad_norms": [np.linalg.norm(grads[key]) for key in case["grad_norm_order"][f"{name}_grad_norms"]],
        }
        stored = [f"{name}_grad:{key}" for key in grads if f"{name}_grad:{key}" in inputs]
        out |= {key: grads[key.partition(":")[2]].ravel()[:: case["strides"].get(key, 1)] for key in stored}
    made, decoded = inside(params)
    out |= {
        "encoder_out": made["encoder"],
        "vq_pre": made["projected"],
        "vq_emb": made["z"],
        "indices": made["codes"],
        "vq_min_abs": np.min(np.abs(made["continuous"])),
        "t_emb": flow.sinusoids(t, config.width),
        "dec_out": decoded["velocity"],
        "dec_hidden1": decoded["hidden"][0],
    }
    for name, steps, guidance, rescale in (
        ("rev_cfg2_r075", 4, 2.0, 0.75),
        ("rev_nocfg", 4, 1.0, 0.0),
        ("rev_cfg2_r0_8steps", 8, 2.0, 0.0),
    ):
        sampling = tadicodec.Sampling(steps=steps, guidance=guidance, rescale=rescale, together=True)
        out[name] = jax.jit(
            lambda params, codes, sampling=sampling: tadicodec.decode(
                params,
                config,
                codes,
                sampling=sampling,
                prompt=jnp.asarray(inputs["rev_prompt"]),
                noise=jnp.asarray(inputs["rev_noise"]),
                **words,
            )
        )(params, made["codes"])
    assert np.allclose(bsq.lookup(made["codes"], config.bits), made["z"])
    out["mel_norm"] = tadicodec.mel(tadicodec.TADICODEC, jnp.asarray(inputs["mel_audio"]))
    return {name: np.asarray(x) for name, x in out.items()}


def _field(x: jax.Array, t: jax.Array, step: jax.Array, label: jax.Array | float = 0.0) -> jax.Array:
    """The velocity that the case states in the place of a network."""
    t, step, label = (jnp.broadcast_to(jnp.asarray(v, x.dtype), x.shape[:1]) for v in (t, step, label))
    t, step, label = (v.reshape(-1, *[1] * (x.ndim - 1)) for v in (t, step, label))
    return jnp.sin(1.3 * x + t) * (1 + 0.5 * step) - 0.4 * x * t + 0.2 * label / 7 + 0.1 * step**2


def shortcut_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """The published code's batches of two kinds of rows, SiTok's targets, and sampling in 1 to 16 steps."""
    del keys
    c = case["config"]
    finest = c["denoise_timesteps"].bit_length() - 1
    out: dict[str, Any] = {}
    for name in c["variants"]:
        given = {key.removeprefix(f"{name}_"): x for key, x in inputs.items() if key.startswith(f"{name}_")}
        images, labels, t = (jnp.asarray(given[key]) for key in ("images", "labels", "t"))
        rows = len(images) // int(given["bootstrap_every"])
        exponents = self_consistency.step_exponents(rows, finest, favour_large=name == "bias")
        half = jnp.asarray(0.5 ** (exponents + 1), jnp.float32)
        guided = jnp.asarray(exponents == finest - 1)[:, None, None, None] & (name == "cfg")

        def teacher(x, t, step, name=name, labels=labels[:rows], guided=guided):
            towards, away = (_field(x, t, step, label) for label in (labels, c["num_classes"]))
            if name != "plain":  # the moving average
                towards, away = (0.9 * v + 0.05 for v in (towards, away))
            return jnp.where(guided, away + c["cfg_scale"] * (towards - away), towards)

        noise = jnp.asarray(given["x0_bootstrap"])
        made = self_consistency.target(teacher, images[:rows], noise, t[:rows], half, smallest=1e-5, limit=4.0)
        rest = images[: len(images) - rows]
        x, velocity = objectives.flow_point(rest, jnp.asarray(given["x0_flow"]), t[rows:], 1e-5)
        every = np.append(exponents, np.full(len(rest), finest))
        out |= {
            f"{name}_x_t": jnp.concatenate([made.x, x]),
            f"{name}_v_target": jnp.concatenate([made.velocity, velocity]),
            f"{name}_dt_base": every,
            f"{name}_bootstrap_ratio": np.mean(every != finest),
        }
    data, noise, t, half = (jnp.asarray(inputs[f"sitok_{name}"]) for name in ("x", "eps", "t", "d"))
    made = self_consistency.target(_field, data, noise, t, half)
    twice = _field(made.x, t, 2 * half)
    flow_velocity = objectives.flow_point(data, noise, t, 0.0)[1]
    out |= {
        "sitok_x_t": made.x,
        "sitok_v_flow": flow_velocity,
        "sitok_v1": made.first,
        "sitok_x_mid": made.halfway,
        "sitok_v2": made.second,
        "sitok_target_2d": made.velocity,
        "sitok_pred_2d": twice,
        "sitok_x_after_2d": made.x + 2 * half[:, None, None] * made.velocity,
        "sitok_loss_consistency": jnp.mean(jnp.square(twice - made.velocity)),
        "sitok_loss_flow": objectives.flow_loss(lambda x, t: _field(x, t, 0.0), data, noise, t, smallest=0.0)[0],
    }
    for steps in (1, 2, 4, 16):
        out[f"sitok_sample_{steps}"] = samplers.sample(
            lambda x, t, step: -_field(x, t, step),  # samplers count towards the noise
            noise,
            samplers.flow(steps, reverse=True),
            solver="shortcut",
            prediction="velocity",
        )
    return {name: np.asarray(x) for name, x in out.items()}


CASES: dict[str, Callable] = {"tadicodec_small": tadicodec_case, "shortcut_targets": shortcut_case}
