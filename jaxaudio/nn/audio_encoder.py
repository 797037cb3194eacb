"""The sound encoders of captioning and retrieval, HTS-AT or a PANN, by one set of functions.

As WavCaps uses them (Mei et al., 2023, arXiv:2303.17395): 32 kHz, 100 log-mel frames per second.
"""

import dataclasses
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from tyro.conf import subcommand

from jaxaudio.convert.rules import Rule, prefixed
from jaxaudio.dsp.mel import MelConfig, log_mel
from jaxaudio.errors import AudioError, UsageError
from jaxaudio.nn import htsat, panns

Params = Any
Config = Annotated[panns.Config, subcommand("cnn")] | Annotated[htsat.Config, subcommand("htsat")]

HTSAT_SECONDS = 10
"""The longest sound that HTS-AT hears; it stretches the 1001 frames of it to 1024. A PANN hears any length."""


def _module(config: Config) -> Any:
    return htsat if isinstance(config, htsat.Config) else panns


def init(key: Array, config: Config) -> Params:
    """Random {"params", "batch_stats"}."""
    return _module(config).init(key, config)


def front_end(config: Config) -> MelConfig:
    """The log-mel front-end; that of PANNs for HTS-AT too, with as many bands as it takes."""
    if isinstance(config, panns.Config):
        return config.mel
    return dataclasses.replace(panns.MEL_32K, n_mels=config.mel_bins)


def hear(config: Config, audio: Array, *, key: Array | None = None) -> Array:
    """The log-mel spectrogram that an encoder takes.

    Args:
      config: of the encoder.
      audio: (batch, time) at the front-end's rate, in [-1, 1]; HTS-AT's is cropped to `HTSAT_SECONDS`.
      key: draws where each clip is cropped, as in training; without it its beginning is kept.

    Returns:
      (batch, frames, mels) in dB.

    Raises:
      AudioError: no samples.
      UsageError: audio that is not (batch, time).
    """
    if audio.ndim != 2:
        raise UsageError(f"Audio of shape {audio.shape}; give (batch, time), one channel each.")
    if audio.shape[1] == 0:
        raise AudioError("There is nothing to hear in an empty clip: give at least one sample.")
    mel, length = front_end(config), audio.shape[1]
    if isinstance(config, htsat.Config):
        length = min(length, HTSAT_SECONDS * mel.sample_rate)
    if key is not None and audio.shape[1] > length:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(audio.shape[0])) if key.ndim == 0 else key
        starts = jax.vmap(lambda k: jax.random.randint(k, (), 0, audio.shape[1] - length + 1))(keys)
        audio = jax.vmap(lambda clip, start: lax.dynamic_slice_in_dim(clip, start, length))(audio, starts)
    return log_mel(audio[:, :length], mel)


def apply(
    params: Params, config: Config, mel: Array, *, train: bool = False, key: Array | None = None
) -> tuple[dict[str, Array], Params]:
    """What an encoder makes of log-mel spectrograms (batch, frames, mels): (everything on the way, the statistics).

    Args:
      params: {"params", "batch_stats"} of `init` or of a converted checkpoint.
      config: that they belong to.
      mel: of `hear`.
      train: normalise by the batch, and update the running statistics.
      key: () or (batch,), draws SpecAugment's stripes and whatever else the encoder leaves to chance in training.
    """
    return _module(config).apply(params, config, mel, train=train, key=key)


def frames(config: Config, made: dict[str, Array]) -> Array:
    """A vector per step in time, for captioning: (batch, time, `frame_width`)."""
    return made["fine_grained" if isinstance(config, htsat.Config) else "embedding"]


def frame_width(config: Config) -> int:
    """Channels of `frames`."""
    return config.features if isinstance(config, htsat.Config) else config.embedding


def pooled(config: Config, made: dict[str, Array]) -> Array:
    """One vector per clip, for retrieval: HTS-AT's mean token, or a PANN's maximum plus mean over time, without `fc1`.

    Returns:
      (batch, `pooled_width`).
    """
    if isinstance(config, htsat.Config):
        return made["embedding"]
    return made["maps"].max(1) + made["maps"].mean(1)


def pooled_width(config: Config) -> int:
    """Channels of `pooled`."""
    return config.features if isinstance(config, htsat.Config) else config.widths[-1]


def weights(config: Config, prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for WavCaps' keys.

    Args:
      config: of the encoder.
      prefix: regular expression before the keys.
      path: where the encoder is, below "params" and "batch_stats".
    """
    if isinstance(config, htsat.Config):
        return prefixed(prefix, htsat.weights(config, f"{path}/" if path else ""))
    front_end = Rule(rf"{prefix}audio_feats_extractor\..*", None)  # the front-end's constants
    return (front_end, *panns.weights(prefix, path))
