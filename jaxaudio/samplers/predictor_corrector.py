"""UniPC: a predictor of any order whose every output also corrects the step before (Zhao et al. 2023)."""

import math
from typing import Literal

import numpy as np

from jaxaudio.errors import ConfigError
from jaxaudio.samplers.plan import Plan, Row, assemble
from jaxaudio.samplers.schedules import Schedule


def unipc(schedule: Schedule, *, order: int = 2, form: Literal["bh1", "bh2"] = "bh2", lower_final: bool = True) -> Plan:
    """UniPC about the data: one evaluation per step, order + 1 by its corrector.

    Args:
      schedule: the grid.
      order: of the predictor, at least 1; 2 or 3 are in use.
      form: B(h) = h ("bh1") or exp(h) - 1 ("bh2").
      lower_final: reduce the order step by step to 1 at the end, as published samplers do. Always so for the last step
        where it ends without noise.

    Raises:
      ConfigError: an order below 1; "bh1" where the last step ends without noise, as h is infinite there.
    """
    if order < 1:
        raise ConfigError(f"UniPC of order {order}: give 1 or more.")
    if form == "bh1" and schedule.sigma[-1] == 0:
        raise ConfigError("UniPC bh1 is not defined on a schedule that ends without noise: take bh2 or final='min'.")
    lam, steps = schedule.log_snr, schedule.steps
    pure = int(schedule.alpha[0] == 0)  # steps whose start is infinitely far away in lambda
    able = [max(1, min(order, k + 1 - pure, steps - k if lower_final else order)) for k in range(steps)]
    if schedule.sigma[-1] == 0:
        able[-1] = 1
    rows = []
    for k, p in enumerate(able):
        here, (_, alpha, sigma) = schedule.level(k), schedule.level(k + 1)
        point: dict[str, float] = {"x": 1.0}  # the state at this level, corrected where that can be
        if k > pure:
            past = ["m1", *(f"m{i + 1}" for i in range(1, able[k - 1])), "m"]
            ratios = _ratios(lam, k - 1, able[k - 1])
            gains = _gains(lam[k] - lam[k - 1], ratios, form)
            point = {"base": here.sigma / schedule.sigma[k - 1]} | _combined(here.alpha, gains, ratios, past)
        past = ["m", *(f"m{i}" for i in range(1, p))]
        ratios = _ratios(lam, k, p)[:-1]
        ahead = _combined(alpha, _gains(lam[k + 1] - lam[k], ratios, form), ratios, past)
        x = {name: sigma / here.sigma * weight for name, weight in point.items()}
        for name, weight in ahead.items():
            x[name] = x.get(name, 0.0) + weight
        remember = {f"m{i + 1}": {f"m{i}" if i else "m": 1.0} for i in range(order)}
        rows.append(Row(here, {"x": x, "base": point} | remember))
    return assemble(schedule, "x0", rows)


def _ratios(lam: np.ndarray, k: int, p: int) -> list[float]:
    """Where the outputs other than the k-th lie, over the step from k to k + 1: the past ones, and its end."""
    h = lam[k + 1] - lam[k]
    return [*((lam[k - i] - lam[k]) / h for i in range(1, p)), 1.0]


def _gains(h: float, ratios: list[float], form: str) -> tuple[float, float, np.ndarray]:
    """exp(-h) - 1, B(h), and the weights of the differences to outputs at `ratios` that match that many moments."""
    phi, count = math.expm1(-h), len(ratios)
    scale = -h if form == "bh1" else phi
    if count == 0:
        return phi, scale, np.zeros(0)
    if count == 1:
        return phi, scale, np.array([0.5])  # for every ratio, so that order 2 needs no system
    moments, moment = [], phi / -h - 1
    for i in range(1, count + 1):
        moments.append(moment * math.factorial(i) / scale)
        moment = moment / -h - 1 / math.factorial(i + 1)
    return phi, scale, np.linalg.solve(np.vander(ratios, increasing=True).T, moments)


def _combined(alpha: float, gains: tuple, ratios: list[float], names: list[str]) -> dict[str, float]:
    """The step's integral: -alpha * (phi * first + B * sum of weight / ratio * (other - first)), over named outputs."""
    phi, scale, weights = gains
    shares = scale * weights / np.array(ratios)
    return dict(zip(names, map(float, -alpha * np.array([phi - shares.sum(), *shares]))))
