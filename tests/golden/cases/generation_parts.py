"""Golden cases of the parts of generation: autoencoders, vocoders and their mel front-ends."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxaudio.convert.rules import Rule, convert, prefixed, to_torch
from jaxaudio.dsp import front_ends, mel
from jaxaudio.dsp.distances import log_mel_distance
from jaxaudio.nn import autoencoder, bigvgan, discriminators, hifigan
from jaxaudio.train import adversarial, create, ema_warm_up, make_step
from jaxaudio.train.optim import linear_warm_up
from jaxaudio.train.vae import vae_losses
from jaxaudio.train.vocoder import judge
from tests.golden.cases.audiosep import thin
from tests.golden.weights import state_dict_of
from tests.precision import double_precision

Arrays = Mapping[str, np.ndarray]
Runner = Callable[[Mapping, Mapping, Arrays], dict[str, np.ndarray]]

_STAGE, _VOCODER = r"first_stage_model\.", r"first_stage_model\.vocoder\."


def _params(init: Callable, config: Any, rules: tuple[Rule, ...], keys: Mapping, case: Mapping) -> Any:
    target = jax.eval_shape(lambda: init(jax.random.key(0), config))
    return convert(state_dict_of(keys, case), rules, target)


def _arrays(made: Mapping) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in made.items()}


def _first(x: jax.Array) -> jax.Array:
    """Channels first, as the originals have them."""
    return jnp.moveaxis(x, -1, 1)


def _last(x: np.ndarray) -> jax.Array:
    return jnp.moveaxis(jnp.asarray(x), 1, -1)


def vae(config: autoencoder.Config, prefix: str = "", stride: int = 8) -> Runner:
    """Both halves of an autoencoder with their intermediates."""

    def run_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        params = _params(autoencoder.init, config, prefixed(prefix, autoencoder.weights(config)), keys, case)

        @jax.jit
        def run(params, mel, z):
            read = autoencoder.encode_intermediates(params, config, mel)
            wrote = autoencoder.decode_intermediates(params, config, z)
            return {
                **{name: _first(read[name]) for name in ("moments", "mean", "logvar")},
                "enc_mid_attn": _first(read["attention"])[:, ::stride],
                "dec_mid_attn": _first(wrote["attention"])[:, ::stride],
                "dec_mel": _first(wrote["mel"]),
                "recon": _first(wrote["mel"]),
            }

        return _arrays(run(params, _last(inputs["mel"]), _last(inputs["z"])))

    return run_case


def vocoder(module: Any, config: hifigan.Config, prefix: str = "", *, channels_first: bool = False) -> Runner:
    """A vocoder, with what its upsampling adds at the end."""

    def run(params: Any, mels: jax.Array) -> dict[str, np.ndarray]:
        made = jax.jit(lambda p, x: module.intermediates(p, config, x))(
            params, mels.swapaxes(1, 2) if channels_first else mels
        )
        out = {"wav": made["waveform"][:, None] if channels_first else made["waveform"]}
        if channels_first:
            out |= {
                "conv_pre_s": _first(made["conv_pre"])[:, ::8],
                "up0_s": _first(made["ups_0"])[:, ::8],
                "resblock0_s": 3 * _first(made["stage_0"])[:, ::8],  # the sum of the three: they add up in place
                "conv_post": _first(made["conv_post"]),
            }
        return _arrays(out)

    def run_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        params = _params(module.init, config, prefixed(prefix, module.WEIGHTS), keys, case)
        if "f64/wav" not in inputs:
            return run(params, jnp.asarray(inputs["mel"]))
        with double_precision():
            params, mels = jax.tree.map(lambda x: jnp.asarray(x, np.float64), (params, inputs["mel"]))
            return {f"f64/{name}": x for name, x in run(params, mels).items()}

    return run_case


def log_mel(config: mel.MelConfig) -> Runner:
    """A mel front-end on one clip; frames last in FlowSep's case."""

    def run_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        wav = jnp.asarray(inputs["wav"])
        if "wav_norm" not in inputs:
            magnitude = mel.spectrogram(wav, config)
            return _arrays(
                {
                    "log_mel": mel.log_mel(wav, config),
                    "energy": jnp.linalg.norm(magnitude, axis=-1),
                    "log_mag": jnp.log(jnp.maximum(magnitude, config.floor))[::8],
                }
            )
        normal = front_ends.level(wav)
        magnitude = mel.spectrogram(normal, config)
        return _arrays(
            {
                "wav_norm": normal,
                "logmel": mel.log_mel(normal, config).T,
                "mag_s": magnitude.T[::4, ::4],
                "energy": jnp.linalg.norm(magnitude, axis=-1),
            }
        )

    return run_case


