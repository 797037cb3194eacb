"""How far apart two waveforms sound: distances of their spectra, used as losses and as figures of merit.

Every function maps (..., time) to (...), one number per item; a loss is the mean of them.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxaudio.dsp.levels import as_float
from jaxaudio.dsp.mel import MelConfig, log_mel, mel_filters, mel_spectrogram
from jaxaudio.dsp.stft import magnitude, stft
from jaxaudio.errors import UsageError

STFT_WINDOWS = (2048, 512)
"""Of the STFT distance that DAC and SD-Codec report."""

MEL_WINDOWS = (32, 64, 128, 256, 512, 1024, 2048)
"""Of the mel loss that both train on."""

MEL_BANDS = (5, 10, 20, 40, 80, 160, 320)
"""Mel filters of each of `MEL_WINDOWS`."""

_QUIET = 1e-3
_SILENT = 1e-20  # on the power: nothing beside any floor, and keeps the square root's gradient finite
_POWER_FLOOR = 1e-8  # of auraloss
_TAPS = 101  # of auraloss's A-weighting


class Resolution(NamedTuple):
    """A transform of `resolution_distance`: lengths in samples.

    Attributes:
      n_fft: of the transform.
      hop: between frames.
      window: of the Hann window.
    """

    n_fft: int
    hop: int
    window: int


RESOLUTIONS = (Resolution(1024, 120, 600), Resolution(2048, 240, 1200), Resolution(512, 50, 240))
"""Of Parallel WaveGAN (Yamamoto et al., 2020), and auraloss's default."""


