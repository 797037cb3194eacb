"""What is sampled: problems whose answer is known, and trained models. To add a system, write a function and a line.

def mine(setting: Setting) -> Problem: ...
SYSTEMS["mine"] = mine
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxaudio import samplers
from jaxaudio.benchmark.judges import Judge
from jaxaudio.data.clips import Clip
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.metrics import frechet
from jaxaudio.models.systems import in_dtype
from jaxaudio.samplers import analytic
from jaxaudio.samplers.schedules import Family, Schedule

Params = Any
Inputs = Any
Predict = Callable[..., Array]
Scores = dict[str, float]


class Problem(NamedTuple):
    """A system, as the benchmark sees it.

    Attributes:
      name: in the table.
      shape: of one item's state.
      schedule: (solver, steps, **changes) -> schedule, as `samplers.usual_schedule`.
      predict: (params, inputs, guidance, dtype) -> predict(x, t), as `samplers.sample` wants it; traced.
      prediction: what the network predicts.
      params: its parameters.
      inputs: item numbers (batch,) -> host arrays with the batch leading: conditions, mixtures.
      planned: the solver that goes by a name.
      guidance: that it is customarily used with.
      told_steps: the network may be told the size of a step, `predict(x, t, step)`, as the solver "shortcut" does.
      exact: (noise, schedule) -> where the ODE takes the noise; None where only the problem's own solution in
        `reference_steps` steps says it.
      reference_steps: of that solution.
      reference_items: how many items it is computed for, rounded up to whole batches; the distance is over those.
      asked: a few letters that tell apart what it is asked and by whom it is judged; "" where there is no choice.
      judged: (states (items, ...), item numbers) -> figures of quality, each named with its embedding.
    """

    name: str
    shape: tuple[int, ...]
    schedule: Callable[..., Schedule]
    predict: Callable[[Params, Inputs, float, str], Predict]
    prediction: str = "epsilon"
    params: Params = None
    inputs: Callable[[np.ndarray], Inputs] = lambda items: {}
    planned: Callable[[str], Any] = lambda solver: solver
    guidance: float = 1.0
    told_steps: bool = False
    exact: Callable[[Array, Schedule], Array] | None = None
    reference_steps: int = 1000
    reference_items: int = 16
    asked: str = ""
    judged: Callable[[np.ndarray, np.ndarray], Scores] = lambda states, items: {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """What trained systems are asked, and by whom they are judged; analytic ones need none of it.

    Attributes:
      judges: see `judges.py`.
      prompts: what is asked for, item by item and over again; by default what the first judge knows.
      labels: the class of each prompt, for a judge that is a classifier; by default the prompts.
      mixtures: (n, time) at the model's rate, for systems that separate; by default the one in the package.
      clips: recordings with what is said in them, for systems that code speech; by default the one in the package.
      seconds: length of the sounds; by default the model's window.
    """

    judges: tuple[Judge, ...] = ()
    prompts: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    mixtures: Any = None
    clips: Sequence[Clip] = ()
    seconds: float | None = None

    def asked(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Prompts and their labels."""
        known = next((judge.labels for judge in self.judges if judge.labels), ())
        prompts = self.prompts or known or ("rain", "a dog barking", "a piano playing", "wind")
        labels = self.labels or prompts
        if len(labels) != len(prompts):
            raise UsageError(f"{len(prompts)} prompts and {len(labels)} labels: give one label for each prompt.")
        return prompts, labels

    def digest(self) -> str:
        """A few letters that tell apart what is asked and by whom it is judged."""
        judges = [(judge.name, *(np.asarray(x).tobytes() for x in judge.real or ())) for judge in self.judges]
        mixtures = None if self.mixtures is None else np.asarray(self.mixtures).tobytes()
        clips = [clip.id for clip in self.clips]
        return hashlib.sha256(repr((self.asked(), judges, mixtures, clips, self.seconds)).encode()).hexdigest()[:12]


SHAPE = (4, 2)
_STD: Any = np.geomspace(0.2, 1.0, 8, dtype=np.float32).reshape(SHAPE)
_MEAN: Any = np.linspace(-0.8, 0.8, 8, dtype=np.float32).reshape(SHAPE)
_WEIGHT: Any = np.float32(0.3)
GAUSSIAN = analytic.Gaussian(_MEAN, _STD)
"""Eight independent numbers whose spreads are between 0.2 and 1, as unlike each other as those of latents."""
MIXTURE = analytic.Mixture(_MEAN, _STD, _MEAN[::-1, ::-1] + np.float32(0.5), _WEIGHT)
"""The same, or with probability 0.3 around another mean: paths that have to choose."""


