"""Runge-Kutta methods: Euler, midpoint, Heun, RK4, DPM2, EDM's stochastic Heun, and the shortcut model's step.

They solve dy / du = f from one grid point to the next, in one of two pairs of variables:

    scaled    y = x / alpha            u = sigma / alpha            f = epsilon
    straight  y = x / (alpha + sigma)  u = sigma / (alpha + sigma)  f = velocity

The straight ones are those of rectified flow, but serve every family, and bear a start of pure noise.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxaudio.samplers.plan import Plan, Row, assemble, need_signal
from jaxaudio.samplers.schedules import Level, Schedule


class Tableau(NamedTuple):
    """Nodes where f is evaluated, as parts of a step; after each evaluation, the weights of all f that lead on."""

    nodes: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]


EULER = Tableau((0.0,), ((1.0,),))
MIDPOINT = Tableau((0.0, 0.5), ((0.5,), (0.0, 1.0)))
HEUN = Tableau((0.0, 1.0), ((1.0,), (0.5, 0.5)))
RK4 = Tableau((0.0, 0.5, 0.5, 1.0), ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)))


def euler(schedule: Schedule, *, straight: bool = False) -> Plan:
    """The Euler method: one evaluation per step, order 1; the same in both pairs of variables."""
    return _solve(schedule, [EULER] * schedule.steps, straight)


def midpoint(schedule: Schedule) -> Plan:
    """The midpoint method in straight variables: two evaluations per step, order 2."""
    return _solve(schedule, [MIDPOINT] * schedule.steps, True)


def rk4(schedule: Schedule) -> Plan:
    """The classical method of order 4 in straight variables: four evaluations per step, the last one at its end."""
    return _solve(schedule, [RK4] * schedule.steps, True)


def heun(schedule: Schedule, *, straight: bool = False) -> Plan:
    """Heun's method, order 2, with an Euler step at the end: 2 S - 1 evaluations (Karras et al. 2022, algorithm 1)."""
    return _solve(schedule, _but_last([HEUN] * schedule.steps), straight)


def dpm2(schedule: Schedule) -> Plan:
    """DPM-Solver-2 (Lu et al. 2022): midpoint in log u, order 2, an Euler step at the end: 2 S - 1 evaluations."""
    need_signal(schedule)
    u = schedule.sigma[:-1] / schedule.alpha[:-1]
    nodes = 1 / (1 + np.sqrt(u[1:] / u[:-1]))
    return _solve(schedule, [*(Tableau((0.0, c), ((c,), (0.0, 1.0))) for c in map(float, nodes)), EULER])


def edm_heun(
    schedule: Schedule, *, churn: float = 0.0, low: float = 0.0, high: float = math.inf, inflate: float = 1.0
) -> Plan:
    """Heun's method with noise put back before each step but the first (Karras et al. 2022, algorithm 2).

    Args:
      schedule: the grid.
      churn: their S_churn; 0 is `heun`.
      low: churn only where sigma / alpha is at least this (S_tmin) ...
      high: ... and at most this (S_tmax).
      inflate: standard deviation of the noise (S_noise).
    """
    need_signal(schedule)
    more = min(churn / max(schedule.steps, 1), math.sqrt(2) - 1)
    u = schedule.sigma[:-1] / schedule.alpha[:-1]
    churned = np.where((low <= u) & (u <= high) & (np.arange(len(u)) > 0), u * (1 + more), u)
    return _solve(schedule, _but_last([HEUN] * schedule.steps), starts=churned, inflate=inflate)


def shortcut(schedule: Schedule) -> Plan:
    """Euler steps of a shortcut model, which is told their size as well: predict(x, t, step) (Frans et al. 2025)."""
    return _solve(schedule, [EULER] * schedule.steps, True, tell_step=True)


def _but_last(tableaus: list[Tableau]) -> list[Tableau]:
    return [*tableaus[:-1], EULER]


def _solve(
    schedule: Schedule,
    tableaus: Sequence[Tableau],
    straight: bool = False,
    *,
    starts: np.ndarray | None = None,
    inflate: float = 1.0,
    tell_step: bool = False,
) -> Plan:
    """One tableau per step; `starts` are the values of u from which steps start, where noise was put back."""
    if not straight:
        need_signal(schedule)

    def scale(alpha, sigma):
        return alpha + sigma if straight else alpha

    grid = schedule.sigma / scale(schedule.alpha, schedule.sigma)
    begin = [*(grid[:-1] if starts is None else starts), grid[-1]]

    def at(u: float, k: int) -> Level:
        """The level where u has this value: the grid's own where it is one of the points around step k."""
        for i in (k, k + 1):
            if u == grid[i]:
                return schedule.level(i)
        ratio = u / (1 - u) if straight else u
        return schedule.between(ratio / (1 + ratio) if schedule.family == "flow" else math.log(ratio))

    rows = []
    for k, (nodes, weights) in enumerate(tableaus):
        start = level = at(begin[k], k)
        size = grid[k + 1] - begin[k]
        for i, row in enumerate(weights):
            last = i == len(weights) - 1
            goal = grid[k + 1] if last or nodes[i + 1] == 1 else begin[k] + nodes[i + 1] * size
            after = at(begin[k + 1], k + 1) if last and k + 1 < schedule.steps else at(goal, k)
            gain = scale(after.alpha, after.sigma)
            x = {"base" if i else "x": gain / scale(start.alpha, start.sigma)}
            x |= {"m" if j == i else f"f{j}": gain * size * weight for j, weight in enumerate(row)}
            if last and begin[k + 1] > goal:
                x["z"] = gain * inflate * math.sqrt(begin[k + 1] ** 2 - goal**2)
            new = {"x": x}
            if not last:
                new |= {f"f{i}": {"m": 1.0}} | ({} if i else {"base": {"x": 1.0}})
            rows.append(Row(level, new, ends=last, step=abs(size)))
            level = after
    return assemble(schedule, "velocity" if straight else "epsilon", rows, tell_step=tell_step)