def stft_distance(
    reference: ArrayLike,
    estimate: ArrayLike,
    *,
    windows: Sequence[int] = STFT_WINDOWS,
    floor: float = 1e-5,
    log_weight: float = 2.0,
    magnitude_weight: float = 1.0,
) -> Array:
    """Multi-scale STFT distance (Engel et al., 2020) as DAC and SD-Codec compute it.

    The sum, over Hann windows that move by a quarter, of the mean absolute differences of magnitudes and of their
    logarithms to base 10.

    Args:
      reference: (..., time), longer than half the largest window.
      estimate: (..., time).
      windows: lengths in samples.
      floor: smallest magnitude under the logarithm.
      log_weight: factor on the difference of logarithms; 2 compares those of powers.
      magnitude_weight: factor on the difference of magnitudes.

    Raises:
      UsageError: the signals differ in shape, or are too short for the largest window.
    """
    pair = _pair(reference, estimate)
    total = jnp.zeros(())
    for window in windows:
        a, b = (magnitude(*stft(x, window, window // 4), floor=_SILENT) for x in pair)
        total = total + _compared(a, b, floor, log_weight, magnitude_weight)
    return total


def log_bin_distance(reference: ArrayLike, estimate: ArrayLike, windows: Sequence[int]) -> Array:
    """Mean absolute difference of natural log-magnitudes, bin by bin, over Hann windows that move by a quarter.

    Long windows hear hums and harmonics that bands of mels are too wide for (Yamamoto et al., 2020). Magnitudes below
    1e-3, a sample of 16 bits heard through a window, are as good as none.
    """
    weight = math.log(10) / len(windows)
    return stft_distance(reference, estimate, windows=windows, floor=_QUIET, log_weight=weight, magnitude_weight=0.0)


def mel_distance(
    reference: ArrayLike,
    estimate: ArrayLike,
    sample_rate: int,
    *,
    windows: Sequence[int] = MEL_WINDOWS,
    bands: Sequence[int] = MEL_BANDS,
    floor: float = 1e-5,
    log_weight: float = 1.0,
    magnitude_weight: float = 0.0,
) -> Array:
    """Multi-scale mel distance as DAC and SD-Codec compute it; the defaults are those of DAC's training (base.yml).

    SD-Codec gives its filters no rate, so that its 16 kHz audio is measured with those of 44100 Hz, in training and in
    the distances of its paper: pass 44100 to be comparable with them.

    Args:
      reference: (..., time), longer than half the largest window.
      estimate: (..., time).
      sample_rate: in Hz, of the mel filters.
      windows: lengths in samples of Hann windows, which move by a quarter.
      bands: number of filters for each.
      floor: smallest value under the logarithm (to base 10).
      log_weight: factor on the mean absolute difference of logarithms; 2 compares those of powers.
      magnitude_weight: factor on that of mel magnitudes.

    Raises:
      UsageError: the signals differ in shape, or are too short for the largest window.
    """
    pair = _pair(reference, estimate)
    total = jnp.zeros(())
    for window, count in zip(windows, bands, strict=True):
        config = MelConfig(sample_rate=sample_rate, n_fft=window, hop=window // 4, n_mels=count, power=1)
        a, b = (mel_spectrogram(x, config) for x in pair)
        total = total + _compared(a, b, floor, log_weight, magnitude_weight)
    return total


def resolution_distance(
    reference: ArrayLike,
    estimate: ArrayLike,
    *,
    resolutions: Sequence[Resolution] = RESOLUTIONS,
    sample_rate: int | None = None,
    bands: int | None = None,
    a_weighted: bool = False,
) -> Array:
    """Multi-resolution STFT loss (Yamamoto et al., 2020) as auraloss and stable-audio-tools compute it.

    The mean, over resolutions, of spectral convergence |A - B| / |A| (Frobenius norms, of each item by itself) plus the
    mean absolute difference of natural logarithms of magnitudes.

    It is not symmetric: stable-codec trains with the two signals exchanged.

    Args:
      reference: (..., time), longer than half the largest transform.
      estimate: (..., time).
      resolutions: of the transforms.
      sample_rate: in Hz; needed by the two options below.
      bands: compare so many mel bands instead of the bins.
      a_weighted: pass both signals through the A-weighting filter first.

    Raises:
      UsageError: the signals differ in shape or are too short, or the rate is missing.
    """
    pair = _pair(reference, estimate)
    if sample_rate is None and (a_weighted or bands is not None):
        raise UsageError("Mel bands and A-weighting depend on the sample rate: pass sample_rate.")
    if a_weighted and sample_rate is not None:
        pair = [_filtered(x, a_weighting(sample_rate)) for x in pair]

    def spectrum(x: Array, n_fft: int, hop: int, window: int) -> Array:
        made = magnitude(*stft(x, n_fft, hop, win_length=window), floor=_POWER_FLOOR)
        if bands is None or sample_rate is None:
            return made
        return jnp.matmul(made, jnp.asarray(mel_filters(sample_rate, n_fft, bands), made.dtype), precision="highest")

    total = jnp.zeros(())
    for resolution in resolutions:
        a, b = (spectrum(x, *resolution) for x in pair)
        norms = [jnp.sqrt(jnp.sum(jnp.square(x), (-2, -1))) for x in (a - b, a)]
        total = total + norms[0] / norms[1] + _difference(jnp.log(a), jnp.log(b))
    return total / len(resolutions)


def log_mel_distance(reference: ArrayLike, estimate: ArrayLike, config: MelConfig) -> Array:
    """Mean absolute difference of the log-mels of two waveforms (..., time) -> (...)."""
    a, b = (log_mel(x, config) for x in _pair(reference, estimate))
    return _difference(a, b)


@functools.lru_cache(maxsize=8)
def a_weighting(sample_rate: int) -> np.ndarray:
    """A-weighting (IEC 61672) as a symmetric filter of 101 taps, as auraloss fits it.

    The analog response goes through the bilinear transform, and the taps fit its magnitude by least squares.

    Returns:
      (101,) float64, read-only.
    """
    import scipy.signal  # slow to import

    # Poles in Hz, and the level in dB that brings 1 kHz to 0.
    low, second, third, high, level = 20.598997, 107.65265, 737.86223, 12194.217, 1.9997
    f1, f2, f3, f4 = (2 * np.pi * f for f in (low, second, third, high))
    numerator = [f4**2 * 10 ** (level / 20), 0, 0, 0, 0]
    denominator = functools.reduce(np.polymul, ([1, 2 * f4, f4**2], [1, 2 * f1, f1**2], [1, f3], [1, f2]))
    b, a = scipy.signal.bilinear(numerator, denominator, fs=sample_rate)
    frequencies, response = scipy.signal.freqz(b, a, worN=512, fs=sample_rate)
    taps = scipy.signal.firls(_TAPS, frequencies, np.abs(response), fs=sample_rate)
    taps.flags.writeable = False  # shared by the cache
    return taps


def _filtered(x: Array, taps: np.ndarray) -> Array:
    """Passes x (..., time) through a symmetric filter, zeros beyond the ends."""
    time = x.shape[-1]
    size = 1 << (time + len(taps) - 2).bit_length()
    spectrum = jnp.fft.rfft(x, size) * jnp.fft.rfft(jnp.asarray(taps, x.dtype), size)
    reach = len(taps) // 2
    return jnp.fft.irfft(spectrum, size)[..., reach : reach + time].astype(x.dtype)


def _compared(a: Array, b: Array, floor: float, log_weight: float, magnitude_weight: float) -> Array:
    logs = (jnp.log(jnp.maximum(x, floor)) for x in (a, b))
    total = log_weight / math.log(10) * _difference(*logs)
    return total + magnitude_weight * _difference(a, b) if magnitude_weight else total


def _difference(a: Array, b: Array) -> Array:
    return jnp.mean(jnp.abs(a - b), (-2, -1))


def _pair(reference: ArrayLike, estimate: ArrayLike) -> tuple[Array, Array]:
    a, b = as_float(reference), as_float(estimate)
    if a.shape != b.shape:
        raise UsageError(f"Signals of shapes {a.shape} and {b.shape} cannot be compared: cut or pad one.")
    return a, b
