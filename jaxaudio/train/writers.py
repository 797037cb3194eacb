"""Where a run's numbers, sounds and pictures go: the terminal, a JSONL file, TensorBoard."""

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from jaxaudio.errors import MissingError, UsageError


@dataclasses.dataclass(frozen=True, eq=False)
class Sound:
    """Audio to listen to at an evaluation: `audio` (time,) float in [-1, 1], at `sample_rate`."""

    audio: np.ndarray
    sample_rate: int


Values = Mapping[str, "float | Sound"]


class MetricWriter(Protocol):
    """Takes the values of a step; a writer ignores the kinds that it cannot hold."""

    def write(self, step: int, values: Values, *, kind: str) -> None:
        """Records `values` at `step`; `kind` is "train" or "eval"."""
        ...

    def close(self) -> None:
        """Writes out what is buffered."""
        ...


class Console:
    """One line a record, through `print` or whatever stands in for it (a progress bar's own)."""

    def __init__(self, print=print) -> None:
        self._print = print

    def write(self, step: int, values: Values, *, kind: str) -> None:
        """Prints the scalars."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in scalars(values).items())
        self._print(f"{kind:5s} step {step}  {shown}")

    def close(self) -> None:
        """Nothing is buffered."""


class JsonLines:
    """`{"step": ..., "kind": ..., name: value ...}`, one line a record, on disk as soon as it is written.

    Opening drops what lies beyond `step`, so that a resumed run does not record a step twice, and a last line cut off
    by a crash.

    Args:
      path: the file, made when missing.
      step: the step from which the run goes on; 0 starts a new file.

    Raises:
      UsageError: the file cannot be written.
    """

    def __init__(self, path: str | os.PathLike, *, step: int = 0) -> None:
        path = pathlib.Path(path)
        try:
            kept = (
                [line for line in path.read_text(encoding="utf-8").splitlines() if _step_of(line) <= step]
                if path.exists()
                else []
            )
            beside = path.with_name(f".{path.name}.new")
            beside.write_text("".join(line + "\n" for line in kept if step), encoding="utf-8")
            os.replace(beside, path)
            self._file = path.open("a", buffering=1, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path} ({error.strerror}); choose another --out") from None

    def write(self, step: int, values: Values, *, kind: str) -> None:
        """Appends one line; what is not finite becomes null, since JSON has no word for it."""
        plain = {name: value if math.isfinite(value) else None for name, value in scalars(values).items()}
        self._file.write(json.dumps({"step": step, "kind": kind, **plain}) + "\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Scalars, and at evaluations sounds with their spectrograms, through tensorboardX.

    Args:
      directory: of the event files.
      step: the step from which the run goes on; TensorBoard then hides what an earlier process wrote beyond it.

    Raises:
      MissingError: tensorboardX is not installed.
    """

    def __init__(self, directory: str | os.PathLike, *, step: int = 0) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise MissingError("TensorBoard logs need tensorboardX: pip install 'jaxaudio[tensorboard]'") from None
        self._writer = SummaryWriter(str(directory), purge_step=step + 1 if step else None)

    def write(self, step: int, values: Values, *, kind: str) -> None:
        """Adds every value under "kind/name"."""
        for name, value in scalars(values).items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)
        for name, value in values.items():
            if isinstance(value, Sound):
                audio = np.clip(np.asarray(value.audio, np.float32), -1, 1)
                self._writer.add_audio(f"{kind}/{name}", audio[:, None], step, sample_rate=value.sample_rate)
                self._writer.add_image(f"{kind}/{name}", spectrogram_image(audio), step)
        self._writer.flush()

    def close(self) -> None:
        """Closes the event file."""
        self._writer.close()


def scalars(values: Values) -> dict[str, float]:
    """The values that are numbers, as Python floats."""
    return {name: float(value) for name, value in values.items() if not isinstance(value, Sound)}


def spectrogram_image(audio: np.ndarray, *, n_fft: int = 512, hop: int = 128, floor_db: float = -80.0) -> np.ndarray:
    """A grey picture of a sound for the logs, low frequencies at the bottom.

    Args:
      audio: (time,), any length.
      n_fft: window length in samples.
      hop: samples between columns.
      floor_db: black; white is the loudest point.

    Returns:
      (3, n_fft // 2 + 1, frames) uint8.
    """
    audio = np.pad(audio, (0, max(0, n_fft - len(audio))))
    frames = np.lib.stride_tricks.sliding_window_view(audio, n_fft)[::hop] * np.hanning(n_fft)
    power = np.abs(np.fft.rfft(frames)) ** 2
    decibels = 10 * np.log10(np.maximum(power / max(power.max(), 1e-20), 1e-20))
    grey = np.clip(1 - decibels / floor_db, 0, 1).T[::-1]
    return np.broadcast_to((255 * grey).astype(np.uint8), (3, *grey.shape))


def _step_of(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf
