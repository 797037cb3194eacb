"""Sample-rate conversion: windowed-sinc interpolation inside jitted programs, and soxr on the host."""

import functools
import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from jaxaudio.dsp.levels import as_float
from jaxaudio.errors import UsageError

_KAISER_BETA = 14.769656459379492  # the default of torchaudio, for a stop band as in librosa's "kaiser_best"
_MIN_STEP = 32  # input samples per stride of the convolution
_MAX_KERNEL = 1 << 25  # taps; coprime rates such as 44100 and 44101 would ask for billions


def _reduced(rate_in: int, rate_out: int) -> tuple[int, int]:
    if rate_in != int(rate_in) or rate_out != int(rate_out) or rate_in < 1 or rate_out < 1:
        raise UsageError(f"Cannot resample from {rate_in} to {rate_out} Hz: sample rates are positive whole numbers.")
    common = math.gcd(int(rate_in), int(rate_out))
    return int(rate_in) // common, int(rate_out) // common


@functools.lru_cache(maxsize=32)
def sinc_kernels(
    step: int,
    phases: int,
    zeros: int = 6,
    rolloff: float = 0.99,
    window: Literal["hann", "kaiser"] = "hann",
    beta: float = _KAISER_BETA,
) -> tuple[np.ndarray, int]:
    """One windowed-sinc low-pass filter per output phase.

    Args:
      step: input samples per period (the input rate over the common divisor).
      phases: output samples per period.
      zeros: zero crossings of the sinc on each side.
      rolloff: cut-off relative to half the lower rate.
      window: "hann" or "kaiser".
      beta: shape of the Kaiser window.

    Returns:
      (taps, phases) float64 read-only, and the number of taps before the period's first sample.
    """
    cutoff = min(step, phases) * rolloff
    width = math.ceil(zeros * step / cutoff)
    taps = 2 * width + step
    if taps * phases > _MAX_KERNEL:
        raise UsageError(
            f"Resampling by {phases}/{step} needs too many filters; use resample_numpy, or round the rates."
        )
    time = np.arange(-width, width + step)[:, None] / step - np.arange(phases) / phases
    time = np.clip(time * cutoff, -zeros, zeros)
    if window == "hann":
        taper = np.cos(time * np.pi / zeros / 2) ** 2
    elif window == "kaiser":
        taper = np.i0(beta * np.sqrt(np.maximum(0, 1 - (time / zeros) ** 2))) / np.i0(beta)
    else:
        raise UsageError(f"Unknown resampling window {window!r}; use 'hann' or 'kaiser'.")
    kernels = np.sinc(time) * taper * (cutoff / step)
    kernels.flags.writeable = False  # shared by the cache
    return kernels, width


def resample(
    x: ArrayLike,
    rate_in: int,
    rate_out: int,
    *,
    lowpass_filter_width: int = 6,
    rolloff: float = 0.99,
    window: Literal["hann", "kaiser"] = "hann",
    beta: float = _KAISER_BETA,
) -> Array:
    """Band-limited resampling, as `torchaudio.functional.resample` (Smith, "Digital Audio Resampling", 2002).

    All phases of the interpolation filter are the output channels of one strided convolution, so that the function is
    jittable, differentiable and linear. The end of the signal is treated as silence.

    Args:
      x: (..., time) at `rate_in`.
      rate_in: samples per second of x, a Python integer.
      rate_out: samples per second of the result, a Python integer.
      lowpass_filter_width: zero crossings of the sinc on each side.
      rolloff: cut-off relative to half the lower rate, in (0, 1].
      window: "hann" or "kaiser".
      beta: shape of the Kaiser window.

    Returns:
      (..., ceil(time * rate_out / rate_in)).

    Raises:
      UsageError: rates that are not positive integers, or that have too small a common divisor.
    """
    x = as_float(x)
    step, phases = _reduced(rate_in, rate_out)
    if step == phases:
        return x
    periods = -(-_MIN_STEP // step)  # several short periods at once make one efficient matrix product
    step, phases = step * periods, phases * periods
    kernels, width = sinc_kernels(step, phases, lowpass_filter_width, rolloff, window, beta)
    *batch, time = x.shape
    blocks = lax.conv_general_dilated(
        x.reshape(math.prod(batch), time, 1),
        jnp.asarray(kernels[:, None, :], x.dtype),
        window_strides=(step,),
        padding=[(width, width + step)],
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=lax.Precision.HIGHEST,
    )
    return blocks.reshape(*batch, blocks.shape[1] * phases)[..., : -(-time * phases // step)]


def resample_numpy(x: np.ndarray, rate_in: float, rate_out: float, *, axis: int = 0) -> np.ndarray:
    """Resampling on the host with soxr's HQ recipe, for reading and writing files.

    Args:
      x: audio with time along `axis`; integers are converted to float32 without rescaling.
      rate_in: samples per second of x.
      rate_out: samples per second of the result; any positive ratio.
      axis: the time axis, the first by default, as sound files are read.

    Returns:
      An array like x with round(time * rate_out / rate_in) samples along `axis`.

    Raises:
      UsageError: rates that are not positive.
    """
    import soxr

    if not (0 < rate_in < math.inf and 0 < rate_out < math.inf):
        raise UsageError(f"Cannot resample from {rate_in} to {rate_out} Hz: sample rates are positive numbers.")
    x = np.asarray(x)
    x = x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)
    if rate_in == rate_out or x.size == 0:
        return x
    moved = np.moveaxis(x, axis, 0)
    flat = np.ascontiguousarray(moved.reshape(len(moved), -1))
    out = soxr.resample(flat, rate_in, rate_out, quality="HQ")
    return np.ascontiguousarray(np.moveaxis(out.reshape(len(out), *moved.shape[1:]), 0, axis))
