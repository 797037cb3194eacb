"""Waveforms to latents and back, as AudioLDM, AudioLDM 2 and FlowSep do it: log-mel, autoencoder, vocoder."""

import dataclasses
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Literal, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.convert.rules import Rule, prefixed
from jaxaudio.dsp import front_ends
from jaxaudio.dsp.mel import MelConfig, log_mel
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import autoencoder, bigvgan, hifigan, vocos

Params = Any
VocoderKind = Literal["hifigan", "bigvgan", "vocos"]
_VOCODERS: dict[str, ModuleType] = {"hifigan": hifigan, "bigvgan": bigvgan, "vocos": vocos}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The three stages around a latent model.

    Attributes:
      front_end: waveform to log-mel.
      vae: log-mel to latent and back.
      vocoder: log-mel to waveform.
      vocoder_kind: whose `Config` that is.
    """

    front_end: MelConfig = front_ends.AUDIOLDM_16K
    vae: autoencoder.Config = autoencoder.AUDIOLDM_16K
    vocoder: hifigan.Config | vocos.Config = hifigan.AUDIOLDM_16K
    vocoder_kind: VocoderKind = "hifigan"

    def __post_init__(self) -> None:
        mels = {self.front_end.n_mels, self.vae.mels, self.vocoder.mels}
        rates = {self.front_end.sample_rate, self.vocoder.sample_rate}
        if len(mels) > 1 or len(rates) > 1 or self.front_end.hop != self.vocoder.hop:
            raise ConfigError("front end, autoencoder and vocoder must agree on mel bands, sample rate and hop.")
        if not isinstance(self.vocoder, _VOCODERS[self.vocoder_kind].Config):
            raise ConfigError(f"the vocoder's configuration is not one of {self.vocoder_kind}.")

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.vocoder.sample_rate

    @property
    def hop(self) -> int:
        """Samples for each position of the latent in time."""
        return self.vocoder.hop * self.vae.factor

    @property
    def rate(self) -> float:
        """Positions of the latent per second."""
        return self.sample_rate / self.hop

    @property
    def frequencies(self) -> int:
        """Positions of the latent in frequency."""
        return self.vae.mels // self.vae.factor

    def positions(self, samples: int) -> int:
        """Positions of the latent in time that cover so many samples."""
        return -(-samples // self.hop)

    def shape(self, batch: int, samples: int) -> tuple[int, int, int, int]:
        """The shape of a latent that covers so many samples."""
        return batch, self.positions(samples), self.frequencies, self.vae.latent


AUDIOLDM_16K = Config()
"""AudioLDM and AudioLDM 2: 25 positions of 16 x 8 numbers per second."""

AUDIOLDM_48K = Config(front_end=front_ends.AUDIOLDM_48K, vae=autoencoder.AUDIOLDM_48K, vocoder=hifigan.AUDIOLDM_48K)
"""AudioLDM at 48 kHz: 12.5 positions of 32 x 16 numbers per second."""

FLOWSEP = Config(vocoder=bigvgan.FLOWSEP, vocoder_kind="bigvgan")
"""FlowSep: AudioLDM's latents, with a BigVGAN for the waveform."""

MINI = Config(
    vae=autoencoder.Config(channels=16, multipliers=(1, 2, 2, 3), blocks=1, latent=16, groups=8),
    vocoder=vocos.Config(
        sample_rate=16000,
        mels=64,
        width=160,
        hidden=400,
        layers=4,
        n_fft=640,
        hop=160,
        padding="same",
        mean=-6.0,
        spread=3.0,
        noise=16,
    ),
    vocoder_kind="vocos",
)
"""Small enough to train on two cores: 12.5 positions of 8 x 16 numbers per second; 1.2 M parameters."""


class Vocoded(Protocol):
    """A configuration with a vocoder in it."""

    @property
    def vocoder(self) -> Any:
        """The vocoder's own."""

    @property
    def vocoder_kind(self) -> VocoderKind:
        """Whose that is."""


def vocoder_of(config: Vocoded) -> ModuleType:
    """The module of the vocoder: `init`, `generate` and `WEIGHTS`."""
    return _VOCODERS[config.vocoder_kind]


def init(key: Array, config: Config) -> Params:
    """Random {"vae": ..., "vocoder": ..., "scale": ()}; under `jax.eval_shape`, their shapes at no cost."""
    first, second = jax.random.split(key)
    vocoder = vocoder_of(config).init(second, config.vocoder)
    return {"vae": autoencoder.init(first, config.vae), "vocoder": vocoder, "scale": jnp.ones(())}


