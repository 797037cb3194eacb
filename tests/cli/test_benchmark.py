"""`jaxaudio benchmark`, once through, and what it refuses."""

import json

import pytest

from jaxaudio import cli

WORDS = ("benchmark", "samplers", "--system", "gaussian", "--steps", "2", "--items", "16", "--rounds", "2")


def test_measure_go_on_and_report(jaxaudio, tmp_path):
    words = (*WORDS, "--solvers", "ddim,dpmpp-2m,shortcut", "--spacing", "straight", "--out", "made")
    status, out, err = jaxaudio(*words)
    assert status == 0
    assert "the best within" in out and "1 of 3 combinations are not defined" in err
    rows = [json.loads(line) for line in (tmp_path / "made" / "cells.jsonl").read_text().splitlines()]
    assert {(row["solver"], row["status"]) for row in rows} == {
        ("shortcut", "undefined"),
        ("ddim", "ok"),
        ("dpmpp-2m", "ok"),
    }
    made = {"cells.jsonl", "cells.csv", "report.md", "gaussian-error.png", "gaussian-frechet-data.png"}
    made |= {"gaussian-error-median.png"}
    assert {path.name for path in (tmp_path / "made").iterdir()} == made
    before = (tmp_path / "made" / "cells.jsonl").read_text()
    assert jaxaudio(*words)[0] == 0
    assert (tmp_path / "made" / "cells.jsonl").read_text() == before
    (tmp_path / "made" / "report.md").unlink()
    status, out, err = jaxaudio("benchmark", "report", "made")
    assert status == 0 and (tmp_path / "made" / "report.md").is_file()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("--steps", "0"), "0 steps cannot be"),
        (("--steps", "4,x"), "give numbers with commas"),
        (("--steps", ","), "nothing to measure"),
        (("--system", "nobody"), "no system 'nobody'"),
        (("--solvers", "ddim,magic"), "No solver 'magic'"),
        (("--devices", "64", "--batch", "64"), "give 1 to"),
        (("--dtype", "int3"), "No dtype 'int3'"),
        (("--spacing", "odd"), "No spacing 'odd'"),
        (("--batch", "-2"), "a batch of -2"),
        (("--items", "0"), "--items 0"),
        (("--judge", "nobody"), "no model nobody"),
        (("--prompts", "none.txt"), "cannot read none.txt"),
        (("--guidance", "much"), "give numbers with commas"),
    ],
)
def test_what_cannot_be_is_one_line(jaxaudio, changed, said):
    status, out, err = jaxaudio(*WORDS, *changed)
    assert status in (2, 3)
    assert said in err and err.count("\n") == 1 and not out


def test_a_folder_without_a_benchmark(jaxaudio):
    status, _, err = jaxaudio("benchmark", "report", ".")
    assert status == 2 and "holds no cells.jsonl" in err


def test_help_names_the_actions(capsys):
    assert cli.main(["benchmark", "--help"]) == 0
    said = capsys.readouterr().out
    assert "samplers" in said and "report" in said
