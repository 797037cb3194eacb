"""What every step buys: solvers on problems with known answers and on trained models, at which cost.

`jaxaudio benchmark samplers` runs it. A system is a function that makes a `Problem` (problems.py), a solver is a line
of `samplers.SOLVERS`; everything else here holds for all of them.
"""

from jaxaudio.benchmark.grid import Cell, Grid
from jaxaudio.benchmark.problems import SYSTEMS, Problem, Setting, find
from jaxaudio.benchmark.report import best_at, claims, read, write_report
from jaxaudio.benchmark.runner import run

__all__ = [
    "SYSTEMS",
    "Cell",
    "Grid",
    "Problem",
    "Setting",
    "best_at",
    "claims",
    "find",
    "read",
    "run",
    "write_report",
]
