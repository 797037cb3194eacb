"""Kaldi's filter-bank features (Povey et al., 2011), with the options of `torchaudio.compliance.kaldi.fbank`."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxaudio.dsp.levels import as_float, safe_sqrt
from jaxaudio.dsp.mel import triangles
from jaxaudio.dsp.stft import frame
from jaxaudio.dsp.window import get_window
from jaxaudio.errors import UsageError

_EPSILON = float(np.finfo(np.float32).eps)  # Kaldi's floor under every logarithm


@dataclasses.dataclass(frozen=True, kw_only=True)
class FbankConfig:
    """Kaldi filter-bank options, under Kaldi's names where it has one.

    Attributes:
      sample_rate: samples per second.
      num_mel_bins: number of filters.
      frame_length: in milliseconds.
      frame_shift: in milliseconds.
      low_freq: lower edge of the first filter in Hz.
      high_freq: upper edge of the last filter in Hz; zero or less counts from half the sample rate.
      window: "povey", "hann" (Kaldi's "hanning"), "hamming", "blackman" or "rectangular"; always symmetric.
      dither: standard deviation of the noise added to every frame; needs a key.
      preemphasis: coefficient of the first difference.
      remove_dc_offset: subtract the mean of every frame.
      snip_edges: only frames that lie within the signal; otherwise one per shift, with mirrored ends.
      round_to_power_of_two: zero-pad frames to a power of two before the transform.
      use_power: power spectrum; magnitudes otherwise.
      use_log: natural logarithm.
      use_energy: add the frame's log energy as one more column, first (or last with `htk_compat`).
      raw_energy: take that energy before pre-emphasis and window.
      energy_floor: smallest energy; none when zero.
      htk_compat: put the energy last.
      subtract_mean: subtract each column's mean over the frames.
    """

    sample_rate: int = 16000
    num_mel_bins: int = 23
    frame_length: float = 25.0
    frame_shift: float = 10.0
    low_freq: float = 20.0
    high_freq: float = 0.0
    window: str = "povey"
    dither: float = 0.0
    preemphasis: float = 0.97
    remove_dc_offset: bool = True
    snip_edges: bool = True
    round_to_power_of_two: bool = True
    use_power: bool = True
    use_log: bool = True
    use_energy: bool = False
    raw_energy: bool = True
    energy_floor: float = 1.0
    htk_compat: bool = False
    subtract_mean: bool = False


@functools.lru_cache(maxsize=16)
def kaldi_filters(sample_rate: float, n_fft: int, num_mel_bins: int, low_freq: float, high_freq: float) -> np.ndarray:
    """Kaldi's filters, triangles on the mel axis 1127 ln(1 + f / 700).

    Returns:
      (n_fft // 2 + 1, num_mel_bins) float64, read-only.

    Raises:
      UsageError: the frequency range is empty or leaves [0, sample_rate / 2].
    """
    nyquist = sample_rate / 2
    high = high_freq if high_freq > 0 else nyquist + high_freq
    if not 0 <= low_freq < high <= nyquist:
        raise UsageError(
            f"Filters from {low_freq} to {high} Hz do not fit {sample_rate} Hz audio; stay within half of it."
        )

    def mel(hz):
        return 1127 * np.log1p(np.asarray(hz) / 700)

    points = mel(np.arange(n_fft // 2 + 1) * sample_rate / n_fft)
    filters = triangles(points, np.linspace(mel(low_freq), mel(high), num_mel_bins + 2))
    filters[-1] = 0  # Kaldi leaves out the bin at half the sample rate
    filters.flags.writeable = False
    return filters


def _frames(x: Array, length: int, shift: int, snip_edges: bool) -> Array:
    if not snip_edges:
        # Frame t is centred on (t + 1/2) shift, and the signal is mirrored at its ends, end samples repeated.
        count = (x.shape[-1] + shift // 2) // shift
        left = length // 2 - shift // 2
        right = max(0, (count - 1) * shift + length - left - x.shape[-1])
        if max(left, right) > x.shape[-1]:
            raise UsageError(f"{x.shape[-1]} samples are too short to mirror for frames of {length}: pad the signal.")
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(max(left, 0), right)], mode="symmetric")[..., max(-left, 0) :]
        x = x[..., : (count - 1) * shift + length]
    return frame(x, length, shift)


def _log_energy(frames: Array, floor: float) -> Array:
    return jnp.log(jnp.maximum(jnp.sum(frames**2, -1), max(_EPSILON, floor)))


def fbank(x: ArrayLike, config: FbankConfig, *, key: Array | None = None) -> Array:
    """Kaldi filter-bank features.

    Args:
      x: (..., time); Kaldi means samples in 16-bit units, most users of torchaudio give [-1, 1].
      config: the options.
      key: PRNG key, needed when `config.dither` is not zero.

    Returns:
      (..., frames, num_mel_bins), with one more column when `use_energy`.

    Raises:
      UsageError: the signal is shorter than a frame, or dither without a key.
    """
    c = config
    x = as_float(x)
    length, shift = int(c.sample_rate * c.frame_length / 1000), int(c.sample_rate * c.frame_shift / 1000)
    frames = _frames(x, length, shift, c.snip_edges)
    if c.dither:
        if key is None:
            raise UsageError("Dither is random: give fbank a key, or set dither to 0.")
        frames = frames + c.dither * jax.random.normal(key, frames.shape, frames.dtype)
    if c.remove_dc_offset:
        frames = frames - jnp.mean(frames, -1, keepdims=True)
    raw = frames
    if c.preemphasis:
        previous = jnp.concatenate([frames[..., :1], frames[..., :-1]], -1)
        frames = frames - c.preemphasis * previous
    frames = frames * jnp.asarray(get_window(c.window, length, periodic=False), x.dtype)
    n_fft = 1 << (length - 1).bit_length() if c.round_to_power_of_two else length
    spectrum = jnp.fft.rfft(frames, n_fft)
    power = spectrum.real**2 + spectrum.imag**2
    filters = kaldi_filters(c.sample_rate, n_fft, c.num_mel_bins, c.low_freq, c.high_freq)
    mel = jnp.matmul(power if c.use_power else safe_sqrt(power), jnp.asarray(filters, x.dtype), precision="highest")
    features = jnp.log(jnp.maximum(mel, _EPSILON)) if c.use_log else mel
    if c.use_energy:
        energy = _log_energy(raw if c.raw_energy else frames, c.energy_floor)[..., None]
        features = jnp.concatenate([features, energy] if c.htk_compat else [energy, features], -1)
    return features - jnp.mean(features, -2, keepdims=True) if c.subtract_mean else features
