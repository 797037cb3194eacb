"""Pictures of a benchmark: quality against evaluations, and against latency with the Pareto front."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxaudio.benchmark import report
from jaxaudio.benchmark.log import Row

LINES = 9  # more are not told apart


def pareto(points: Sequence[tuple[float, float]], *, larger: bool = False) -> list[int]:
    """Which (cost, quality) points no other beats in both, by falling cost's order: indices, cheapest first.

    Args:
      points: cost and quality of each.
      larger: whether larger qualities are better; costs are better small.
    """
    sign = -1 if larger else 1
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1])):
        if not front or sign * points[i][1] < sign * points[front[-1]][1]:
            front.append(i)
    return front


def draw(out: Path, rows: Sequence[Row], *, suffix: str = "png") -> list[Path]:
    """One picture per system and figure of quality, with both panels."""
    made = []
    for system in dict.fromkeys(row["system"] for row in rows):
        mine = [row for row in rows if row["system"] == system and row["status"] == "ok"]
        for metric in report.metrics(mine):
            path = out / f"{system}-{metric.replace('/', '-')}.{suffix}"
            picture(path, [row for row in mine if metric in row["quality"]], metric)
            made.append(path)
    return made


def picture(path: Path, rows: Sequence[Row], metric: str) -> None:
    """Draws both panels for one system and one figure of quality.

    Args:
      path: of the file; its suffix says the kind.
      rows: all of one system, with this figure.
      metric: its name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    larger = metric.startswith(report.LARGER_IS_BETTER)
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        lines.setdefault((row["solver"], row["spacing"], row["guidance"], row["batch"], row["dtype"]), []).append(row)
    chosen = _chosen(lines, metric)
    figure = Figure(figsize=(10, 4.2), dpi=90, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, sharey=True)
    for number, name in enumerate(chosen):
        own = sorted(lines[name], key=lambda row: row["nfe"])
        values = [row["quality"][metric] for row in own]
        style = {"marker": "osD^vP*Xh"[number % 9], "markersize": 4, "linewidth": 1.2, "label": _label(name, lines)}
        left.plot([row["nfe"] for row in own], values, **style)
        right.plot([1000 * row["latency_p50_s"] for row in own], values, **style)
    points = [(1000 * row["latency_p50_s"], row["quality"][metric]) for row in rows]
    front = pareto(points, larger=larger)
    right.plot(*zip(*(points[i] for i in front)), color="0.25", linewidth=5, alpha=0.25, label="Pareto front")
    left.set_xlabel("evaluations of the network")
    right.set_xlabel(f"latency of a batch, ms (median, {rows[0]['device']})")
    left.set_ylabel(metric)
    for axis in (left, right):
        axis.set_xscale("log", base=2 if axis is left else 10)
        if not larger and min(value for _, value in points) > 0:
            axis.set_yscale("log")
            _readable(axis.yaxis, [value for _, value in points])
        axis.grid(alpha=0.3, linewidth=0.5)
    left.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _readable(right.xaxis, [cost for cost, _ in points])
    figure.suptitle(rows[0]["system"])
    figure.legend(*right.get_legend_handles_labels(), loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path)


def _readable(axis: Any, values: Sequence[float]) -> None:
    """Plain numbers on a logarithmic axis, as many as there is room for."""
    from matplotlib import ticker

    spread = max(values) / min(values)
    narrow, wide = ticker.MaxNLocator(5), ticker.LogLocator(subs=(1, 2, 5) if spread < 1e3 else (1,))
    axis.set_major_locator(narrow if spread < 5 else wide)
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(ticker.NullFormatter())


def _chosen(lines: dict[tuple[Any, ...], list[Row]], metric: str) -> list[tuple[Any, ...]]:
    """DDIM as published, and the lines that are best at few evaluations."""
    best = [b for budget in (4, 8, 16, 32) for b in _ranked(lines, metric, budget)[:4]]
    usual = [name for name in lines if name[0] in ("ddim", "dpmpp-2m", "unipc") and name[1] == "usual"]
    return list(dict.fromkeys([*usual, *best, *lines]))[:LINES]


def _ranked(lines: dict[tuple[Any, ...], list[Row]], metric: str, budget: int) -> list[tuple[Any, ...]]:
    able = {name: [row for row in own if row["nfe"] <= budget] for name, own in lines.items()}
    best = {name: min(report.badness(row, metric) for row in own) for name, own in able.items() if own}
    return sorted(best, key=lambda name: best[name])


def _label(name: tuple[Any, ...], lines: dict[tuple[Any, ...], list[Row]]) -> str:
    """Solver and grid, and of the rest what differs within the picture."""
    solver, spacing, *rest = name
    titles = ("guidance", "batch", "")
    others = [
        f"{title} {value}".strip()
        for i, (title, value) in enumerate(zip(titles, rest))
        if len({key[2 + i] for key in lines}) > 1
    ]
    return ", ".join([solver if spacing == "usual" else f"{solver}, {spacing}", *others])
