"""What a file in experiments/ says: the numbers of a run, and how to build the rest from them."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Protocol

import jax
import tyro

from jaxaudio.train.adversarial import Adversarial
from jaxaudio.train.optim import Optimizer
from jaxaudio.train.step import Loss
from jaxaudio.train.writers import Values


class DataIterator(Protocol):
    """Endless batches with a position that can be stored, as Grain's iterators have.

    A batch is a dict of host arrays, each with the rows of this process first. Of several processes, all must be at the
    same position at the same step: the first one's is stored.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]: ...

    def __next__(self) -> dict[str, Any]: ...

    def get_state(self) -> Any:
        """The position after the batches drawn so far: JSON-able, or UTF-8 bytes of JSON."""
        ...

    def set_state(self, state: Any) -> None:
        """Goes on from a position that `get_state` gave."""
        ...


Evaluation = Callable[[dict[str, Any]], Values]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """What a run trains, built from the (overridden) experiment when it starts.

    Attributes:
      loss: `loss(axis_name)` makes the loss, or the `Adversarial` losses of a GAN; the axis is "data" under pmap, for
        BatchNorm to average over, and None otherwise.
      init: `init(key) -> (params, extra)`, a pure function of the key.
      data: the training batches.
      evaluate: `evaluate(variables) -> {name: number or Sound}`, where variables is {"params": averaged if there is an
        average, **extra}, or what `release` makes of it; it must not keep them: the next step reuses their memory.
      release: makes of these variables what is stored as `best` and `final`, for example without the discriminator.
      frozen: parameters that the loss needs and nothing trains.
      config: JSON-able description of the model, stored with the weights.
    """

    loss: Callable[[str | None], Loss | Adversarial]
    init: Callable[[jax.Array], tuple[Any, Any]]
    data: DataIterator
    evaluate: Evaluation | None = None
    release: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    frozen: Any = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """The numbers of a run. Every one can be set on the command line, nested ones as `--optimizer.lr 3e-4 --data.root
    DIR`.

    Attributes:
      build: makes the task from the experiment.
      out: directory of the run; one that holds checkpoints is resumed.
      steps: number of optimiser steps.
      batch_size: rows of the global batch.
      seed: of the initial parameters, the steps' draws, and the data where the task uses it.
      model: the system's frozen configuration.
      data: frozen dataclass with the task's data options.
      optimizer: the optimiser and its schedule.
      discriminator: those of the discriminator, where there is one; None for the same ones.
      accumulate: micro-batches per step.
      clip_norm: largest global gradient norm; None for no clipping.
      discriminator_clip_norm: that of the discriminator; None for the same.
      ema_decay: decay of the averaged parameters, warmed up; 0 for none.
      trainable: regular expression on parameter paths; None trains all.
      skip_nonfinite: leave out steps whose loss or gradient is not finite.
      parallel: how the devices share a batch.
      log_every: steps per line of metrics.
      eval_every: steps between evaluations; 0 for none but the last.
      save_every: steps between checkpoints.
      save_minutes: and minutes; 0 for none.
      keep: newest checkpoints kept.
      best: metric of the evaluation whose best weights are kept in `out`/best; higher is better, lower with "-"
        before the name.
      max_minutes: stop after so long (saving first); None for no limit.
      tensorboard: write TensorBoard logs.
    """

    build: Annotated[Callable[["Experiment"], Task], tyro.conf.Suppress]
    out: str = "runs/default"
    steps: int = 1000
    batch_size: int = 8
    seed: int = 0
    model: Any = None
    data: Any = None
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    discriminator: Optimizer | None = None
    accumulate: int = 1
    clip_norm: float | None = None
    discriminator_clip_norm: float | None = None
    ema_decay: float = 0.0
    trainable: str | None = None
    skip_nonfinite: bool = True
    parallel: Literal["mesh", "pmap"] = "mesh"
    log_every: int = 50
    eval_every: int = 0
    save_every: int = 1000
    save_minutes: float = 0.0
    keep: int = 3
    best: str | None = None
    max_minutes: float | None = None
    tensorboard: bool = False


def to_json(value: Any) -> Any:
    """The resolved experiment as plain JSON: dataclasses become objects, functions their names."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return f"{value.__module__}:{value.__qualname__}" if hasattr(value, "__qualname__") else str(value)
