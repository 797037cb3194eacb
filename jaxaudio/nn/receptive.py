"""What a stack of convolutions along time can see, and windows of a long signal that give what the whole would."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxaudio.errors import UsageError


class Layer(NamedTuple):
    """One convolution along time; layers without a reach need not be listed.

    Attributes:
      width: taps.
      dilation: steps between taps.
      stride: inputs per output, or outputs per input if transposed.
      pad: zeros before the first input, or outputs cut off before the first if transposed; None for half of the reach.
      transposed: whether it is a transposed convolution.
    """

    width: int
    dilation: int = 1
    stride: int = 1
    pad: int | None = None
    transposed: bool = False

    @property
    def before(self) -> int:
        """`pad`, or what keeps the length."""
        return (self.width - 1) * self.dilation // 2 if self.pad is None else self.pad


def span(layers: Sequence[Layer], first: int, last: int) -> tuple[int, int]:
    """The first and the last input that outputs `first` to `last` of the layers depend on; they may be negative."""
    for layer in reversed(layers):
        if layer.transposed:
            first = -((layer.width - 1 - layer.before - first) // layer.stride)
            last = (last + layer.before) // layer.stride
        else:
            first = first * layer.stride - layer.before
            last = last * layer.stride - layer.before + (layer.width - 1) * layer.dilation
    return first, last


def valid_length(layers: Sequence[Layer], length: int) -> int:
    """Outputs for so many inputs if nothing is padded or cut off; the formula is used below its range, too."""
    for layer in layers:
        reach = (layer.width - 1) * layer.dilation
        if layer.transposed:
            length = (length - 1) * layer.stride + reach + 1
        else:
            length = (length - reach - 1) // layer.stride + 1
    return length


def context_in_frames(encoder: Sequence[Layer], hop: int) -> tuple[int, int]:
    """Frames of an encoder's input before and after its own that a frame depends on."""
    first, last = span(encoder, 0, 0)
    return math.ceil(-first / hop), math.ceil((last - hop + 1) / hop)


def context_of_samples(decoder: Sequence[Layer], hop: int) -> tuple[int, int]:
    """Frames before and after its own that the samples of one frame depend on in a decoder."""
    first, last = span(decoder, 0, hop - 1)
    return -first, last


@dataclasses.dataclass(frozen=True, kw_only=True)
class Windows:
    """A function of long signals that is computed in windows of one size.

    Attributes:
      process: (batch, frames * inputs, ...) -> (batch, frames * outputs, ...); an incomplete last frame counts as one.
      size: frames of a window.
      context: frames before and after its own that a frame's outputs depend on.
      inputs: numbers per frame that go in.
      outputs: numbers per frame that come out.
    """

    process: Callable[[np.ndarray], ArrayLike]
    size: int
    context: tuple[int, int]
    inputs: int
    outputs: int

    def __post_init__(self) -> None:
        if self.size <= sum(self.context):
            raise UsageError(
                f"a window of {self.size} frames is all context: give more than {sum(self.context)}, better four times."
            )


def of_few_lengths(
    process: Callable[[np.ndarray, np.ndarray | None], ArrayLike], size: int, inputs: int, outputs: int
) -> Callable[[np.ndarray], np.ndarray]:
    """A `Windows.process` that fills windows shorter than `size` up, so that few lengths are ever compiled.

    Args:
      process: `(signal, real)`, like `Windows.process`; `real` (batch,) says how much of the signal counts, None for
        all of it.
      size: as in `Windows`.
      inputs: as in `Windows`.
      outputs: as in `Windows`.
    """

    def run(signal: np.ndarray) -> np.ndarray:
        length = signal.shape[1]
        frames = -(-length // inputs)
        if length == size * inputs:
            return np.asarray(process(signal, None))
        more = min(filled(frames), max(size, frames)) * inputs - length
        whole = np.pad(signal, ((0, 0), (0, more), *[(0, 0)] * (signal.ndim - 2)))
        return np.asarray(process(whole, np.full(len(signal), length, np.int32)))[:, : frames * outputs]

    return run


def filled(count: int) -> int:
    """A length of at least `count`, of which there are few: a power of two, or half as much again."""
    power = 1 << max(3, (count - 1).bit_length())
    return power * 3 // 4 if count <= power * 3 // 4 else power


class Stream(NamedTuple):
    """Where a signal that comes in pieces stands.

    Attributes:
      rest: (batch, time, ...) the last that came in, enough for the windows to come; None before anything did.
      start: position of `rest` in the signal.
      done: frames that have been given out.
    """

    rest: np.ndarray | None = None
    start: int = 0
    done: int = 0


def push(windows: Windows, stream: Stream, piece: np.ndarray) -> tuple[list[np.ndarray], Stream]:
    """Takes in the next piece of a signal.

    Args:
      windows: how it is processed.
      stream: where it stands; `Stream()` at its beginning.
      piece: (batch, any number of positions, ...).

    Returns:
      What can be said by now, [(batch, outputs, ...), ...], and where the signal stands.
    """
    piece = np.asarray(piece)
    rest = piece if stream.rest is None else np.concatenate([stream.rest, piece], 1)
    start, done = stream.start, stream.done
    left, right = windows.context
    made: list[np.ndarray] = []
    while True:
        begin = max(0, done - left)
        end = begin + windows.size
        if start + rest.shape[1] < end * windows.inputs:
            # The signal may end anywhere from here on, and the last window ends where it does.
            return made, Stream(rest, start, done)
        rest, start = rest[:, begin * windows.inputs - start :], begin * windows.inputs
        out = np.asarray(windows.process(rest[:, : windows.size * windows.inputs]))
        made.append(_between(windows, out, done - begin, windows.size - right))
        done = end - right


def flush(windows: Windows, stream: Stream) -> list[np.ndarray]:
    """What is left to say when the signal has ended: [(batch, outputs, ...)], or nothing."""
    if stream.rest is None:
        return []
    frames = -(-(stream.start + stream.rest.shape[1]) // windows.inputs)
    if frames == stream.done:
        return []
    begin = max(0, frames - windows.size)
    rest = stream.rest[:, begin * windows.inputs - stream.start :]
    out = np.asarray(windows.process(rest))
    return [_between(windows, out, stream.done - begin, frames - begin)]


def run(windows: Windows, signal: np.ndarray) -> Iterator[np.ndarray]:
    """Processes a whole signal (batch, time, ...), yielding its outputs piece by piece."""
    stream, step = Stream(), windows.size * windows.inputs
    for begin in range(0, signal.shape[1], step):
        made, stream = push(windows, stream, signal[:, begin : begin + step])
        yield from made
    yield from flush(windows, stream)


def cut(pieces: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """The first `length` positions of what `run` yields."""
    for piece in pieces:
        if length:
            yield piece[:, :length]
        length -= min(length, piece.shape[1])


def _between(windows: Windows, out: np.ndarray, first: int, last: int) -> np.ndarray:
    return out[:, first * windows.outputs : last * windows.outputs]
