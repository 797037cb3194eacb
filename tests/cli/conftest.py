import json

import numpy as np
import pytest

from jaxaudio import cli, io
from tests.models.conftest import tiny_folder

__all__ = ["tiny_folder"]

RATE = 8000


@pytest.fixture
def jaxaudio(capsys, tmp_path, monkeypatch):
    """Runs a command line in a folder of its own, with a recording `mix.wav`: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    noise = np.random.default_rng(0).standard_normal((9000, 2)).astype(np.float32) / 5
    io.write("mix.wav", noise, RATE)

    def run(*words):
        status = cli.main([str(word) for word in words])
        made = capsys.readouterr()
        return status, made.out, made.err

    return run


@pytest.fixture
def demo_assets(tmp_path):
    """What the demo separates, made up."""
    folder = tmp_path / "assets"
    rng = np.random.default_rng(0)
    stems = rng.standard_normal((2, 9000)).astype(np.float32) / 8
    io.write(folder / "mixture.flac", stems.sum(0), RATE)
    for i, stem in enumerate(stems):
        io.write(folder / f"stem{i}.flac", stem, RATE)
    plan = {
        "mixture": "mixture.flac",
        "stems": [{"query": "a dog", "reference": "stem0.flac"}, {"query": "the rain", "reference": "stem1.flac"}],
        "attribution": "nobody",
    }
    (folder / "demo.json").write_text(json.dumps(plan))
    return folder
