"""Golden cases of the diffusion U-Nets, their training and T5: ours under the original's names and strides."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio import samplers
from jaxaudio.convert.rules import convert, prefixed, to_torch
from jaxaudio.nn import unet
from jaxaudio.nn.unet import UNetConfig
from jaxaudio.samplers import objectives
from jaxaudio.text import t5
from jaxaudio.train.optim import adamw, linear_warm_up
from jaxaudio.train.step import ema_warm_up
from tests.golden.weights import fill, state_dict_of

Arrays = Mapping[str, np.ndarray]

ORIGINAL = r"model\.diffusion_model\."


def unet_params(case: Mapping, keys: Mapping, config: UNetConfig, prefix: str = "") -> Any:
    target = jax.eval_shape(lambda: unet.init(jax.random.key(0), config))
    return convert(state_dict_of(keys, case), prefixed(prefix, unet.weights(config)), target)


def last(x: np.ndarray) -> jax.Array:
    """(batch, channels, time, frequency) -> (batch, time, frequency, channels)."""
    return jnp.asarray(x).transpose(0, 2, 3, 1)


def first(x: jax.Array) -> jax.Array:
    """The way back."""
    return x.transpose(0, 3, 1, 2)


def conditions(inputs: Arrays) -> dict[str, Any]:
    """The vector, contexts and masks among a case's inputs."""
    contexts = sorted(name for name in inputs if name.startswith("context_"))
    masks = [inputs.get(name.replace("context", "mask")) for name in contexts]
    return {
        "film": jnp.asarray(inputs["y"]) if "y" in inputs else None,
        "contexts": [jnp.asarray(inputs[name]) for name in contexts],
        "masks": [None if mask is None else jnp.asarray(mask) for mask in masks],
    }


def network(
    config: UNetConfig, prefix: str, names: Mapping[str, str]
) -> Callable[[Mapping, Mapping, Arrays], dict[str, np.ndarray]]:
    """A U-Net's output, and every eighth channel of what lies inside under the case's `names` for it."""

    def run_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        params = unet_params(case, keys, config, prefix)

        @jax.jit
        def run(params, x, t, given):
            made = unet.intermediates(params, config, x, t, **given)
            inside = {name: first(made[ours])[:, ::8] for name, ours in names.items()}
            return {"eps": first(made["out"]), "time_embed": made["time_embedding"], **inside}

        made = run(params, last(inputs["x"]), jnp.asarray(inputs["t"], jnp.int32), conditions(inputs))
        return {name: np.asarray(x) for name, x in made.items() if name in inputs}

    return run_case


_ORIGINAL_NAMES = {
    "h_input_blocks_3": "down_blocks_0_2",
    "h_input_blocks_4": "down_blocks_1_0",
    "h_middle": "mid_block",
    "h_middle_block": "mid_block",
    "h_output_blocks_5": "up_blocks_1_2",
}
_DIFFUSERS_NAMES = {
    "h_down0": "down_blocks_0_2",
    "h_down1": "down_blocks_1_2",
    "h_mid": "mid_block",
    "h_up1": "up_blocks_1_2",
}


def original(config: UNetConfig) -> Callable[[Mapping, Mapping, Arrays], dict[str, np.ndarray]]:
    return network(config, ORIGINAL, _ORIGINAL_NAMES)


def diffusers(config: UNetConfig) -> Callable[[Mapping, Mapping, Arrays], dict[str, np.ndarray]]:
    return network(dataclasses.replace(config, diffusers_compat=True), "", _DIFFUSERS_NAMES)


