"""`jaxaudio codec`."""

import json

import numpy as np
import pytest

from jaxaudio import io
from jaxaudio.models import codes as code_files
from tests.models import tiny_codec


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    tiny_codec.write(root / "dac", "dac", tiny_codec.DAC)
    tiny_codec.write(root / "tracks", "sdcodec", tiny_codec.SDCODEC)
    return root


def test_there_and_back(jaxaudio, models):
    status, out, err = jaxaudio("codec", "encode", "mix.wav", "-o", "mix.jac", "--model", models / "dac")
    assert (status, out) == (0, "") and "mix.jac: 1.1 s, 4800 tokens/s, 24 kbit/s" in err
    status, _, err = jaxaudio("codec", "decode", "mix.jac", "-o", "back.wav", "--model", models / "dac")
    assert status == 0 and "back.wav" in err
    made, given = io.read("back.wav"), io.read("mix.wav")
    assert made.samples.shape == given.samples.shape and made.sample_rate == given.sample_rate


def test_what_a_file_holds(jaxaudio, models):
    jaxaudio("codec", "encode", "mix.wav", "-o", "mix.jac", "--model", models / "tracks", "--bitrate", 4100)
    status, out, _ = jaxaudio("codec", "inspect", "mix.jac", "--json")
    facts = json.loads(out)
    assert status == 0 and facts["tracks"] == ["speech", "music"] and facts["book_sizes"] == [32]
    assert (facts["channels"], facts["samples"], facts["bits_per_second"]) == (2, 9000, 2 * 2 * 4000)
    status, out, _ = jaxaudio("codec", "inspect", "mix.jac")
    assert status == 0 and "tokens per frame" in out


def test_a_roundtrip_leaves_sound_codes_picture_and_record(jaxaudio, models, tmp_path):
    status, out, err = jaxaudio(
        "codec", "roundtrip", "mix.wav", "-o", "heard.wav", "--model", models / "tracks", "--source", "music"
    )
    assert (status, out) == (0, "") and "si sdr db" in err
    record = json.loads((tmp_path / "heard.wav.json").read_text())
    assert record["source"] == "music" and set(record["metrics"]) == {"si_sdr_db", "mel_distance", "stft_distance"}
    assert (tmp_path / "heard.png").read_bytes()[:4] == b"\x89PNG"
    codes = code_files.load("heard.jac")
    assert codes.values.shape[:2] == (2, 2) and io.read("heard.wav").samples.shape == (9000, 2)
    status, out, err = jaxaudio(
        "codec", "roundtrip", "mix.wav", "-o", "again.wav", "--model", models / "dac", "--no-picture", "--json"
    )
    assert (status, err) == (0, "") and json.loads(out)["output"] == "again.wav"
    assert not (tmp_path / "again.png").exists()


def test_a_source_is_of_the_codec_that_keeps_it_apart(jaxaudio, tmp_path):
    status, _, err = jaxaudio("codec", "roundtrip", "mix.wav", "-o", "voice.wav", "--source", "speech", "--no-picture")
    assert status == 0 and "voice.wav" in err
    record = json.loads((tmp_path / "voice.wav.json").read_text())
    assert record["model"]["name"] == "tracks-codec-mini" and record["source"] == "speech"
    made = io.read("voice.wav").samples
    assert made.shape == (9000, 2) and np.isfinite(made).all() and np.abs(made).max() > 1e-3


def test_folders_become_folders(jaxaudio, models, tmp_path):
    for name in ("a.wav", "deep/b.wav"):
        io.write(tmp_path / "in" / name, np.zeros(900, np.float32), 8000)
    status, _, _ = jaxaudio("codec", "encode", "in", "-o", "codes", "--model", models / "dac")
    assert status == 0
    status, _, _ = jaxaudio("codec", "decode", "codes", "-o", "out", "--model", models / "dac")
    assert status == 0 and io.read("out/deep/b.wav").samples.shape == (900, 1)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("encode", "mix.wav", "-o", "mix.wav"), 2, "codes go into a .jac file"),
        (("encode", "none.wav", "-o", "x.jac"), 3, "no file none.wav"),
        (("encode", "mix.wav", "-o", "x.jac", "--bitrate", "10"), 2, "too low"),
        (("encode", "empty", "-o", "out"), 2, "no audio in empty"),
        (("decode", "mix.wav", "-o", "x.wav"), 2, "no code file"),
        (("decode", "none.jac", "-o", "x.wav"), 3, "no file none.jac"),
        (("roundtrip", "mix.wav", "-o", "mix.wav"), 2, "would be overwritten"),
        (("roundtrip", "mix.wav", "-o", "x.wav", "--source", "horns"), 2, "no source 'horns'"),
        (("roundtrip", "mix.wav", "-o", "x.wav", "--steps", "4"), 2, "does not sample"),
        (("inspect", "mix.wav"), 2, "no code file"),
        (("twist",), 2, "codec cannot 'twist'"),
    ],
)
def test_mistakes(jaxaudio, models, tmp_path, words, status, message):
    (tmp_path / "empty").mkdir()
    model = ("--model", models / "dac") if words[0] in ("encode", "decode", "roundtrip") else ()
    found, out, err = jaxaudio("codec", *words, *model)
    assert (found, out) == (status, "") and message in err and len(err.strip().splitlines()) <= 2
    assert not list(tmp_path.glob("x.*"))
