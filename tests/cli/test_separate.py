"""`jaxaudio separate`: outputs with their records, and whatever a person may give it."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from jaxaudio import io
from jaxaudio.cli.separate import slugs


@pytest.fixture
def separate(jaxaudio, tiny_folder):
    def run(*words):
        return jaxaudio("separate", *words, "--model", tiny_folder)

    return run


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_estimate_residual_and_records(separate, tmp_path, tiny_folder):
    status, out, err = separate("mix.wav", "a dog", "-o", "new/dog.wav", "--residual", "rest.wav")
    assert (status, out) == (0, "")
    assert "new/dog.wav\nrest.wav\n1.1 s of audio" in err
    assert names(tmp_path) == ["mix.wav", "new/dog.wav", "new/dog.wav.json", "rest.wav", "rest.wav.json"]
    mix, dog, rest = (io.read(tmp_path / name) for name in ("mix.wav", "new/dog.wav", "rest.wav"))
    assert {(x.samples.shape, x.sample_rate, x.subtype) for x in (mix, dog, rest)} == {((9000, 2), 8000, "PCM_16")}
    np.testing.assert_allclose(dog.samples + rest.samples, mix.samples, atol=2**-14)
    record = json.loads((tmp_path / "rest.wav.json").read_text())
    assert record["query"] == "a dog"
    assert record["what"] == "residual"
    assert record["seed"] is None
    assert record["command"].startswith("jaxaudio separate mix.wav 'a dog' -o new/dog.wav")
    assert record["input"]["samples"] == 9000
    assert record["model"]["config"]["n_fft"] == 256
    card = json.loads((tiny_folder / "config.json").read_text())
    assert record["model"]["sha256"] == card["sha256"]
    assert {"load_s", "compile_s", "read_s", "separate_s", "write_s"} == set(record["timings"])
    assert "jax" in record["versions"]


def test_several_queries_negative_chunk_and_json(separate, tmp_path):
    words = ("--query", "The Rain!", "--negative", "cat", "--negative", "piano", "--chunk", "0.6", "--json")
    status, out, err = separate("mix.wav", "a dog", "-o", "out.flac", "--fade", "0.02", *words)
    assert (status, err) == (0, "")
    records = json.loads(out)
    assert [record["output"] for record in records] == ["out-a-dog.flac", "out-the-rain.flac"]
    assert records[0]["negative"] == ["cat", "piano"]
    assert [io.read(tmp_path / record["output"]).samples.shape for record in records] == [(9000, 2)] * 2


def test_a_folder_of_recordings(separate, tmp_path):
    for name in ("in/a.wav", "in/deep/b.flac"):
        io.write(tmp_path / name, np.zeros(500), 16000)
    (tmp_path / "in" / "notes.txt").write_text("not audio")
    for _ in range(2):  # the second time the results lie there, and are not taken for recordings
        status, _, _ = separate("in", "a dog", "-o", "in/out", "--residual", "rest", "--quiet")
        assert status == 0
    assert [name for name in names(tmp_path) if name.endswith(("wav", "flac"))] == [
        *("in/a.wav", "in/deep/b.flac", "in/out/a.wav", "in/out/deep/b.wav", "mix.wav", "rest/a.wav", "rest/deep/b.wav")
    ]
    assert not io.read(tmp_path / "in/out/deep/b.wav").samples.any()


@pytest.mark.parametrize(
    ("samples", "rate", "subtype"),
    [
        (np.full(1, 0.5), 8000, "PCM_16"),
        (np.full(100, 0.5), 8000, "PCM_16"),
        (np.zeros(3000), 44100, "PCM_16"),
        (np.clip(np.sin(np.arange(3000)) * 9, -1, 1), 8000, "PCM_16"),
        (np.full((2000, 8), 0.1), 8000, "PCM_24"),
        (np.full(3000, 0.1), 192000, "PCM_24"),
        (np.full(3000, 7.0), 8000, "FLOAT"),
        (np.full(3000, 0.1), 8000, "PCM_U8"),
    ],
)
def test_audio_of_every_kind_comes_back_as_it_was(separate, tmp_path, samples, rate, subtype):
    soundfile.write(tmp_path / "a.wav", samples, rate, subtype=subtype)
    before = (tmp_path / "a.wav").read_bytes()
    status, _, _ = separate("a.wav", "a dog", "-o", "out.wav", "--quiet")
    assert status == 0
    assert (tmp_path / "a.wav").read_bytes() == before
    info = soundfile.info(tmp_path / "out.wav")
    assert (info.frames, info.channels, info.samplerate) == (len(samples), samples[:1].size, rate)
    assert info.subtype == subtype


def refused(result, status, message):
    found, out, err = result
    assert found == status
    assert message in err
    assert len(err.strip().splitlines()) <= 2
    assert "Traceback" not in err
    assert not out


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["none.wav", "a dog", "-o", "out.wav"], 3, "there is no file none.wav"),
        (["mix.wav", "", "-o", "out.wav"], 2, "the query has no words"),
        (["mix.wav", "-o", "out.wav"], 2, "the query has no words"),
        (["mix.wav", "   ", "-o", "out.wav"], 2, "the query has no words"),
        (["mix.wav", "a dog", "--negative", " ", "-o", "out.wav"], 2, "the query has no words"),
        (["mix.wav", "a dog", "-o", "mix.wav"], 2, "would be overwritten"),
        (["mix.wav", "a dog", "-o", "out.wav", "--residual", "out.wav"], 2, "two outputs"),
        (["mix.wav", "a dog", "-o", "out.xyz"], 2, "audio format of out.xyz"),
        (["mix.wav", "a dog", "-o", "out.wav", "--chunk", "long"], 2, "'auto', 'off' or a number"),
        (["mix.wav", "a dog", "-o", "out.wav", "--chunk", "0.1"], 2, "too short"),
        (["mix.wav", "a dog", "-o", "out.wav", "--fade", "9"], 2, "fade"),
        (["mix.wav", "a dog", "-o", "mix.wav/out.wav"], 2, "cannot write mix.wav/out.wav"),
        (["empty", "a dog", "-o", "out"], 2, "no audio in empty"),
    ],
)
def test_what_cannot_be_done(separate, tmp_path, words, status, message):
    (tmp_path / "empty").mkdir()
    refused(separate(*words), status, message)
    assert names(tmp_path) == ["mix.wav"]


def test_files_that_are_no_sound(separate, tmp_path):
    data = (tmp_path / "mix.wav").read_bytes()
    cases = {
        "short.wav": (data[:1000], "cut short"),
        "text.wav": (b"hello", "not audio"),
        "void.wav": (b"", "not audio"),
        "song.mp3": (os.urandom(500), "not audio"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        refused(separate(name, "a dog", "-o", "out.wav"), 2, message)
    for value, text in ((np.nan, "nan"), (np.inf, "inf")):
        soundfile.write(tmp_path / "a.wav", np.array([0, 0, value]), 8000, subtype="FLOAT")
        refused(separate("a.wav", "a dog", "-o", "out.wav"), 2, f"a.wav: sample 2 of channel 0 is {text}")
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 8000)
    refused(separate("a.wav", "a dog", "-o", "out.wav"), 2, "holds no samples")
    assert names(tmp_path) == sorted(["mix.wav", "a.wav", *cases])


def test_long_and_foreign_queries(separate):
    status, _, err = separate("mix.wav", "dog " * 3000, "-o", "out.wav", "--quiet")
    assert status == 0
    assert err.startswith("note: the query 'dog dog")
    assert "first 32 tokens are read" in err
    assert separate("mix.wav", "собака 犬 🐕", "-o", "out.wav", "--quiet") == (0, "", "")


def test_a_full_disk_leaves_nothing_behind(separate, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("soundfile.write", full)
    refused(separate("mix.wav", "a dog", "-o", "new.wav"), 2, "cannot write new.wav: No space left on device; free")
    assert names(tmp_path) == ["mix.wav"]


def test_an_interruption_leaves_nothing_behind(separate, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxaudio.models.separator._Runner.__call__", stop)
    assert separate("mix.wav", "a dog", "-o", "out.wav") == (130, "", "")
    assert names(tmp_path) == ["mix.wav"]


def test_models_that_cannot_be_used(jaxaudio, tiny_folder, tmp_path):
    words = ("separate", "mix.wav", "a dog", "-o", "out.wav", "--model")
    refused(jaxaudio(*words, "nonesuch"), 3, "there is no model nonesuch")
    refused(jaxaudio(*words, "mix.wav"), 2, "jaxaudio models convert")
    copy = shutil.copytree(tiny_folder, tmp_path / "copy")
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[:-100])
    refused(jaxaudio(*words, copy), 3, "truncated or altered")
    assert not (tmp_path / "out.wav").exists()


def test_slugs_differ_and_are_names_of_files():
    assert slugs(["A dog, barking!", "a dog barking", "犬", "../x", "!"]) == [
        *("a-dog-barking", "a-dog-barking-2", "犬", "x", "query")
    ]
    assert max(map(len, slugs(["word " * 100]))) <= 40
