"""The other verbs, each once through."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxaudio import io
from jaxaudio.models import verify


def test_demo(jaxaudio, demo_assets, tiny_folder, tmp_path):
    status, out, _ = jaxaudio("demo", "--out", "heard", "--assets", demo_assets, "--model", tiny_folder)
    assert status == 0
    assert "a dog" in out
    assert "SDRi, dB" in out
    made = {"mixture.wav", "a-dog.wav", "the-rain.wav", "spectrograms.png"}
    assert {path.name for path in (tmp_path / "heard").iterdir()} == {
        *(f"{name}{end}" for name in made for end in ("", ".json")),
        "demo.json",
    }
    record = json.loads((tmp_path / "heard" / "demo.json").read_text())
    assert [stem["query"] for stem in record["stems"]] == ["a dog", "the rain"]
    for stem, reference in zip(record["stems"], ("stem0.flac", "stem1.flac")):
        target, found = io.read(demo_assets / reference).samples, io.read(tmp_path / "heard" / stem["file"]).samples
        ratio = 10 * np.log10(np.mean(target**2) / np.mean((found - target) ** 2))
        assert stem["sdr_db"] == pytest.approx(ratio, abs=0.01)
        assert stem["sdri_db"] == pytest.approx(stem["sdr_db"] - stem["sdr_mixture_db"])
    assert (record["attribution"], record["model"]["name"]) == ("nobody", "tiny")


def test_demo_that_cannot_be_written_leaves_nothing(jaxaudio, demo_assets, tiny_folder, tmp_path):
    (tmp_path / "heard").write_text("")
    status, _, err = jaxaudio("demo", "--out", "heard", "--assets", demo_assets, "--model", tiny_folder)
    assert status == 2
    assert "cannot write heard" in err


def test_models_list_info_and_verify(jaxaudio, tiny_folder):
    status, out, _ = jaxaudio("models", "list", tiny_folder.parent)
    assert status == 0
    assert "CC0-1.0" in out
    assert [card["name"] for card in json.loads(jaxaudio("models", "list", tiny_folder.parent, "--json")[1])][
        -1
    ] == "tiny"
    assert "random numbers" in jaxaudio("models", "info", tiny_folder)[1]
    assert json.loads(jaxaudio("models", "info", tiny_folder, "--json")[1])["sample_rate"] == 8000
    status, out, _ = jaxaudio("models", "verify", tiny_folder)
    assert status == 0
    assert "no record of results" in out


def test_models_verify_fails_by_its_status(jaxaudio, tiny_folder, monkeypatch):
    monkeypatch.setattr(verify, "verify", lambda *_: [verify.Check("record", float("inf"), 0.1, False)])
    status, out, _ = jaxaudio("models", "verify", tiny_folder)
    assert status == 1
    assert "NO" in out
    status, out, _ = jaxaudio("models", "verify", tiny_folder, "--json")
    assert json.loads(out)["checks"][0]["relative"] is None


def test_eval_of_a_list(jaxaudio, tiny_folder, tmp_path):
    rng = np.random.default_rng(0)
    rows = ["mixture,target,caption,label,other"]
    for i in range(3):
        target, other = rng.standard_normal((2, 4000)) / 8
        io.write(tmp_path / f"target{i}.wav", target, 8000)
        io.write(tmp_path / f"mixture{i}.wav", target + other, 8000)
        rows.append(f"mixture{i}.wav,target{i}.wav,a dog,{'ab'[i % 2]},rain")
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n")
    words = ("eval", "--model", tiny_folder, "--data", "list.csv", "-o", "figures.json")
    status, out, _ = jaxaudio(*words)
    assert status == 0
    assert "medians per class" in out
    record = json.loads((tmp_path / "figures.json").read_text())
    summary, items = record["summary"], record["items"]
    assert summary["mixtures"] == len(items) == 3
    assert summary["sdri"] == pytest.approx(np.mean([item["sdri"] for item in items]))
    assert record["classes"]["a"]["sdri"] == pytest.approx(np.median([items[0]["sdri"], items[2]["sdri"]]))
    medians = [one["sdri"] for one in record["classes"].values()]
    assert summary["sdri_class_median"] == pytest.approx(np.mean(medians))
    assert {"si_sdr", "sdr", "wrong_gap", "sdri_aggregated"} <= set(summary)
    status, out, _ = jaxaudio(*words, "--count", "2", "--json")
    assert json.loads(out)["summary"]["mixtures"] == 2
    for more, message in (
        (("--set", "nonesuch"), "no test set 'nonesuch'"),
        (("--set", "esc50", "--data", tmp_path), "esc50_eval.csv"),
        (("--data", tmp_path), "no data set"),
        (("--data", "none"), "no data at none"),
    ):
        status, _, err = jaxaudio("eval", "--model", tiny_folder, "--data", "list.csv", *more)
        assert status in (2, 3)
        assert message in err


def test_data_build_and_list(jaxaudio, tmp_path):
    for name in ("dog/a.wav", "dog/b.wav", "rain/c.wav"):
        io.write(tmp_path / "sounds" / name, np.full(800, 0.1), 8000)
    status, _, err = jaxaudio("data", "build", "captioned_audio", "--root", "sounds", "--out", "made")
    assert (status, err.strip()) == (0, "made: 3 clips in train")
    status, _, err = jaxaudio("data", "build", "captioned_audio", "--root", "sounds", "--out", "made")
    assert status == 2
    assert "--force" in err
    words = ("--root", "sounds", "--out", "made", "--force", "--quiet")
    assert jaxaudio("data", "build", "captioned_audio", *words) == (0, "", "")
    status, out, _ = jaxaudio("data", "list")
    assert status == 0
    assert "open_sounds" in out


def test_a_true_process_from_end_to_end(tiny_folder, tmp_path):
    io.write(tmp_path / "mix.wav", np.full(900, 0.1), 8000)
    code = "import sys; from jaxaudio.cli import main; sys.exit(main())"
    words = ["separate", "mix.wav", "a dog", "-o", "out.wav", "--model", str(tiny_folder)]
    made = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (made.returncode, made.stdout) == (0, "")
    assert made.stderr.splitlines()[0] == "out.wav"  # and nothing from the libraries
    assert len(made.stderr.splitlines()) == 2
    assert len(io.read(tmp_path / "out.wav").samples) == 900