def flowsep(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """FlowSep's velocity with and without its mask, and four Euler steps from t = 0 to 1."""
    config = unet.FLOWSEP_UNET
    params = unet_params(case, keys, config, ORIGINAL)
    start, mixture, t, context, mask = (
        last(inputs["x"]),
        last(inputs["mix_latent"]),
        *(jnp.asarray(inputs[name]) for name in ("t", "context", "context_mask")),
    )

    @jax.jit
    def run(params, start, mixture, t, context, mask):
        def made(x, t, mask):
            x = jnp.concatenate([x, mixture], -1)
            return unet.intermediates(params, config, x, t, contexts=[context], masks=[mask])

        def step(x, t):
            return x + made(x, t, mask)["out"][..., :8] / 4, None

        once, full = made(start, t, mask), made(start, t, jnp.ones_like(mask))
        return {
            "velocity16": first(once["out"]),
            "time_emb": once["time_embedding"],
            "in4": first(once["down_blocks_1_0"])[:, ::8],
            "middle": first(once["mid_block"])[:, ::4],
            "out0": first(once["up_blocks_0_0"])[:, ::8],
            "euler4": first(jax.lax.scan(step, start, jnp.arange(4) / 4)[0]),
            "velocity16_fullmask_s": first(full["out"])[:, :, ::4],
        }

    return {name: np.asarray(x) for name, x in run(params, start, mixture, t, context, mask).items()}


def t5_encoder(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """T5EncoderModel; the two names of the word table hold one tensor."""
    names = {field.name for field in dataclasses.fields(t5.Config)}
    config = t5.Config(**{name: value for name, value in case["config"].items() if name in names})
    state = {}
    for key, shape in keys.items():
        source = key.replace("encoder.embed_tokens", "shared")
        state[key] = state.get(source)
        if state[key] is None:
            state[key] = fill(source, shape, case["gain"]["*.q.weight" if key.endswith(".q.weight") else "default"])
    target = jax.eval_shape(lambda: t5.init(jax.random.key(0), config))
    params = convert(state, prefixed(r"cond_stage_models\.0\.model\.", t5.WEIGHTS), target)
    del state
    ids, mask = (jnp.asarray(inputs[name], jnp.int32) for name in ("input_ids", "attention_mask"))
    out = jax.jit(lambda p, *x: t5.encode(p, config, *x, hidden_states=True))(params, ids, mask)
    step = max(1, config.d_model // 256)  # hidden states of wide models are stored thinned
    states = [np.asarray(x)[..., ::step] for x in out["hidden_states"]]
    return {
        "last_hidden_state": np.asarray(out["last_hidden_state"]),
        "hidden1": states[1],
        "hidden_mid": states[config.num_layers // 2],
    }


def thin(x: np.ndarray) -> np.ndarray:
    """The part of a large tensor that the training cases store."""
    if x.size <= 4096:
        return x
    if x.ndim == 1:
        return x[::8]
    if x.ndim == 2:
        return x[::4, ::8]
    return x[tuple(slice(None, None, max(1, size // 16)) for size in x.shape[:2])]


def _torch_names(tree: Any, config: UNetConfig, keys: Mapping) -> dict[str, np.ndarray]:
    return to_torch({"params": tree}, prefixed(ORIGINAL, unet.weights(config)), keys)


def _slopes(grads: Any, config: UNetConfig, case: Mapping, keys: Mapping) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The thinned gradients of the case's named parameters, and their norms."""
    named = case["named_parameters"]
    slopes = _torch_names(grads, config, {key: keys[key] for key in named})
    norms = np.array([np.linalg.norm(slopes[key]) for key in named])
    return {key: thin(slopes[key]) for key in named}, norms


def audioldm_training(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Losses, targets and gradients of every prediction, and three steps with warm-up and averaging."""
    config = dataclasses.replace(unet.AUDIOLDM_S_UNET, channels=(64, 128, 192, 320))
    params = unet_params(case, keys, config, ORIGINAL)["params"]
    betas = samplers.scaled_linear_betas()
    data, noise, t, film = (
        last(inputs["x0"]),
        last(inputs["noise"]),
        *(jnp.asarray(inputs[name]) for name in ("t", "y")),
    )

    kinds = ("epsilon", "x0", "v")

    @jax.jit
    def backward(params, weights):
        """The network's output, and the gradients of its losses' weighted sum: one compilation serves every loss."""
        output, pull = jax.vjp(lambda p: unet.predict({"params": p}, config, x, t, film), params)
        slope = jax.grad(lambda output: sum(w * loss(output, k)[0] for w, k in zip(weights, kinds, strict=True)))
        return output, pull(slope(output))[0]

    def loss(output, prediction, **options):
        return objectives.diffusion_loss(lambda x, t: output, data, noise, t, betas, prediction=prediction, **options)

    only = dict(zip(kinds, np.eye(3, dtype=np.float32), strict=True))
    x = objectives.diffuse(betas, data, noise, t)
    alpha, sigma = objectives.levels(betas, t, x)
    v = objectives.target("v", betas, data, noise, t)
    eps = objectives.target("epsilon", betas, data, noise, t)
    earlier = objectives.posterior(betas, data, x, t)
    output, grads = backward(params, only["epsilon"])
    out: dict[str, Any] = {
        "x_noisy": first(x),
        "model_output": first(output),
        "v_target": first(v),
        "x0_from_v": first(samplers.convert(v, x, alpha, sigma, source="v", target="x0")),
        "eps_from_v": first(samplers.convert(v, x, alpha, sigma, source="v", target="epsilon")),
        "x0_from_eps": first(samplers.convert(eps, x, alpha, sigma, source="epsilon", target="x0")),
        "posterior_mean": first(earlier.mean),
        "posterior_variance": earlier.variance,
        "posterior_log_variance_clipped": earlier.log_variance,
        "sched/betas": betas[::37],
        "sched/alphas_cumprod": samplers.signal_power(betas)[::37],
        "sched/sqrt_one_minus_alphas_cumprod": np.sqrt(1 - samplers.signal_power(betas))[::37],
        "sched/posterior_variance": objectives.posterior_variances(betas)[::37],
        "sched/posterior_log_variance_clipped": np.log(np.maximum(objectives.posterior_variances(betas), 1e-20))[::37],
    }
    for short, prediction in (("eps", "epsilon"), ("x0", "x0"), ("v", "v")):
        value, metrics = loss(output, prediction)
        of_loss = grads if short == "eps" else backward(params, only[prediction])[1]
        slopes, norms = _slopes(of_loss, config, case, keys)
        weights = objectives.bound_weights(betas, prediction)
        out |= {f"{short}/loss": value, f"{short}/grad_norms": norms, f"{short}/lvlb_weights_t": weights[inputs["t"]]}
        out |= {f"{short}/{name}": x for name, x in metrics.items()}
        out[f"sched/lvlb_weights_{short}"] = weights[::37]
        if short == "eps":
            out |= {f"eps/grad/{key}": x for key, x in slopes.items()}
    uneven = {"log_variance": np.linspace(-0.5, 0.8, 1000), "simple_weight": 0.7, "bound_weight": 0.3}
    out["eps_l1/loss"] = loss(output, "epsilon", norm="l1")[0]
    out["eps_weighted/loss"] = loss(output, "epsilon", **uneven)[0]

    def rate(step):
        return case["config"]["base_learning_rate"] * linear_warm_up(step, 2, 10**6)

    tx = adamw(rate, weight_decay=0.01)
    decay = ema_warm_up(case["config"]["ema_decay"])

    @jax.jit
    def update(params, opt, ema, grads, number):
        updates, opt = tx.update(grads, opt, params)
        params = jax.tree.map(jnp.add, params, updates)
        return params, opt, jax.tree.map(lambda a, p: p + decay(number) * (a - p), ema, params)

    opt, ema, losses = tx.init(params), params, []
    for number in (1, 2, 3):
        if number > 1:
            output, grads = backward(params, only["epsilon"])
        losses.append(loss(output, "epsilon")[0])
        params, opt, ema = update(params, opt, ema, grads, number)
    named = {key: keys[key] for key in case["named_parameters"]}
    averages = {key: name for name, key in unet.ema_names(_with_averages(keys)).items()}
    trained, averaged = (_torch_names(tree, config, named) for tree in (params, ema))
    out |= {f"train3/param/{key}": thin(x) for key, x in trained.items()}
    out |= {f"train3/ema/{averages[key]}": thin(x) for key, x in averaged.items()}
    out |= {"train3/losses": losses, "train3/lrs": [rate(k) for k in range(3)], "train3/num_updates": opt[0].count}
    return {name: np.asarray(x) for name, x in out.items()}


def _with_averages(keys: Mapping) -> list[str]:
    """The keys of a checkpoint that holds averages beside these weights."""
    return [*keys, *("model_ema." + key.removeprefix("model.").replace(".", "") for key in keys)]


def flowsep_training(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """The flow's loss and gradients, and two AdamW steps on one batch."""
    config = dataclasses.replace(unet.FLOWSEP_UNET, channels=(64, 128, 192, 320))
    params = unet_params(case, keys, config, ORIGINAL)["params"]
    data, noise, mixture = (last(inputs[name]) for name in ("z", "noise", "mix_latent"))
    t, context, mask = (jnp.asarray(inputs[name]) for name in ("t", "context", "context_mask"))
    smallest = case["config"]["sigma_min"]

    def loss(params):
        made = {}

        def network(x, t):
            x = jnp.concatenate([x, mixture], -1)
            made["out"] = unet.predict({"params": params}, config, x, t, contexts=[context], masks=[mask])
            return made["out"][..., :8]

        value, metrics = objectives.flow_loss(network, data, noise, t, smallest=smallest)
        return value, (metrics, made["out"])

    tx = adamw(case["config"]["lr"], weight_decay=0.01)

    @jax.jit
    def step(params, opt):
        (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt = tx.update(grads, opt, params)
        return jax.tree.map(jnp.add, params, updates), opt, value, aux, grads

    x, velocity = objectives.flow_point(data, noise, t, smallest)
    once, opt, value, (metrics, output), grads = step(params, tx.init(params))
    twice, _, second, _, _ = step(once, opt)
    slopes, norms = _slopes(grads, config, case, keys)
    out = {
        "x_t": first(x),
        "target": first(velocity),
        "unet_output16": first(output),
        "loss": value,
        **metrics,
        "grad_norms": norms,
        "losses2": np.stack([value, second]),
        **{f"grad/{key}": slope for key, slope in slopes.items()},
    }
    stored = {key: keys[key] for key in keys if f"step2/{key}" in inputs}
    out |= {f"step2/{key}": thin(x) for key, x in _torch_names(twice, config, stored).items()}
    return {name: np.asarray(x) for name, x in out.items()}


CASES = {
    "audioldm_s_unet_original": original(unet.AUDIOLDM_S_UNET),
    "audioldm_s_unet_diffusers": diffusers(unet.AUDIOLDM_S_UNET),
    "audioldm_m_unet_original": original(unet.AUDIOLDM_M_UNET),
    "audioldm_l_unet_original": original(unet.AUDIOLDM_L_UNET),
    "audioldm_48k_unet_original": original(unet.AUDIOLDM_48K_UNET),
    "audioldm_16k_crossattn_t5_unet_original": original(unet.AUDIOLDM_CROSSATTN_T5_UNET),
    "audioldm2_unet_base_original": original(unet.AUDIOLDM2_BASE_UNET),
    "audioldm2_unet_base_diffusers": diffusers(unet.AUDIOLDM2_BASE_UNET),
    "audioldm2_unet_large_small_mc64_original": original(
        dataclasses.replace(unet.AUDIOLDM2_LARGE_UNET, channels=(64, 128, 192, 320))
    ),
    "flowsep_unet": flowsep,
    "audioldm_train_loss": audioldm_training,
    "flowsep_train_loss": flowsep_training,
    "t5_small_random": t5_encoder,
    "flan_t5_large": t5_encoder,
}

BY_HAND = {
    "flowsep_train_loss",  # its backward pass takes as long to compile as that of audioldm_train_loss, which is run
    "audioldm_s_unet_diffusers",  # the numbers of audioldm_s_unet_original; test_unet.py sees to the other names
    "audioldm_m_unet_original",
    "audioldm_l_unet_original",
    "audioldm_48k_unet_original",
    "audioldm_16k_crossattn_t5_unet_original",
    "audioldm2_unet_base_original",
    "audioldm2_unet_base_diffusers",
    "audioldm2_unet_large_small_mc64_original",
    "flowsep_unet",
    "flan_t5_large",
}
"""Kept, and run with `python -m tests.parity`, but too large for every run of the tests."""
