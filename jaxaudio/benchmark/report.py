"""From rows to what is read: CSV, Markdown, pictures, and what the measurements say."""

import csv
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxaudio.benchmark import log
from jaxaudio.benchmark.grid import USUAL
from jaxaudio.benchmark.log import Row, read

BUDGETS = (4, 8, 16)
_SETTINGS = ("system", "solver", "spacing", "steps", "nfe", "guidance", "batch", "dtype", "devices")
_COSTS = (
    "compile_s",
    "latency_p50_s",
    "latency_p90_s",
    "samples_per_s_per_device",
    "peak_mb",
    "temp_mb",
)
LARGER_IS_BETTER = ("agreement", "named")


class Best(NamedTuple):
    """The best solver within a budget of evaluations.

    Attributes:
      system: of which.
      metric: by which figure.
      budget: most evaluations.
      row: the best.
      next: the best of another solver; None without one.
      ddim: of DDIM on its customary grid within the budget; None without.
    """

    system: str
    metric: str
    budget: int
    row: Row
    next: Row | None
    ddim: Row | None


def metrics(rows: Sequence[Row]) -> list[str]:
    """Names of the figures of quality that occur."""
    return list(dict.fromkeys(name for row in rows for name in row.get("quality", {})))


def best_at(rows: Sequence[Row], budgets: Sequence[int] = BUDGETS) -> list[Best]:
    """For every system, figure and budget, which solver on which grid is best, and what comes next."""
    found = []
    for setting in _settings(rows):
        mine = [row for row in rows if _setting(row) == setting and row["status"] == "ok"]
        for metric in metrics(mine):
            for budget in budgets:
                able = [row for row in mine if row["nfe"] <= budget and metric in row["quality"]]
                able.sort(key=lambda row: badness(row, metric))
                if able:
                    others = [row for row in able if row["solver"] != able[0]["solver"]]
                    ddim = [row for row in able if row["solver"] == "ddim" and row["spacing"] == USUAL]
                    found.append(
                        Best(setting[0], metric, budget, able[0], next(iter(others), None), next(iter(ddim), None))
                    )
    return found


def claims(rows: Sequence[Row], few: int = 8, many: int = 50) -> list[str]:
    """Whether the best solver at `few` evaluations beats DDIM at `many`, a sentence per analytic system.

    DDIM stands on the grid that suits it best among those measured, and on its customary one.
    """
    said = []
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == system and "error" in row.get("quality", {})]
        best = min((row for row in mine if row["nfe"] <= few), key=_error, default=None)
        ddim = [row for row in mine if row["solver"] == "ddim" and row["nfe"] == many]
        if best is None or not ddim:
            continue
        against = min(ddim, key=_error)
        usual = next((row for row in ddim if row["spacing"] == USUAL), None)
        verb = "beats" if _error(best) < _error(against) else "does not beat"
        line = (
            f"{system}: {_grid(best)} with {best['nfe']} evaluations, error {_error(best):.2g}, {verb} DDIM with "
            f"{many} on its best grid ({against['spacing']}), {_error(against):.2g}, by a factor of "
            f"{_error(against) / _error(best):.3g}"
        )
        if usual is not None and usual is not against:
            line += f"; on its customary grid DDIM has {_error(usual):.2g}, {_error(usual) / _error(best):.3g} as much"
        said.append(line + ".")
    return said


def to_csv(rows: Sequence[Row]) -> str:
    """All rows and all columns; figures of quality by their names."""
    flat = [{**{k: v for k, v in row.items() if k != "quality"}, **row.get("quality", {})} for row in rows]
    columns = list(dict.fromkeys(name for row in flat for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def to_markdown(rows: Sequence[Row]) -> str:
    """What the measurements say, then every cell."""
    parts = ["# Samplers: what every step buys\n"]
    if said := claims(rows):
        parts.append("\n".join(f"- {line}" for line in said) + "\n")
    if best := best_at(rows):
        parts += ["## The best within a number of evaluations\n", best_table(best)]
    figures = metrics(rows)
    parts.append("## Every cell\n")
    columns = (*_SETTINGS, *figures, *_COSTS)
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in rows:
        if row["status"] == "ok":
            values = [
                *(row[k] for k in _SETTINGS),
                *(row["quality"].get(k) for k in figures),
                *(row[k] for k in _COSTS),
            ]
            lines.append("| " + " | ".join(map(_text, values)) + " |")
    parts.append("\n".join(lines) + "\n")
    if undefined := [row for row in rows if row["status"] != "ok"]:
        parts.append("## Not defined\n")
        notes: dict[str, list[str]] = {}
        for row in undefined:
            notes.setdefault(row["note"], []).append(f"{row['system']} {_grid(row)} {row['steps']}")
        parts.append("\n".join(f"- {note} ({_listed(cells)})" for note, cells in notes.items()) + "\n")
    return "\n".join(parts)


def best_table(best: Sequence[Best]) -> str:
    """The best solvers as a Markdown table."""
    lines = [
        "| system | figure | evaluations | best | value | next best | value | times | against DDIM as published |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for b in best:
        value = b.row["quality"][b.metric]
        after = b.next["quality"][b.metric] if b.next else None
        ddim = b.ddim["quality"][b.metric] if b.ddim else None
        cells = [
            b.system,
            b.metric,
            f"{b.row['nfe']}" if b.row["nfe"] == b.budget else f"{b.row['nfe']} of {b.budget}",
            _grid(b.row),
            _text(value),
            _grid(b.next) if b.next else "",
            _text(after),
            _times(value, after, b.metric),
            f"{_text(ddim)}, {_times(value, ddim, b.metric)} times" if b.ddim else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write_report(out: str | os.PathLike, *, pictures: bool = True) -> list[Path]:
    """Writes cells.csv, report.md and the pictures beside `cells.jsonl`; their paths."""
    from jaxaudio.benchmark import plots
    from jaxaudio.io import Outputs

    out, rows = Path(out), read(out)
    made = [out / "cells.csv", out / "report.md"]
    with Outputs() as outputs:
        outputs.write_text(made[0], to_csv(rows))
        outputs.write_text(made[1], to_markdown(rows))
    return made + (plots.draw(out, rows) if pictures else [])


def _settings(rows: Sequence[Row]) -> Iterator[tuple[Any, ...]]:
    """What may be compared with each other: everything equal but solver, grid and steps."""
    yield from dict.fromkeys(_setting(row) for row in rows)


def _setting(row: Row) -> tuple[Any, ...]:
    return tuple(
        row.get(k) for k in ("system", "guidance", "batch", "dtype", "devices", "items", "seed", "weights", "asked")
    )


def badness(row: Row, metric: str) -> float:
    """A figure of quality, turned so that smaller is better."""
    value = row["quality"][metric]
    return -value if metric.startswith(LARGER_IS_BETTER) else value


def _error(row: Row) -> float:
    return row["quality"]["error"]


def _grid(row: Row) -> str:
    return row["solver"] if row["spacing"] == USUAL else f"{row['solver']} ({row['spacing']})"


def _times(value: float, other: float | None, metric: str) -> str:
    """How much better, as a factor above 1."""
    if other is None or not value or not other:
        return ""
    return f"{value / other if metric.startswith(LARGER_IS_BETTER) else other / value:.2f}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


__all__ = ["BUDGETS", "Best", "best_at", "best_table", "claims", "log", "metrics", "read", "to_csv", "to_markdown"]
