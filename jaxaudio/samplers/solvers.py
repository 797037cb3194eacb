"""The table of solvers: what the command line, the benchmark and the documentation know.

To add one, write a function from schedule to plan, and a line here.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxaudio.errors import ConfigError
from jaxaudio.samplers import adams, exponential, first_order, predictor_corrector, runge_kutta, schedules
from jaxaudio.samplers.plan import Plan, assemble
from jaxaudio.samplers.schedules import Family, Schedule

_ALL: tuple[Family, ...] = ("vp", "edm", "flow")
_NOISE: tuple[Family, ...] = ("vp", "edm")  # solvers about the noise need signal at the start, which flow has not
_FLOW: tuple[Family, ...] = ("flow", "vp", "edm")
_LATENT = {"spacing": "leading", "offset": 1, "final": "min"}  # as latent diffusion samples
_OPEN = {"spacing": "linspace-open"}
_FULL = {"spacing": "linspace"}
_STRAIGHT = {"spacing": "straight"}


class Solver(NamedTuple):
    """One line of the table.

    Attributes:
      plan: schedule -> plan.
      families: the schedules that it is defined for.
      order: of convergence, where it is not lowered for the last steps.
      nfe: evaluations for S steps, in words.
      grid: arguments of `schedules.vp` that it is customarily used with.
      stochastic: whether it draws noise.
    """

    plan: Callable[[Schedule], Plan]
    families: tuple[Family, ...]
    order: int
    nfe: str
    grid: Mapping[str, Any]
    stochastic: bool = False


_bind = functools.partial

SOLVERS: dict[str, Solver] = {
    "ddpm": Solver(first_order.ddpm, _ALL, 1, "S", {"spacing": "trailing"}, stochastic=True),
    "ddim": Solver(first_order.ddim, _ALL, 1, "S", _LATENT),
    "plms": Solver(adams.plms, ("vp",), 2, "S + 1", _LATENT),
    "pndm": Solver(adams.pndm, ("vp",), 2, "S + 9", _LATENT),
    "dpmpp-1": Solver(_bind(exponential.dpmpp, order=1), _ALL, 1, "S", _OPEN),
    "dpmpp-2m": Solver(exponential.dpmpp, _ALL, 2, "S", _OPEN),
    "dpmpp-3m": Solver(_bind(exponential.dpmpp, order=3), _ALL, 2, "S", _OPEN),
    "dpmpp-3m-exact": Solver(_bind(exponential.dpmpp, order=3, form="exact"), _ALL, 3, "S", _OPEN),
    "dpmpp-2s": Solver(exponential.dpmpp_single, _ALL, 2, "S", _OPEN),
    "dpmpp-3s": Solver(_bind(exponential.dpmpp_single, order=3), _ALL, 3, "S", _OPEN),
    "dpmpp-2m-sde": Solver(_bind(exponential.dpmpp, stochastic=True), _ALL, 2, "S", _OPEN, stochastic=True),
    "dpm-2m": Solver(_bind(exponential.dpmpp, about="epsilon"), _NOISE, 2, "S", _OPEN | {"final": "min"}),
    "dpm2": Solver(runge_kutta.dpm2, _NOISE, 2, "2 S - 1", _FULL),
    "unipc": Solver(predictor_corrector.unipc, _ALL, 3, "S", _OPEN),
    "unipc-3": Solver(_bind(predictor_corrector.unipc, order=3), _ALL, 4, "S", _OPEN),
    "unipc-bh1": Solver(_bind(predictor_corrector.unipc, form="bh1"), ("vp",), 3, "S", _OPEN | {"final": "min"}),
    "deis": Solver(adams.deis, _NOISE, 2, "S", _OPEN | {"final": "min"}),
    "deis-3": Solver(_bind(adams.deis, order=3), _NOISE, 3, "S", _OPEN | {"final": "min"}),
    "lms": Solver(adams.lms, _NOISE, 4, "S", _FULL),
    "euler": Solver(runge_kutta.euler, _NOISE, 1, "S", _FULL),
    "euler-ancestral": Solver(_bind(first_order.ddim, eta=1.0), _NOISE, 1, "S", _FULL, stochastic=True),
    "heun": Solver(runge_kutta.heun, _NOISE, 2, "2 S - 1", _FULL),
    "edm": Solver(
        _bind(runge_kutta.edm_heun, churn=40.0), _NOISE, 2, "2 S - 1", {"spacing": "karras"}, stochastic=True
    ),
    "lcm": Solver(first_order.lcm, _ALL, 1, "S", {"spacing": "trailing"}, stochastic=True),
    "flow-euler": Solver(_bind(runge_kutta.euler, straight=True), _FLOW, 1, "S", _STRAIGHT),
    "flow-midpoint": Solver(runge_kutta.midpoint, _FLOW, 2, "2 S", _STRAIGHT),
    "flow-heun": Solver(_bind(runge_kutta.heun, straight=True), _FLOW, 2, "2 S - 1", _STRAIGHT),
    "flow-rk4": Solver(runge_kutta.rk4, _FLOW, 4, "4 S", _STRAIGHT),
    "shortcut": Solver(runge_kutta.shortcut, ("flow",), 1, "S", {}),
}


def find(name: str) -> Solver:
    """The table's line of this name.

    Raises:
      ConfigError: no such solver.
    """
    if name not in SOLVERS:
        raise ConfigError(f"No solver {name!r}; there are {', '.join(SOLVERS)}.")
    return SOLVERS[name]


def plan_of(solver: str | Callable[[Schedule], Plan], schedule: Schedule) -> Plan:
    """Works a solver out on a schedule.

    Raises:
      ConfigError: no such solver, or one that is not defined on this schedule.
    """
    if schedule.steps == 0:  # as `editing.start` leaves it at strength 0
        return assemble(schedule, "x0", [])
    if isinstance(solver, str):
        entry = find(solver)
        if schedule.family not in entry.families:
            others = ", ".join(name for name, other in SOLVERS.items() if schedule.family in other.families)
            raise ConfigError(f"{solver!r} is not defined for {schedule.family!r} schedules; take one of {others}.")
        solver = entry.plan
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return solver(schedule)


def usual_schedule(
    solver: str, steps: int, *, family: Family | None = None, table: np.ndarray | None = None, **changes: Any
) -> Schedule:
    """The grid that a solver is customarily used with.

    Args:
      solver: a name of `SOLVERS`.
      steps: S.
      family: one that the solver is defined for, its first by default.
      table: signal power at each training time of a vp network, AudioLDM's by default.
      **changes: further or other arguments of `schedules.vp`, `schedules.edm` or `schedules.flow`.

    Raises:
      ConfigError: as `find`, `plan_of` and the schedule's function.
    """
    entry = find(solver)
    family = family or entry.families[0]
    if family not in entry.families:
        raise ConfigError(f"{solver!r} is not defined for {family!r} schedules, but for {', '.join(entry.families)}.")
    if family == "edm":
        return schedules.edm(steps, **changes)
    if family == "flow":
        return schedules.flow(steps, **changes)
    table = schedules.signal_power(schedules.scaled_linear_betas()) if table is None else table
    return schedules.vp(table, steps, **{**entry.grid, **changes})


def evaluations(solver: str, steps: int) -> int:
    """How often S steps of a solver evaluate the network (NFE): counted, not computed from a formula.

    Raises:
      ConfigError: a number of steps that the solver cannot do.
    """
    return plan_of(solver, usual_schedule(solver, steps)).evaluations


def steps_within(solver: str, budget: int) -> int:
    """The most steps that a solver can do with so many evaluations, for comparisons at equal cost.

    Raises:
      ConfigError: not even the fewest steps fit.
    """
    best = 0
    for steps in range(1, budget + 1):
        try:
            if evaluations(solver, steps) <= budget:
                best = steps
        except ConfigError:
            continue
    if not best:
        raise ConfigError(f"{solver!r} cannot do with {budget} evaluations; give it more.")
    return best
