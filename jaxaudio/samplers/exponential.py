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


def dpmpp_2s(schedule: Schedule) -> Plan:
    """Single-step DPM-Solver++ of order 2: pairs of grid steps, the second a second-order step across both.

    One evaluation per grid step. The last step is of first order, and so are the last two of an even number.
    """
    lam, steps, rows = schedule.log_snr, schedule.steps, []
    for k in range(steps):
        here, (_, alpha, sigma) = schedule.level(k), schedule.level(k + 1)
        pair = k % 2 == 1 and k < steps - 1 and not math.isinf(lam[k - 1])
        if pair:
            h = lam[k + 1] - lam[k - 1]
            phi, r = math.expm1(-h), (lam[k] - lam[k - 1]) / h
            x = {"base": sigma / schedule.sigma[k - 1], "m1": -alpha * phi * (1 - 0.5 / r), "m": -alpha * phi * 0.5 / r}
        else:
            x = {"x": sigma / here.sigma, "m": -alpha * math.expm1(lam[k] - lam[k + 1])}
        rows.append(Row(here, {"x": x, "base": {"x": 1.0}, "m1": {"m": 1.0}}))
    return assemble(schedule, "x0", rows)
