"""CLAP (Wu et al., 2023, LAION): sound and sentences in one 512-dimensional space; HTS-AT and RoBERTa with projections.

The query encoder of AudioSep, and the condition and ranking of AudioLDM and AudioLDM 2.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxaudio import dsp
from jaxaudio.convert.rules import Rule, State, convert, prefixed
from jaxaudio.errors import AudioError, UsageError
from jaxaudio.nn import htsat
from jaxaudio.text import bert, roberta

LengthRule = Literal["repeatpad", "stretch"]

_MEL = dsp.MelConfig(sample_rate=48000, n_fft=1024, hop=480, n_mels=64, fmin=50, fmax=14000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A CLAP model.

    Attributes:
      audio: the audio branch.
      text: the text branch, with pooler.
      mel: the log-mel front-end.
      clip_samples: the longest audio that the audio branch sees, 10 s at 48 kHz.
      features: width of the common space.
    """

    audio: htsat.Config = htsat.BASE
    text: bert.Config = roberta.ROBERTA_BASE
    mel: dsp.MelConfig = _MEL
    clip_samples: int = 480000
    features: int = 512


HTSAT_BASE_ROBERTA = Config()  # music_speech_audioset_epoch_15_esc_89.98: AudioSep, AudioLDM-M, AudioLDM 2
HTSAT_TINY_ROBERTA = Config(audio=htsat.TINY)  # inside the checkpoints of AudioLDM-S and -L


def init(key: Array, config: Config) -> dict[str, Any]:
    """Random variables {"params": ..., "batch_stats": ...}; under `jax.eval_shape`, their shapes at no cost."""
    keys = jax.random.split(key, 4)
    audio = htsat.init(keys[0], config.audio)
    projection = roberta.Projection(config.features)

    def head(key: Array, width: int) -> dict[str, Any]:
        return projection.init(key, jnp.zeros((1, width)))["params"]

    params = {
        "audio_branch": audio["params"],
        "text_branch": roberta.init(keys[1], config.text)["params"],
        "audio_projection": head(keys[2], config.audio.features),
        "text_projection": head(keys[3], config.text.hidden_size),
    }
    return {"params": params, "batch_stats": {"audio_branch": audio["batch_stats"]}}


def weights(config: Config) -> tuple[Rule, ...]:
    """Conversion rules for LAION's keys, with or without "module.", and for those of Hugging Face's ClapModel.

    A system whose checkpoint holds CLAP as a part puts `prefixed` around them: AudioSep with "query_encoder.model.".
    """
    unprefixed = (
        Rule(r"logit_scale_[at]", None),  # temperatures of the contrastive loss
        Rule(r"(text|audio)_transform\.sequential\.[03]\.(weight|bias)", None),  # never called for embeddings
        Rule(r"text_(branch|model)\.embeddings\.(position|token_type)_ids", None),  # buffers of old transformers
        *prefixed(r"text_(?:branch|model)\.", roberta.weights(config.text), "params/text_branch"),
        *prefixed(r"(?:audio_branch|audio_model\.audio_encoder)\.", htsat.weights(config.audio, "audio_branch/")),
        *(
            rule
            for side in ("text", "audio")
            for rule in prefixed(rf"{side}_projection\.", roberta.PROJECTION_WEIGHTS, f"params/{side}_projection")
        ),
    )
    return prefixed(r"(?:module\.)?", unprefixed)


def from_state(state: State, config: Config) -> dict[str, Any]:
    """Variables from a published state dict {key: torch-layout array}; raises CheckpointError when it does not fit."""
    return convert(state, weights(config), jax.eval_shape(lambda: init(jax.random.key(0), config)))


def pad_or_crop(
    audio: Array, rule: LengthRule = "repeatpad", *, length: int = 480000, key: Array | None = None
) -> Array:
    """Brings clips to the length that the audio branch was trained on.

    Args:
      audio: (batch, time).
      rule: "repeatpad" (AudioSep, AudioLDM): shorter clips are repeated a whole number of times and padded with zeros;
        longer ones are cropped. "stretch" (AudioLDM 2): the first `length` samples; shorter clips stay as they are, and
        the audio branch stretches their log-mel, so that the embedding of a short clip differs from "repeatpad".
      length: samples.
      key: draws where "repeatpad" crops each clip; without it, crops keep the beginning.

    Returns:
      (batch, length); (batch, min(time, length)) for "stretch".

    Raises:
      AudioError: no samples.
      UsageError: unknown rule.
    """
    batch, time = audio.shape
    if time == 0:
        raise AudioError("CLAP cannot embed an empty clip: give at least one sample.")
    if rule not in ("repeatpad", "stretch"):
        raise UsageError(f"Unknown length rule {rule!r}; use 'repeatpad' or 'stretch'.")
    if rule == "stretch" or (time >= length and key is None):
        return audio[:, :length]
    if time > length and key is not None:
        starts = jax.random.randint(key, (batch,), 0, time - length + 1)
        return jax.vmap(lambda clip, start: lax.dynamic_slice_in_dim(clip, start, length))(audio, starts)
    audio = jnp.tile(audio, (1, length // time))
    return jnp.pad(audio, ((0, 0), (0, length - audio.shape[1])))


def log_mel(config: Config, audio: Array) -> Array:
    """Log-mel of audio (batch, time) at 48 kHz in dB: (batch, 1 + time // 480, 64)."""
    return dsp.log_mel(audio, config.mel)


def encode_audio(params: dict[str, Any], config: Config, log_mel: Array) -> Any:
    """The audio branch on a log-mel (batch, frames, 64): the dict of `htsat.HTSAT`, with `embedding` (batch, 1024)."""
    branch = {collection: tree["audio_branch"] for collection, tree in params.items()}
    return htsat.HTSAT(config.audio).apply(branch, log_mel)


def audio_embedding(
    params: dict[str, Any],
    config: Config,
    audio: Array,
    *,
    sample_rate: int = 48000,
    rule: LengthRule = "repeatpad",
    key: Array | None = None,
) -> Array:
    """Embeds sounds.

    Args:
      params: variables from `init` or `from_state`.
      config: the sizes of `params`.
      audio: (batch, time) in [-1, 1].
      sample_rate: of the audio, a Python integer; other rates than 48 kHz are resampled first.
      rule: what happens to clips that are not 10 s long, see `pad_or_crop`.
      key: draws the crops of longer clips; without it they keep the beginning.

    Returns:
      (batch, 512), unit length.
    """
    audio = dsp.resample(audio, sample_rate, config.mel.sample_rate)
    clip = pad_or_crop(audio, rule, length=config.clip_samples, key=key)
    features = encode_audio(params, config, log_mel(config, clip))["embedding"]
    return bert.unit(roberta.project({"params": params["params"]["audio_projection"]}, features))


def text_embedding(
    params: dict[str, Any], config: Config, input_ids: Array, attention_mask: Array, *, key: Array | None = None
) -> Array:
    """Embeds sentences.

    Args:
      params: variables from `init` or `from_state`.
      config: the sizes of `params`.
      input_ids: (batch, length) RoBERTa ids, <s> first; pad short, the result does not depend on padding.
      attention_mask: (batch, length), 1 for a real token.
      key: makes the text branch's dropout active, as it probably was while AudioSep was trained.

    Returns:
      (batch, 512), unit length.
    """
    branch = {"params": params["params"]["text_branch"]}
    pooled = roberta.encode(branch, config.text, input_ids, attention_mask, key=key)["pooler_output"]
    return bert.unit(roberta.project({"params": params["params"]["text_projection"]}, pooled))
