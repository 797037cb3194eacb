"""Mel filter banks and mel spectrograms in the conventions of librosa, torchlibrosa, torchaudio and the vocoders."""

import dataclasses
import functools
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxaudio.dsp.levels import amplitude_to_db, as_float, power_to_db
from jaxaudio.dsp.stft import magnitude, stft
from jaxaudio.errors import UsageError

Scale = Literal["slaney", "htk"]

# Slaney's Auditory Toolbox (1998): linear below 1 kHz, 27 steps per factor of 6.4 above.
_LINEAR_STEP, _BREAK_HZ, _LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27
_MAGNITUDE_FLOOR = 1e-20  # on the power: far below any log floor, and keeps the square root's gradient finite


def hz_to_mel(hz: ArrayLike, scale: Scale = "slaney") -> np.ndarray:
    """Frequencies in hertz on the mel scale of Slaney or of HTK (2595 log10(1 + f / 700)), in float64."""
    hz = np.asarray(hz, np.float64)
    if scale == "htk":
        return 2595 * np.log10(1 + hz / 700)
    upper = _BREAK_HZ / _LINEAR_STEP + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_STEP, upper)


def mel_to_hz(mel: ArrayLike, scale: Scale = "slaney") -> np.ndarray:
    """Inverse of `hz_to_mel`."""
    mel = np.asarray(mel, np.float64)
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    break_mel = _BREAK_HZ / _LINEAR_STEP
    upper = _BREAK_HZ * np.exp(_LOG_STEP * np.maximum(mel - break_mel, 0))
    return np.where(mel < break_mel, mel * _LINEAR_STEP, upper)


