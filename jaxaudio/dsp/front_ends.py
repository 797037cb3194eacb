"""The mel front-ends of the generative systems: what AudioLDM, FlowSep and HiFi-GAN take for a spectrogram."""

import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxaudio.dsp.levels import as_float
from jaxaudio.dsp.mel import MelConfig, log_mel

AUDIOLDM_16K = MelConfig(
    sample_rate=16000, n_fft=1024, hop=160, n_mels=64, fmin=0, fmax=8000, power=1, log="ln", floor=1e-5
)
"""AudioLDM and AudioLDM 2 at 16 kHz, and FlowSep: 100 frames per second."""

AUDIOLDM_48K = MelConfig(
    sample_rate=48000, n_fft=2048, hop=480, n_mels=256, fmin=20, fmax=24000, power=1, log="ln", floor=1e-5
)
"""AudioLDM at 48 kHz: 100 frames per second."""

HIFIGAN_16K = MelConfig(
    sample_rate=16000,
    n_fft=1024,
    hop=160,
    n_mels=64,
    center=False,
    pad=(1024 - 160) // 2,
    power=1,
    epsilon=1e-9,
    log="ln",
    floor=1e-5,
)
"""What HiFi-GAN's mel loss compares at 16 kHz: as many frames as hops."""

TADICODEC_24K = MelConfig(
    sample_rate=24000,
    n_fft=1920,
    hop=480,
    n_mels=128,
    fmax=12000,
    center=False,
    pad=(1920 - 480) // 2,
    power=1,
    epsilon=1e-9,
    log="ln",
    floor=1e-5,
)
"""TaDiCodec, and SiTok after it: 50 frames per second, as many as hops; they normalise by mean -4.92, variance 8.14."""


def level(x: ArrayLike) -> Array:
    """Removes the mean of each (..., time) and scales its largest sample to 0.5, as AudioLDM and FlowSep hear audio."""
    x = as_float(x)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    return x / (jnp.max(jnp.abs(x), axis=-1, keepdims=True) + 1e-8) * 0.5


def fitted_log_mel(x: ArrayLike, config: MelConfig, frames: int) -> Array:
    """Log-mel of exactly so many frames: cut, or padded with 0.0 as the published models were trained.

    Args:
      x: (..., time), more than n_fft // 2 samples; see `level`.
      config: the front-end.
      frames: wanted; e.g. 1024 for 10.24 s.

    Returns:
      (..., frames, n_mels). The padding is 0.0 among logarithms: a loud frame, and not the silence it stands for.
    """
    mel = log_mel(x, config)[..., :frames, :]
    return jnp.pad(mel, [(0, 0)] * (mel.ndim - 2) + [(0, frames - mel.shape[-2]), (0, 0)])
