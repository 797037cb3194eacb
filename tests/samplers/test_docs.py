import re
from pathlib import Path

from jaxaudio.samplers import LEVELS, SOLVERS, SPACINGS, usual_schedule, vp
from tests.samplers.exact import GAUSS, MIXTURE, TABLE, error

PAGE = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text(encoding="utf-8")


def test_the_page_lists_the_table():
    rows = re.findall(r"^\| `([\w-]+)` \| ([^|]*) \| (\d) \| ([a-z, ]+) \|", PAGE, re.M)
    assert rows == [(name, s.nfe, str(s.order), ", ".join(s.families)) for name, s in SOLVERS.items()]
    for name in (*SPACINGS, *LEVELS):
        assert f"`{name}`" in PAGE


def test_the_pages_figures_are_measured():
    rows = re.findall(r"^\| `([\w-]+)` \| ([\w-]+)(, as published)? \| (\d+) \| ([\d.]+) \| ([\d.]+) \|", PAGE, re.M)
    assert len(rows) == 6
    for name, spacing, published, asked, *figures in rows:
        steps = int(asked) // (2 if name == "flow-midpoint" else 1)
        grid = usual_schedule(name, steps) if published else vp(TABLE, steps, spacing=spacing, final="min")
        assert [f"{error(name, grid, problem):.4f}" for problem in (GAUSS, MIXTURE)] == figures
