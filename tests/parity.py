"""Compare ours with a golden case of the original code.

    python -m tests.parity CASE_DIR [--io FILE.npz] [--out FILE.npz] [--double]

Fills the case's weights, converts them with the rules that convert a real checkpoint, runs our module on the inputs
and prints the relative and the largest absolute error of every stored tensor. Exits with 1 if one is above tolerance.
"""

import contextlib
import importlib
import itertools
import json
import pkgutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
import tyro

import tests.golden.cases as rooms
from jaxaudio.errors import MissingError
from tests.golden.weights import widened
from tests.precision import double_precision

TOLERANCE = 1e-4
NOISE = 3.0  # float32 gradients of kinked networks may differ by so many times the original's own rounding error


def runner(name: str, system: str = "") -> Callable[[Mapping, Mapping, Mapping], dict[str, np.ndarray]]:
    """The function that runs ours on a case, found by the case's name, or by its system's."""
    modules = pkgutil.iter_modules(rooms.__path__)
    tables = [importlib.import_module(f"{rooms.__name__}.{module.name}").CASES for module in modules]
    for wanted, cases in itertools.product((name, system), tables):
        if wanted in cases:
            return cases[wanted]
    raise MissingError(f"No module of ours claims the case {name!r}; its runner belongs into tests/golden/cases/.")


def run(
    case_dir: Path, io: Path | None = None, double: bool = False
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict]:
    """Ours, the original's, and the case's description."""
    io = io or next(path for path in (case_dir / "io_dev.npz", case_dir / "io.npz") if path.exists())
    case = json.loads((case_dir / "case.json").read_text())
    keys_file = case_dir / "keys.json"  # samplers have no weights, hence no keys
    keys = json.loads(keys_file.read_text()) if keys_file.exists() else {}
    with np.load(io, allow_pickle=False) as stored:
        reference = {name: stored[name] for name in stored.files}
    precision = double_precision() if double else contextlib.nullcontext()
    with jax.default_matmul_precision("highest"), precision:
        ours = runner(case_dir.name, case.get("system", ""))(case, keys, widened(reference))
    return {name: np.asarray(value) for name, value in ours.items()}, reference, case


def tolerances(case: Mapping, names: list[str]) -> dict[str, float]:
    """1e-4, or a multiple of the noise that the original shows between float32 and float64 where the case states it."""
    stated: dict[str, float] = {}
    for split in (case.get("f32_vs_f64_relative_difference") or {}).values():
        for name, noise in split.items():
            stated[name] = max(stated.get(name, 0.0), noise)
    worst = max(stated.values(), default=0.0)

    def of(name: str) -> float:
        if name.startswith("f64/") or not stated:
            return TOLERANCE
        if name in stated:
            # Rounding flips the sign of an L1 error here and there.
            floor = 10 * TOLERANCE if name.startswith("grad") else TOLERANCE
            return max(floor, NOISE * stated[name])
        if name.startswith(("grad_norm", "step1/", "bn3/", "opt_")):  # made of the noisy ones, not listed themselves
            return max(TOLERANCE, NOISE * worst)
        return TOLERANCE

    return {name: of(name) for name in names}


def errors(ours: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Relative error (norm of the difference over norm of the reference) and largest absolute error."""
    if ours.shape != reference.shape:
        return float("inf"), float("inf")
    if reference.dtype.kind not in "fiub":
        return (0.0, 0.0) if np.array_equal(ours, reference) else (float("inf"), float("inf"))
    if reference.size == 0:
        return 0.0, 0.0
    a, b = ours.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
    finite = np.isfinite(b)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return float("inf"), float("inf")
    a, b = np.where(finite, a, 0), np.where(finite, b, 0)
    difference = np.linalg.norm(a - b)
    return float(difference / max(np.linalg.norm(b), 1e-12)), float(np.max(np.abs(a - b)))


def compare(
    case_dir: Path, io: Path | None = None, double: bool = False
) -> tuple[list[tuple[str, float, float, float]], dict[str, np.ndarray]]:
    """(name, relative error, largest error, tolerance) of every stored tensor that is not an input; and ours."""
    ours, reference, case = run(case_dir, io, double)
    shared = [name for name in reference if name in ours]
    allowed = tolerances(case, shared)
    return [(name, *errors(ours[name], reference[name]), allowed[name]) for name in shared], ours


def main(
    case_dir: tyro.conf.Positional[Path], io: Path | None = None, out: Path | None = None, double: bool = False
) -> int:
    """Compare ours with a golden case.

    Args:
      case_dir: folder with case.json, keys.json and an npz of inputs and outputs.
      io: another npz with inputs of the same names; io_dev.npz or io.npz of the folder by default.
      out: write ours there, under the original's tensor names and in its layout.
      double: run ours in float64, whatever the processor's rounding; minutes where there are convolutions.
    """
    rows, ours = compare(case_dir.resolve(), io, double)
    for name, relative, largest, allowed in rows:
        print(f"{'ok  ' if relative <= allowed else 'FAIL'} {relative:9.2e} {largest:9.2e}  (<= {allowed:.0e})  {name}")
    if out is not None:
        np.savez(out, **ours)
    with np.load(io or next(case_dir.glob("io*.npz"))) as stored:
        print("inputs, and whatever ours did not compute:", ", ".join(sorted(set(stored.files) - set(ours))) or "none")
    worst = max(rows, key=lambda row: row[1] / row[3], default=None)
    failed = worst is None or worst[1] > worst[3]
    print(
        f"{'FAILED' if failed else 'passed'}: {len(rows)} tensors"
        + (f", worst {worst[1]:.2e} {worst[0]}" if worst else "")
    )
    return int(failed)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
