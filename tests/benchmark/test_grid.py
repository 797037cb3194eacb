import jax
import pytest

from jaxaudio.benchmark import Cell, Grid
from jaxaudio.errors import ConfigError


def test_groups_differ_in_the_solver_alone():
    grid = Grid(solvers=("ddim", "unipc"), steps=(1, 4), spacings=("usual", "log-snr"), batch=(2, 3))
    groups = grid.groups("mixture", 2.5)
    assert len(groups) == 8
    for group in groups:
        assert [cell.solver for cell in group] == ["ddim", "unipc"]
        assert len({(c.steps, c.spacing, c.batch, c.guidance, c.dtype, c.devices) for c in group}) == 1
    assert groups[0][0] == Cell(system="mixture", solver="ddim", steps=1, guidance=2.5, batch=2)
    assert {group[0].guidance for group in Grid(guidance=(1.0, 3.0)).groups("x", 2.5)} == {1.0, 3.0}


def test_spacings_of_levels_end_at_the_lowest():
    def changes(spacing):
        return Cell(system="mixture", solver="ddim", steps=4, spacing=spacing).changes()

    assert changes("usual") == {}
    assert changes("log-snr") == {"spacing": "log-snr", "final": "min"}
    assert changes("trailing") == {"spacing": "trailing"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"solvers": ("dpmpp",)}, "No solver 'dpmpp'"),
        ({"steps": (4, 0)}, "0 steps"),
        ({"steps": (-1,)}, "-1 steps"),
        ({"steps": ()}, "nothing to measure"),
        ({"spacings": ("even",)}, "No spacing 'even'"),
        ({"dtype": ("float8",)}, "No dtype 'float8'"),
        ({"devices": (999,), "batch": (999,)}, f"this machine has {len(jax.devices())}"),
        ({"devices": (0,)}, "0 devices"),
        ({"batch": (0,)}, "a batch of 0"),
    ],
)
def test_what_cannot_be_is_one_line(changed, said):
    with pytest.raises(ConfigError, match=said) as caught:
        Grid(**changed).groups("mixture", 1.0)
    assert "\n" not in str(caught.value)
