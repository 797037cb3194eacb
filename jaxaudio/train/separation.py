"""How the separators of this package are trained on `open_sounds`: AudioSep's mixtures, trials on what was held out."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxaudio.data import open_sounds
from jaxaudio.data.pipeline import MixtureConfig, MixturePipeline
from jaxaudio.metrics import protocol
from jaxaudio.train.experiment import Experiment, Task
from jaxaudio.train.step import Loss

_HELD_OUT = ("heldout_clips", "heldout_concepts")


def task(
    experiment: Experiment,
    *,
    config: Any,
    text: Callable[[Sequence[str]], dict[str, np.ndarray]],
    separate: Callable[..., jax.Array],
    loss: Callable[..., Any],
    init: Callable[[jax.Array], Any],
    about: dict[str, Any],
) -> Task:
    """Mixtures of two clips with the caption of one, and trials on held-out clips and held-out concepts.

    Args:
      experiment: its `data` says `root`, the folder of the built `open_sounds`; `seconds`, the length of a training
        mixture; `low_db` and `high_db`, the lowest and the highest level of the interference over the target; `trials`,
        evaluation mixtures per split.
      config: the system's configuration; its sample rate is the mixtures'.
      text: captions -> arrays with one row each, which batches hold by their names.
      separate: `(variables, mixture, **rows of text)` -> (batch, time); it is jitted here.
      loss: a `Loss` that takes `axis_name` as well.
      init: `init(key) -> {"params", "batch_stats"}`.
      about: what is stored with the weights, see `Task.config`.
    """
    data = experiment.data
    clips = {split: open_sounds.open_split(data.root, split) for split in ("train", *_HELD_OUT)}
    mixtures = MixtureConfig(
        batch=experiment.batch_size,
        sample_rate=config.sample_rate,
        seconds=data.seconds,
        low_db=data.low_db,
        high_db=data.high_db,
        level_db=(-12.0, 6.0),
        place="random",
        balance=True,
        seed=experiment.seed,
    )
    trials = {
        split: protocol.pair_trials(
            clips[split],
            clips["heldout_clips"],
            count=data.trials,
            seconds=4.0,
            sample_rate=config.sample_rate,
            place="random",
        )
        for split in _HELD_OUT
    }
    separated = jax.jit(separate)

    def evaluate(variables: dict[str, Any]) -> dict[str, float]:
        def ours(mixture: np.ndarray, captions: Sequence[str]) -> np.ndarray:
            return np.asarray(separated(variables, mixture, **text(captions)))

        return protocol.evaluate_splits(ours, trials, batch=16, wrong=True)

    def start(key: jax.Array) -> tuple[Any, Any]:
        variables = init(key)
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    def of_axis(axis_name: str | None) -> Loss:
        return functools.partial(loss, axis_name=axis_name)

    share = jax.process_index(), jax.process_count()
    return Task(
        loss=of_axis,
        init=start,
        data=iter(MixturePipeline(clips["train"], mixtures, text=text, share=share)),
        evaluate=evaluate,
        config=about,
    )
