"""What a call costs: time to compile, time to run, memory."""

import contextlib
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import monitoring


class Compiled(NamedTuple):
    """A program and what making it took.

    Attributes:
      call: runs it.
      trace_s: seconds in Python and JAX.
      compile_s: seconds in XLA.
      cached: whether XLA's result came from the compilation cache, so that `compile_s` says little.
      temp_mb: memory for intermediate values, by XLA's own account; None where it gives none.
    """

    call: Callable[..., Any]
    trace_s: float
    compile_s: float
    cached: bool
    temp_mb: float | None


_hits = [0]


def _count(event: str, **_: Any) -> None:
    _hits[0] += event == "/jax/compilation_cache/cache_hits"


def compiled(fn: Callable[..., Any], args: Sequence[Any]) -> Compiled:
    """Compiles fn for arguments like these, ahead of time."""
    if not _hits[1:]:
        _hits.append(1)
        monitoring.register_event_listener(_count)
    before, begun = _hits[0], time.perf_counter()
    lowered = jax.jit(fn).lower(*args)
    traced = time.perf_counter()
    program = lowered.compile()
    done = time.perf_counter()
    analysis = program.memory_analysis()
    temp = None if analysis is None else analysis.temp_size_in_bytes / 1e6
    return Compiled(program, traced - begun, done - traced, _hits[0] > before, temp)


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes until its results are there, and the results."""
    begun = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - begun, result


def in_turns(calls: Sequence[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Times several calls one after the other, round by round, so that a machine's moods hit all of them alike."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for own, call in zip(times, calls):
            own.append(seconds(call)[0])
    return times


def peak_mb(device: jax.Device, call: Callable[[], Any]) -> tuple[float, str]:
    """The most memory in use during a call, and whose: "device", or "host" where the device is the CPU.

    A device counts its peak from the start of the process, and so does a host that cannot be told to count anew.
    """
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats is None:
        _forget_peak()
    jax.block_until_ready(call())
    if stats is None:
        return _host_peak(), "host"
    return device.memory_stats()["peak_bytes_in_use"] / 1e6, "device"


def _forget_peak() -> None:
    with contextlib.suppress(OSError):  # not Linux, or not allowed: then the peak is the process's
        Path("/proc/self/clear_refs").write_text("5")


def _host_peak() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6
    except (OSError, StopIteration):
        import sys

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def percentile(times: Sequence[float], part: float) -> float:
    """The value below which this part (0 to 100) of the times lies."""
    return float(np.percentile(times, part))
