"""Metrics on their way from the devices to the writers, and the bound on steps in flight."""

import collections
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxaudio.errors import JaxAudioError

# Steps handed to the devices and not yet finished. Two hide the host's work; many would let forced CPU devices lock
# up in a collective.
IN_FLIGHT = 2

# A whole interval of at least so many steps without one finite loss ends the run.
HOPELESS = 10


class Meter:
    """Collects each step's metrics and writes their means per interval, late enough that fetching them waits for
    nothing.

    Args:
      write: `write(step, values)`.
      every: steps per interval.
      batch_size: rows of the global batch, for samples per second.
    """

    def __init__(self, write: Callable[[int, dict[str, float]], None], every: int, batch_size: int) -> None:
        self._write, self._every, self._batch_size = write, every, batch_size
        self._running: collections.deque[Any] = collections.deque()
        self._steps: list[dict[str, Any]] = []
        self._closed: tuple[int, list[dict[str, Any]], float] | None = None
        self._began = time.monotonic()

    def add(self, step: int, metrics: dict[str, Any]) -> None:
        """Takes the metrics of a step just launched; waits until at most IN_FLIGHT are unfinished."""
        self._running.append(metrics)
        self._steps.append(metrics)
        if len(self._running) > IN_FLIGHT:
            jax.block_until_ready(self._running.popleft())
        if self._closed is not None and step >= self._closed[0] + IN_FLIGHT:
            self.flush()
        if step % self._every == 0:
            self.close(step)

    def close(self, step: int) -> None:
        """Ends the interval at `step`, if it holds any step."""
        if self._steps:
            self.flush()
            self._closed = (step, self._steps, time.monotonic() - self._began)
            self._steps = []
            self._began = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Leaves time spent elsewhere out of the interval."""
        self._began += seconds

    def flush(self) -> None:
        """Writes the interval that has ended, if it is not written yet.

        Raises:
          JaxAudioError: none of its (many) steps was finite.
        """
        if self._closed is None:
            return
        (step, steps, seconds), self._closed = self._closed, None
        rows = jax.device_get(steps)
        good = [row for row in rows if not row["skipped"]]
        means = {name: float(np.mean([row[name] for row in good or rows])) for name in rows[0]}
        rate = len(rows) * self._batch_size / max(seconds, 1e-9)
        self._write(step, means | {"skipped": len(rows) - len(good), "samples_per_second": rate})
        if not good and len(rows) >= HOPELESS:
            raise JaxAudioError(
                f"none of the {len(rows)} steps up to {step} was finite; lower --optimizer.lr or set --clip-norm"
            )
