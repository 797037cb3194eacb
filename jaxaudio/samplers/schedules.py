"""Noise schedules: how much signal and how much noise, and the time that the network is told.

Every family here is x = alpha * data + sigma * noise. They differ in what ties alpha to sigma:

    vp    alpha^2 + sigma^2 = 1   trained on a table of discrete times (AudioLDM, Stable Diffusion)
    edm   alpha = 1               continuous noise levels (Karras et al. 2022)
    flow  alpha + sigma = 1       rectified flow (FlowSep, Stable Diffusion 3)

A schedule is made on the host, in float64, from numbers that are known before tracing: solvers turn it into
coefficients there, and only those reach the device.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from jaxaudio.errors import ConfigError

Family = Literal["vp", "edm", "flow"]


class Level(NamedTuple):
    """One point of the path: the time that the network is told, and the weights of data and noise."""

    t: float
    alpha: float
    sigma: float


class Schedule(NamedTuple):
    """The grid of S steps, from noise to data.

    Attributes:
      t: (S,) time told to the network at each step's start, integer for tables of discrete times, else floating.
      alpha: (S + 1,) weight of the data, ending where the last step ends.
      sigma: (S + 1,) weight of the noise.
      knots: (2, K) `coordinate` of noise levels, increasing, and their times: linear interpolation between them says
        the time of a level that is not on the grid.
    """

    t: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    knots: np.ndarray

    @property
    def steps(self) -> int:
        """S, the number of steps."""
        return len(self.t)

    @property
    def family(self) -> Family:
        """What ties alpha to sigma, read off the levels themselves."""
        alpha, sigma = self.alpha, self.sigma
        if np.all(alpha == 1) and np.any(sigma > 0):
            return "edm"
        if np.allclose(alpha + sigma, 1):
            return "flow"
        if np.allclose(alpha**2 + sigma**2, 1):
            return "vp"
        raise ConfigError("Levels of no known family: give alpha = 1, alpha + sigma = 1 or alpha^2 + sigma^2 = 1.")

    @property
    def coordinate(self) -> np.ndarray:
        """(S + 1,) what times are interpolated in: sigma for flow, log(sigma / alpha) for vp and edm."""
        return self.sigma if self.family == "flow" else -self.log_snr

    @property
    def log_snr(self) -> np.ndarray:
        """(S + 1,) lambda = log(alpha / sigma): infinite without noise, -infinite without signal."""
        with np.errstate(divide="ignore"):
            return np.log(self.alpha) - np.log(self.sigma)

    def level(self, k: int) -> Level:
        """The k-th point of the grid, with a time even for the last one."""
        if k < self.steps:
            return Level(float(self.t[k]), float(self.alpha[k]), float(self.sigma[k]))
        return self.between(float(self.coordinate[k]))

    def between(self, coordinate: float) -> Level:
        """The point of this family's path at any coordinate."""
        t = float(np.interp(coordinate, *self.knots))
        if self.family == "flow":
            return Level(t, 1 - coordinate, coordinate)
        if self.family == "edm":
            return Level(t, 1.0, math.exp(coordinate))
        return Level(t, *(float(weight) for weight in _vp_weights(np.exp(coordinate))))

    def last(self, steps: int) -> "Schedule":
        """The schedule's last steps alone, none included."""
        first = self.steps - steps
        return self._replace(t=self.t[first:], alpha=self.alpha[first:], sigma=self.sigma[first:])


