"""What every solver is: a table of coefficients.

All samplers here are linear: each new state is a combination of earlier states, outputs of the network and fresh noise,
with weights that depend on the schedule alone. So a solver is a function from a schedule to a `Plan`, worked out on the
host in float64, and one loop (`sampling.sample`) runs any of them.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxaudio.errors import ConfigError
from jaxaudio.samplers.schedules import Level, Schedule

Combination = Mapping[str, float]


class Row(NamedTuple):
    """One evaluation of the network, at slot "x", and what follows from it.

    Attributes:
      level: where it is evaluated.
      new: new contents of slots, as combinations of old slots, the output "m" and fresh unit noise "z". Slots that are
        not named keep what they hold.
      ends: whether "x" then is the state at the schedule's next point.
      step: size of the step, for networks that are told it.
    """

    level: Level
    new: Mapping[str, Combination]
    ends: bool = True
    step: float = 0.0


class Plan(NamedTuple):
    """Rows as arrays, for N evaluations and K slots of which the first is "x".

    Attributes:
      quantity: what outputs are converted to before they enter the combinations.
      t: (N,) times told to the network.
      alpha: (N,) weight of the data where it is evaluated.
      sigma: (N,) weight of the noise.
      update: (N, K, K + 2) weights of the new slots over (old slots, output, noise).
      ends: (N,) whether a step ends here.
      step: (N,) sizes of steps, if the network is told them.
    """

    quantity: str
    t: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    update: np.ndarray
    ends: np.ndarray
    step: np.ndarray | None

    @property
    def evaluations(self) -> int:
        """N, how often the network is evaluated."""
        return len(self.t)

    @property
    def stochastic(self) -> bool:
        """Whether any evaluation is followed by fresh noise."""
        return bool(np.any(self.update[..., -1]))


def assemble(schedule: Schedule, quantity: str, rows: Sequence[Row], *, tell_step: bool = False) -> Plan:
    """Puts rows into arrays.

    Raises:
      ConfigError: coefficients that are not finite, which is how a solver that is not defined on a schedule shows.
    """
    slots = list(dict.fromkeys(["x", *(name for row in rows for name in row.new)]))
    columns = {name: i for i, name in enumerate([*slots, "m", "z"])}
    update = np.zeros((len(rows), len(slots), len(columns)))
    for n, row in enumerate(rows):
        for i, slot in enumerate(slots):
            for name, weight in row.new.get(slot, {slot: 1.0}).items():
                update[n, i, columns[name]] = weight
    if not np.all(np.isfinite(update)):
        bad = rows[int(np.argmin(np.isfinite(update).all((1, 2))))].level
        raise ConfigError(
            f"The solver is not defined at alpha = {bad.alpha:.3g}, sigma = {bad.sigma:.3g} of this schedule; take "
            "another solver, or a schedule that starts with some signal or ends with some noise."
        )
    t, alpha, sigma = (np.array([getattr(row.level, name) for row in rows]) for name in Level._fields)
    if np.issubdtype(schedule.t.dtype, np.integer) and np.all(t == np.round(t)):
        t = t.astype(np.int32)
    step = np.array([row.step for row in rows]) if tell_step else None
    return Plan(quantity, t, alpha, sigma, update, np.array([row.ends for row in rows], bool), step)


def need_signal(schedule: Schedule) -> None:
    """For solvers that divide by alpha.

    Raises:
      ConfigError: a schedule that starts with noise alone.
    """
    if schedule.alpha[0] == 0:
        raise ConfigError("This solver needs some signal at the start: take ddim, dpmpp-2m or flow-heun for zero SNR.")


def history(weights: Sequence[float] | np.ndarray) -> tuple[dict[str, float], dict[str, Combination]]:
    """Weights of the outputs, newest first, as part of a combination; and slots that remember all but the oldest."""
    names = ["m", *(f"m{i}" for i in range(1, len(weights)))]
    return dict(zip(names, map(float, weights))), {new: {old: 1.0} for old, new in itertools.pairwise(names)}


def orders(schedule: Schedule, order: int) -> np.ndarray:
    """(S,) the order that a multistep solver can have at each step.

    It rises with the history, which does not reach back to pure noise (infinite log-SNR differences), falls again at
    the end of short runs, and is 1 where the last step goes all the way to no noise.
    """
    k = np.arange(schedule.steps)
    past = np.maximum(k, 1) if schedule.steps and schedule.alpha[0] == 0 else k + 1
    able = np.minimum(order, past)
    if schedule.steps < 15:
        able = np.minimum(able, schedule.steps - k)
    if schedule.steps and schedule.sigma[-1] == 0:
        able[-1] = 1
    return able
