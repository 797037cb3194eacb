"""A separator in hand: audio of any rate, length and channel count, and queries in words."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxaudio.dsp import chunk as chunks
from jaxaudio.errors import UsageError
from jaxaudio.models import systems
from jaxaudio.models.encoders import TextEncoder, open_encoder
from jaxaudio.models.folder import Card, in_hand
from jaxaudio.models.inputs import Progress, as_channels, as_rate, as_seconds, as_texts, resampled, shaped

Chunk = Literal["auto", "off"] | float

_WORKING_SET = 1 << 30  # bytes of activations that one call may need, see `systems.footprint`
_MOST_QUERIES = 4  # in one call
_MOST_WINDOWS = 8  # in one call, on an accelerator; a CPU gains nothing from more than one


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Separator:
    """A model that separates what a query describes, from `jaxaudio.load`.

    Attributes:
      name: of the model.
      system: "audiosep" or "lassnet".
      config: the system's configuration.
      params: parameters for the pure functions of `jaxaudio.systems`, on the default device.
      sample_rate: that the model works at, in Hz.
      licence: of the weights.
      source: of the weights.
      card: everything that is known about the model.
    """

    name: str
    system: str
    config: Any
    params: Any
    sample_rate: int
    licence: str
    source: str
    card: Card

    @functools.cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder, read when it is first needed."""
        return open_encoder(self.card, self.params)

    def embed(self, texts: str | Sequence[str]) -> np.ndarray:
        """Queries -> (queries, width) float32, the condition of the system's `separate`."""
        return self.encoder(as_texts(texts))

    def separate(
        self,
        audio: Any,
        query: str | Sequence[str],
        *,
        sample_rate: int,
        negative: str | Sequence[str] | None = None,
        chunk: Chunk = "auto",
        fade: float = 0.0,
        residual: bool = False,
        progress: Progress | None = None,
    ) -> Any:
        """Separates what a query describes.

        Every channel is separated by itself. Other rates than the model's are resampled there and back; what lies above
        half the model's rate is then missing from the estimate, and part of the residual. Audio shorter than the model
        needs is filled up with silence, and the result cut back. Silence gives silence.

        Args:
          audio: (time,) or (time, channels), float in [-1, 1] or integers, whose full scale is taken as 1; not changed.
          query: what to separate, in words; of several, each is asked of the whole mixture.
          sample_rate: of `audio`, in Hz.
          negative: what to leave out, in words. It is separated from the mixture first, and the query is asked of what
            remains; several are taken out one after the other.
          chunk: "auto" computes long audio in windows of the model's `config.chunk` (left context, kept centre, right
            context, in seconds) in bounded memory; audio no longer than one window is filled up to a whole second, so
            that few shapes are compiled. A number of seconds is the length of a window instead. "off" computes the
            audio in one pass at its own length, as published; memory grows with it.
          fade: seconds of cross-fade between windows, 0 for hard cuts as published.
          residual: also return what is left, so that estimate + residual is the audio.
          progress: called with the numbers of windows done and in all.

        Returns:
          float32 of the same shape as `audio`, with a leading axis for a list of queries; with `residual`, two of them.

        Raises:
          AudioError: audio that is empty, not finite, or has a shape or type that is no audio.
          UsageError: an empty query, a rate, a chunk or a fade that cannot be.
        """
        samples, squeeze = as_channels(audio)
        rate = as_rate(sample_rate)
        condition = self.embed(query)
        unwanted = self.embed(negative) if negative is not None else condition[:0]
        length = -(-len(samples) * self.sample_rate // rate)
        layout = plan(self.config, length, chunk, fade)
        runner = _Runner(self, condition, unwanted, layout, channels=samples.shape[1], progress=progress)

        out = np.empty((len(condition), *samples.shape), np.float32)
        for channel in range(samples.shape[1]):
            mono = resampled(samples[:, channel], rate, self.sample_rate, layout.length)
            for i, estimate in enumerate(runner(mono)):
                out[i, :, channel] = resampled(estimate, self.sample_rate, rate, len(samples))
        rest = samples - out if residual else None
        results = tuple(shaped(x, squeeze, isinstance(query, str)) for x in (out, rest) if x is not None)
        return results if residual else results[0]


class Layout(NamedTuple):
    """How a signal is cut: `plan` makes it.

    Attributes:
      length: samples to compute, the signal's filled up with silence.
      size: samples of every window.
      windows: of `size` samples each.
      fade: samples of cross-fade.
    """

    length: int
    size: int
    windows: list[chunks.Window]
    fade: int


def plan(config: Any, length: int, chunk: Chunk, fade: float = 0.0) -> Layout:
    """Windows of one size for a signal of `length` samples at the model's rate.

    They are those of `jaxaudio.dsp.chunk.plan`, except that the last one starts earlier, so as to be a whole one too:
    its part of the signal is seen with more context, and one compiled shape serves every length.

    Raises:
      UsageError: windows too short for their contexts or for the STFT, a fade longer than the contexts.
    """
    rate = config.sample_rate
    if chunk == "off":
        length = max(length, config.n_fft)
        return Layout(length, length, [chunks.Window(0, length, 0, length)], 0)
    left, center, right = config.chunk
    if chunk != "auto":
        center = as_seconds(chunk) - left - right
        if center <= 0 or round((left + center + right) * rate) < config.n_fft:
            least = max(left + right, config.n_fft / rate)
            raise UsageError(
                f"a chunk of {chunk} s is too short: give more than {least:g} s, of which {left:g} s and "
                f"{right:g} s are context."
            )
    parts = [round(seconds * rate) for seconds in (left, center, right)]
    size, overlap = sum(parts), round(fade * rate)
    if not 0 <= overlap <= 2 * min(parts):
        raise UsageError(f"a fade of {fade:g} s does not fit: give at most {2 * min(parts) / rate:g} s.")
    if length <= size:
        whole = max(-(-length // rate) * rate, config.n_fft)
        length = size = max(length, min(whole, size))
        return Layout(length, size, [chunks.Window(0, size, 0, size)], 0)
    windows = chunks.plan(length, *parts)
    windows[-1] = windows[-1]._replace(start=length - size)
    return Layout(length, size, windows, overlap)


class _Runner:
    """Runs the windows of one channel through the network, a few windows and queries per call."""

    def __init__(
        self,
        model: Separator,
        condition: np.ndarray,
        unwanted: np.ndarray,
        layout: Layout,
        *,
        channels: int,
        progress: Progress | None,
    ) -> None:
        import jax

        self.params, self.layout, self.unwanted = model.params, layout, unwanted
        self.process = systems.process(model.system, model.config)
        room = max(1, _WORKING_SET // max(1, systems.footprint(model.config, layout.size)))
        queries = min(len(condition), room, _MOST_QUERIES)
        most = 1 if jax.default_backend() == "cpu" else _MOST_WINDOWS
        self.windows = min(1 << (len(layout.windows) - 1).bit_length(), max(1, room // queries), most)
        self.count = len(condition)
        padded = np.concatenate([condition, np.repeat(condition[-1:], -len(condition) % queries, 0)])
        self.groups = padded.reshape(-1, queries, condition.shape[1])
        self.done, self.total = 0, len(layout.windows) * len(self.groups) * channels
        self.progress = progress or (lambda done, total: None)
        self.progress(0, self.total)

    def __call__(self, mono: np.ndarray) -> np.ndarray:
        """(time,) -> (queries, time)."""
        out = np.empty((len(self.groups), self.groups.shape[1], len(mono)), np.float32)
        for group, estimates in zip(self.groups, out):
            before = self.done

            def advance(windows: int, before: int = before) -> None:
                self.done = before + windows
                self.progress(self.done, self.total)

            chunks.chunked(
                functools.partial(self._call, group),
                mono[None],
                self.layout.windows,
                batch=self.windows,
                fade=self.layout.fade,
                out=estimates[None],
                progress=advance,
            )
        return out.reshape(-1, len(mono))[: self.count]

    def _call(self, condition: np.ndarray, rows: np.ndarray) -> np.ndarray:
        count = len(rows)
        rows = np.concatenate([rows, np.zeros((self.windows - count, rows.shape[1]), rows.dtype)])
        for one in self.unwanted:
            rows = rows - np.asarray(self.process(self.params, rows, one[None]))[:, 0]
        return np.asarray(self.process(self.params, rows, condition))[:count]


def open_separator(card: Card) -> Separator:
    """Reads the weights of a separator; see `jaxaudio.load`."""
    return Separator(**in_hand(card))
