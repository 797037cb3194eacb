"""Long signals in bounded memory: overlapping windows, each keeping only its centre."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxaudio.errors import UsageError


class Window(NamedTuple):
    """One window over a signal, in samples: compute [start, stop), of which [keep_start, keep_stop) is final."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


def plan(length: int, left: int, center: int, right: int) -> list[Window]:
    """Windows of left + center + right samples at a distance of `center`, and a shorter last one.

    The first window keeps its left context too, the last one everything to the end (AudioSep's `chunk_inference`).
    A signal no longer than one window is one window.

    Raises:
      UsageError: a negative context or no centre.
    """
    if left < 0 or right < 0 or center < 1:
        raise UsageError(
            f"chunks of {left} + {center} + {right} samples: give a positive centre and no negative context."
        )
    size = left + center + right
    starts = [0]
    while starts[-1] + size < length:
        starts.append(starts[-1] + center)
    stops = [min(start + size, length) for start in starts]
    return [
        Window(start, stop, start + left if start else 0, stop - right if stop < length else length)
        for start, stop in zip(starts, stops)
    ]


def chunked(
    process: Callable[[np.ndarray], np.ndarray],
    signal: np.ndarray,
    windows: list[Window],
    *,
    batch: int = 1,
    fade: int = 0,
    out: np.ndarray,
    progress: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Fills `out` with the processed signal, window by window; memory does not depend on the length.

    Args:
      process: (rows, time) -> (rows, ..., time), the same for every row.
      signal: (rows, time).
      windows: as `plan` makes them.
      batch: windows of equal length computed in one call of `process`, their rows one after the other.
      fade: samples of linear cross-fade, centred on each cut; 0 for hard cuts. Both windows must cover it.
      out: (rows, ..., time) filled in place; its middle axes are those of `process`.
      progress: called with the number of windows finished so far.

    Returns:
      `out`.
    """
    rows, done = signal.shape[0], 0
    half = fade // 2
    out[...] = 0
    while done < len(windows):
        size = windows[done].stop - windows[done].start
        group = [w for w in windows[done : done + batch] if w.stop - w.start == size]
        stacked = np.concatenate([signal[:, w.start : w.stop] for w in group])
        results = np.asarray(process(stacked))
        for i, w in enumerate(group):
            first, last = done + i == 0, done + i == len(windows) - 1
            begin = w.keep_start - (0 if first else half)
            end = w.keep_stop + (0 if last else half)
            begin, end = max(begin, w.start), min(end, w.stop)
            piece = results[i * rows : (i + 1) * rows, ..., begin - w.start : end - w.start]
            out[..., begin:end] += piece * _ramp(end - begin, 0 if first else fade, 0 if last else fade, out.dtype)
        done += len(group)
        if progress:
            progress(done)
    return out


def _ramp(length: int, fade_in: int, fade_out: int, dtype: np.dtype) -> np.ndarray:
    weight = np.ones(length, dtype)
    for fade, view in ((2 * (fade_in // 2), weight), (2 * (fade_out // 2), weight[::-1])):
        if fade:
            view[:fade] *= (np.arange(fade, dtype=dtype) + 0.5) / fade
    return weight
