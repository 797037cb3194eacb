"""The frame of the command line: help, errors in a line or two, exit statuses."""

import subprocess
import sys

import pytest

from jaxaudio import cli
from jaxaudio.cli import doctor


@pytest.mark.parametrize(
    "verb", [*cli.VERBS, "models list", "models info", "models convert", "models verify", "data build"]
)
def test_every_verb_has_help(jaxaudio, verb):
    status, out, err = jaxaudio(*verb.split(), "--help")
    assert status == 0
    assert f"usage: jaxaudio {verb}" in out
    assert not err


def test_help_lists_the_verbs_and_nothing_is_an_error(jaxaudio):
    status, out, _ = jaxaudio("--help")
    assert status == 0
    assert all(f"  {verb}" in out for verb in cli.VERBS)
    assert jaxaudio()[0] == 2
    assert jaxaudio("--version")[1].startswith("jaxaudio ")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["seperate"], 2, "did you mean 'separate'?"),
        (["models", "lst"], 2, "did you mean 'list'?"),
        (["models"], 2, ""),
        (["separate"], 2, "Missing from jaxaudio separate: MIX"),
        (["separate", "mix.wav", "a dog"], 2, "-o PATH"),
        (["separate", "mix.wav", "a dog", "-o", "a.wav", "--fade", "x"], 2, "Error parsing --fade"),
        (["separate", "mix.wav", "a dog", "-o", "a.wav", "--loud"], 2, "Unrecognized options: --loud"),
        (
            ["models", "convert", "demucs", "a", "b"],
            2,
            "'flowsep', 'dac', 'sdcodec', 'taae', 'captioning', 'wavcaps', 'ase', 'run'",
        ),
        (["models", "convert", "audiosep", "a.ckpt", "b"], 3, "no checkpoint a.ckpt"),
        (["models", "convert", "run", "mix.wav", "b"], 3, "config.json"),
        (["models", "info", "none"], 3, "no model none"),
        (["models", "list", "none"], 2, "no folder none"),
        (["models", "verify", "none"], 3, "no model none"),
        (["train", "none.py"], 3, "none.py"),
        (["train", "--steps", "3"], 2, "the experiment comes first"),
        (["eval"], 2, "an experiment FILE, or --model"),
        (["eval", "--model", "x"], 2, "--data"),
        (["eval", "none.py"], 3, "none.py"),
        (["data", "build", "none"], 2, "no data set 'none'"),
        (["data", "build", "esc50"], 2, "--root"),
        (["demo", "--assets", "none"], 3, "no demo in none"),
    ],
)
def test_errors_are_short_and_have_a_status(jaxaudio, words, status, message):
    found, out, err = jaxaudio(*words)
    assert found == status
    assert message in err + out
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2


def test_debug_shows_where(jaxaudio):
    status, _, err = jaxaudio("--debug", "models", "info", "none")
    assert status == 3
    assert "Traceback" in err


def test_ctrl_c_is_quiet_and_what_is_unforeseen_is_not_silent(jaxaudio, monkeypatch):
    def stop(words):
        raise error

    monkeypatch.setattr(doctor, "run", stop)
    error = KeyboardInterrupt()
    assert jaxaudio("doctor") == (130, "", "")
    error = ZeroDivisionError("division by zero")
    status, _, err = jaxaudio("doctor")
    assert status == 1
    assert "ZeroDivisionError: division by zero" in err
    assert "--debug" in err
    error = RuntimeError("RESOURCE_EXHAUSTED: out of memory allocating")
    assert "not enough memory; use shorter windows (--chunk 5)" in jaxaudio("doctor")[2]


def test_a_training_override_that_is_wrong(jaxaudio, tmp_path):
    (tmp_path / "x.py").write_text(
        "from jaxaudio.train import Experiment\nEXPERIMENT = Experiment(build=lambda e: None, out='out')\n"
    )
    status, _, err = jaxaudio("train", "x.py", "--stps", "3")
    assert status == 2
    assert "did you mean --steps?" in err
    assert jaxaudio("train", "x.py", "--steps", "many")[0] == 2
    assert "--steps" in jaxaudio("train", "x.py", "--help")[1]


def test_the_process_starts_quickly_and_ends_with_the_status():
    code = "import sys; from jaxaudio.cli import main; sys.exit(main(['separate', '--loud']))"
    made = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 2
    assert "jaxaudio separate --help shows what can be given" in made.stderr
    loaded = {line.rsplit("|", 1)[-1].strip() for line in made.stderr.splitlines() if line.startswith("import time")}
    assert not {"jax", "flax", "matplotlib", "orbax", "optax"} & loaded


def test_doctor_looks_at_everything(jaxaudio):
    status, out, _ = jaxaudio("doctor")
    assert status == 0
    for word in ("jaxlib", "device 0", "memory", "compiled programs", "extra 'torch'", "separate", "nothing is wrong"):
        assert word in out


@pytest.mark.parametrize(
    ("packages", "fix"),
    [
        ({"jax": "0.7.2", "jaxlib": "0.7.1"}, "pip install 'jax==0.7.2' 'jaxlib==0.7.2'"),
        ({"jax": "0.7.2", "jaxlib": "0.7.2", "jax-cuda12-plugin": "0.6.0"}, "pip install 'jax[cuda12]==0.7.2'"),
        ({"jax": "0.7.2", "jaxlib": "0.7.2", "jax-cuda12-pjrt": "0.7.2", "libtpu": "0.0.21"}, None),
    ],
)
def test_doctor_names_what_does_not_go_together_and_the_fix(packages, fix):
    rest = dict.fromkeys(doctor._CORE, "1.0")
    problems = doctor.mismatches(rest | packages)
    assert [fix in problem for problem in problems] == ([True] if fix else [])
    assert doctor.mismatches(rest | {"soxr": None}) == ["not installed: soxr: pip install soxr"]