def triangles(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Triangular filters of peak 1: filter i rises from edges[i] to edges[i + 1] and falls to edges[i + 2].

    Args:
      points: (bins,) positions of the spectral bins, in the unit of `edges`.
      edges: (filters + 2,) rising corner positions.

    Returns:
      (bins, filters) weights in [0, 1].
    """
    rise = (points[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - points[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rise, fall))


@functools.lru_cache(maxsize=64)
def mel_filters(
    sample_rate: float,
    n_fft: int,
    n_mels: int,
    fmin: float = 0.0,
    fmax: float | None = None,
    *,
    scale: Scale = "slaney",
    norm: Literal["slaney"] | None = "slaney",
) -> np.ndarray:
    """Mel filter bank, as `librosa.filters.mel` (transposed).

    Args:
      sample_rate: samples per second.
      n_fft: transform length; there are n_fft // 2 + 1 bins.
      n_mels: number of filters.
      fmin: lower edge of the first filter in Hz.
      fmax: upper edge of the last filter in Hz, half the sample rate by default.
      scale: "slaney" or "htk".
      norm: "slaney" gives every filter unit area over hertz, None leaves peaks of 1.

    Returns:
      (n_fft // 2 + 1, n_mels) float64, read-only.

    Raises:
      UsageError: unknown scale or norm, or a frequency range that is empty or leaves [0, sample_rate / 2].
    """
    fmax = sample_rate / 2 if fmax is None else fmax
    if scale not in ("slaney", "htk") or norm not in ("slaney", None):
        raise UsageError(f"Unknown mel scale {scale!r} or norm {norm!r}; use 'slaney' or 'htk', and 'slaney' or None.")
    if not 0 <= fmin < fmax <= sample_rate / 2:
        raise UsageError(
            f"Mel filters from {fmin} to {fmax} Hz do not fit {sample_rate} Hz audio; stay within half of it."
        )
    edges = mel_to_hz(np.linspace(hz_to_mel(fmin, scale), hz_to_mel(fmax, scale), n_mels + 2), scale)
    filters = triangles(np.linspace(0, sample_rate / 2, n_fft // 2 + 1), edges)
    if norm == "slaney":
        filters = filters * 2 / (edges[2:] - edges[:-2])
    filters.flags.writeable = False  # shared by the cache
    return filters


@dataclasses.dataclass(frozen=True, kw_only=True)
class MelConfig:
    """A (log-)mel front-end.

    Attributes:
      sample_rate: samples per second.
      n_fft: transform length.
      hop: samples between frames.
      n_mels: number of mel filters.
      fmin: lower edge in Hz.
      fmax: upper edge in Hz, half the sample rate by default.
      scale: mel scale, "slaney" or "htk".
      norm: "slaney" (unit area) or None (unit peak).
      window: window name.
      win_length: window length, `n_fft` by default.
      center: pad by n_fft // 2 on both sides.
      pad: samples of further padding on both sides; HiFi-GAN uses (n_fft - hop) / 2 with `center=False`.
      pad_mode: a `jnp.pad` mode.
      power: exponent of the magnitude: 2 (power) or 1 (magnitude).
      epsilon: added to the power under the square root, for magnitudes.
      log: "db" (decibels), "ln", "log10", or None for linear values.
      floor: smallest mel value under the logarithm.
      ref: for "db", the mel value that is 0 dB.
      top_db: for "db", the dynamic range kept below the maximum of each item.
    """

    sample_rate: int
    n_fft: int
    hop: int
    n_mels: int
    fmin: float = 0.0
    fmax: float | None = None
    scale: Scale = "slaney"
    norm: Literal["slaney"] | None = "slaney"
    window: str = "hann"
    win_length: int | None = None
    center: bool = True
    pad: int = 0
    pad_mode: str = "reflect"
    power: Literal[1, 2] = 2
    epsilon: float = 0.0
    log: Literal["db", "ln", "log10"] | None = "db"
    floor: float = 1e-10
    ref: float = 1.0
    top_db: float | None = None


def spectrogram(x: ArrayLike, config: MelConfig) -> Array:
    """Magnitude or power spectrogram of x (..., time): (..., frames, n_fft // 2 + 1)."""
    x = as_float(x)
    if config.pad:
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(config.pad, config.pad)], mode=config.pad_mode)
    real, imag = stft(
        x,
        config.n_fft,
        config.hop,
        window=config.window,
        win_length=config.win_length,
        center=config.center,
        pad_mode=config.pad_mode,
    )
    if config.power == 2:
        return real**2 + imag**2
    if config.power != 1:
        raise UsageError(f"The exponent of a mel spectrogram is 1 or 2, not {config.power}.")
    return jnp.sqrt(real**2 + imag**2 + config.epsilon) if config.epsilon else magnitude(real, imag, _MAGNITUDE_FLOOR)


def mel_spectrogram(x: ArrayLike, config: MelConfig) -> Array:
    """Linear mel spectrogram of x (..., time): (..., frames, n_mels), before any logarithm."""
    spectrum = spectrogram(x, config)
    filters = mel_filters(
        config.sample_rate,
        config.n_fft,
        config.n_mels,
        config.fmin,
        config.fmax,
        scale=config.scale,
        norm=config.norm,
    )
    return jnp.matmul(spectrum, jnp.asarray(filters, spectrum.dtype), precision="highest")


def compress(mel: ArrayLike, config: MelConfig) -> Array:
    """The logarithm of a linear mel spectrogram (..., frames, n_mels) that `config` asks for."""
    mel = as_float(mel)
    if config.log == "db":
        to_db = power_to_db if config.power == 2 else amplitude_to_db
        return to_db(mel, ref=config.ref, amin=config.floor, top_db=config.top_db, axis=(-2, -1))
    if config.log is None:
        return mel
    if config.log not in ("ln", "log10"):
        raise UsageError(f"Unknown logarithm {config.log!r}; use 'db', 'ln', 'log10' or None.")
    return (jnp.log if config.log == "ln" else jnp.log10)(jnp.maximum(mel, config.floor))


def log_mel(x: ArrayLike, config: MelConfig) -> Array:
    """Log-mel spectrogram of a waveform.

    Args:
      x: (..., time) at `config.sample_rate`; longer than n_fft // 2 when centred with reflection.
      config: the front-end.

    Returns:
      (..., frames, n_mels); frames = 1 + time // hop when centred.
    """
    return compress(mel_spectrogram(x, config), config)
