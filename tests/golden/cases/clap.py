"""Golden cases of CLAP: ours on a case's inputs, results under the original's names and strides."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio import dsp
from jaxaudio.convert.rules import convert, prefixed
from jaxaudio.text import bert, clap, roberta
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]

_PRESETS = {"base": clap.HTSAT_BASE_ROBERTA, "tiny": clap.HTSAT_TINY_ROBERTA}


def _load(case: Mapping, keys: Mapping, prefix: str, classes: int | None = None) -> tuple[clap.Config, Any]:
    """The case's configuration and its filled, converted weights."""
    config = _PRESETS[case["config"]["audio_cfg"]["model_name"]]
    config = dataclasses.replace(config, audio=dataclasses.replace(config.audio, classes=classes))
    rules = prefixed(re.escape(prefix), clap.weights(config))
    target = jax.eval_shape(lambda: clap.init(jax.random.key(0), config))
    return config, convert(state_dict_of(keys, case), rules, target)


def _text(params: Any, config: clap.Config, inputs: Arrays) -> dict[str, jax.Array]:
    @jax.jit
    def run(params, ids, mask):
        out = roberta.encode({"params": params["params"]["text_branch"]}, config.text, ids, mask)
        projected = roberta.project({"params": params["params"]["text_projection"]}, out["pooler_output"])
        embedding = clap.text_embedding(params, config, ids, mask)
        return out["last_hidden_state"], out["pooler_output"], projected, embedding

    ids, mask = (jnp.asarray(inputs[name], jnp.int32) for name in ("input_ids", "attention_mask"))
    hidden, pooled, projected, embedding = run(params, ids, mask)
    return {
        "text_last_hidden_s": hidden[..., ::4],
        "text_pooler": pooled,
        "text_proj": projected,
        "text_embed": embedding,
    }


def _tokens(x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1, x.shape[-1])


def both_branches(prefix: str) -> Callable[[Mapping, Mapping, Arrays], dict[str, np.ndarray]]:
    """Text, and audio at 48 kHz by the "repeatpad" rule."""

    def run_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        config, params = _load(case, keys, prefix, classes=case["config"]["audio_cfg"]["class_num"])

        @jax.jit
        def run(params, audio):
            mel = clap.log_mel(config, clap.pad_or_crop(audio))
            out = clap.encode_audio(params, config, mel)
            return {
                "logmel": mel[:, None, ::4],
                "patch_embed_s": _tokens(out["patch_embed"])[:, ::64, ::4],
                "layer0_s": _tokens(out["layers_0"])[:, ::16, ::8],
                "htsat_embedding": out["embedding"],
                "clipwise_logit_sigmoid": out["clipwise"],
                "audio_embed": clap.audio_embedding(params, config, audio),
            }

        out = run(params, jnp.asarray(inputs["audio_raw"])[None]) | _text(params, config, inputs)
        return {name: np.asarray(x) for name, x in out.items()}

    return run_case


def preprocessing(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """16 kHz in, resampled; AudioLDM's and AudioLDM 2's length rules; ranking of three clips by a sentence."""
    config, params = _load(case, keys, "clap.model.")

    @jax.jit
    def embed(params, mel):
        features = clap.encode_audio(params, config, mel)["embedding"]
        return features[0], bert.unit(roberta.project({"params": params["params"]["audio_projection"]}, features))[0]

    waves = {
        "short": inputs["wave16_short"],
        "clip1024": inputs["wave16_long"][:163840],
        "long": inputs["wave16_long"],
    }
    ours: dict[str, Any] = {"text_embed": _text(params, config, inputs)["text_embed"]}
    for name, wave in waves.items():
        audio = dsp.resample(jnp.asarray(wave)[None], 16000, 48000)
        ours |= {f"{name}/n48": audio.shape[1], f"{name}/wave48_s": audio[0, ::37]}
        start = int(inputs.get(f"{name}/v1_crop_start", 0))  # drawn at random by the original
        if audio.shape[1] > config.clip_samples:
            ours[f"{name}/v1_crop_start"] = start
        clips = {
            "v1": clap.pad_or_crop(audio[:, start : start + config.clip_samples]),
            "v2": clap.pad_or_crop(audio, "stretch"),
        }
        for version, clip in clips.items():
            mel = clap.log_mel(config, clip)
            features, embedding = embed(params, mel)
            ours |= {
                f"{name}/{version}_n": clip.shape[1],
                f"{name}/{version}_logmel_s": mel[0, ::8],
                f"{name}/{version}_htsat": features,
                f"{name}/{version}_embed": embedding,
            }
    similarity = jnp.stack([ours[f"{name}/v2_embed"] for name in waves]) @ ours["text_embed"][0]
    ours |= {"v2_similarity": similarity, "v2_best": jnp.argmax(similarity)}
    return {name: np.asarray(x) for name, x in ours.items()}


CASES: dict[str, Callable[[Mapping, Mapping, Arrays], dict[str, np.ndarray]]] = {
    "clap_htsat_base_roberta": both_branches("query_encoder.model."),
    "clap_htsat_tiny_roberta": both_branches("cond_stage_model.model."),
    "clap_htsat_base_preprocessing": preprocessing,
}
