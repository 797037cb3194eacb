"""Sounds of words, code by code: a VQ-VAE's codes, a Transformer that writes them, and a vocoder behind both.

The parts of the language model of sound (Liu et al., 2021, arXiv:2107.09998) with the prior of `transformer`, told
what to make by sentence vectors.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.dsp.mel import log_mel
from jaxaudio.errors import ConfigError
from jaxaudio.nn import hifigan, latent_audio, vocos
from jaxaudio.nn.pixelsnail_cache import PLAIN
from jaxaudio.systems.soundlm import grid_transformer, transformer, vqvae
from jaxaudio.text.decode import Sampling

Params = Any

FRAMES = 4
"""Frames of a spectrogram for each frame of codes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Three parts that fit each other.

    Attributes:
      codec: spectrograms to codes and back.
      prior: what writes codes, in the order of time or of delay; its condition is one vector, of a sentence.
      vocoder: spectrograms to waveforms.
      vocoder_kind: whose `Config` that is.
    """

    codec: vqvae.Config
    prior: grid_transformer.Config
    vocoder: hifigan.Config | vocos.Config
    vocoder_kind: latent_audio.VocoderKind = "vocos"

    def __post_init__(self) -> None:
        mel, prior = self.codec.mel, self.prior
        if (mel.n_mels, mel.sample_rate, mel.hop) != (self.vocoder.mels, self.vocoder.sample_rate, self.vocoder.hop):
            raise ConfigError("The codec and the vocoder must agree on mel bands, sample rate and hop.")
        if (self.codec.bands, self.codec.codes) != (prior.bands, prior.codes):
            raise ConfigError(
                f"The codec has {self.codec.bands} bands of {self.codec.codes} codes, the prior {prior.bands} of "
                f"{prior.codes}; make them agree."
            )
        if not prior.vectors or prior.last != "frames" or prior.order == "frequency" or prior.frames < 2:
            raise ConfigError("The prior is told vectors, and writes two frames or more in the order of time or delay.")

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.vocoder.sample_rate

    @property
    def hop(self) -> int:
        """Samples for each frame of codes."""
        return FRAMES * self.vocoder.hop

    @property
    def window(self) -> float:
        """Seconds that the prior writes at once."""
        return self.prior.frames * self.hop / self.sample_rate


MINI = Config(codec=vqvae.MINI, prior=transformer.MINI, vocoder=latent_audio.MINI.vocoder)
"""Small enough to be trained on a laptop."""


def init(key: Array, config: Config) -> Params:
    """Random {"codec", "prior", "vocoder"}; under `jax.eval_shape`, their shapes at no cost."""
    first, second, third = jax.random.split(key, 3)
    return {
        "codec": vqvae.init(first, config.codec),
        "prior": transformer.init(second, config.prior),
        "vocoder": latent_audio.vocoder_of(config).init(third, config.vocoder),
    }


def mel(config: Config, waveform: Array) -> Array:
    """Log-mels (batch, frames, mels) of waveforms (batch, time), filled up with silence to whole frames of codes."""
    frames = -(-waveform.shape[-1] // config.hop) * FRAMES
    rest = frames * config.codec.mel.hop - waveform.shape[-1]
    return log_mel(jnp.pad(waveform, ((0, 0), (0, rest))), config.codec.mel)[:, :frames]


def encode(params: Params, config: Config, waveform: Array) -> Array:
    """Codes (batch, bands, frames) of waveforms (batch, time), levelled as in training (`dsp.front_ends.level`)."""
    return vqvae.encode(params["codec"], config.codec, mel(config, waveform))


def decode(params: Params, config: Config, codes: Array, first: Array | int = 0) -> Array:
    """Waveforms (batch, frames * hop) of codes (batch, bands, frames), the first of which has the number `first`."""
    spectrogram = vqvae.decode(params["codec"], config.codec, codes)
    return latent_audio.vocode(params, config, spectrogram, FRAMES * first)


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Any = None,
    *,
    config: Config,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """What the prior, whose params these are, is trained on: `transformer.loss` of "codes" and, with or without, of
    "sentence" (batch, vectors).
    """
    if "sentence" in batch:
        batch = {**batch, "condition": condition(config, batch["sentence"])}
    return transformer.loss(params, extra, batch, key, frozen, config=config.prior)


def condition(config: Config, sentences: Array) -> Array:
    """What the prior is told: vectors (batch, 1, vectors) of sentences (batch, vectors) of length 1."""
    # Each channel as large as what the network's layers read.
    return (sentences * math.sqrt(config.prior.vectors))[:, None]


def sample(
    params: Params,
    config: Config,
    sentences: Array | None,
    keys: Array,
    frames: int,
    *,
    sampling: Sampling = PLAIN,
    guidance: float | Array = 1.0,
    prefix: Array | None = None,
) -> Array:
    """Writes codes (batch, bands, frames) int32, those of the prefix among them; see `windows`."""
    before = [] if prefix is None else [prefix]
    how: Any = {"sampling": sampling, "guidance": guidance, "prefix": prefix}
    return jnp.concatenate([*before, *windows(params, config, sentences, keys, frames, **how)], 2)[:, :, :frames]


def windows(
    params: Params,
    config: Config,
    sentences: Array | None,
    keys: Array,
    frames: int,
    *,
    sampling: Sampling = PLAIN,
    guidance: float | Array = 1.0,
    prefix: Array | None = None,
) -> Iterator[Array]:
    """Writes codes, as many as are wanted: beyond the prior's window, each next half of it is told the half before.

    Args:
      params: of `init`.
      config: that they belong to.
      sentences: (batch, vectors) of length 1; None for any sound.
      keys: (batch,), so that each sound depends on its own alone.
      frames: of codes, those of the prefix among them.
      sampling: how codes are drawn.
      guidance: see `transformer.sample`.
      prefix: (batch, bands, n) codes that go before.

    Yields:
      (batch, bands, n) int32, those of the prefix not among them, as soon as a window of them is written.

    Raises:
      UsageError: see `transformer.sample`.
    """
    size, half = config.prior.frames, config.prior.frames // 2
    told = None if sentences is None else condition(config, sentences)
    written = 0 if prefix is None else prefix.shape[2]
    before = None if prefix is None else prefix[:, :, -half:]
    part = 0
    while written < frames:
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, part)
        how: Any = {"sampling": sampling, "guidance": guidance, "prefix": before}
        ids = transformer.sample(params["prior"], config.prior, told, own, **how).ids
        known = 0 if before is None else before.shape[2]
        new = ids[:, :, known : min(size, known + frames - written)]
        yield new
        # What is known is half a window from here on: one program for all that follows.
        before, written, part = ids[:, :, size - half :], written + new.shape[2], part + 1
