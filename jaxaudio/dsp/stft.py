"""Short-time Fourier transform and its exact inverse, as pairs of real arrays (real, imaginary).

Pairs of reals instead of complex numbers keep every array in a dtype that TPUs, checkpoints and optimisers handle well.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.dsp.window import get_window
from jaxaudio.errors import UsageError

_FLOOR = 1e-11  # below this the summed squared windows say nothing about the signal


def frame(x: Array, length: int, hop: int) -> Array:
    """Cuts (..., time) into overlapping frames (..., frames, length); a last incomplete frame is left out.

    Frames are put together from blocks of `hop` samples, which compiles to a few strided copies instead of a gather.
    """
    count = 1 + (x.shape[-1] - length) // hop
    if count < 1:
        raise UsageError(f"The signal has {x.shape[-1]} samples, fewer than one frame of {length}: pad it.")
    parts = -(-length // hop)
    total = (count - 1 + parts) * hop
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, max(0, total - x.shape[-1]))])[..., :total]
    blocks = x.reshape(*x.shape[:-1], count - 1 + parts, hop)
    frames = jnp.concatenate([blocks[..., i : i + count, :] for i in range(parts)], axis=-1)
    return frames[..., :length]


def overlap_add(frames: Array, hop: int) -> Array:
    """Adds frames (..., frames, length) at distance `hop` to a signal (..., (frames - 1) * hop + length)."""
    *batch, count, length = frames.shape
    parts = -(-length // hop)
    pad = [(0, 0)] * len(batch)
    blocks = jnp.pad(frames, [*pad, (0, 0), (0, parts * hop - length)]).reshape(*batch, count, parts, hop)
    shifted = [jnp.pad(blocks[..., i, :], [*pad, (i, parts - 1 - i), (0, 0)]) for i in range(parts)]
    total = sum(shifted[1:], shifted[0]).reshape(*batch, (count - 1 + parts) * hop)
    return total[..., : (count - 1) * hop + length]


def _padded_window(window: str | np.ndarray, win_length: int | None, n_fft: int) -> np.ndarray:
    win_length = n_fft if win_length is None else win_length
    if not 1 <= win_length <= n_fft:
        raise UsageError(f"win_length is {win_length}; it must lie between 1 and n_fft = {n_fft}.")
    left = (n_fft - win_length) // 2
    return np.pad(get_window(window, win_length), (left, n_fft - win_length - left))


def stft(
    x: Array,
    n_fft: int,
    hop: int,
    *,
    window: str | np.ndarray = "hann",
    win_length: int | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
) -> tuple[Array, Array]:
    """Short-time Fourier transform.

    Args:
      x: (..., time) real signal.
      n_fft: frame and transform length in samples.
      hop: samples between frames.
      window: name or samples, see `get_window`; shorter windows are centred in the frame.
      win_length: window length, `n_fft` by default.
      center: pad by n_fft // 2 on both sides, so that frame t is centred on sample t * hop.
      pad_mode: a `jnp.pad` mode, used when `center`.

    Returns:
      Real and imaginary part, each (..., frames, n_fft // 2 + 1); frames = 1 + time // hop when centred.

    Raises:
      UsageError: the signal is too short for one frame, or for reflection (it needs more than n_fft // 2 samples).
    """
    if center:
        if pad_mode == "reflect" and x.shape[-1] <= n_fft // 2:
            raise UsageError(
                f"Reflection needs more than {n_fft // 2} samples, not {x.shape[-1]}: pad with zeros first."
            )
        x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(n_fft // 2, n_fft // 2)], mode=pad_mode)
    frames = frame(x, n_fft, hop) * jnp.asarray(_padded_window(window, win_length, n_fft), x.dtype)
    spectrum = jnp.fft.rfft(frames, axis=-1)
    return spectrum.real, spectrum.imag


def istft(
    real: Array,
    imag: Array,
    hop: int,
    *,
    length: int | None = None,
    window: str | np.ndarray = "hann",
    win_length: int | None = None,
    center: bool = True,
    frames: Array | None = None,
) -> Array:
    """Inverse of `stft`: windowed overlap-add divided by the summed squared windows.

    Exact wherever at least one window is not zero, for any window and hop.

    Args:
      real: (..., frames, bins) real part; n_fft is 2 * (bins - 1).
      imag: (..., frames, bins) imaginary part.
      hop: samples between frames.
      length: samples to return (cut or zero-padded); by default (frames - 1) * hop when centred, all otherwise.
      window: as given to `stft`.
      win_length: as given to `stft`.
      center: as given to `stft`.
      frames: (...,) int, how many frames of each signal count, if they differ.

    Returns:
      (..., length) signal.
    """
    n_fft = 2 * (real.shape[-1] - 1)
    values = _padded_window(window, win_length, n_fft)
    parts = jnp.fft.irfft(real + 1j * imag, n=n_fft, axis=-1).astype(real.dtype) * jnp.asarray(values, real.dtype)
    count = real.shape[-2]
    if frames is None:
        signal, weight = overlap_add(parts, hop), np.zeros((count - 1) * hop + n_fft)
        for i in range(count):
            weight[i * hop : i * hop + n_fft] += values**2
        signal = signal / jnp.asarray(np.maximum(weight, _FLOOR), real.dtype)
    else:
        heard = (jnp.arange(count) < jnp.asarray(frames)[..., None])[..., None]
        squares = jnp.where(heard, jnp.asarray(values**2, real.dtype), 0)
        signal = overlap_add(jnp.where(heard, parts, 0), hop) / jnp.maximum(overlap_add(squares, hop), _FLOOR)
    start = n_fft // 2 if center else 0
    if length is None:
        length = (count - 1) * hop if center else signal.shape[-1]
    signal = signal[..., start : start + length]
    return jnp.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, length - signal.shape[-1])])


def magnitude(real: Array, imag: Array, floor: float = 1e-10) -> Array:
    """Magnitude sqrt(max(re^2 + im^2, floor)): the floor on the power keeps the gradient finite in silence."""
    return jnp.sqrt(jnp.maximum(real**2 + imag**2, floor))
