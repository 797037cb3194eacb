"""Runs cells and writes a line for each; what is there already is not run again."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio import samplers
from jaxaudio.benchmark import cost, log
from jaxaudio.benchmark.grid import Cell, Grid
from jaxaudio.benchmark.problems import Problem
from jaxaudio.errors import ConfigError
from jaxaudio.samplers.plan import Plan
from jaxaudio.samplers.schedules import Schedule
from jaxaudio.train.parallel import data_mesh, replicate, shard_batch

_KEYS = (*(field.name for field in dataclasses.fields(Cell)), "items", "seed", "weights", "asked", "device")


def run(
    problem: Problem,
    grid: Grid,
    out: str | os.PathLike,
    *,
    items: int = 64,
    rounds: int = 7,
    seed: int = 0,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[log.Row]:
    """Measures every cell of a grid that `out` does not hold yet.

    Args:
      problem: the system.
      grid: the cells.
      out: folder of `cells.jsonl`, and of the problem's own solutions.
      items: results that the figures of quality are taken over, rounded up to whole batches.
      rounds: timed calls of each cell.
      seed: of the noise.
      advance: called with the cells done and in all.

    Returns:
      The grid's rows, old and new.

    Raises:
      ConfigError: a grid that cannot be.
      UsageError: a folder that cannot be written to.
    """
    groups = grid.groups(problem.name, problem.guidance)
    common = {
        "items": items,
        "seed": seed,
        "weights": fingerprint(problem.params),
        "asked": problem.asked,
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }
    rows = {_key(row): row for row in log.read(out)}
    wanted = [_key({**dataclasses.asdict(cell), **common}) for group in groups for cell in group]
    done = sum(key in rows for key in wanted)
    advance(done, len(wanted))
    for group in groups:
        cells = [cell for cell in group if _key({**dataclasses.asdict(cell), **common}) not in rows]
        for cell, found in _measure(problem, cells, Path(out), items, rounds, seed):
            row = {**dataclasses.asdict(cell), **common, **found}
            log.append(out, row)
            rows[_key(row)] = row
            done += 1
            advance(done, len(wanted))
    return [rows[key] for key in wanted]


def plan(problem: Problem, cell: Cell) -> tuple[Schedule, Callable[[Schedule], Plan], Plan]:
    """The schedule of a cell, its solver, and what that makes of it.

    Raises:
      ConfigError: a combination that is not defined.
    """
    schedule = problem.schedule(cell.solver, cell.steps, **cell.changes())
    solver = problem.planned(cell.solver)
    made = samplers.plan_of(solver, schedule)
    if made.step is not None and not problem.told_steps:
        raise ConfigError(f"{cell.solver!r} is for networks that are told the size of a step, which this one is not.")
    return schedule, solver, made


def sampling(problem: Problem, cell: Cell, schedule: Schedule, solver: Any) -> Callable[..., jax.Array]:
    """(params, inputs, items (batch,), key) -> results (batch, ...), to be compiled."""

    def sample(params: Any, inputs: Any, items: jax.Array, key: jax.Array) -> jax.Array:
        predict = problem.predict(params, inputs, cell.guidance, cell.dtype)
        x = _noise(problem, key, items) * max(1.0, float(schedule.sigma[0]))  # unit noise, as pipelines start from
        return samplers.sample(predict, x, schedule, key, solver=solver, prediction=problem.prediction, items=items)

    return sample


def fingerprint(params: Any) -> str:
    """A few letters that tell weights apart; "" where there are none."""
    leaves = jax.tree.leaves(params)
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:12] if leaves else ""


class _Ready(NamedTuple):
    cell: Cell
    schedule: Schedule
    plan: Plan
    program: cost.Compiled
    call: Callable[[np.ndarray], jax.Array]


def _measure(
    problem: Problem, cells: Sequence[Cell], out: Path, items: int, rounds: int, seed: int
) -> Iterator[tuple[Cell, Mapping[str, Any]]]:
    """What was found of each cell: those that are not defined first, then the rest, timed in turns."""
    ready = []
    for cell in cells:
        try:
            ready.append(_compile(problem, cell, seed))
        except ConfigError as error:
            yield cell, {"status": "undefined", "note": str(error)}
    calls = [lambda one=one: one.call(np.arange(one.cell.batch)) for one in ready]
    memory = [cost.peak_mb(jax.devices()[0], call) for call in calls]  # these calls warm up, too
    times = cost.in_turns(calls, rounds)
    for one, (peak, whose), own in zip(ready, memory, times):
        typical = cost.percentile(own, 50)
        found = {
            "status": "ok",
            "nfe": one.plan.evaluations,
            "trace_s": one.program.trace_s,
            "compile_s": one.program.compile_s,
            "compile_cached": one.program.cached,
            "runs": rounds,
            "latency_p50_s": typical,
            "latency_p90_s": cost.percentile(own, 90),
            "samples_per_s": one.cell.batch / typical,
            "samples_per_s_per_device": one.cell.batch / typical / one.cell.devices,
            "peak_mb": peak,
            "peak_of": whose,
            "temp_mb": one.program.temp_mb,
            "stochastic": one.plan.stochastic,
        }
        quality, note = _quality(problem, one, out, items, seed)
        yield one.cell, {**found, "quality": quality, **({"note": note} if note else {})}


def _compile(problem: Problem, cell: Cell, seed: int) -> _Ready:
    schedule, solver, made = plan(problem, cell)
    mesh = data_mesh(jax.devices()[: cell.devices])
    params = replicate(problem.params, mesh)
    key = replicate(jax.random.key(seed), mesh)

    def placed(items: np.ndarray) -> tuple[Any, ...]:
        inputs, numbers = shard_batch((problem.inputs(items), items.astype(np.int32)), mesh)
        return params, inputs, numbers, key

    first = np.arange(cell.batch)
    arguments = placed(first)
    program = cost.compiled(sampling(problem, cell, schedule, solver), arguments)

    def call(items: np.ndarray) -> jax.Array:
        # The timed calls are all of the first batch, whose inputs are on the devices already.
        return program.call(*(arguments if np.array_equal(items, first) else placed(items)))

    return _Ready(cell, schedule, made, program, call)


def _quality(problem: Problem, one: _Ready, out: Path, items: int, seed: int) -> tuple[dict[str, float], str]:
    """Figures by name, and a remark."""
    batch = one.cell.batch
    numbers = np.arange(-(-items // batch) * batch)
    states = np.concatenate([np.asarray(one.call(numbers[i : i + batch])) for i in range(0, len(numbers), batch)])
    if not np.all(np.isfinite(states)):
        return {}, "the results are not finite"
    found: dict[str, float] = {}
    if not one.plan.stochastic:
        name = "distance" if problem.exact is None else "error"
        wanted = _wanted(problem, one, out, numbers, seed)
        near = states[: len(wanted)] - wanted
        away, size = (np.linalg.norm(x.reshape(len(x), -1), axis=1) for x in (near, wanted))
        scale = np.sqrt(np.mean(size**2))
        # A few items that end somewhere else altogether make up the mean; the median says how the others fare.
        found |= {name: float(np.sqrt(np.mean(away**2)) / scale), f"{name}/median": float(np.median(away) / scale)}
    found |= problem.judged(states, numbers)
    bad = [name for name, value in found.items() if not np.isfinite(value)]
    return {name: value for name, value in found.items() if name not in bad}, (
        f"not finite: {', '.join(bad)}" if bad else ""
    )


def _wanted(problem: Problem, one: _Ready, out: Path, numbers: np.ndarray, seed: int) -> np.ndarray:
    """What a perfect solver returns for these items; for the first of them, where that takes long to compute."""
    key = jax.random.key(seed)
    if problem.exact is not None:
        return np.asarray(problem.exact(_noise(problem, key, jnp.asarray(numbers)), one.schedule))
    batch = one.cell.batch
    items = min(len(numbers), -(-problem.reference_items // batch) * batch)
    own = own_solution(problem, out, one.cell.guidance, items, batch, seed)
    # The table's lowest level, or none at all: wherever the cell's own schedule ends.
    ends = np.abs(own["sigma"] - one.schedule.sigma[-1])
    return own["states"][int(np.argmin(ends))]


def own_solution(
    problem: Problem, out: Path, guidance: float, items: int, batch: int, seed: int
) -> dict[str, np.ndarray]:
    """A trained problem's solution in `reference_steps` steps of dpmpp-2m from the same noise, kept in `out`.

    Returns:
      "states" (2, items, ...): before the last step, and at the end; "sigma" (2,) their noise levels.
    """
    steps = problem.reference_steps
    told = repr((problem.name, fingerprint(problem.params), guidance, items, seed, steps, _digest(problem, items)))
    path = out / f"solution-{hashlib.sha256(told.encode()).hexdigest()[:12]}.npz"
    if path.is_file():
        with np.load(path) as stored:
            return dict(stored)
    schedule = problem.schedule("dpmpp-2m", steps)
    most = schedule._replace(t=schedule.t[:-1], alpha=schedule.alpha[:-1], sigma=schedule.sigma[:-1])
    cell = Cell(system=problem.name, solver="dpmpp-2m", steps=steps, guidance=guidance, batch=batch)

    def solve(params: Any, inputs: Any, numbers: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        before = sampling(problem, cell, most, problem.planned("dpmpp-2m"))(params, inputs, numbers, key)
        predict = problem.predict(params, inputs, guidance, cell.dtype)
        last = samplers.sample(
            predict, before, schedule.last(1), solver=problem.planned("ddim"), prediction=problem.prediction
        )
        return before, last

    compiled, found = jax.jit(solve), []
    for i in range(0, items, batch):
        numbers = np.arange(i, i + batch)
        found.append(compiled(problem.params, problem.inputs(numbers), numbers, jax.random.key(seed)))
    solution = {"states": np.concatenate([np.stack(pair) for pair in found], 1), "sigma": schedule.sigma[-2:]}
    beside = path.with_name(f".{path.name}")
    out.mkdir(parents=True, exist_ok=True)
    with open(beside, "wb") as file:
        np.savez(file, states=solution["states"], sigma=solution["sigma"])
    os.replace(beside, path)
    return solution


def _digest(problem: Problem, items: int) -> str:
    """What the items are asked, in a few letters."""
    return fingerprint(problem.inputs(np.arange(items)))


def _noise(problem: Problem, key: jax.Array, items: jax.Array) -> jax.Array:
    return samplers.item_noise(key, (items.shape[0], *problem.shape), items=items)


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(name) for name in _KEYS)
