"""Golden cases of one training step of DAC and SD-Codec: the discriminator's update, then the generator's."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxaudio.convert.rules import convert, prefixed, to_torch
from jaxaudio.dsp.distances import mel_distance, stft_distance
from jaxaudio.nn import spectral_discriminators as critics, weight_norm
from jaxaudio.nn.spectral_discriminators import BandConfig
from jaxaudio.systems import dac, sdcodec
from jaxaudio.train.codec import codec_losses, dac_terms, least_squares_critic
from jaxaudio.train.optim import adamw
from jaxaudio.train.step import clipped
from tests.golden.cases.dac import Arrays, config_of as dac_config, first
from tests.golden.cases.sdcodec import config_of as sdcodec_config
from tests.golden.weights import state_dict_of

_CRITIC = "discriminator."


def _step(
    case: Mapping,
    keys: Mapping,
    inputs: Arrays,
    target: Any,
    rules: tuple,
    generate: Callable[[Any, Any], tuple[dict[str, jax.Array], Any]],
    batch: dict[str, jax.Array],
    *,
    mel_rate: int,
    clip: tuple[float, float],
    **discriminator: Any,
) -> tuple[dict[str, Any], dict[str, jax.Array], Any]:
    """Stored numbers that both codecs have in common; what `generate` made; and what it says besides.

    `clip` holds the norms that gradients of the discriminators and of the generator are scaled down to.
    """
    config = BandConfig(
        periods=tuple(case["config"]["discriminator"]["periods"]),
        windows=tuple(case["config"]["discriminator"]["fft_sizes"]),
        **discriminator,
    )
    state = state_dict_of(keys, case)
    critic_rules = prefixed(r"discriminator\.", critics.BAND_WEIGHTS)
    judges = jax.eval_shape(lambda: critics.init(jax.random.key(0), config))
    params = {
        "g": convert({k: x for k, x in state.items() if not k.startswith(_CRITIC)}, rules, target)["params"],
        "d": convert({k: x for k, x in state.items() if k.startswith(_CRITIC)}, critic_rules, judges)["params"],
    }
    losses = codec_losses(
        lambda p, _, batch, *__: generate({"params": p}, batch), dac_terms(mel_rate), least_squares_critic(config)
    )
    tx = adamw(1e-4, b1=0.8, b2=0.99, weight_decay=0.01)

    def updated(params: Any, slopes: Any, limit: float) -> tuple[Any, jax.Array]:
        slopes, norm = clipped(slopes, limit)
        updates, _ = tx.update(slopes, tx.init(params), params)
        return optax.apply_updates(params, updates), norm

    @jax.jit
    def run(params: Any, batch: Any) -> Any:  # arrays that are not arguments are constants, and folded at length
        made, pull, extra = jax.vjp(lambda p: losses.generate(p, {}, batch, None, None), params["g"], has_aux=True)
        _, (before, _) = losses.generator_loss(made, params["d"], {}, {}, None, None)
        judge = jax.value_and_grad(losses.discriminator_loss, has_aux=True)
        (judged, _), d_slopes = judge(params["d"], {}, made, {}, None, None)
        d_after, d_norm = updated(params["d"], d_slopes, clip[0])
        please = jax.value_and_grad(losses.generator_loss, has_aux=True)
        (loss, (metrics, _)), slope = please(made, d_after, {}, {}, None, None)
        g_slopes = pull(slope)[0]
        g_after, g_norm = updated(params["g"], g_slopes, clip[1])
        pair = made["reference"], made["estimate"]
        values = {
            "gen_loss_before_d_update": before["adversary"],
            "feat_loss_before_d_update": before["features"],
            "disc_loss": judged,
            "grad_norm_d": d_norm,
            "mel_loss": metrics["mel"],
            "mel_loss_correct_16k_basis": jnp.mean(mel_distance(*pair, 16000)),
            "stft_loss": jnp.mean(stft_distance(*pair)),
            "waveform_loss": jnp.mean(jnp.abs(pair[0] - pair[1])),
            "adv_gen_loss": metrics["adversary"],
            "adv_feat_loss": metrics["features"],
            "commitment_loss": made["commitment"],
            "codebook_loss": made["codebook"],
            "loss": loss,
            "grad_norm_g": g_norm,
        }
        return values, made, extra, (d_slopes, d_after), (g_slopes, g_after)

    values, made, extra, of_critic, of_generator = run(params, batch)
    out: dict[str, Any] = dict(values)
    for side, (slopes, after), names in (("d", of_critic, critic_rules), ("g", of_generator, rules)):
        slopes, after = (to_torch({"params": tree}, names, keys) for tree in (slopes, after))
        order = case["grad_norm_order"][f"{side}_grad_norms"]
        order = order["dev"] if isinstance(order, Mapping) else order  # the other inputs' is the same
        out[f"{side}_grad_norms"] = [np.linalg.norm(slopes[key]) for key in order]
        for kind, tensors in (("grad", slopes), ("param_after", after)):
            for name in (name for name in inputs if name.startswith(f"{side}_{kind}:")):
                out[name] = tensors[name.split(":")[1]].ravel()[:: case["strides"].get(name, 1)]
    return out, made, extra


def dac_train_step(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """With quantiser dropout as the original draws it."""
    config = dac_config(case["config"]["generator"])
    target = jax.eval_shape(lambda: dac.normalized(dac.init(jax.random.key(0), config)))
    batch = {"audio": jnp.asarray(inputs["audio"][:, 0]), "limits": jnp.asarray(inputs["n_quantizers_per_item"])}

    def generate(params: Any, batch: Any) -> Any:
        made = dac.reconstruct(params, config, batch["audio"], batch["limits"])
        return {
            "reference": batch["audio"][:, : made.audio.shape[1]],
            "estimate": made.audio,
            "commitment": made.commitment,
            "codebook": made.codebook,
        }, made.quantized

    rules = weight_norm.split_rules(dac.WEIGHTS)
    clip = case["config"]["clip"]["d"], case["config"]["clip"]["g"]
    out, made, quantized = _step(
        case, keys, inputs, target, rules, generate, batch, mel_rate=config.sample_rate, clip=clip
    )
    out |= {"recon": made["estimate"][:, None], "codes": first(quantized.codes), "z": first(quantized.z)}
    return {name: np.asarray(x) for name, x in out.items() if name in inputs}


def sdcodec_train_step(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """With given sources in the mixture and given swaps; the mel filters are those of another rate, as published."""
    config = sdcodec_config({**case["config"]["model"]})
    target = jax.eval_shape(lambda: sdcodec.normalized(sdcodec.init(jax.random.key(0), config)))
    sources = {t: jnp.asarray(inputs[f"src_{t}"][:, 0]) for t in config.tracks}
    # The order of what is decoded is that of the targets.
    valid = [
        t for row in inputs["ref"].swapaxes(0, 1)[1:, :, 0] for t in config.tracks if np.array_equal(sources[t], row)
    ]
    assert sorted(valid) == sorted(t for t, on in zip(config.tracks, inputs["valid_mask"], strict=True) if on)
    mixture = jnp.asarray(inputs["mix"][:, 0])
    items = jnp.arange(len(mixture))
    swaps = jnp.stack([inputs[f"shuffle_{t}"] if inputs["random_swap"] else items for t in config.tracks])
    mix = sum(sources[t][swaps[config.tracks.index(t)]] for t in valid)
    reference = jnp.stack([mix, *(sources[t] for t in valid)], 1)
    present = jnp.tile(jnp.asarray(inputs["valid_mask"], jnp.float32), (len(mixture), 1))

    rows = jnp.tile(jnp.array([0, *(1 + config.tracks.index(t) for t in valid)]), (len(mixture), 1))
    batch = {"mixture": mixture, "present": present, "swaps": swaps, "reference": reference}

    def generate(params: Any, batch: Any) -> Any:
        mixture, present, swaps, reference = (batch[name] for name in ("mixture", "present", "swaps", "reference"))
        made = sdcodec.reconstruct(params, config, mixture, present, swaps=swaps, rows=rows)
        losses = {"commitment": made.commitment, "codebook": made.codebook}
        flat = {name: x.reshape(-1, x.shape[2]) for name, x in (("reference", reference), ("estimate", made.audio))}
        return {**flat, **losses}, (made.audio, made.codes, made.perplexity)

    rules = weight_norm.split_rules(sdcodec.WEIGHTS)
    clip = (case["config"]["clip"],) * 2
    out, _, (estimate, codes, used) = _step(
        case, keys, inputs, target, rules, generate, batch, mel_rate=44100, clip=clip, alignment="centred"
    )
    out |= {"recon": estimate[:, :, None], "ref": reference[:, :, None]}
    for i, track in enumerate(config.tracks):
        out |= {f"{track}_codes": first(codes[:, :, i]), f"{track}_ppl": used[i]}
    return {name: np.asarray(x) for name, x in out.items() if name in inputs}


CASES = {
    "dac_train_step": dac_train_step,
    "sdcodec_train_step_shared0": sdcodec_train_step,
    "sdcodec_train_step_shared2": sdcodec_train_step,
}

BY_HAND = {"sdcodec_train_step_shared0", "sdcodec_train_step_shared2"}
"""Kept, and run with `python -m tests.parity`, for they take minutes to compile.

All losses, waveforms and codes agree to 1e-6; gradients of the generator to 1.4e-4 (shared0) and 2.2e-3 (shared2),
which is rounding in the slopes of logarithms of quiet mel bands, see `dac_train_step` in test_cases.py.
"""