def mel(config: Config, waveform: Array, *, original: bool = False) -> Array:
    """Log-mel (batch, frames, mels, 1) of waveforms (batch, time), a whole number of latent positions long.

    Audio is filled up with silence to that length; `original` fills the spectrogram up with 0.0, which is not silent
    but what the published models were trained on.

    Raises:
      UsageError: no more samples than half a window.
    """
    if waveform.shape[-1] <= config.front_end.n_fft // 2:
        raise UsageError(f"{waveform.shape[-1]} samples are too few: give more than {config.front_end.n_fft // 2}.")
    frames = config.positions(waveform.shape[-1]) * config.vae.factor
    if original:
        return front_ends.fitted_log_mel(waveform, config.front_end, frames)[..., None]
    rest = frames * config.front_end.hop - waveform.shape[-1]
    return log_mel(jnp.pad(waveform, ((0, 0), (0, rest))), config.front_end)[:, :frames, :, None]


def encode(
    params: Params,
    config: Config,
    waveform: Array,
    key: Array | None = None,
    *,
    items: Array | None = None,
    original: bool = False,
) -> Array:
    """Latents of waveforms, scaled to about unit variance.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      waveform: (batch, time), levelled as the model heard them in training (`dsp.front_ends.level`).
      key: draws from the posterior, as the published systems always do; None takes its mean.
      items: (batch,) numbers of the items, where the batch is part of a larger one.
      original: how short spectrograms are filled up, see `mel`.

    Returns:
      (batch, positions, frequencies, channels), see `Config.shape`.
    """
    mean, logvar = autoencoder.encode(params["vae"], config.vae, mel(config, waveform, original=original))
    return params["scale"] * (mean if key is None else autoencoder.sample(mean, logvar, key, items))


def decode(params: Params, config: Config, z: Array, samples: int | None = None) -> Array:
    """Waveforms (batch, samples) of latents; `samples` cuts off what they cover beyond it."""
    return vocode(params, config, decode_mel(params, config, z))[:, :samples]


def decode_mel(params: Params, config: Config, z: Array) -> Array:
    """Log-mels (batch, frames, mels) of latents."""
    return autoencoder.decode(params["vae"], config.vae, z / params["scale"])[..., 0]


def vocode(params: Params, config: Vocoded, spectrogram: Array, first: Array | int = 0) -> Array:
    """Waveforms (batch, frames * hop) of log-mels, of which `first` is the number of the first frame; see `vocos`."""
    options = {"first": first} if config.vocoder_kind == "vocos" else {}
    return vocoder_of(config).generate(params["vocoder"], config.vocoder, spectrogram, **options)


def outside(config: Config, positions: int, spans: Sequence[tuple[float, float]]) -> np.ndarray:
    """A mask over latents (1, positions, 1, 1): 0 within the spans (seconds from, to), 1 elsewhere.

    Raises:
      ConfigError: a span that is not within the latent, or ends before it begins.
    """
    mask = np.ones((1, positions, 1, 1), np.float32)
    for begin, end in spans:
        if not 0 <= begin < end or begin * config.rate >= positions:
            raise ConfigError(
                f"the span {begin:g} to {end:g} s is not within the {positions / config.rate:g} s of sound."
            )
        mask[:, int(begin * config.rate) : math.ceil(end * config.rate)] = 0
    return mask


TABLES = (
    Rule(r"betas|alphas_cumprod(_prev)?|logvar", None),
    Rule(r"(sqrt|log)_(one_minus_|recip_|recipm1_)?alphas_cumprod", None),
    Rule(r"posterior_(variance|log_variance_clipped|mean_coef[12])", None),
)
"""The tables of a noise schedule in the original's checkpoints: computed here, so dropped."""


def weights(config: Config, vae: str, vocoder: str, scale: str) -> tuple[Rule, ...]:
    """Conversion rules, given what the keys of each stage begin with (regular expressions).

    Args:
      config: the stages.
      vae: before the autoencoder's keys.
      vocoder: before the vocoder's.
      scale: the key of the scale.
    """
    return (
        *prefixed(vocoder, vocoder_of(config).WEIGHTS, "vocoder"),
        *prefixed(vae, (Rule(r"loss\..*", None), *autoencoder.weights(config.vae)), "vae"),
        Rule(scale, "scale"),
    )
