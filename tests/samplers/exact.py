"""Solvers in float64 numpy on the normal and the mixture: the coefficients themselves, without the compiled loop."""

from pathlib import Path

import numpy as np

from jaxaudio.samplers import analytic, flow, plan_of, scaled_linear_betas, signal_power
from jaxaudio.samplers.schedules import Schedule, log_levels

with np.load(Path(__file__).parents[1] / "golden" / "schedulers" / "analytic_model.npz") as stored:
    MODEL = {name: stored[name].astype(np.float64) for name in stored.files}
GAUSS = analytic.Gaussian(MODEL["MU"], MODEL["SD"])
MIXTURE = analytic.Mixture(MODEL["MU"], MODEL["SD"], MODEL["MU2"], MODEL["W"])
NOISE = MODEL["X_T"]
TABLE = signal_power(scaled_linear_betas())


def expected(problem, x, alpha, sigma):
    """Bayes' rule by the densities, for comparison with the closed form that the library has."""
    power = (alpha * problem.std) ** 2 + sigma**2

    def data_of(mean):
        return mean + alpha * problem.std**2 / power * (x - alpha * mean)

    data = data_of(problem.mean)
    if isinstance(problem, analytic.Mixture):
        parts = [(problem.mean, 1 - problem.weight), (problem.other, problem.weight)]
        logs = [np.log(w) - np.sum((x - alpha * m) ** 2 / (2 * power), (1, 2, 3), keepdims=True) for m, w in parts]
        second = 1 / (1 + np.exp(np.clip(logs[0] - logs[1], -700, 700)))
        data = (1 - second) * data + second * data_of(problem.other)
    return data, ((x - alpha * data) / sigma if sigma else np.zeros_like(x))


def run(plan, x, problem=GAUSS, rng=None):
    slots = [x, *(np.zeros_like(x) for _ in range(plan.update.shape[1] - 1))]
    for update, alpha, sigma in zip(plan.update, plan.alpha, plan.sigma):
        data, noise = expected(problem, slots[0], alpha, sigma)
        output = {"x0": data, "epsilon": noise, "velocity": noise - data}[plan.quantity]
        values = [*slots, output, rng.standard_normal(x.shape) if rng else np.zeros_like(x)]
        slots = [sum(weight * value for weight, value in zip(row, values) if weight) for row in update]
    return slots[0]


_KNOWN = {}


def solution(problem, x, schedule):
    a, b, s, r = schedule.alpha[0], schedule.alpha[-1], schedule.sigma[0], schedule.sigma[-1]
    if isinstance(problem, analytic.Gaussian):
        return b * problem.mean + np.sqrt(((b * problem.std) ** 2 + r**2) / ((a * problem.std) ** 2 + s**2)) * (
            x - a * problem.mean
        )
    key = (a, b, s, r, x.tobytes())
    if key not in _KNOWN:
        u = np.linspace(s / (a + s), r / (b + r), 801)
        fine = flow(800)._replace(alpha=1 - u, sigma=u)
        _KNOWN[key] = (b + r) * run(plan_of("flow-rk4", fine), x / (a + s), problem)
    return _KNOWN[key]


def error(solver, schedule, problem=GAUSS):
    """Relative to the exact solution of the ODE between the schedule's ends, from pure noise."""
    x = schedule.sigma[0] * NOISE
    wanted = solution(problem, x, schedule)
    return np.linalg.norm(run(plan_of(solver, schedule), x, problem) - wanted) / np.linalg.norm(wanted)


def smooth(steps, family="vp", largest=20.0, smallest=0.05):
    """A grid that is even in log-SNR and ends with some noise: nothing lowers a solver's order there."""
    ratio = log_levels(steps + 1, smallest, largest)
    knots = np.array([[-9.0, 9.0], [-9.0, 9.0]])
    alpha = {"vp": 1 / np.hypot(1, ratio), "edm": np.ones(steps + 1), "flow": 1 / (1 + ratio)}[family]
    return Schedule(-np.log(ratio[:-1]), alpha, alpha * ratio, knots)
