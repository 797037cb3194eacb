"""What is asked of a model that samples latents, checked once and for all of its methods."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import jax
import numpy as np

from jaxaudio import samplers
from jaxaudio.errors import CheckpointError, UsageError
from jaxaudio.models import ranking
from jaxaudio.models.encoders import Condition
from jaxaudio.models.inputs import Progress, Ticker, as_number, as_prompts
from jaxaudio.models.latents import STRIDE, Stage, Stages, finite

_MOST_STEPS, _MOST_GUIDANCE, _MOST_SEED, _MOST_ROWS = 1000, 100.0, 2**32 - 1, 4096
_BOUNDS = {
    "steps": (1, _MOST_STEPS, True),
    "guidance": (-_MOST_GUIDANCE, _MOST_GUIDANCE, False),
    "rescale": (0, 1, False),
    "shift": (0.01, 100, False),
}


class Options(TypedDict, total=False):
    """How to sample, for every method of a generator; what is None or left out is the model's default.

    Attributes:
      steps: of the sampler, exactly so many, 1 to 1000.
      solver: a name of `jaxaudio.samplers.SOLVERS`.
      guidance: how much more the prompt counts than it would by itself: 1 for no more, 0 for not at all, below 0 away
        from it; -100 to 100.
      spacing: where the steps lie, see `audioldm.Sampling`; "log-snr" is better where they are few.
      rescale: 0 to 1, see `audioldm.Sampling`.
      shift: of the steps of a flow, see `flowsep.Sampling`.
      negative: what is not wanted, in words; it counts with a guidance other than 1.
      seed: 0 to 2^32 - 1. The same seed gives the same sound, bit for bit on the same kind of device.
      count: sounds to give for each prompt, 1 by default.
      best_of: sounds to make for each prompt, of which the `count` best are given, the best first.
      ranker: what chooses them: a `jaxaudio.models.Clap`, or a function of audio (sounds, time) at the model's rate and
        a list of as many prompts that gives a score for each. By default the model's own CLAP, if it has one, and
        `jaxaudio.models.ranking.hearing` for the minis.
      batch: sounds that one call computes on each device; memory grows with it. By default 1 on CPUs, where a sound is
        then the same to the last bit whatever it is made with, and up to 8 elsewhere.
      progress: called with the parts of the work done and in all; sampling counts by its evaluations.
    """

    steps: int | None
    solver: str | None
    guidance: float | None
    spacing: str | None
    rescale: float | None
    shift: float | None
    negative: str | Sequence[str] | None
    seed: int
    count: int
    best_of: int
    ranker: Any
    batch: int | None
    progress: Progress | None


class Request:
    """One request: what is said by `Options`, checked, and the work that all requests have in common.

    Attributes:
      sampling: the system's `Sampling`.
      count: sounds to give of each prompt.
      made: sounds to make.
      judge: what chooses, where there is a choice.
      evaluations: of the network, of each sound.

    Raises:
      UsageError: what cannot be.
    """

    def __init__(
        self, model: Any, default: Any, schedule: Callable[[Any], samplers.Schedule], options: Options
    ) -> None:
        unknown = sorted(set(options) - set(Options.__annotations__))
        if unknown:
            raise UsageError(f"there is no option {unknown[0]!r}; there are {', '.join(Options.__annotations__)}.")
        own = {field.name for field in dataclasses.fields(default)}
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        for name in ("steps", "solver", "guidance", "spacing", "rescale", "shift"):
            if name in given and name not in own:
                raise UsageError(f"{model.name} is a model of {model.system}, which has no {name}; leave it out.")
        changes = {name: given[name] for name in own if name in given}
        for name in changes.keys() & _BOUNDS.keys():
            least, most, whole = _BOUNDS[name]
            changes[name] = as_number(changes[name], f"{name} of", least, most, whole=whole)
        self.model, self.sampling = model, dataclasses.replace(default, **changes)
        self.evaluations = samplers.plan_of(self.sampling.solver, schedule(self.sampling)).evaluations
        seed = as_number(given.get("seed", 0), "a seed of", 0, _MOST_SEED, whole=True)
        self.shared = {"seed": np.uint32(seed), "guidance": np.float32(self.sampling.guidance)}
        self.negative = as_prompts(given.get("negative", ""))
        self.count, self.made = ranking.as_counts(given.get("count", 1), given.get("best_of", 1))
        chooses = self.made > 1 and given.get("best_of", 1) > 1
        self.judge = ranking.open_judge(model.card, given.get("ranker"), model.sample_rate) if chooses else None
        batch = given.get("batch")
        self.batch = None if batch is None else int(as_number(batch, "a batch of", 1, _MOST_ROWS, whole=True))
        self.ticker = Ticker(given.get("progress"))

    @property
    def stages(self) -> Stages:
        """Of the model."""
        return self.model.stages

    @property
    def compiled(self) -> Any:
        """The part of the sampling that decides what is compiled: of the guidance, whether there is any."""
        return dataclasses.replace(self.sampling, guidance=1.0 if self.sampling.guidance == 1 else 2.0)

    @property
    def candidates(self) -> np.ndarray:
        """(made,) by which numbers the candidates of one prompt draw, less the prompt's own."""
        return STRIDE * np.arange(self.made)

    def negatives(self, prompts: int) -> list[str]:
        """A negative prompt for each prompt; UsageError for another number of them."""
        if len(self.negative) not in (1, prompts):
            raise UsageError(f"{len(self.negative)} negative prompts for {prompts}; give one, or one for each.")
        return self.negative * (prompts // len(self.negative))

    def expect(self, rows: int, positions: int, encoded: int = 0) -> None:
        """Says how much work there will be: rows to sample and decode, and some to encode before."""
        calls, windows = self.stages.calls(rows, self.batch), self.stages.windows(positions)
        before = self.stages.calls(encoded, self.batch) if encoded else 0
        self.ticker.expect(windows * (calls * (self.evaluations + 2) + before))

    def encode(self, waves: np.ndarray, *, drawn: bool = False) -> np.ndarray:
        """Latents of levelled waveforms (rows, time), see `Stages.encode`."""
        seed = int(self.shared["seed"]) if drawn else None
        return self.stages.encode(waves, batch=self.batch, tick=self.ticker, seed=seed)

    def sample(
        self,
        stage: Stage,
        condition: Condition,
        negative: Condition,
        items: np.ndarray,
        positions: int,
        shared: dict[str, Any] | None = None,
        **rows: Any,
    ) -> np.ndarray:
        """Runs a stage that samples, and decodes.

        Args:
          stage: of `Stages.call`; its rows are "condition", "negative", "items" and those given.
          condition: rows of what is wanted.
          negative: as many of what is not.
          items: (rows, candidates) numbers by which they draw.
          positions: of the latent.
          shared: more that all rows share.
          **rows: more rows, as many as in `condition`.

        Returns:
          (rows, candidates, time) waveforms.
        """
        made, cost = items.shape[1], self.stages.windows(positions) * self.evaluations
        each = {"condition": condition, "negative": negative, **rows}
        each = jax.tree.map(lambda x: np.repeat(x, made, 0), each) | {"items": items.reshape(-1).astype(np.int32)}
        everyones = {**self.shared, **(shared or {})}
        z = self.stages.call(stage, everyones, each, batch=self.batch, tick=lambda: self.ticker(cost))
        waves = self.stages.decode(finite(z), batch=self.batch, tick=self.ticker)
        return waves.reshape(*items.shape, -1)

    def chosen(self, audio: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
        """(prompts, count) numbers of the candidates to give, of audio (prompts, made, time)."""
        if self.judge is None:
            return np.tile(np.arange(self.count), (len(audio), 1))
        return ranking.best(self.judge, audio, prompts, self.count)[0]


def guided(sampling: Any, shared: dict[str, Any]) -> Any:
    """From `Request.compiled` back to the sampling that is wanted, inside of what is compiled."""
    return sampling if sampling.guidance == 1 else dataclasses.replace(sampling, guidance=shared["guidance"])


def told(condition: Condition, unet: Any) -> Condition:
    """A condition; CheckpointError where the U-Net was trained with another kind."""
    film = condition["film"].shape[-1] if "film" in condition else None
    contexts = tuple(context.shape[-1] for context in condition.get("contexts", ()))
    if (film, contexts) != (unet.film, unet.contexts):
        raise CheckpointError(
            f"the text encoder gives {film or contexts}, the U-Net takes {unet.film or unet.contexts}: they do not "
            "belong together; get or convert the model again."
        )
    return condition
