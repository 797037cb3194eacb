"""How well a separated signal matches its reference, as AudioSep's evaluation measures it (utils.py, evaluation/).

Every function maps (..., time) to (...), in the dtype of its inputs, on NumPy arrays (float64 stays float64) or JAX
arrays (jittable).
"""

from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

SDR_FLOOR = 1e-10  # of both mean squares: an exact match scores about 80 dB at usual levels, not infinity


def sdr(reference, estimate):
    """Signal-to-distortion ratio in dB: 10 log10 of the reference's mean square over the error's, both at least 1e-10.

    Args:
      reference: (..., time) true source.
      estimate: (..., time) separated source.

    Returns:
      (...) in dB. A silent estimate scores 0.
    """
    xp = reference.__array_namespace__()
    signal = xp.maximum(xp.mean(xp.square(reference), axis=-1), SDR_FLOOR)
    error = xp.maximum(xp.mean(xp.square(estimate - reference), axis=-1), SDR_FLOOR)
    return 10 * xp.log10(signal / error)


def sdri(reference, estimate, mixture):
    """Improvement of the SDR over that of leaving the mixture as it is, in dB; shapes as in `sdr`."""
    return sdr(reference, estimate) - sdr(reference, mixture)


def si_sdr(reference, estimate):
    """Scale-invariant SDR in dB (Le Roux et al. 2019), the dtype's machine epsilon added to every sum, no mean removed.

    Args:
      reference: (..., time) true source.
      estimate: (..., time) separated source; its scale does not matter, its sign does not either.

    Returns:
      (...) in dB. An exact match is limited by epsilon: about 92 dB in float32, 179 dB in float64.
    """
    xp = reference.__array_namespace__()
    eps = xp.finfo(reference.dtype).eps
    gain = (eps + xp.sum(reference * estimate, axis=-1)) / (xp.sum(xp.square(reference), axis=-1) + eps)
    target = gain[..., None] * reference
    signal = xp.sum(xp.square(target), axis=-1)
    error = xp.sum(xp.square(estimate - target), axis=-1)
    return 10 * xp.log10((eps + signal) / (eps + error))


def sd_sdr(reference, estimate):
    """Scale-dependent SDR in dB (Le Roux et al. 2019): the energy of `si_sdr`'s target over that of the whole error.

    Args:
      reference: (..., time) true source.
      estimate: (..., time) separated source, whose scale matters.

    Returns:
      (...) in dB, limited as `si_sdr` is.
    """
    xp = reference.__array_namespace__()
    eps = xp.finfo(reference.dtype).eps
    gain = (eps + xp.sum(reference * estimate, axis=-1)) / (xp.sum(xp.square(reference), axis=-1) + eps)
    signal = xp.square(gain) * xp.sum(xp.square(reference), axis=-1)
    error = xp.sum(xp.square(estimate - reference), axis=-1)
    return 10 * xp.log10((eps + signal) / (eps + error))


def segmentwise_sdr(reference, estimate, length: int, *, keep_last: bool = True):
    """Median SDR over windows of `length` samples; a shorter rest at the end is not measured.

    Args:
      reference: (..., time), at least `length` samples.
      estimate: (..., time).
      length: window and hop in samples.
      keep_last: measure a last window that ends exactly with the signal; AudioSep drops it.

    Returns:
      (...) in dB.

    Raises:
      ValueError: the signal holds no window.
    """
    xp = reference.__array_namespace__()
    count = (reference.shape[-1] if keep_last else reference.shape[-1] - 1) // length
    if count < 1:
        raise ValueError(f"no window of {length} samples in {reference.shape[-1]}; use a shorter one.")
    windows = (*reference.shape[:-1], count, length)
    parts = (xp.reshape(x[..., : count * length], windows) for x in (reference, estimate))
    return xp.median(sdr(*parts), axis=-1)


def energies_left(
    target: ArrayLike, other: ArrayLike, estimate: ArrayLike, *, margin_db: float = 10.0, n_fft: int = 1024
):
    """How much of the interference, and how much of the target, is heard in an estimate, whatever its phases are.

    A separator that makes its estimate anew is not in phase with the reference, so that SDR says nothing about it. Here
    only places of the spectrogram count where one of the two sources is louder than the other by `margin_db`.

    Args:
      target: (..., time) what was asked for.
      other: (..., time) the rest of the mixture.
      estimate: (..., time).
      margin_db: see above.
      n_fft: length of the Hann window; it moves by a quarter.

    Returns:
      Two arrays (...) in dB: energy of the estimate where `other` dominates, over that of `other` there (lower is
      better); and where `target` dominates, over that of `target` (0 is best). NaN where a source dominates nowhere.
    """
    import jax.numpy as jnp

    from jaxaudio.dsp.stft import stft

    def power(x):
        real, imag = (np.asarray(part, np.float64) for part in stft(jnp.asarray(x), n_fft, n_fft // 4))
        return real**2 + imag**2

    wanted, rest, heard = power(target), power(other), power(estimate)
    ratio = 10 ** (margin_db / 10)
    rows = []
    for source, louder in ((rest, rest > ratio * wanted), (wanted, wanted > ratio * rest)):
        energy, left = (np.sum(x * louder, (-2, -1)) for x in (source, heard))
        with np.errstate(divide="ignore", invalid="ignore"):
            rows.append(10 * np.log10((left + SDR_FLOOR) / energy))
    return tuple(np.where(np.isfinite(row), row, np.nan) for row in rows)


def aggregate(
    values: ArrayLike,
    labels: Sequence[Hashable] | None = None,
    how: Literal["mean", "median_then_mean", "mean_then_mean"] = "mean",
) -> float:
    """One figure for a test set.

    Args:
      values: (items,), usually SDRi in dB.
      labels: class of each item; needed for the two per-class rules.
      how: "mean" over all items (AudioSep: VGGSound, AudioCaps, Clotho, ESC-50), the median within each class and then
        the mean over classes (AudioSet), or the mean within each class and then over classes (MUSIC).

    Returns:
      the figure, computed in the dtype of `values`; NaN if there are none.

    Raises:
      ValueError: a per-class rule without labels, or not one label per value.
    """
    values = np.asarray(values)
    if values.size == 0:
        return float("nan")
    if how == "mean":
        return float(values.mean())
    if labels is None or len(labels) != len(values):
        raise ValueError(f"'{how}' needs one label per value.")
    classes: dict[Hashable, list[int]] = {}
    for item, label in enumerate(labels):
        classes.setdefault(label, []).append(item)
    middle = np.median if how == "median_then_mean" else np.mean
    return float(np.mean([middle(values[items]) for items in classes.values()]))
