"""What a person gives a model, made into what it computes with: words, audio, rates, spans, numbers; errors say how."""

import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import soxr

from jaxaudio.errors import AudioError, UsageError

Progress = Callable[[int, int], None]
Spans = Sequence[tuple[float, float]]

_MAX_CHANNELS = 64


class Ticker:
    """Counts parts of a piece of work for a person."""

    def __init__(self, progress: Progress | None) -> None:
        self.progress, self.done, self.total = progress or (lambda done, total: None), 0, 0

    def expect(self, total: int) -> None:
        """Says how many parts there will be."""
        self.total = total
        self.progress(0, total)

    def __call__(self, parts: int = 1) -> None:
        """Says that so many more are done."""
        self.done += parts
        self.progress(self.done, self.total)


def as_texts(texts: str | Sequence[str]) -> list[str]:
    """A list of queries; UsageError where there are none, or one is not text or empty."""
    batch = [texts] if isinstance(texts, str) else list(texts)
    if not batch:
        raise UsageError("no query was given; describe the sound to separate, such as 'a dog barking'.")
    for text in batch:
        if not isinstance(text, str) or not text.strip():
            raise UsageError(
                f"the query {text!r} has no words; describe the sound to separate, such as 'a dog barking'."
            )
    return batch


def as_prompts(texts: str | Sequence[str]) -> list[str]:
    """A list of prompts, "" for those without words; UsageError where there are none, or one is not text."""
    batch = [texts] if isinstance(texts, str) else list(texts)
    if not batch:
        raise UsageError("no prompt was given; describe a sound, such as 'rain on a tin roof'.")
    for text in batch:
        if not isinstance(text, str):
            raise UsageError(f"the prompt {text!r} is no text; describe a sound, such as 'rain on a tin roof'.")
    return [text if text.strip() else "" for text in batch]


