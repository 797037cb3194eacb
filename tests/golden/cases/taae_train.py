"""Golden case of one training step of the transformer autoencoder, its head for phonemes and its discriminators."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert, prefixed, to_torch
from jaxaudio.dsp.distances import Resolution, mel_distance, resolution_distance
from jaxaudio.metrics.wer import edits
from jaxaudio.nn import spectral_discriminators as critics
from jaxaudio.nn.spectral_discriminators import SpectrumConfig
from jaxaudio.nn.weight_norm import fuse
from jaxaudio.quantize import fsq
from jaxaudio.systems import taae
from jaxaudio.text.ctc import greedy
from jaxaudio.train.codec import codec_losses, compared, hinge_critic, recognised
from tests.golden.cases.taae import config_of
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]

_CRITIC = "discriminator."


def _terms(case: Mapping, sample_rate: int) -> dict:
    """The original's, which exchanges the two signals where that makes a difference."""
    c, weights = case["config"], case["config"]["weights"]
    spectral, mels = c["spectral"], c["mrmel"]
    shapes = zip(spectral["fft_sizes"], spectral["hop_sizes"], spectral["win_lengths"], strict=True)
    options = {"windows": mels["window_lengths"], "bands": mels["n_mels"]}
    resolutions = [Resolution(*shape) for shape in shapes]

    def exchanged(a: jax.Array, b: jax.Array) -> jax.Array:
        weighted = spectral["perceptual_weighting"]
        return resolution_distance(b, a, resolutions=resolutions, sample_rate=sample_rate, a_weighted=weighted)

    return {
        "mrstft": compared(weights["mrstft"], exchanged),
        "mrmel": compared(weights["mrmel"], lambda a, b: mel_distance(a, b, sample_rate, **options)),
        "l1_time": compared(weights["l1"], lambda a, b: jnp.mean(jnp.abs(a - b), -1)),
        "l2_time": compared(weights["l2"], lambda a, b: jnp.mean(jnp.square(a - b), -1)),
        "ctc": recognised(weights["ctc"], c["ctc_blank"]),
    }


def taae_train_step(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """All terms of both sides' losses and their gradients, for given draws of the noise that stands for rounding."""
    c, weights = case["config"], case["config"]["weights"]
    config = dataclasses.replace(config_of(c["model"]), phonemes=c["projection_head"]["proj_head_dim"])
    shapes = c["discriminator"]
    spectra = SpectrumConfig(
        channels=shapes["filters"], windows=tuple(shapes["n_ffts"]), hops=tuple(shapes["hop_lengths"])
    )
    state, judge_rules = state_dict_of(keys, case), prefixed(r"discriminator\.", critics.SPECTRUM_WEIGHTS)
    target = jax.eval_shape(lambda: taae.weight_normed(taae.init(jax.random.key(0), config)))
    judges = jax.eval_shape(lambda: critics.init(jax.random.key(0), spectra))
    ours = {key: x for key, x in state.items() if not key.startswith(_CRITIC)}
    theirs = {key: x for key, x in state.items() if key.startswith(_CRITIC)}
    generator = convert(ours, taae.WEIGHT_NORM_WEIGHTS, target)["params"]
    critic = convert(theirs, judge_rules, judges)["params"]
    audio = jnp.asarray(inputs["audio"][:, 0])
    kept, quiet = (jnp.asarray(inputs[f"fsq_mask{i}"]).reshape(-1) > 0 for i in (1, 2))
    batch = {"labels": inputs["ctc_targets"], "label_lengths": inputs["ctc_target_lengths"]}
    quantizer = taae.quantizer(config)

    def generate(params: Any, *_: Any) -> tuple[dict[str, jax.Array], Any]:
        variables = fuse({"params": params})
        latents = taae.encode(variables, config, audio)
        values = fsq.dithered(latents, quantizer, kept, quiet, jnp.asarray(inputs["fsq_u"])[:, :, 0])
        logits = taae.phonemes(variables, config, latents)
        decoded = taae.decode(variables, config, values, audio.shape[1])
        return {"reference": audio, "estimate": decoded, "logits": logits}, (latents, values)

    judged_by = hinge_critic(spectra)._replace(
        generator_weight=weights["adversarial"], feature_weight=weights["feature_matching"]
    )
    terms = _terms(case, config.sample_rate)
    losses = codec_losses(generate, terms, judged_by)

    @jax.jit
    def run(generator: Any, critic: Any) -> Any:
        made, pull, (latents, values) = jax.vjp(losses.generate, generator, has_aux=True)
        judge = jax.value_and_grad(losses.discriminator_loss, has_aux=True)
        (judged, _), d_slopes = judge(critic, {}, made, {}, None, None)
        please = jax.value_and_grad(losses.generator_loss, has_aux=True)
        (loss, (metrics, _)), slope = please(made, critic, {}, batch, None, None)
        of_ctc = jax.grad(lambda made: terms["ctc"].value(made, batch))(made)
        rounded = fsq.quantize(latents, quantizer)
        return made, (latents, values), judged, d_slopes, loss, metrics, pull(slope)[0], pull(of_ctc)[0], rounded

    made, (latents, values), judged, d_slopes, loss, metrics, g_slopes, ctc_slopes, rounded = run(generator, critic)
    out: dict[str, Any] = {
        "latents": values.swapaxes(1, 2),
        "pre_bottleneck": latents.swapaxes(1, 2),
        "indices": fsq.nearest(values, quantizer),
        "decoded": made["estimate"][:, None],
        "ctc_logits": made["logits"],
        "loss_dis": judged,
        "loss_adv_raw": metrics["adversary"],
        "feature_matching_raw": metrics["features"],
        "loss": loss,
        "w_loss_adv": weights["adversarial"] * metrics["adversary"],
        "w_feature_matching_loss": weights["feature_matching"] * metrics["features"],
        **{f"w_{name}_loss": term.weight * metrics[name] for name, term in terms.items()},
        "data_std": np.std(audio, ddof=1),
        "latent_std": np.std(values, ddof=1),
        "eval_latents": rounded[0].swapaxes(1, 2),
        "eval_indices": rounded[1],
    }
    found, counts = (
        np.asarray(x) for x in greedy(made["logits"], np.full(len(audio), latents.shape[1]), c["ctc_blank"])
    )
    rows = zip(found, counts, batch["labels"], batch["label_lengths"], strict=True)
    out["per"] = np.mean([edits(list(labels[:n]), list(heard[:m])).error_rate for heard, m, labels, n in rows])

    of_generator = to_torch({"params": g_slopes}, taae.WEIGHT_NORM_WEIGHTS, keys)
    of_critic = to_torch({"params": d_slopes}, judge_rules, keys)
    of_ctc = to_torch({"params": ctc_slopes}, taae.WEIGHT_NORM_WEIGHTS, keys)
    out["ctc_only_grad_decoder_is_none"] = all(not np.any(x) for key, x in of_ctc.items() if key.startswith("decoder."))
    sides = {"g_grad": of_generator, "head_grad": of_generator, "d_grad": of_critic, "ctc_only_grad": of_ctc}
    for kind, slopes in sides.items():
        order = case["grad_norm_order"].get(f"{kind}_norms")
        if order:
            out[f"{kind}_norms"] = [np.linalg.norm(slopes[key]) for key in order]
        for name in (name for name in inputs if name.startswith(f"{kind}:")):
            out[name] = slopes[name.split(":")[1]].ravel()[:: case["strides"].get(name, 1)]
    return {name: np.asarray(x) for name, x in out.items()}


CASES = {"taae_train_step": taae_train_step}
