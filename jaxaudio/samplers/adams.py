"""Adams methods about the noise: LMS, DEIS, PNDM.

With y = x / alpha and rho = sigma / alpha the diffusion ODE is dy / drho = epsilon. Adams methods integrate a
polynomial through the last outputs; these differ in the variable that it is a polynomial of.
"""

import numpy as np

from jaxaudio.errors import ConfigError
from jaxaudio.samplers.plan import Plan, Row, assemble, history, need_signal, orders
from jaxaudio.samplers.schedules import Level, Schedule

_UNIFORM = ((1.0,), (1.5, -0.5), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


def lms(schedule: Schedule, *, order: int = 4) -> Plan:
    """Linear multistep in rho, of up to `order` past outputs (Karras et al. 2022's k-diffusion code)."""
    able = np.minimum(np.arange(schedule.steps) + 1, order)
    return _adams(schedule, order, able, lambda rho: rho)


def deis(schedule: Schedule, *, order: int = 2) -> Plan:
    """DEIS with polynomials in log rho (Zhang & Chen 2023, rhoAB in log rho)."""
    return _adams(schedule, order, orders(schedule, order), np.log)


def _adams(schedule: Schedule, order: int, able: np.ndarray, variable) -> Plan:
    if order < 1:
        raise ConfigError(f"A multistep solver of order {order}: give 1 or more.")
    need_signal(schedule)
    rho = schedule.sigma / schedule.alpha
    nodes, shares = np.polynomial.legendre.leggauss(64)
    rows = []
    for k, p in enumerate(able):
        here, (_, alpha, _) = schedule.level(k), schedule.level(k + 1)
        middle, half = (rho[k + 1] + rho[k]) / 2, (rho[k + 1] - rho[k]) / 2
        at, past = variable(middle + half * nodes), variable(rho[k - np.arange(p)])
        weights = np.zeros(order)
        for i in range(p):
            others = np.delete(past, i)[:, None]
            weights[i] = alpha * half * np.sum(shares * np.prod((at - others) / (past[i] - others), axis=0))
        outputs, remember = history(weights)
        rows.append(Row(here, {"x": {"x": alpha / here.alpha} | outputs} | remember))
    return assemble(schedule, "epsilon", rows)


def plms(schedule: Schedule) -> Plan:
    """PNDM without Runge-Kutta steps (Liu et al. 2022, as in latent diffusion): S + 1 evaluations.

    The first step is repeated with the mean of the outputs at its two ends; later ones are Adams-Bashforth of up to
    order 4 with the weights of an even grid.
    """
    need_signal(schedule)
    rows, steps = [], schedule.steps
    for k in range(steps):
        here, end = schedule.level(k), schedule.level(k + 1)
        outputs, remember = history(_padded(min(k, 3)))
        rows.append(Row(here, {"x": _transfer(here, end, outputs)} | remember, ends=k > 0 or steps == 1))
        if k == 0:
            rows[0].new["base"] = {"x": 1.0}
        if k == 0 and steps > 1:
            again = _transfer(here, end, {"m": 0.5, "m1": 0.5}, "base")
            rows.append(Row(end, {"x": again}))
    return assemble(schedule, "epsilon", rows)


def pndm(schedule: Schedule) -> Plan:
    """PNDM with Runge-Kutta steps (Liu et al. 2022): three of four evaluations each, then as `plms`; S + 9 in all.

    Raises:
      ConfigError: fewer than 4 steps, or times that are not whole.
    """
    if schedule.steps < 4 or not np.issubdtype(schedule.t.dtype, np.integer):
        raise ConfigError(
            "PNDM starts with three Runge-Kutta steps between whole times: give it 4 steps, or take plms."
        )
    need_signal(schedule)
    rows = []
    for k in range(3):
        here, end = schedule.level(k), schedule.level(k + 1)
        time = here.t - (here.t - end.t) // 2
        half = schedule.between(float(np.interp(time, schedule.knots[1], schedule.knots[0])))._replace(t=time)
        first = {"x": _transfer(here, half, {"m": 1.0}), "base": {"x": 1.0}, "sum": {"m": 1 / 6}}
        rows.append(Row(here, first | {"m3": {"m2": 1.0}, "m2": {"m1": 1.0}, "m1": {"m": 1.0}}, ends=False))
        for goal in (half, end):
            new = {"x": _transfer(here, goal, {"m": 1.0}, "base"), "sum": {"sum": 1.0, "m": 1 / 3}}
            rows.append(Row(half, new, ends=False))
        rows.append(Row(end, {"x": _transfer(here, end, {"sum": 1.0, "m": 1 / 6}, "base")}))
    for k in range(3, schedule.steps):
        here, end = schedule.level(k), schedule.level(k + 1)
        outputs, remember = history(_padded(3))
        rows.append(Row(here, {"x": _transfer(here, end, outputs)} | remember))
    return assemble(schedule, "epsilon", rows)


def _padded(past: int) -> list[float]:
    return [*_UNIFORM[past], *[0.0] * (3 - past)]


def _transfer(start: Level, end: Level, noise: dict[str, float], base: str = "x") -> dict[str, float]:
    """From one level to another along a combination of outputs: PNDM's transfer part, DDIM in other words."""
    gain = end.sigma - end.alpha / start.alpha * start.sigma
    return {base: end.alpha / start.alpha} | {name: gain * weight for name, weight in noise.items()}
