"""WavCaps' published models on the command line: converted, then asked what is heard and what goes with a sentence."""

import json

import numpy as np
import pytest

from jaxaudio import io
from tests.models import tiny_wavcaps


@pytest.fixture
def convert(jaxaudio, tmp_path):
    """Converts a system with its sound encoder: (exit status, what was told, the model's folder)."""

    def run(system, sound, *more):
        file = tiny_wavcaps.checkpoint(tmp_path / f"{system}.safetensors", system, sound)
        status, _, told = jaxaudio("models", "convert", system, file, tmp_path / system, *more)
        return status, told, tmp_path / system

    return run


def test_a_captioner_is_converted_and_says_what_it_hears(jaxaudio, convert, tmp_path):
    words = tiny_wavcaps.tokenizer(tmp_path / "words", "wavcaps")
    status, told, model = convert("wavcaps", "htsat", "--tokenizer", words)
    assert (status, told.strip()) == (0, f"{model}: wavcaps, 32000 Hz, every tensor placed")
    assert "wavcaps" in jaxaudio("models", "list", tmp_path)[1]
    status, said, told = jaxaudio("caption", "mix.wav", "--model", model)
    assert status == 0 and len(said.splitlines()) == 1 and set(said.strip()) <= set("adogbrksiun ")
    record = json.loads(jaxaudio("caption", "mix.wav", "--model", model, "--json")[1])
    assert record["captions"][0]["captions"][0]["text"] == said.strip() and record["decoding"] == {"beam": 3}
    assert record["model"]["system"] == "wavcaps"
    status, _, told = jaxaudio("tag", "mix.wav", "--model", model)
    assert status == 2 and "has no tags" in told


def test_retrieval_is_converted_and_searches(jaxaudio, convert, tmp_path):
    rng = np.random.default_rng(1)
    for i in range(3):
        io.write(tmp_path / "sounds" / f"{i}.wav", rng.normal(0, 0.1, 4000).astype(np.float32) * 10.0**-i, 32000)
    words = tiny_wavcaps.tokenizer(tmp_path / "words", "ase")
    status, told, model = convert("ase", "cnn", "--tokenizer", words)
    assert (status, told.strip()) == (0, f"{model}: ase, 32000 Hz, every tensor placed")
    status, said, _ = jaxaudio("search", "sounds", "glass breaking", "--model", model, "--json")
    found = json.loads(said)
    scores = [one["score"] for one in found["found"]]
    assert status == 0 and found["searched"] == 3 and scores == sorted(scores, reverse=True) and len(set(scores)) == 3
    assert all(-1 <= score <= 1 for score in scores)
    status, _, told = jaxaudio("caption", "mix.wav", "--model", model)
    assert status == 2 and "cannot caption" in told


def test_what_is_missing_is_told_in_one_line_each(jaxaudio, convert, tmp_path):
    status, told, model = convert("wavcaps", "cnn")
    assert status == 0 and "without --tokenizer DIR it can neither read nor say words" in told
    status, _, told = jaxaudio("caption", "mix.wav", "--model", model)
    assert status == 3 and "has no tokenizer" in told and "--tokenizer DIR" in told
    words = tiny_wavcaps.tokenizer(tmp_path / "words", "wavcaps")
    status, told, model = convert("ase", "cnn", "--tokenizer", words)
    assert status == 3 and "does not hold vocab.txt, or tokenizer.json" in told and not model.exists()
    file = tiny_wavcaps.checkpoint(tmp_path / "a.safetensors", "ase", "cnn")
    status, _, told = jaxaudio("models", "convert", "wavcaps", file, tmp_path / "out")
    assert status == 3 and "looks like one of ase" in told and len(told.strip().splitlines()) == 1
