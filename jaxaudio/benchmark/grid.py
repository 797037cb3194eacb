"""Which cells there are: every combination of what was asked for, checked before anything is compiled."""

import dataclasses
import itertools
from typing import Any

from jaxaudio import samplers
from jaxaudio.errors import ConfigError
from jaxaudio.samplers.solvers import find

USUAL = "usual"
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One line of the table.

    Attributes:
      system: name of the problem.
      solver: a name of `samplers.SOLVERS`.
      steps: S.
      spacing: "usual", the solver's customary grid; or a name of `samplers.LEVELS` or `samplers.SPACINGS`. Those of
        levels end at the table's lowest one, so that no step is spent on the way from there to none.
      guidance: strength of classifier-free guidance, 1 for none.
      batch: items per call.
      dtype: that the network computes in; states stay float32.
      devices: that share a batch.
    """

    system: str
    solver: str
    steps: int
    spacing: str = USUAL
    guidance: float = 1.0
    batch: int = 4
    dtype: str = "float32"
    devices: int = 1

    def changes(self) -> dict[str, Any]:
        """What the spacing changes in the solver's usual schedule."""
        if self.spacing == USUAL:
            return {}
        return {"spacing": self.spacing} | ({"final": "min"} if self.spacing in samplers.LEVELS else {})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """What to measure on one system; every field but the system's name is a list of which all combinations are run.

    Attributes:
      solvers: names.
      steps: numbers of steps.
      spacings: of the time grid, see `Cell`.
      guidance: strengths; none for the system's own.
      batch: items per call.
      dtype: of the network.
      devices: numbers of devices.
    """

    solvers: tuple[str, ...] = ("ddim", "dpmpp-2m", "unipc", "flow-midpoint")
    steps: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    spacings: tuple[str, ...] = (USUAL,)
    guidance: tuple[float, ...] = ()
    batch: tuple[int, ...] = (4,)
    dtype: tuple[str, ...] = ("float32",)
    devices: tuple[int, ...] = (1,)

    def groups(self, system: str, guidance: float) -> list[list[Cell]]:
        """Cells that differ in nothing but the solver, which are timed in turns.

        Args:
          system: name of the problem.
          guidance: where none is given.

        Raises:
          ConfigError: something that cannot be, named.
        """
        self.check()
        others = (self.spacings, self.guidance or (guidance,), self.batch, self.dtype, self.devices, self.steps)
        names = ("spacing", "guidance", "batch", "dtype", "devices", "steps")
        found: list[dict[str, Any]] = [dict(zip(names, values)) for values in itertools.product(*others)]
        return [[Cell(system=system, solver=solver, **told) for solver in self.solvers] for told in found]

    def check(self) -> None:
        """Refuses what cannot be.

        Raises:
          ConfigError: in one line.
        """
        import jax

        empty = [f.name for f in dataclasses.fields(self) if f.name != "guidance" and not getattr(self, f.name)]
        if empty:
            raise ConfigError(f"there is nothing to measure: give at least one of {', '.join(empty)}.")
        for solver in self.solvers:
            find(solver)
        known = (USUAL, *samplers.LEVELS, *samplers.SPACINGS)
        for spacing in self.spacings:
            if spacing not in known:
                raise ConfigError(f"No spacing {spacing!r}; there are {', '.join(known)}.")
        for dtype in self.dtype:
            if dtype not in DTYPES:
                raise ConfigError(f"No dtype {dtype!r}; there are {', '.join(DTYPES)}.")
        for steps in self.steps:
            if steps < 1:
                raise ConfigError(f"{steps} steps cannot be: give whole numbers from 1.")
        available = len(jax.devices())
        for devices in self.devices:
            if not 1 <= devices <= available:
                raise ConfigError(f"{devices} devices: this machine has {available}; give 1 to {available}.")
        for batch, devices in itertools.product(self.batch, self.devices):
            if batch < 1 or batch % devices:
                raise ConfigError(f"a batch of {batch} over {devices} devices: give a positive multiple of {devices}.")
