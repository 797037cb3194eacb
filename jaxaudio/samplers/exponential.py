"""Exponential integrators in log-SNR: DPM-Solver, DPM-Solver++ and their stochastic variant.

In lambda = log(alpha / sigma) the linear part of the diffusion ODE is solved exactly, and the network's output is a
polynomial through past outputs. "++" is about the data, the plain solver about the noise (Lu et al. 2022 a, b).
"""

import math
from typing import Literal

import numpy as np

from jaxaudio.samplers.plan import Plan, Row, assemble, history, need_signal, orders
from jaxaudio.samplers.schedules import Schedule


def dpmpp(
    schedule: Schedule,
    *,
    order: Literal[1, 2, 3] = 2,
    about: Literal["x0", "epsilon"] = "x0",
    form: Literal["midpoint", "heun", "exact"] = "midpoint",
    stochastic: bool = False,
) -> Plan:
    """Multistep DPM-Solver++ of order 1 to 3; with `about="epsilon"` multistep DPM-Solver.

    Args:
      schedule: the grid.
      order: outputs used per step; the first steps, and the last ones of short runs, have less.
      about: the quantity that is interpolated.
      form: of the higher terms. "midpoint" and "heun" are published code's; its third order takes half of the second
        derivative, and so converges like the second. "exact" integrates the polynomial as it is.
      stochastic: solve the SDE instead of the ODE (order 1 or 2, about data).
    """
    if about == "epsilon":
        need_signal(schedule)
    lam, rows = schedule.log_snr, []
    for k, p in enumerate(orders(schedule, order)):
        here, (_, alpha, sigma) = schedule.level(k), schedule.level(k + 1)
        h, noise = lam[k + 1] - lam[k], 0.0
        if about == "epsilon":  # to_one is -sigma * (exp(h) - 1), but finite where sigma is 0
            signed, base, gain = h, alpha / here.alpha, -sigma
            to_one = sigma - alpha / here.alpha * here.sigma
        else:
            signed, base, gain = -h, sigma / here.sigma, -alpha
            if stochastic:
                signed, base, noise = -2 * h, base * math.exp(-h), sigma * math.sqrt(-math.expm1(-2 * h))
            to_one = gain * math.expm1(signed)
        value, slope, bend = _newton(lam, k, int(p), order)
        weights = to_one * value
        if p == 2 and form == "midpoint":
            weights += 0.5 * to_one * slope
        elif p > 1:
            to_slope = to_one / signed - gain
            to_bend = (2 if form == "exact" else 1) * (to_slope / signed - 0.5 * gain)
            weights += to_slope * slope + to_bend * bend
        outputs, remember = history(weights)
        rows.append(Row(here, {"x": {"x": base, "z": noise} | outputs} | remember))
    return assemble(schedule, about, rows)


def _newton(lam: np.ndarray, k: int, p: int, order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value, slope and half the second derivative, per step, of the polynomial through p outputs, newest first."""
    outputs, none = np.eye(order), np.zeros(order)
    if p == 1:
        return outputs[0], none, none
    h = lam[k + 1] - lam[k]
    r0 = (lam[k] - lam[k - 1]) / h
    slope = (outputs[0] - outputs[1]) / r0
    if p == 2:
        return outputs[0], slope, none
    r1 = (lam[k - 1] - lam[k - 2]) / h
    bend = (slope - (outputs[1] - outputs[2]) / r1) / (r0 + r1)
    return outputs[0], slope + r0 * bend, bend


def dpmpp_single(schedule: Schedule, *, order: Literal[2, 3] = 2) -> Plan:
    """Single-step DPM-Solver++: groups of `order` grid steps, each step of a group taken anew from the group's start.

    The first step of a group is of first order, the second of second, the third of third, by the outputs within the
    group alone. One evaluation per grid step. A group that the steps do not fill ends early, and a last step to no
    noise is of first order.
    """
    lam, rows = schedule.log_snr, []
    outputs = ("first", "second")  # of the group; its newest is the network's output itself
    for k in range(schedule.steps):
        here, (_, alpha, sigma) = schedule.level(k), schedule.level(k + 1)
        p = k % order + 1
        start = k + 1 - p
        if math.isinf(lam[start]) or sigma == 0:
            p, start = 1, k
        h = lam[k + 1] - lam[start]
        to_one = -alpha * math.expm1(-h)
        weights = np.eye(p)[0] * to_one
        r = (lam[start + 1 : k + 1] - lam[start]) / h  # where the other outputs are, as parts of the step
        if p == 2:
            weights += 0.5 * to_one / r[0] * np.array([-1, 1])
        elif p == 3:
            to_slope = alpha - to_one / h
            to_bend = 2 * (0.5 * alpha - to_slope / h)
            chords = np.array([[-1, 1, 0], [-1, 0, 1]]) / r[:, None]
            bend = (chords[1] - chords[0]) / (r[1] - r[0])
            weights += to_slope * (chords[0] - r[0] * bend) + to_bend * bend
        base = {"x" if p == 1 else "base": sigma / schedule.sigma[start]}
        new = {"x": base | dict(zip([*outputs[: p - 1], "m"], map(float, weights)))}
        if k % order == 0:
            new["base"] = {"x": 1.0}
        if k % order < order - 1:
            new[outputs[k % order]] = {"m": 1.0}
        rows.append(Row(here, new))
    return assemble(schedule, "x0", rows)
