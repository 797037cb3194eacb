"""Window functions, computed in float64 with numpy and cast by their users."""

import functools

import numpy as np

from jaxaudio.errors import UsageError

_COSINE_SUMS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "blackman": (0.42, 0.5, 0.08)}


@functools.lru_cache(maxsize=64)
def _window(name: str, length: int, periodic: bool) -> np.ndarray:
    if length < 1:
        raise UsageError(f"A window needs at least one sample, not {length}.")
    if length == 1:
        return np.ones(1)
    phase = 2 * np.pi * np.arange(length) / (length if periodic else length - 1)
    if name in ("rectangular", "boxcar", "ones"):
        values = np.ones(length)
    elif name == "povey":  # Kaldi: a Hann window with flatter flanks that still reaches zero
        values = (0.5 - 0.5 * np.cos(phase)) ** 0.85
    elif name in _COSINE_SUMS:
        values = sum((-1) ** k * a * np.cos(k * phase) for k, a in enumerate(_COSINE_SUMS[name]))
    else:
        known = ", ".join([*_COSINE_SUMS, "povey", "rectangular"])
        raise UsageError(f"Unknown window {name!r}; choose one of: {known}.")
    values = np.asarray(values)
    values.flags.writeable = False  # shared by the cache
    return values


def get_window(window: str | np.ndarray, length: int, *, periodic: bool = True) -> np.ndarray:
    """Returns a window of `length` samples as a float64 array.

    Args:
      window: "hann", "hamming", "blackman", "povey", "rectangular", or the samples themselves.
      length: number of samples.
      periodic: True for spectral analysis (as `scipy.signal.get_window`), False for the symmetric form.

    Raises:
      UsageError: unknown name, or samples of another length.
    """
    if isinstance(window, str):
        return _window(window, length, periodic)
    values = np.asarray(window, np.float64)
    if values.shape != (length,):
        raise UsageError(f"The window has shape {values.shape}; give ({length},) samples or a window's name.")
    return values
