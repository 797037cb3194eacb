"""Solvers that look back at nothing: DDIM, DDPM, Euler-ancestral, latent consistency.

With the data estimated and the noise that follows from it, all of these set

    x' = alpha' * data + sqrt(sigma'^2 - s^2) * noise + s * z

and differ only in s, and in the time grids that they are customarily used with.
"""

import math
from typing import Literal

from jaxaudio.errors import ConfigError
from jaxaudio.samplers.plan import Plan, Row, assemble
from jaxaudio.samplers.schedules import Schedule


def ddim(schedule: Schedule, *, eta: float = 0.0) -> Plan:
    """DDIM (Song et al. 2021, eq. 12 and 16): deterministic at eta = 0, the DDPM posterior at eta = 1.

    At eta = 0 this is also the Euler method in sigma / alpha, and DPM-Solver++ of order 1; at eta = 1 it is
    Euler-ancestral.

    Raises:
      ConfigError: eta outside [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ConfigError(f"eta {eta}: give a number from 0 (deterministic) to 1 (as random as DDPM).")
    rows = []
    for k in range(schedule.steps):
        here, (_, alpha, sigma) = schedule.level(k), schedule.level(k + 1)
        kept = here.alpha * sigma / (alpha * here.sigma)  # of the noise's standard deviation, by the exact posterior
        spread = eta * sigma * math.sqrt(1 - kept**2)
        rows.append(Row(here, {"x": _towards(here, alpha, math.sqrt(sigma**2 - spread**2)) | {"z": spread}}))
    return assemble(schedule, "x0", rows)


def _towards(here, alpha: float, sigma: float) -> dict[str, float]:
    """The point alpha * data + sigma * noise, by the data "m" estimated at "x"."""
    return {"x": sigma / here.sigma, "m": alpha - sigma * here.alpha / here.sigma}


def ddpm(schedule: Schedule, *, variance: Literal["small", "large"] = "small") -> Plan:
    """Ancestral sampling (Ho et al. 2020, algorithm 2).

    Args:
      schedule: the grid.
      variance: of the noise put back: the posterior's, or beta itself, the two bounds of section 3.2 there.
    """
    plan = ddim(schedule, eta=1.0)
    if variance == "large":
        for k in range(schedule.steps):
            here, (_, alpha, sigma) = schedule.level(k), schedule.level(k + 1)
            if sigma > 0:
                plan.update[k, 0, -1] = math.sqrt(here.sigma**2 - (here.alpha / alpha * sigma) ** 2)
    return plan


def lcm(schedule: Schedule, *, sigma_data: float = 0.5, time_scale: float = 10.0) -> Plan:
    """Latent consistency sampling (Luo et al. 2023): estimate the data, add fresh noise, repeat.

    For networks that are distilled to jump to the data. Tables of discrete times have the boundary condition that makes
    the jump exact at time 0: c_skip and c_out with time * `time_scale` over `sigma_data`.
    """
    rows = []
    for k in range(schedule.steps):
        here, (_, alpha, sigma) = schedule.level(k), schedule.level(k + 1)
        skip, out = 0.0, 1.0
        if schedule.family == "vp":
            size = math.hypot(here.t * time_scale, sigma_data)
            skip, out = (sigma_data / size) ** 2, here.t * time_scale / size
        final = k == schedule.steps - 1
        alpha, sigma = (1.0, 0.0) if final else (alpha, sigma)
        rows.append(Row(here, {"x": {"x": alpha * skip, "m": alpha * out, "z": sigma}}))
    return assemble(schedule, "x0", rows)
