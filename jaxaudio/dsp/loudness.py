"""Integrated loudness by ITU-R BS.1770-4, for any sample rate, jittable and differentiable."""

import functools
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxaudio.dsp.levels import as_float, db_to_amplitude, peak
from jaxaudio.errors import AudioError, UsageError

SILENCE = -70.0  # LUFS; the absolute gate of the standard, and what digital silence measures here
_OFFSET = -0.691  # dB, so that a full-scale 997 Hz sine in one front channel measures -3.01
_RELATIVE_GATE = -10.0  # dB below the mean of the blocks above the absolute gate
_DECAY = 0.25  # seconds after which the K-weighting's impulse response is below 1e-20

# The analogue prototypes of BS.1770's two filters; the bilinear transform at 48 kHz gives the standard's tables.
_SHELF_HZ, _SHELF_Q, _SHELF_DB = 1681.974450955533, 0.7071752369554196, 3.999843853973347
_HIGH_PASS_HZ, _HIGH_PASS_Q = 38.13547087602444, 0.5003270373238773

Filters = Literal["bs1770", "torchaudio"]
"""Which K-weighting: the standard's, or what `torchaudio.transforms.Loudness` takes for it, which measures about a
tenth of a decibel less. SD-Codec and Stable Codec set levels by the latter (which also clips what its filters make, at
1; this is left out).
"""


def k_weighting(sample_rate: float, filters: Filters = "bs1770") -> np.ndarray:
    """The two K-weighting biquads at a sample rate: (2, 6) float64 second-order sections, as scipy lays them out.

    Raises:
      UsageError: unknown filters.
    """
    if filters == "torchaudio":
        return _cookbook_weighting(sample_rate)
    if filters != "bs1770":
        raise UsageError(f"Unknown filters {filters!r}; use 'bs1770' or 'torchaudio'.")
    k = np.tan(np.pi * _SHELF_HZ / sample_rate)
    high = 10 ** (_SHELF_DB / 20)
    middle = high**0.4996667741545416
    norm = 1 + k / _SHELF_Q + k * k
    shelf = [
        (high + middle * k / _SHELF_Q + k * k) / norm,
        2 * (k * k - high) / norm,
        (high - middle * k / _SHELF_Q + k * k) / norm,
        1.0,
        2 * (k * k - 1) / norm,
        (1 - k / _SHELF_Q + k * k) / norm,
    ]
    k = np.tan(np.pi * _HIGH_PASS_HZ / sample_rate)
    norm = 1 + k / _HIGH_PASS_Q + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / _HIGH_PASS_Q + k * k) / norm]
    return np.array([shelf, high_pass])


def _cookbook_weighting(sample_rate: float) -> np.ndarray:
    """Shelf of 4 dB at 1500 Hz and high-pass at 38 Hz (Q 0.5), by the formulas of Bristow-Johnson's cookbook."""
    w = 2 * np.pi * 1500 / sample_rate
    a, cos = 10 ** (4 / 40), np.cos(w)
    slope = np.sqrt(2 * a) * np.sin(w)  # at a Q of 1 / sqrt(2)
    shelf = [
        a * ((a + 1) + (a - 1) * cos + slope),
        -2 * a * ((a - 1) + (a + 1) * cos),
        a * ((a + 1) + (a - 1) * cos - slope),
        (a + 1) - (a - 1) * cos + slope,
        2 * ((a - 1) - (a + 1) * cos),
        (a + 1) - (a - 1) * cos - slope,
    ]
    w = 2 * np.pi * 38 / sample_rate
    cos, slope = np.cos(w), np.sin(w)
    high_pass = [(1 + cos) / 2, -1 - cos, (1 + cos) / 2, 1 + slope, -2 * cos, 1 - slope]
    return np.array([[x / section[3] for x in section] for section in (shelf, high_pass)])


