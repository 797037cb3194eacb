import csv
import io

import numpy as np
import pytest

from jaxaudio.benchmark import best_at, claims, log, report, write_report
from jaxaudio.benchmark.plots import pareto


def row(solver, nfe, spacing="usual", status="ok", **quality):
    known = {"system": "gaussian", "solver": solver, "steps": nfe, "spacing": spacing, "guidance": 1.0, "batch": 4}
    known |= {"dtype": "float32", "devices": 1, "items": 64, "seed": 0, "weights": "", "device": "cpu"}
    if status != "ok":
        return {**known, "status": status, "note": "not for this"}
    costs = dict.fromkeys(("compile_s", "latency_p90_s", "samples_per_s_per_device", "peak_mb", "temp_mb"), 1.0)
    return {**known, "status": status, "nfe": nfe, "latency_p50_s": nfe / 100, **costs, "quality": quality}


ROWS = [
    row("ddim", 4, error=0.4, **{"agreement/clap": 0.1}),
    row("ddim", 8, error=0.3),
    row("ddim", 50, error=0.05),
    row("ddim", 50, "straight", error=0.04),
    row("unipc", 4, error=0.2, **{"agreement/clap": 0.3}),
    row("unipc", 8, "straight", error=0.02),
    row("unipc", 8, error=0.1),
    row("heun", 7, error=0.05),
    row("heun", 15, error=0.01),
    row("ddpm", 4, **{"agreement/clap": 0.2}),
    row("shortcut", 4, status="undefined"),
]


def test_the_best_within_a_budget():
    found = {(b.metric, b.budget): b for b in best_at(ROWS)}
    four, eight, sixteen = (found["error", n] for n in (4, 8, 16))
    assert (four.row["solver"], four.next["solver"], four.ddim["nfe"]) == ("unipc", "ddim", 4)
    assert (eight.row["spacing"], eight.next["solver"], eight.ddim["nfe"]) == ("straight", "heun", 8)
    assert (sixteen.row["nfe"], sixteen.next["solver"]) == (15, "unipc")
    # Agreement is better when larger.
    assert [found["agreement/clap", 4].row["solver"], found["agreement/clap", 4].next["solver"]] == ["unipc", "ddpm"]
    lines = report.best_table([four, sixteen]).splitlines()
    assert lines[2] == "| gaussian | error | 4 | unipc | 0.2 | ddim | 0.4 | 2.00 | 0.4, 2.00 times |"
    assert lines[3].startswith(
        "| gaussian | error | 15 of 16 | heun | 0.01 | unipc (straight) | 0.02 | 2.00 | 0.3, 30.00"
    )


def test_the_claim_is_computed():
    (said,) = claims(ROWS)
    assert (
        "unipc (straight) with 8 evaluations, error 0.02, beats DDIM with 50 on its best grid (straight), 0.04" in said
    )
    assert "by a factor of 2;" in said and "customary grid DDIM has 0.05, 2.5 as much" in said
    worse = [r for r in ROWS if r["solver"] == "ddim"]
    assert "does not beat" in claims(worse)[0]
    assert claims([r for r in ROWS if r["solver"] != "ddim"]) == []


def test_only_equal_settings_are_compared():
    other = [{**r, "guidance": 3.0, "quality": {"error": 1e-3}} for r in ROWS if r["status"] == "ok"]
    found = best_at([*ROWS, *other], budgets=(4,))
    assert [b.row["quality"]["error"] for b in found if b.metric == "error"] == [0.2, 1e-3]


def test_the_front_holds_what_nothing_beats():
    points = [(1, 5), (2, 3), (3, 4), (4, 1), (4, 2), (0.5, 9)]
    assert pareto(points) == [5, 0, 1, 3]
    assert pareto(points, larger=True) == [5]
    rng = np.random.default_rng(0)
    points = [tuple(p) for p in rng.random((60, 2))]
    front = pareto(points)
    for i, (x, y) in enumerate(points):
        beaten = any(a <= x and b <= y and (a, b) != (x, y) for a, b in points)
        assert (i in front) != beaten


def test_files(tmp_path):
    for one in ROWS:
        log.append(tmp_path, one)
    made = write_report(tmp_path)
    assert [path.name for path in made] == [
        "cells.csv",
        "report.md",
        "gaussian-error.png",
        "gaussian-agreement-clap.png",
    ]
    table = list(csv.DictReader(io.StringIO((tmp_path / "cells.csv").read_text())))
    assert len(table) == len(ROWS) and table[0]["error"] == "0.4" and table[-1]["note"] == "not for this"
    text = (tmp_path / "report.md").read_text()
    assert "beats DDIM with 50" in text and "not for this (gaussian shortcut 4)" in text
    assert (
        sum(line.startswith("| gaussian | ") for line in text.splitlines()) == 6 + len(ROWS) - 1
    )  # the best, and every cell
    for path in made[2:]:
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and 5_000 < path.stat().st_size < 150_000


def test_nothing_measured_is_nothing_said():
    assert best_at([]) == [] and claims([]) == []
    assert report.to_markdown([]).startswith("# Samplers")
    assert report.best_table([]).count("\n") == 2


@pytest.mark.parametrize("budget", [1, 3])
def test_no_row_fits_a_budget(budget):
    assert best_at(ROWS, budgets=(budget,)) == []