def of_known_answer(name: str, problem: analytic.Problem, family: Family) -> Problem:
    """A problem whose best network and whose solution have a closed form."""
    prediction = "velocity" if family == "flow" else "epsilon"

    def schedule(solver: str, steps: int, **changes: Any) -> Schedule:
        _only_vp_is_spaced(family, changes)
        return samplers.usual_schedule(solver, steps, family=family, **changes)

    top = schedule("flow-midpoint", 1)  # begins at the last time, whatever the grid of the others

    def predict(params: Params, inputs: Inputs, guidance: float, dtype: str) -> Predict:
        if guidance != 1:
            raise ConfigError(f"{name} has no condition to guide to; leave guidance at 1.")
        best = analytic.predictor(problem, family, prediction)
        return lambda x, t: best(x.astype(dtype).astype(x.dtype), t).astype(dtype)  # a network's inputs and outputs

    @functools.cache
    def solve(alpha: float, sigma: float) -> Callable[[Array], Array]:
        """From the last time to this level; most cells end at one of two, so that little is compiled."""
        ends = {"alpha": np.array([top.alpha[0], alpha]), "sigma": np.array([top.sigma[0], sigma])}
        return jax.jit(lambda x: analytic.solution(problem, x, top._replace(**ends)))

    def exact(noise: Array, made: Schedule) -> Array:
        x = noise * max(1.0, float(top.sigma[0]))
        return solve(float(made.alpha[-1]), float(made.sigma[-1]))(x)

    truth = _moments(problem)

    def judged(states: np.ndarray, items: np.ndarray) -> Scores:
        return {"frechet/data": frechet.between(frechet.moments(states.reshape(len(states), -1)), truth)}

    return Problem(
        name,
        SHAPE,
        schedule,
        predict,
        prediction,
        planned=analytic.told_level,
        exact=exact,
        judged=judged,
    )


def _only_vp_is_spaced(family: Family, changes: dict[str, Any]) -> None:
    """Refuses changes of the grid of other families with a `ConfigError`."""
    if changes and family != "vp":
        raise ConfigError(
            f"The grid of {family!r} schedules is in their own time; measure them with the usual spacing."
        )


def flow_schedule(solver: str, steps: int, **changes: Any) -> Schedule:
    """Of trained flows, which go from noise at 0 to data at 1."""
    _only_vp_is_spaced("flow", changes)
    return samplers.usual_schedule(solver, steps, family="flow", reverse=True)


def _moments(problem: analytic.Problem) -> frechet.Moments:
    """Mean and covariance of the data themselves."""
    mean, covariance = np.ravel(problem.mean).astype(float), np.diag(np.ravel(problem.std).astype(float) ** 2)
    if isinstance(problem, analytic.Mixture):
        shift, weight = np.ravel(problem.other).astype(float) - mean, float(problem.weight)
        return frechet.Moments(mean + weight * shift, covariance + weight * (1 - weight) * np.outer(shift, shift))
    return frechet.Moments(mean, covariance)


Condition = Callable[[Sequence[str]], Any]
"""Texts -> what the network is told of them, with the batch leading."""


def of_audioldm(
    name: str, params: Params, config: Any, condition: Condition, setting: Setting, guidance: float = 2.5
) -> Problem:
    """A text-to-audio model, by the pure functions of `systems.audioldm`."""
    from jaxaudio.systems import audioldm

    samples = round((setting.seconds or config.window) * config.sample_rate)
    prompts, labels = setting.asked()

    def schedule(solver: str, steps: int, **changes: Any) -> Schedule:
        table = samplers.signal_power(config.variances)
        return samplers.usual_schedule(solver, steps, family="vp", table=table, **changes)

    def predict(params: Params, inputs: Inputs, guidance: float, dtype: str) -> Predict:
        network = functools.partial(audioldm.predict, params, in_dtype(config, dtype))
        return samplers.classifier_free(network, inputs["condition"], inputs["negative"], guidance)

    return Problem(
        name,
        config.audio.shape(1, samples)[1:],
        schedule,
        predict,
        config.prediction,
        params=params,
        inputs=functools.partial(_conditions, condition, prompts),
        guidance=guidance,
        asked=setting.digest(),
        judged=_judged(lambda z: audioldm.decode(params, config, z, samples), config.sample_rate, setting, labels),
    )