def as_channels(audio: Any) -> tuple[np.ndarray, bool]:
    """(time, channels) float32 of any sensible array, and whether it was (time,).

    Raises:
      AudioError: naming what is wrong; of samples that are not finite, the first.
    """
    x = np.asarray(audio)
    if x.dtype.kind not in "fiu" and x.dtype.name != "bfloat16":
        raise AudioError(f"audio of type {x.dtype} is none; give float samples in [-1, 1].")
    if x.ndim not in (1, 2):
        raise AudioError(f"audio of shape {x.shape} is none; give (time,) or (time, channels).")
    if not x.size:
        raise AudioError("the audio is empty; give at least one sample.")
    if x.ndim == 2 and x.shape[1] > _MAX_CHANNELS:
        raise AudioError(f"audio of shape {x.shape} has {x.shape[1]} channels; give (time, channels), not the reverse.")
    if x.dtype.kind in "iu":
        full = float(np.iinfo(x.dtype).max // 2 + 1 if x.dtype.kind == "u" else -float(np.iinfo(x.dtype).min))
        x = (x.astype(np.float64) - (full if x.dtype.kind == "u" else 0)) / full
    samples = np.asarray(x[:, None] if x.ndim == 1 else x, np.float32)
    if not np.isfinite(samples).all():
        time, channel = np.argwhere(~np.isfinite(samples))[0]
        value = samples[time, channel]
        raise AudioError(f"sample {time} of channel {channel} is {value}; repair the audio, which must be finite.")
    return samples, x.ndim == 1


def as_rate(sample_rate: Any) -> int:
    """A sample rate in Hz as an int; UsageError for what cannot be one."""
    known = isinstance(sample_rate, numbers.Real | np.number) and not isinstance(sample_rate, bool)
    if not known or not 1 <= sample_rate < float("inf") or int(sample_rate) != sample_rate:
        raise UsageError(f"a sample rate of {sample_rate!r} cannot be; give a whole number of Hz, such as 44100.")
    return int(sample_rate)


def as_seconds(chunk: Any) -> float:
    """A chunk length as a number; UsageError for anything else."""
    try:
        seconds = float(chunk)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 < seconds < float("inf"):
        raise UsageError(f"a chunk of {chunk!r} cannot be; give 'auto', 'off' or a number of seconds.")
    return seconds


def resampled(x: np.ndarray, old: int, new: int, length: int) -> np.ndarray:
    """(time,) at another rate, cut or filled up with zeros to `length` samples."""
    y = x if old == new else soxr.resample(x, old, new)
    return y[:length] if len(y) >= length else np.concatenate([y, np.zeros(length - len(y), y.dtype)])


def in_steps(audio: Any, sample_rate: Any, rate: int, *, longest: float, step: float) -> tuple[np.ndarray, int]:
    """The beginning of a recording, of one channel at a model's rate and whole steps long, so that few lengths compile.

    Args:
      audio: (time,) or (time, channels), at any rate; channels are averaged.
      sample_rate: of it, in Hz.
      rate: the model's, in Hz.
      longest: seconds that are heard.
      step: seconds; zeros fill the last one.

    Returns:
      ((samples,) float32, and how many of them are the recording's).

    Raises:
      AudioError: audio that is none, or is not finite.
      UsageError: a rate that cannot be.
    """
    samples, _ = as_channels(audio)
    given, size = as_rate(sample_rate), round(step * rate)
    mono = samples[: round(longest * given)].mean(1)
    length = max(1, round(len(mono) * rate / given))
    x = resampled(mono, given, rate, length)
    return np.pad(x, (0, -length % size)).astype(np.float32), length


def shaped(x: np.ndarray, mono: bool, single: bool) -> np.ndarray:
    """(queries, time, channels) without the axes that were not given."""
    x = x[..., 0] if mono else x
    return x[0] if single else x


def as_number(value: Any, what: str, least: float, most: float, *, whole: bool = False) -> float:
    """A number within bounds; UsageError for anything else, naming `what` it is of."""
    known = isinstance(value, numbers.Real | np.number) and not isinstance(value, bool | np.bool)
    if not known or not least <= value <= most or (whole and int(value) != value):
        kind = "whole number" if whole else "number"
        raise UsageError(f"{what} {value!r} cannot be; give a {kind} from {least:g} to {most:g}.")
    return int(value) if whole else float(value)


def as_spans(spans: Spans, seconds: float) -> list[tuple[float, float]]:
    """Parts of a recording, in seconds from its start, cut where it ends.

    Raises:
      UsageError: none, one that is no pair of numbers, that ends before it begins, or lies outside of the recording.
    """
    cut = []
    for span in spans:
        try:
            begin, end = map(float, span)
        except (TypeError, ValueError):
            raise UsageError(f"{span!r} is no span; give seconds from and to, such as (2.0, 3.5).") from None
        if not 0 <= begin < end or begin >= seconds:
            raise UsageError(
                f"the span {begin:g} to {end:g} s cannot be; give two times within the {seconds:g} s of audio, the "
                "earlier one first."
            )
        cut.append((begin, min(end, seconds)))
    if not cut:
        raise UsageError("no span was given; give seconds from and to, such as [(2.0, 3.5)].")
    return cut


def inside(spans: Spans, length: int, rate: int, fade: float = 0.02) -> np.ndarray:
    """(length,) weights: 0 outside the spans, 1 within, with half a cosine of `fade` seconds inside each edge.

    There is no fade at an end of the recording.
    """
    weight = np.zeros(length, np.float32)
    for begin, end in spans:
        first, last = round(begin * rate), min(max(round(end * rate), round(begin * rate) + 1), length)
        part = np.ones(last - first, np.float32)
        ramp = min(round(fade * rate), (last - first) // 2)
        rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(ramp, dtype=np.float32) + 0.5) / max(ramp, 1))
        if first > 0:
            part[:ramp] *= rise
        if last < length:
            part[len(part) - ramp :] *= rise[::-1]
        weight[first:last] = np.maximum(weight[first:last], part)
    return weight


def levelled(waves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Waveforms (rows, time) as AudioLDM and FlowSep hear them, see `dsp.front_ends.level`.

    Returns:
      The levelled waveforms; the gain (rows, 1) that gives the level back, 1 for silence; and the mean (rows, 1).
    """
    from jaxaudio.dsp.front_ends import level

    mean = waves.mean(1, keepdims=True)
    gain = 2 * np.abs(waves - mean).max(1, keepdims=True)
    return np.asarray(level(waves)), np.where(gain > 0, gain, 1).astype(np.float32), mean