def _vp_weights(ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Alpha and sigma of a vp path where sigma / alpha is `ratio`, from 0 to infinity."""
    with np.errstate(divide="ignore"):
        return 1 / np.hypot(1, ratio), 1 / np.hypot(1, 1 / ratio)


# Tables: the cumulated signal power alpha^2 at each time that a vp network was trained on.


def linear_betas(times: int = 1000, start: float = 1e-4, end: float = 0.02) -> np.ndarray:
    """(times,) variances added per training step, evenly spaced (Ho et al. 2020)."""
    return np.linspace(start, end, times)


def scaled_linear_betas(times: int = 1000, start: float = 0.0015, end: float = 0.0195) -> np.ndarray:
    """(times,) squares of evenly spaced roots (Rombach et al. 2022, who call them linear); AudioLDM's by default."""
    return np.linspace(start**0.5, end**0.5, times) ** 2


def cosine_betas(times: int = 1000, offset: float = 0.008, largest: float = 0.999) -> np.ndarray:
    """(times,) betas whose signal power follows a squared cosine (Nichol & Dhariwal 2021)."""
    power = np.cos((np.arange(times + 1) / times + offset) / (1 + offset) * np.pi / 2) ** 2
    return np.minimum(1 - power[1:] / power[:-1], largest)


def signal_power(betas: np.ndarray) -> np.ndarray:
    """(times,) the table alpha^2 = cumulated product of 1 - beta."""
    return np.cumprod(1 - np.asarray(betas, np.float64))


def zero_terminal_snr(table: np.ndarray) -> np.ndarray:
    """The table, shifted and scaled so that its last time is pure noise (Lin et al. 2024, algorithm 1)."""
    root = np.sqrt(table)
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


# Spacings: which S of the T times are used, as (T, S, offset) -> times from noisy to clean.


def leading(times: int, steps: int, offset: int = 0) -> np.ndarray:
    """Multiples of T / S, rounded down, plus an offset: ends at a low time, does not start at the last one."""
    grid = np.arange(steps) * times // steps
    return (grid + min(offset, times - 1 - int(grid[-1])))[::-1]


def leading_open(times: int, steps: int, offset: int = 0) -> np.ndarray:
    """The leading grid of S + 1 steps with whole distances, without its lowest time."""
    grid = np.arange(1, steps + 1) * (times // (steps + 1))
    return (grid + min(offset, times - 1 - int(grid[-1])))[::-1]


def trailing(times: int, steps: int, offset: int = 0) -> np.ndarray:
    """Starts at the last time; its lowest is T / S - 1 (Lin et al. 2024)."""
    return np.round(times - np.arange(steps) * (times / steps)).astype(int) - 1


def linspace(times: int, steps: int, offset: int = 0) -> np.ndarray:
    """Evenly from the last time to 0, both included: fractional times."""
    return np.linspace(times - 1, 0, steps)


def linspace_open(times: int, steps: int, offset: int = 0) -> np.ndarray:
    """Evenly from the last time to 0, rounded, 0 left out."""
    return np.round(np.linspace(0, times - 1, steps + 1))[:0:-1].astype(int)


def audioldm_original(times: int, steps: int, offset: int = 1) -> np.ndarray:
    """The grid of AudioLDM's own DDIM sampler, defects included: `range(0, T, T // S) + 1`.

    It has more than S steps unless S divides T (8 for 7, 63 for 60), never sees the last times, and for some S (3, 9,
    300, 999, 1000) asks for time T, which is not in the table: the original stops with an IndexError there.

    Raises:
      ConfigError: where the original fails.
    """
    grid = np.arange(0, times, times // steps) + offset
    if grid[-1] >= times:
        raise ConfigError(f"AudioLDM's own grid of {steps} steps leaves its table; take another number or 'leading'.")
    return grid[::-1]


SPACINGS = {
    "leading": leading,
    "leading-open": leading_open,
    "trailing": trailing,
    "linspace": linspace,
    "linspace-open": linspace_open,
    "audioldm-original": audioldm_original,
}


def karras_levels(steps: int, smallest: float, largest: float, rho: float = 7.0) -> np.ndarray:
    """(steps,) noise-to-signal ratios, evenly spaced in their rho-th root (Karras et al. 2022, eq. 5)."""
    return np.linspace(largest ** (1 / rho), smallest ** (1 / rho), steps) ** rho


def log_levels(steps: int, smallest: float, largest: float) -> np.ndarray:
    """(steps,) noise-to-signal ratios, evenly spaced in their logarithm (Lu et al. 2022)."""
    return np.geomspace(largest, smallest, steps)


def angle_levels(steps: int, smallest: float, largest: float) -> np.ndarray:
    """(steps,) noise-to-signal ratios, evenly spaced in their arc tangent.

    For data of unit variance that is the pace at which the ODE's solution turns from noise to data.
    """
    return np.tan(np.linspace(np.arctan(largest), np.arctan(smallest), steps))


def straight_levels(steps: int, smallest: float, largest: float) -> np.ndarray:
    """(steps,) noise-to-signal ratios, evenly spaced in sigma / (alpha + sigma), the time of rectified flow."""
    u = np.linspace(largest / (1 + largest), smallest / (1 + smallest), steps)
    return u / (1 - u)


LEVELS = {"karras": karras_levels, "log-snr": log_levels, "angle": angle_levels, "straight": straight_levels}


def vp(
    table: np.ndarray,
    steps: int,
    *,
    spacing: str = "linspace-open",
    offset: int = 0,
    final: Literal["zero", "min"] = "zero",
    whole_times: bool = False,
) -> Schedule:
    """S steps through a table of discrete times.

    Args:
      table: (T,) signal power alpha^2 at times 0 to T - 1, falling, as `signal_power` makes it.
      steps: S, from 1 to T.
      spacing: a name of `SPACINGS`, or of `LEVELS`, which space noise levels and deduce times.
      offset: added to the times of the leading spacings.
      final: end without noise, or at the level of time 0 (unless the last step starts there).
      whole_times: round deduced times, for networks that know no others.

    Raises:
      ConfigError: no steps, more than the table has, an unknown spacing, or one that this table cannot have.
    """
    times = len(table)
    _check_steps(steps, times)
    alpha, sigma = np.sqrt(table), np.sqrt(1 - table)
    with np.errstate(divide="ignore"):
        ratio = sigma / alpha
        knots = np.stack([np.log(ratio), np.arange(times)])
    if spacing in LEVELS:
        if not np.isfinite(ratio[-1]):
            raise ConfigError(f"{spacing!r} needs signal at the last time; take 'trailing' for zero terminal SNR.")
        # With an end of its own the grid reaches the lowest level by its last step, else before it.
        levels = LEVELS[spacing](steps + (final == "min"), ratio[0], ratio[-1])[:steps]
        t = np.interp(np.log(levels), *knots)
        t = np.round(t).astype(np.int32) if whole_times else t
    elif spacing in SPACINGS:
        # Where every time is used, all spacings are the same one; offsets and open ends would not fit into the table.
        every = steps == times and spacing != "audioldm-original"
        t = np.arange(times)[::-1] if every else SPACINGS[spacing](times, steps, offset)
        levels = ratio[t] if t.dtype.kind == "i" else np.interp(t, np.arange(times), ratio)
        t = t.astype(np.int32) if t.dtype.kind == "i" else t
    else:
        raise ConfigError(f"No spacing {spacing!r}; there are {', '.join([*SPACINGS, *LEVELS])}.")
    end = ratio[0] if final == "min" and levels[-1] > ratio[0] else 0.0
    return Schedule(t, *_vp_weights(np.append(levels, end)), knots)


def edm(steps: int, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """S steps through Karras levels and to zero; the network is told log(sigma) / 4 (Karras et al. 2022, table 1).

    Raises:
      ConfigError: no steps, or not 0 < sigma_min < sigma_max.
    """
    _check_steps(steps)
    if not 0 < sigma_min < sigma_max:
        raise ConfigError(f"sigma from {sigma_max} to {sigma_min}: give 0 < sigma_min < sigma_max.")
    sigma = karras_levels(steps, sigma_min, sigma_max, rho)
    knots = np.array([[-100.0, 100.0], [-25.0, 25.0]])
    return Schedule(np.log(sigma) / 4, np.ones(steps + 1), np.append(sigma, 0.0), knots)


def shifted(levels: np.ndarray, shift: float) -> np.ndarray:
    """Flow levels with more of them near the noise: s -> k s / (1 + (k - 1) s) (Esser et al. 2024)."""
    return shift * levels / (1 + (shift - 1) * levels)


def flow(
    steps: int,
    *,
    shift: float = 1.0,
    last: float | None = None,
    levels: Sequence[float] | np.ndarray | None = None,
    scale: float = 1.0,
    reverse: bool = False,
) -> Schedule:
    """S steps of rectified flow, from pure noise (sigma = 1) to data (sigma = 0).

    Args:
      steps: S.
      shift: above 1 for more steps near the noise.
      last: the lowest level that is evaluated, before the shift; None to space S + 1 points evenly. Stable Diffusion 3
        has 0.001 there.
      levels: (S,) falling levels in (0, 1] in place of even ones; 0 is added. They are shifted too.
      scale: the network is told scale * sigma.
      reverse: it is told scale * (1 - sigma), as where time runs from noise to data (FlowSep).

    Raises:
      ConfigError: no steps, or levels that do not fall from at most 1 to above 0.
    """
    _check_steps(steps)
    if levels is None:
        levels = np.linspace(1, 0, steps + 1)[:-1] if last is None else np.linspace(1, last, steps)
    sigma = np.append(shifted(np.asarray(levels, np.float64), shift), 0.0)
    if len(sigma) != steps + 1 or sigma[0] > 1 or np.any(np.diff(sigma) >= 0):
        raise ConfigError(f"Flow levels must be {steps} numbers that fall from at most 1 to above 0.")
    ends = (scale, 0.0) if reverse else (0.0, scale)
    t = np.interp(sigma[:-1], [0, 1], ends)
    return Schedule(t, 1 - sigma, sigma, np.array([[0.0, 1.0], ends]))


def _check_steps(steps: int, most: int | None = None) -> None:
    if steps < 1 or steps != int(steps) or (most is not None and steps > most):
        allowed = "at least 1" if most is None else f"from 1 to {most}, the times that the network was trained on"
        raise ConfigError(f"{steps} steps cannot be: give a whole number, {allowed}.")