def of_flowsep(
    name: str, params: Params, config: Any, condition: Condition, setting: Setting, guidance: float = 1.0
) -> Problem:
    """A generative separator, by the pure functions of `systems.flowsep`: told mixtures besides."""
    from jaxaudio.dsp import front_ends
    from jaxaudio.systems import flowsep

    samples = round((setting.seconds or config.window) * config.sample_rate)
    prompts, labels = setting.asked()
    mixtures = _demo(config.sample_rate) if setting.mixtures is None else setting.mixtures
    mixtures = np.asarray(mixtures, np.float32)[:, :samples]
    mixtures = np.pad(mixtures, ((0, 0), (0, samples - mixtures.shape[1])))
    latents = np.asarray(jax.jit(lambda x: flowsep.encode(params, config, front_ends.level(x)))(mixtures))

    def predict(params: Params, inputs: Inputs, guidance: float, dtype: str) -> Predict:
        def network(x: Array, t: Array, told: Any) -> Array:
            condition, mixture = told
            return -flowsep.velocity(params, in_dtype(config, dtype), x, t, mixture, condition)  # towards the noise

        towards, away = ((inputs[kind], inputs["mixture"]) for kind in ("condition", "negative"))
        return samplers.classifier_free(network, towards, away, guidance)

    def inputs(items: np.ndarray) -> Inputs:
        return {**_conditions(condition, prompts, items), "mixture": latents[items % len(latents)]}

    return Problem(
        name,
        config.audio.shape(1, samples)[1:],
        flow_schedule,
        predict,
        "velocity",
        params=params,
        inputs=inputs,
        guidance=guidance,
        asked=setting.digest(),
        judged=_judged(lambda z: flowsep.decode(params, config, z, samples), config.sample_rate, setting, labels),
    )


def from_model(name: str, setting: Setting) -> Problem:
    """A shipped model, or one in a folder.

    Raises:
      UsageError: a model that does not sample.
    """
    import jaxaudio
    from jaxaudio.models.requests import told

    model = jaxaudio.load(name)
    if model.card.system == "sitok":
        from jaxaudio.benchmark.speech import of_sitok

        return of_sitok(model.name, model.params, model.config, setting)
    makers = {"audioldm": of_audioldm, "flowsep": of_flowsep}
    if model.card.system not in makers:
        raise UsageError(f"{name} is a model of {model.card.system}, which has no sampler; see jaxaudio models list.")

    def condition(texts: Sequence[str]) -> Any:
        return told(model.encoder(texts), model.config.unet)

    guidance = model.sampling.guidance
    return makers[model.card.system](model.name, model.params, model.config, condition, setting, guidance)


SYSTEMS: dict[str, Callable[[Setting], Problem]] = {
    "gaussian": lambda setting: of_known_answer("gaussian", GAUSSIAN, "vp"),
    "mixture": lambda setting: of_known_answer("mixture", MIXTURE, "vp"),
    "gaussian-flow": lambda setting: of_known_answer("gaussian-flow", GAUSSIAN, "flow"),
    "mixture-flow": lambda setting: of_known_answer("mixture-flow", MIXTURE, "flow"),
}
"""Systems by name; a name that is not here is that of a model."""


def find(name: str, setting: Setting | None = None) -> Problem:
    """The problem that a name stands for.

    Raises:
      UsageError: neither a system nor a model.
    """
    from jaxaudio.errors import MissingError

    setting = setting or Setting()
    if name in SYSTEMS:
        return SYSTEMS[name](setting)
    try:
        return from_model(name, setting)
    except MissingError as error:
        raise UsageError(f"no system {name!r}: give {', '.join(SYSTEMS)}, or a model ({error})") from error


def _conditions(condition: Condition, prompts: Sequence[str], items: np.ndarray) -> Inputs:
    """What each item is told, and what the empty prompt says instead."""
    chosen = [prompts[i % len(prompts)] for i in items]
    return jax.tree.map(np.asarray, {"condition": condition(chosen), "negative": condition([""] * len(items))})


def _demo(rate: int) -> np.ndarray:
    """(1, time) the mixture that comes with the package."""
    from jaxaudio import io
    from jaxaudio.data.mixing import resample, to_mono
    from jaxaudio.models.registry import ASSETS

    sound = io.read(ASSETS / "demo" / "mixture.flac")
    return resample(to_mono(sound.samples), sound.sample_rate, rate)[None]


def _judged(
    decode: Callable[[Array], Array], rate: int, setting: Setting, labels: Sequence[str]
) -> Callable[[np.ndarray, np.ndarray], Scores]:
    """Decodes items and asks each judge about them."""
    decode = jax.jit(decode)

    def judged(states: Any, items: np.ndarray) -> Scores:
        if not setting.judges or not np.all(np.isfinite(states)):
            return {}
        audio = np.concatenate([np.asarray(decode(states[i : i + 1])) for i in range(len(states))])
        asked = [labels[i % len(labels)] for i in items]
        scores: Scores = {}
        for judge in setting.judges:
            scores |= judge.scores(audio, rate, asked)
        return scores

    return judged
