"""What the benchmarks share: ours and a reference, each in a process of its own, run in turns.

A benchmark has two functions that prepare a job and return what runs it once, `ours(**job)` and `original(**job)`, and
hands them to `worker` when it is started with --worker. The reference's interpreter needs nothing but them and this
file.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

WORKER = "--worker"


def worker(sides: Mapping[str, Callable[..., Callable[[], object]]]) -> bool:
    """Serves one side if this process was started for that; returns whether it was.

    It runs once for every line on standard input, and answers with wall and processor time and the peak memory so far.
    """
    if sys.argv[1:2] != [WORKER]:
        return False
    run = sides[sys.argv[2]](**json.loads(sys.argv[3]))
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        run()
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": elapsed, "cpu": cpu, "peak": peak}), flush=True)
    return True


def measure(script: str, jobs: Mapping[str, tuple[str, dict]], runs: int) -> dict[str, dict[str, float]]:
    """Medians of each side over so many runs in turns, after two that compile and warm up.

    Args:
      script: the benchmark's file.
      jobs: side -> (interpreter, job); the sides are "ours" and, where there is a reference, "original".
      runs: timed runs per side.

    Returns:
      side -> "seconds", "fastest", "cpu", "first" (the compiling run) and "peak_gb".
    """
    workers = {}
    for side, (python, job) in jobs.items():
        command = [python, script, WORKER, side, json.dumps(job)]
        env = {**os.environ, "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}
        workers[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    answers: dict[str, list[dict[str, float]]] = {side: [] for side in workers}
    for _ in range(runs + 2):
        for side, process in workers.items():
            process.stdin.write("run\n")
            process.stdin.flush()
            answers[side].append(json.loads(process.stdout.readline()))
    for process in workers.values():
        process.stdin.close()
        process.wait()
    return {
        side: {
            "seconds": statistics.median(a["seconds"] for a in found[2:]),
            "fastest": min(a["seconds"] for a in found[2:]),
            "cpu": statistics.median(a["cpu"] for a in found[2:]),
            "first": found[0]["seconds"],
            "peak_gb": found[-1]["peak"] / 1e9,
        }
        for side, found in answers.items()
    }


def save(report: list[dict[str, Any]], file: Path | None) -> None:
    """Writes the figures where they are wanted."""
    if file:
        file.write_text(json.dumps(report, indent=1) + "\n")


def random_weights(shapes: Any, seed: int = 0) -> Any:
    """A tree of normal numbers divided by the root of each kernel's inputs."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    rng = np.random.default_rng(seed)

    def fill(leaf: Any) -> jax.Array:
        scale = np.float32(max(1, np.prod(leaf.shape[:-1])) ** -0.5)
        return jnp.asarray(scale * rng.standard_normal(leaf.shape, np.float32))

    return jax.tree.map(fill, shapes)
