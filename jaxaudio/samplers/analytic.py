"""Problems whose best network is known: what tests and the benchmark measure solvers with.

Where the data are normal, or a mixture of two normals, the mean of the data given a noised x has a closed form, and so
has every prediction. For the normal the solution of the diffusion ODE has one, too.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.samplers.parameterization import parts
from jaxaudio.samplers.plan import Plan
from jaxaudio.samplers.sampling import sample
from jaxaudio.samplers.schedules import Family, Schedule, flow
from jaxaudio.samplers.solvers import plan_of

Array = jax.Array


class Gaussian(NamedTuple):
    """Data with independent normal elements.

    Attributes:
      mean: (...) or (batch, ...).
      std: broadcastable to it.
    """

    mean: Array
    std: Array


class Mixture(NamedTuple):
    """Each item is from one of two normals with common standard deviations.

    Attributes:
      mean: (...) of the first.
      std: (...) of both.
      other: (...) mean of the second.
      weight: probability of the second.
    """

    mean: Array
    std: Array
    other: Array
    weight: Array


Problem = Gaussian | Mixture


def expected(problem: Problem, x: Array, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """The means of data and noise given x = alpha * data + sigma * noise, finite at alpha = 0 and at sigma = 0.

    Args:
      problem: what the data are.
      x: (batch, ...).
      alpha: scalar.
      sigma: scalar, not 0 where std is.

    Returns:
      Two arrays like x.
    """
    power = (alpha * problem.std) ** 2 + sigma**2
    away = x - alpha * problem.mean
    data, noise = problem.mean + alpha * problem.std**2 / power * away, sigma / power * away
    if isinstance(problem, Mixture):
        shift = problem.other - problem.mean
        # log odds of the second normal, over all elements of an item
        odds = jnp.sum((away - alpha * shift / 2) * alpha * shift / power, axis=tuple(range(1, x.ndim)), keepdims=True)
        second = jax.nn.sigmoid(odds + jnp.log(problem.weight) - jnp.log1p(-jnp.asarray(problem.weight)))
        data = data + second * shift * sigma**2 / power
        noise = noise - second * shift * alpha * sigma / power
    return data, noise


def draw(problem: Problem, key: Array, count: int) -> Array:
    """(count, ...) independent items of the data."""
    which, normal = jax.random.split(key)
    mean = jnp.asarray(problem.mean)
    shape = (count, *jnp.broadcast_shapes(mean.shape, jnp.shape(problem.std)))
    if isinstance(problem, Mixture):
        second = jax.random.bernoulli(which, problem.weight, (count, *(1 for _ in shape[1:])))
        mean = jnp.where(second, problem.other, mean)
    return mean + problem.std * jax.random.normal(normal, shape, mean.dtype)


def told_level(solver: str | Callable[[Schedule], Plan]) -> Callable[[Schedule], Plan]:
    """The same solver, but the network is told what `predictor` wants in place of the time.

    That is sigma for flow, log(sigma / alpha) for vp and edm. Times in a table, and rounded ones, say less.
    """

    def planned(schedule: Schedule) -> Plan:
        plan = plan_of(solver, schedule)
        with np.errstate(divide="ignore"):
            t = plan.sigma if schedule.family == "flow" else np.log(plan.sigma / plan.alpha)
        return plan._replace(t=t)

    return planned


def predictor(problem: Problem, family: Family, prediction: str = "epsilon") -> Callable[[Array, Array], Array]:
    """The best network for a problem, as `sample` calls it with a solver from `told_level`.

    Args:
      problem: what the data are.
      family: of the schedule.
      prediction: a name of `parameterization.QUANTITIES`.
    """

    def predict(x: Array, t: Array) -> Array:
        if family == "flow":
            alpha, sigma = 1 - t, t
        elif family == "edm":
            alpha, sigma = jnp.ones_like(t), jnp.exp(t)
        else:
            alpha, sigma = jnp.sqrt(jax.nn.sigmoid(-2 * t)), jnp.sqrt(jax.nn.sigmoid(2 * t))
        data, noise = expected(problem, x, alpha, sigma)
        if prediction == "score":
            return -noise / sigma
        to_data, to_noise = parts(prediction, alpha, sigma)
        return to_data * data + to_noise * noise

    return predict


def solution(problem: Problem, x: Array, schedule: Schedule) -> Array:
    """Where the ODE takes x from a schedule's start to its end: what a deterministic solver should return.

    Exact for the normal. For the mixture RK4 with 2,000 steps, good to about 1e-10 in float64; the path in
    x / (alpha + sigma) is the same for every family.
    """
    (a, b), (s, r) = schedule.alpha[[0, -1]], schedule.sigma[[0, -1]]
    if isinstance(problem, Gaussian):
        gain = jnp.sqrt(((b * problem.std) ** 2 + r**2) / ((a * problem.std) ** 2 + s**2))
        return b * problem.mean + gain * (x - a * problem.mean)
    sigma = np.linspace(s / (a + s), r / (b + r), 2001)
    fine = flow(2000)._replace(alpha=1 - sigma, sigma=sigma)
    predict = predictor(problem, "flow", "velocity")
    return (b + r) * sample(predict, x / (a + s), fine, solver=told_level("flow-rk4"), prediction="velocity")
