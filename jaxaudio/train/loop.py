"""The training loop."""

import contextlib
import dataclasses
import functools
import json
import math
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import numpy as np

from jaxaudio.errors import ConfigError, MissingError
from jaxaudio.train import parallel, writers
from jaxaudio.train.adversarial import Adversarial, create_gan, gan_optimizer, make_gan_step
from jaxaudio.train.checkpoint import Checkpointer, save_params
from jaxaudio.train.experiment import Evaluation, Experiment, Task, to_json
from jaxaudio.train.meter import Meter
from jaxaudio.train.state import TrainState, create
from jaxaudio.train.step import ema_warm_up, make_step

# Several processes compare notes (a signal? out of time?) once in so many steps.
AGREE_EVERY = 10


@dataclasses.dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      state: the final state, on the devices.
      reason: "done", "time" (max_minutes), or the signal that stopped it, "SIGTERM" or "SIGINT".
      metrics: numbers of the last evaluation, {} without one.
    """

    state: TrainState = dataclasses.field(repr=False)
    reason: str
    metrics: dict[str, float]

    @property
    def exit_code(self) -> int:
        """For the shell: 0 when done or out of time; 143 after SIGTERM and 130 after SIGINT, with everything saved."""
        return {"SIGTERM": 143, "SIGINT": 130}.get(self.reason, 0)


def fit(experiment: Experiment, task: Task, *, quiet: bool = False) -> Result:
    """Trains, from the newest checkpoint in `experiment.out` if there is one.

    A run that was killed and resumed ends with the very bits of one that was not, on the same devices. SIGTERM and
    SIGINT save, then return.

    Below `experiment.out` it writes `checkpoints/`, `best/` and `final/` (weights alone), `metrics.jsonl`,
    `config.json` and `tensorboard/`; of several
    processes only the first writes.

    Args:
      experiment: the numbers.
      task: what `experiment.build` made of them.
      quiet: print nothing and show no progress bar (which is shown only on a terminal).

    Raises:
      CheckpointError: there are checkpoints, but none fits.
      ConfigError: the experiment contradicts itself or does not fit the devices.
      JaxAudioError: the loss has stopped being finite.
    """
    _check(experiment, task)
    out, leader = pathlib.Path(experiment.out), jax.process_index() == 0
    config = to_json(experiment)
    losses = task.loss(None)
    adversarial = isinstance(losses, Adversarial)
    alone = losses.start if isinstance(losses, Adversarial) else 0
    tx = experiment.optimizer.build(experiment.steps)
    if adversarial:
        tx = gan_optimizer(tx, (experiment.discriminator or experiment.optimizer).build(experiment.steps))
    released = task.release or (lambda variables: variables)
    runner, warm_up = (
        parallel.data_parallel(functools.partial(_build_step, experiment, task, tx, alone=before), experiment.parallel)
        for before in (False, True)
    )

    def initial() -> TrainState:
        init_key, key = jax.random.split(jax.random.key(experiment.seed))
        params, extra = task.init(init_key)
        return (create_gan if adversarial else create)(params, extra, tx, key, ema=experiment.ema_decay > 0)

    with contextlib.ExitStack() as stack:
        signals = stack.enter_context(_Signals())
        checkpoints = stack.enter_context(Checkpointer(out / "checkpoints", keep=experiment.keep))
        found = checkpoints.restore(jax.eval_shape(initial))
        start, best, owed = (
            (0, None, False)
            if found is None
            else (found.step, found.data["best"], found.data.get("evaluation_owed", False))
        )
        state = runner.place(jax.jit(initial)() if found is None else found.state)
        frozen = None if task.frozen is None else runner.place(task.frozen)
        if found is not None:
            task.data.set_state(_unpack(found.data["position"]))

        advance, say = stack.enter_context(_progress(experiment, start, shown=leader and not quiet))
        if leader and found is not None:
            say(f"resuming {out} from step {start}{_changes(found.config, config)}")
        sinks = _writers(experiment, out, start, say) if leader else []
        for sink in sinks:
            stack.callback(sink.close)
        found = None

        def write(step: int, values: writers.Values, kind: str = "train") -> None:
            for sink in sinks:
                sink.write(step, values, kind=kind)

        def evaluate(step: int, evaluation: Evaluation) -> dict[str, float]:
            nonlocal best
            meter.flush()
            values = evaluation(released(state.variables))
            write(step, values, "eval")
            numbers = writers.scalars(values)
            if experiment.best and _better(experiment.best, numbers, best):
                best = numbers[experiment.best.lstrip("-")]
                save_params(out / "best", released(state.variables), {**task.config, "step": step, "metrics": numbers})
            return numbers

        meter = Meter(write, experiment.log_every, experiment.batch_size)
        begun = saved = time.monotonic()
        reason, metrics = "done", evaluate(start, task.evaluate) if owed and task.evaluate else {}
        for step in range(start + 1, experiment.steps + 1):
            state, numbers = (warm_up if step <= alone else runner)(state, next(task.data), frozen)
            meter.add(step, numbers)
            advance(step)
            now, last = time.monotonic(), step == experiment.steps
            late = experiment.max_minutes is not None and now - begun > 60 * experiment.max_minutes
            due = experiment.save_minutes > 0 and now - saved > 60 * experiment.save_minutes
            stop, late, due = _agree(step, signals.caught, late, due)
            leaving = last or stop or late
            if leaving:
                meter.close(step)
            evaluating = task.evaluate and (last or (experiment.eval_every > 0 and step % experiment.eval_every == 0))
            owed = bool(
                evaluating and stop and not last
            )  # a signal leaves no time for it: the resumed run begins with it
            if evaluating and not owed:
                metrics = evaluate(step, task.evaluate)
            if leaving or due or step % experiment.save_every == 0:
                meter.flush()
                record = {"position": _pack(task.data.get_state()), "best": best, "evaluation_owed": owed}
                checkpoints.save(step, state, config=config, data=record)
                saved = time.monotonic()
            meter.pause(time.monotonic() - now)
            if leaving and not last:
                reason = signal.Signals(stop).name if stop else "time"
                break
        if reason == "done":
            save_params(
                out / "final", released(state.variables), {**task.config, "step": experiment.steps, "metrics": metrics}
            )
    return Result(state, reason, metrics)


def _build_step(experiment: Experiment, task: Task, tx: Any, axis_name: str | None, *, alone: bool):
    loss = task.loss(axis_name)
    options: dict[str, Any] = {
        "ema_decay": ema_warm_up(experiment.ema_decay),
        "clip_norm": experiment.clip_norm,
        "skip_nonfinite": experiment.skip_nonfinite,
        "learning_rate": experiment.optimizer.learning_rate(experiment.steps),
        "axis_name": axis_name,
    }
    if isinstance(loss, Adversarial):
        limit = experiment.discriminator_clip_norm or experiment.clip_norm
        return make_gan_step(loss, tx, discriminator_clip_norm=limit, alone=alone, **options)
    return make_step(loss, tx, accumulate=experiment.accumulate, trainable=experiment.trainable, **options)


def _check(experiment: Experiment, task: Task) -> None:
    for name in ("steps", "batch_size", "accumulate", "log_every", "save_every", "keep"):
        if getattr(experiment, name) < 1:
            raise ConfigError(f"{name} is {getattr(experiment, name)}; it must be at least 1")
    if not 0 <= experiment.ema_decay < 1:
        raise ConfigError(f"ema_decay is {experiment.ema_decay}; it must be at least 0 and below 1")
    if experiment.batch_size % jax.device_count():
        count = jax.device_count()
        raise ConfigError(
            f"batch_size {experiment.batch_size} does not divide over {count} devices; use a multiple of {count}"
        )
    try:
        json.dumps(task.config)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the task's config cannot be stored as JSON ({error}); make it plain numbers and strings"
        ) from None
    if isinstance(task.loss(None), Adversarial) and (experiment.accumulate > 1 or experiment.trainable):
        raise ConfigError("training against a discriminator has no accumulate and no trainable; leave them out")
    if experiment.best and task.evaluate is None:
        raise ConfigError(f"best={experiment.best!r} needs an evaluation, which this experiment lacks; leave it out")


class _Signals:
    """Notes SIGTERM and SIGINT for the loop to act on between steps; a second one acts at once."""

    def __init__(self) -> None:
        self.caught = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        # Outside the main thread Python forbids it: whoever owns that thread owns the signals.
        with contextlib.suppress(ValueError):
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: object) -> None:
        self.caught = number
        self.__exit__()


def _agree(step: int, *flags: int) -> tuple[int, ...]:
    """The largest of each flag over the processes, so that all of them save and stop at the same step."""
    if jax.process_count() == 1:
        return flags
    if step % AGREE_EVERY:
        return (0,) * len(flags)
    from jax.experimental import multihost_utils

    return tuple(int(flag) for flag in multihost_utils.process_allgather(np.array(flags, np.int32)).max(0))


@contextlib.contextmanager
def _progress(
    experiment: Experiment, start: int, *, shown: bool
) -> Generator[tuple[Callable[[int], None], Callable[[str], None]], None, None]:
    """A function to report the step to, and one to print with."""
    if not shown:
        yield lambda step: None, lambda text: None
    elif not sys.stderr.isatty():
        yield lambda step: None, lambda text: print(text, flush=True)
    else:
        from rich import console, progress

        columns = (*progress.Progress.get_default_columns(), progress.MofNCompleteColumn())
        with progress.Progress(*columns, console=console.Console(stderr=True)) as bar:
            name = pathlib.Path(experiment.out).name
            task = bar.add_task(name, total=experiment.steps, completed=start)
            yield (
                lambda step: bar.update(task, completed=step),
                lambda text: bar.console.print(text, markup=False, highlight=False),
            )


def _writers(
    experiment: Experiment, out: pathlib.Path, start: int, say: Callable[[str], None]
) -> list[writers.MetricWriter]:
    _write_text(out / "config.json", json.dumps(to_json(experiment), indent=1) + "\n")
    found: list[writers.MetricWriter] = [writers.Console(say), writers.JsonLines(out / "metrics.jsonl", step=start)]
    if experiment.tensorboard:
        try:
            found.append(writers.TensorBoard(out / "tensorboard", step=start))
        except MissingError as error:
            say(f"note: going on without them: {error}")
    return found


def _better(name: str, metrics: dict[str, float], best: float | None) -> bool:
    plain = name.lstrip("-")
    if plain not in metrics:
        raise ConfigError(f"best={name!r}: the evaluation reports no {plain!r} but {', '.join(metrics) or 'nothing'}")
    value, sign = metrics[plain], -1 if name.startswith("-") else 1
    return math.isfinite(value) and (best is None or sign * value > sign * best)


def _changes(before: Any, after: Any) -> str:
    """What the command line changed since the checkpoint, for the record."""
    changed = [f"{name} {old} -> {new}" for name, old, new in _differences(before, after)]
    return f" with changes: {', '.join(changed)}" if changed else ""


def _differences(before: Any, after: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(before.keys() | after.keys()):
            yield from _differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)
    elif before != after and name != "out":
        yield name, before, after


def _pack(position: Any) -> Any:
    return {"utf8": position.decode()} if isinstance(position, bytes) else {"json": position}


def _unpack(position: Any) -> Any:
    return position["utf8"].encode() if "utf8" in position else position["json"]


def _write_text(path: pathlib.Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