@functools.lru_cache(maxsize=16)
def _impulse_response(sample_rate: float, filters: Filters) -> np.ndarray:
    """The K-weighting's impulse response, up to where it is nothing beside float64 rounding."""
    taps = int(_DECAY * sample_rate)
    delay = np.exp(-2j * np.pi * np.arange(taps // 2 + 1) / taps)
    response = np.ones_like(delay)
    for b0, b1, b2, a0, a1, a2 in k_weighting(sample_rate, filters):
        response *= (b0 + b1 * delay + b2 * delay**2) / (a0 + a1 * delay + a2 * delay**2)
    return np.fft.irfft(response, taps)


def k_weighted(x: ArrayLike, sample_rate: float, filters: Filters = "bs1770") -> Array:
    """Passes x (..., time) through the K-weighting filter, starting from rest.

    A recursive filter would run sample by sample; its impulse response is short, so a product of spectra replaces it.
    """
    x = as_float(x)
    time = x.shape[-1]
    response = _impulse_response(sample_rate, filters)
    size = 1 << (time + len(response) - 2).bit_length()
    spectrum = jnp.fft.rfft(x, size) * jnp.fft.rfft(jnp.asarray(response, x.dtype), size)
    return jnp.fft.irfft(spectrum, size)[..., :time].astype(x.dtype)


def _default_weights(channels: int) -> tuple[float, ...]:
    surround = {5: (1, 1, 1, 1.41, 1.41), 6: (1, 1, 1, 0, 1.41, 1.41)}  # L R C Ls Rs, and L R C LFE Ls Rs
    return surround.get(channels, (1,) * channels)


def integrated_loudness(
    x: ArrayLike,
    sample_rate: int,
    *,
    channel_axis: int | None = None,
    weights: Sequence[float] | None = None,
    filters: Filters = "bs1770",
    incomplete: bool = False,
) -> Array:
    """Integrated loudness in LUFS (ITU-R BS.1770-4, annex 1).

    K-weighting, mean square over 400 ms blocks with 75 % overlap, weighted sum over channels, and the two-stage gate:
    blocks above -70 LUFS, and of those the ones no more than 10 LU below their mean. A signal shorter than 400 ms is
    one block of its own length, without the relative gate. If no block passes -70 LUFS the result is `SILENCE` (-70),
    not minus infinity, and its gradient is zero.

    Args:
      x: (..., time); with `channel_axis`, one more axis of channels.
      sample_rate: samples per second, a Python number; at least 8000.
      channel_axis: the channels of one programme; None for mono, where every leading index is a programme of its own.
      weights: one per channel; by default 1, and 1.41 for the surrounds of 5 (L R C Ls Rs) or 6 channels (L R C LFE
        Ls Rs, with 0 for the LFE).
      filters: see `Filters`.
      incomplete: count a last block that the signal does not fill as if silence followed, as audiotools does.

    Returns:
      (...,) LUFS, at least -70.

    Raises:
      AudioError: no samples.
      UsageError: a sample rate below 8000 Hz, or a number of weights other than the channels'.
    """
    x = as_float(x)
    x = x[..., None, :] if channel_axis is None else jnp.moveaxis(x, channel_axis, -2)
    *_, channels, time = x.shape
    if time == 0:
        raise AudioError("Loudness of an empty signal is not defined: give at least one sample.")
    if sample_rate < 8000:
        raise UsageError(f"BS.1770 filters need at least 8000 Hz, not {sample_rate}: resample first.")
    weights = _default_weights(channels) if weights is None else tuple(weights)
    if len(weights) != channels:
        raise UsageError(f"{len(weights)} channel weights for {channels} channels: give one per channel.")
    energy = jnp.square(k_weighted(x, sample_rate, filters))
    energy = jnp.einsum("...ct,c->...t", energy, jnp.asarray(weights, x.dtype), precision="highest")

    hop = round(sample_rate / 10)
    if incomplete:
        energy = jnp.pad(energy, [(0, 0)] * (energy.ndim - 1) + [(0, max(4 * hop - time, -time % hop))])
        time = energy.shape[-1]
    if time < 4 * hop:
        return _gated_loudness(jnp.mean(energy, -1, keepdims=True))
    hops = time // hop
    parts = jnp.sum(energy[..., : hops * hop].reshape(*energy.shape[:-1], hops, hop), -1)
    blocks = (parts[..., :-3] + parts[..., 1:-2] + parts[..., 2:-1] + parts[..., 3:]) / (4 * hop)
    return _gated_loudness(blocks)


def _gated_loudness(blocks: Array) -> Array:
    """Loudness of the mean power of the blocks (..., blocks) that pass both gates."""

    def gated_mean(gate: Array) -> tuple[Array, Array]:
        passed = blocks > gate
        count = jnp.sum(passed, -1)
        return jnp.sum(jnp.where(passed, blocks, 0), -1) / jnp.maximum(count, 1), count

    absolute = 10 ** ((SILENCE - _OFFSET) / 10)
    mean, _ = gated_mean(jnp.asarray(absolute, blocks.dtype))
    relative = lax.stop_gradient(mean)[..., None] * 10 ** (_RELATIVE_GATE / 10)
    mean, count = gated_mean(jnp.maximum(relative, absolute))
    return jnp.where(count > 0, _OFFSET + 10 * jnp.log10(jnp.where(count > 0, mean, 1)), SILENCE)


def normalize_loudness(
    x: ArrayLike,
    sample_rate: int,
    target: ArrayLike = -23.0,
    *,
    channel_axis: int | None = None,
    weights: Sequence[float] | None = None,
    max_peak: float | None = None,
    filters: Filters = "bs1770",
) -> Array:
    """Scales x to an integrated loudness.

    Args:
      x: as in `integrated_loudness`.
      sample_rate: samples per second.
      target: LUFS, one number or one for each programme.
      channel_axis: as in `integrated_loudness`; all channels get one gain.
      weights: as in `integrated_loudness`.
      max_peak: reduce the gain where the peak would exceed this; None leaves peaks alone.
      filters: see `Filters`.

    Returns:
      An array like x. What measures -70 LUFS or less is silence and is returned unchanged.
    """
    x = as_float(x)
    loudness = integrated_loudness(x, sample_rate, channel_axis=channel_axis, weights=weights, filters=filters)
    gain = jnp.where(loudness > SILENCE, db_to_amplitude(target - loudness), 1)
    axes = (-1,) if channel_axis is None else _time_and_channels(x.ndim, channel_axis)
    gain = jnp.expand_dims(gain, axes)
    if max_peak is not None:
        gain = jnp.minimum(gain, max_peak / jnp.maximum(peak(x, axes, keepdims=True), jnp.finfo(x.dtype).tiny))
    return x * gain


def mixed(
    sources: Array, valid: Array, levels: Array, mix_level: Array, sample_rate: int, *, ceiling_db: float = -0.5
) -> Array:
    """Brings sources to the levels that they have in a mixture of a given loudness, as SD-Codec's training does.

    Args:
      sources: (batch, tracks, time).
      valid: (batch, tracks), 1 for the sources that are in the mixture; the others become silent.
      levels: (batch, tracks) LUFS of the sources.
      mix_level: (batch,) LUFS of their sum, to which all of them are turned up or down together.
      sample_rate: samples per second.
      ceiling_db: neither a source nor the mixture peaks above it.

    Returns:
      (batch, tracks, time), which add up to the mixture.
    """
    parts = normalize_loudness(sources, sample_rate, levels) * valid[..., None]
    mixture = jnp.sum(parts, 1)
    loudness = integrated_loudness(mixture, sample_rate)
    gain = jnp.where(loudness > SILENCE, db_to_amplitude(mix_level - loudness), 1)[:, None, None]
    loudest = jnp.maximum(jnp.max(peak(parts), -1), peak(mixture))[:, None, None]
    return parts * jnp.minimum(gain, db_to_amplitude(ceiling_db) / jnp.maximum(loudest, jnp.finfo(parts.dtype).tiny))


def _time_and_channels(ndim: int, channel_axis: int) -> tuple[int, int]:
    """The two axes of a programme: channels, and the last one that is left, time."""
    channels = channel_axis % ndim
    return channels, ndim - 1 if channels != ndim - 1 else ndim - 2