def vae_train_loss(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Both losses of the autoencoder's training, before and after the adversary's start, and their gradients.

    Values are those of our own reconstruction. Gradients, and the adaptive weight made of them, are taken at the stored
    one, to the bit: leaky ReLUs and batch statistics make up to 6e-3 of the millionth between the two.
    """
    config, state = autoencoder.AUDIOLDM_16K, state_dict_of(keys, case)
    rules, critic_rules = (
        autoencoder.weights(config),
        prefixed(r"loss\.discriminator\.", discriminators.patch_weights(_PATCH)),
    )
    own = {key: x for key, x in state.items() if not key.startswith("loss.")}
    params = convert(own, rules, jax.eval_shape(lambda: autoencoder.init(jax.random.key(0), config)))["params"]
    critic_keys = [key for key in keys if key.startswith("loss.discriminator")]
    target = jax.eval_shape(lambda: discriminators.init_patches(jax.random.key(0), _PATCH))
    critic = convert({key: state[key] for key in critic_keys}, critic_rules, target)
    extra = {"generator": {}, "discriminator": {"batch_stats": critic["batch_stats"]}}

    @jax.jit
    def run(params, critic, logvar, batch, stored, move):
        def losses(logvar):
            return vae_losses(config, _PATCH, logvar=logvar)

        @jax.custom_jvp
        def moved(x):
            return jnp.where(move > 0, stored, x)

        moved.defjvp(lambda at, slope: (moved(*at), *slope))

        def seen(made):
            """The reconstruction as it is made where `move` is 0, the stored one, to the bit, where it is 1."""
            return {**made, "mel": moved(made["mel"])}

        made, _ = losses(0.0).generate(params, extra, batch, None, None)

        def total(params, logvar):
            made, extra_ = losses(logvar).generate(params, extra, batch, None, None)
            return losses(logvar).generator_loss(seen(made), critic, extra_, batch, None, None)

        def judged(critic):
            return losses(0.0).discriminator_loss(critic, extra, seen(made), batch, None, None)

        (value, (metrics, _)), (slopes, of_logvar) = jax.value_and_grad(total, (0, 1), has_aux=True)(params, logvar)
        (judgement, (critic_metrics, new)), critic_slopes = jax.value_and_grad(judged, has_aux=True)(critic)
        return made, value, metrics, slopes, of_logvar, judgement, critic_metrics, new, critic_slopes

    batch = {name: _last(inputs[stored]) for name, stored in (("mel", "mel"), ("noise", "posterior_noise"))}
    stored = _last(inputs["reconstruction"])
    out: dict[str, Any] = {}
    for when, step in (("before", 1000), ("after", 60000)):
        given = (params, critic["params"], state["loss.logvar"], {**batch, "step": jnp.asarray(step)}, stored)
        made, value, metrics, _, _, judgement, critic_metrics, new, _ = run(*given, 0.0)
        _, _, at_stored, slopes, of_logvar, _, _, _, critic_slopes = run(*given, 1.0)
        grads = {**to_torch({"params": slopes}, rules, keys), "loss.logvar": np.asarray(of_logvar)}
        named = case["named_parameters"]
        out |= {
            f"{when}/kl_loss": metrics["kl"],
            f"{when}/nll_loss": metrics["nll"],
            f"{when}/rec_loss": metrics["error"],
            f"{when}/d_weight": at_stored["adversary_weight"],
            f"{when}/g_loss": metrics["adversary"],
            f"{when}/total_loss": value,
            f"{when}/disc_loss": judgement,
            f"{when}/logits_real_mean": critic_metrics["logits_real"],
            f"{when}/logits_fake_mean": critic_metrics["logits_fake"],
            **{f"{when}/ae_grad/{key}": thin(grads[key]) for key in named},
            f"{when}/ae_grad_norms": [np.linalg.norm(grads[key]) for key in named],
        }
    critic_grads = to_torch({"params": critic_slopes}, critic_rules, keys)
    out |= {f"disc_grad/{key}": thin(critic_grads[key]) for key in case["discriminator_parameters"]}
    stats = to_torch(new["discriminator"], critic_rules, keys)
    out |= {f"bn_after_disc_pass/{key}": x for key, x in stats.items()}

    @functools.partial(jax.jit, static_argnums=2)
    def logits(stats, x, train):
        variables = {"params": critic["params"], **stats}
        made, _ = discriminators.PatchGAN(_PATCH).apply(variables, x, train, mutable=["batch_stats"])
        return _first(made)

    updated = new["discriminator"]
    real, fake = (logits(updated, x, True) for x in (batch["mel"], made["mel"]))
    given = (inputs["given_logits_real"], inputs["given_logits_fake"])
    out |= {
        "reconstruction": _first(made["mel"]),
        **{name: _first(made[name]) for name in ("mean", "logvar", "z")},
        "kl_rows": autoencoder.kl(made["mean"], made["logvar"]),
        "disc_train_logits_real": real,
        "disc_train_logits_fake": fake,
        "disc_eval_logits_real": logits(updated, batch["mel"], False),
        "hinge": adversarial.hinge_loss(real, fake),
        "vanilla": adversarial.vanilla_loss(real, fake),
        "given_hinge": adversarial.hinge_loss(*given),
        "given_vanilla": adversarial.vanilla_loss(*given),
        "adaptive_weight": [
            adversarial.adaptive_weight(inputs["adaptive_grad_nll"], g) for g in inputs["adaptive_grad_g"]
        ],
    }
    return _arrays(out)


def hifigan_train_losses(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Every term of HiFi-GAN's losses and gradients: in float32, and in float64 where that is stored."""
    state = state_dict_of(keys, case)
    target = jax.eval_shape(lambda: discriminators.init_waves(jax.random.key(0), discriminators.HIFIGAN))
    critic = convert(state, discriminators.WAVE_WEIGHTS, target)
    single = _hifigan(case, keys, inputs, critic, np.float32)
    if not any(name.startswith("f64/") for name in inputs):
        return single
    with double_precision():
        double = _hifigan(case, keys, inputs, critic, np.float64)
    return {**single, **{f"f64/{name}": x for name, x in double.items()}}


def _hifigan(case: Mapping, keys: Mapping, inputs: Arrays, critic: Any, dtype: Any) -> dict[str, np.ndarray]:
    critic = jax.tree.map(lambda x: jnp.asarray(x, dtype), critic)
    params, extra = critic["params"], {"spectral": critic["spectral"]}
    y, y_hat = (jnp.asarray(inputs[name][:, 0], dtype) for name in ("y", "y_hat"))

    @jax.jit
    def run(params, extra, y, y_hat):
        def first(params):
            judged = judge(discriminators.HIFIGAN, params, extra, y, y_hat)
            return sum(judged.real) + sum(judged.fake), judged

        (_, judged), slopes = jax.value_and_grad(first, has_aux=True)(params)

        def adversary(y_hat):
            judged = judge(discriminators.HIFIGAN, params, first(params)[1].extra, y, y_hat)
            return sum(judged.generator) + sum(judged.features), judged

        def spectral(y_hat):
            return jnp.mean(log_mel_distance(y, y_hat, front_ends.HIFIGAN_16K))

        (_, pleased), of_adversary = jax.value_and_grad(adversary, has_aux=True)(y_hat)
        distance, of_mel = jax.value_and_grad(spectral)(y_hat)
        return judged, slopes, pleased, of_adversary, distance, of_mel

    judged, slopes, pleased, of_adversary, distance, of_mel = run(params, extra, y, y_hat)
    periods = len(discriminators.HIFIGAN.periods)
    grads = to_torch({"params": slopes}, discriminators.WAVE_WEIGHTS, keys)
    sides = {"mpd": slice(periods), "msd": slice(periods, None)}
    out: dict[str, Any] = {
        **{f"loss_disc_{side}": sum(judged.real[s]) + sum(judged.fake[s]) for side, s in sides.items()},
        **{f"loss_fm_{side}": sum(pleased.features[s]) for side, s in sides.items()},
        **{f"loss_gen_{side}": sum(pleased.generator[s]) for side, s in sides.items()},
        **{f"disc_grad/{key}": thin1(grads[key]) for key in case["discriminator_parameters"]},
        "disc_real_losses": judged.real,
        "disc_gen_losses": judged.fake,
        "gen_losses": pleased.generator,
        "mel_l1": distance,
        "loss_mel_x45": 45 * distance,
        "loss_gen_all": sum(pleased.generator) + sum(pleased.features) + 45 * distance,
        "grad_y_hat": (of_adversary + 45 * of_mel)[:, None],
        "grad_y_hat_mel_only": 45 * of_mel[:, None],
        "grad_y_hat_adv_fm_only": of_adversary[:, None],
        "mel_y": mel.log_mel(y, front_ends.HIFIGAN_16K).swapaxes(1, 2)[:, ::2],
        "mel_y_hat": mel.log_mel(y_hat, front_ends.HIFIGAN_16K).swapaxes(1, 2)[:, ::2],
    }
    for i, score in enumerate(judged.real_scores):
        name = f"mpd_score_real_{i}" if i < periods else f"msd_score_real_{i - periods}"
        out[name] = score[:, ::8] if score.shape[1] > 400 else score
    for side, first in (("mpd", 0), ("msd", periods)):
        out |= {f"fmap_real_{side}0_{i}": thin1(np.asarray(_first(pleased.real_features[first][i]))) for i in (0, 3)}
    layer = judged.extra["spectral"]["msd"]["discriminators_0"]["convs_1"]
    out |= {f"spectral_{name}_after_disc_step": layer[name] for name in "uv"}
    return _arrays(out)


def ema_warmup(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Averages that the training step keeps of given updates; warm-up of the learning rate; the scale of latents."""
    out: dict[str, Any] = {"scale_by_std/scale_factor": autoencoder.latent_scale(inputs["scale_by_std/z"])}
    for steps in (2000, 5000):
        given = inputs[f"warmup{steps}/steps"]
        with double_precision():
            out[f"warmup{steps}/lr_f64"] = 1e-4 * np.asarray(linear_warm_up(jnp.asarray(given), steps, 10**9))
    for name, decay, start in (
        ("warm", ema_warm_up(0.9999), 0),
        ("warm999", ema_warm_up(0.999), 0),
        ("late", ema_warm_up(0.9999), 200000),
        ("nowarm", 0.99, 0),
    ):
        if f"{name}/init_a" not in inputs:
            continue
        params = {part: jnp.asarray(inputs[f"{name}/init_{part}"]) for part in ("a", "sub_weight")}
        # A loss that is linear in the parameters, and a step of one against it, move them by what is given.
        tx = optax.sgd(1.0)
        step = jax.jit(make_step(_pushed, tx, ema_decay=decay))
        train_state = create(params, {}, tx, jax.random.key(0), ema=True).replace(step=jnp.asarray(start, jnp.int32))
        for k in range(sum(key.startswith(f"{name}/delta_a_") for key in inputs)):
            push = {"a": inputs[f"{name}/delta_a_{k}"], "sub_weight": -0.1 * train_state.params["sub_weight"]}
            train_state, _ = step(train_state, {part: x[None] for part, x in push.items()})
            out |= {f"{name}/ema_{part}_{k}": train_state.ema[part] for part in push}
    return _arrays(out)


def _pushed(params: Any, extra: Any, batch: Any, key: Any, frozen: Any) -> Any:
    return -sum(jnp.sum(params[name] * batch[name][0]) for name in params), ({}, extra)


def thin1(x: np.ndarray) -> np.ndarray:
    """The part of a large tensor that the vocoder's training case stores."""
    if x.size <= 4096:
        return x
    if x.ndim == 1:
        return x[::8]
    return x[tuple(slice(None, None, max(1, size // 16)) for size in x.shape[:2])]


_PATCH = discriminators.PATCH_GAN
_VAE_16K = vae(autoencoder.AUDIOLDM_16K, _STAGE)

CASES: dict[str, Runner] = {
    "audioldm_vae_original": _VAE_16K,
    "audioldm_vae_diffusers": vae(autoencoder.AUDIOLDM_16K),
    "audioldm_48k_vae_original": vae(autoencoder.AUDIOLDM_48K, _STAGE, stride=16),
    "flowsep_vae": _VAE_16K,
    "audioldm_hifigan_original": vocoder(hifigan, hifigan.AUDIOLDM_16K, _VOCODER),
    "speecht5_hifigan_transformers": vocoder(hifigan, hifigan.AUDIOLDM_16K),
    "audioldm_48k_hifigan_original": vocoder(hifigan, hifigan.AUDIOLDM_48K, _VOCODER),
    "flowsep_bigvgan": vocoder(bigvgan, bigvgan.FLOWSEP, _VOCODER, channels_first=True),
    "audioldm_mel_16k_64": log_mel(front_ends.AUDIOLDM_16K),
    "audioldm_mel_48k_256": log_mel(front_ends.AUDIOLDM_48K),
    "flowsep_mel": log_mel(front_ends.AUDIOLDM_16K),
    "audioldm_vae_train_loss": vae_train_loss,
    "hifigan_train_losses": hifigan_train_losses,
    "ldm_ema_warmup": ema_warmup,
}

BY_HAND = {"audioldm_48k_vae_original", "audioldm_48k_hifigan_original", "flowsep_bigvgan/io_float64"}
"""Kept, and run with `python -m tests.parity`: those of 16 kHz and of float32 are run."""
