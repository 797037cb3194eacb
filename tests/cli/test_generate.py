"""`jaxaudio generate`, `edit` and generative `separate`: files, pictures, records, and what a person may get wrong."""

import json

import numpy as np
import pytest

from jaxaudio import io
from tests.models import tiny_latent, tiny_soundlm


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("latent")
    for system in ("audioldm", "flowsep"):
        tiny_latent.write(root / system, root, system)
    tiny_soundlm.write(root / "soundlm", root)
    return root


def test_generate(jaxaudio, folders, tmp_path):
    words = (
        "generate",
        "a dog",
        "-o",
        "new/dog.wav",
        "--seconds",
        "0.3",
        "--count",
        "2",
        "--model",
        folders / "audioldm",
    )
    status, out, err = jaxaudio(*words, "--seed", "7", "--guidance", "3.5")
    assert (status, out) == (0, "")
    assert "new/dog-1.wav\nnew/dog-2.wav\n0.3 s of audio" in err
    made = {path.name for path in (tmp_path / "new").iterdir()}
    assert made == {"dog-1.wav", "dog-1.wav.json", "dog-2.wav", "dog-2.wav.json", "dog-1.png"}
    record = json.loads((tmp_path / "new" / "dog-2.wav.json").read_text())
    assert (record["prompt"], record["seed"], record["candidate"]) == ("a dog", 7, 1)
    assert record["sampling"]["guidance"] == 3.5 and record["sampling"]["steps"] == 2
    assert {"load_s", "compile_s", "generate_s", "write_s", "picture_s"} == set(record["timings"])
    sound = io.read(tmp_path / "new" / "dog-1.wav")
    assert (sound.samples.shape, sound.sample_rate) == ((240, 1), 800)
    status, out, _ = jaxaudio(*words, "--seed", "7", "--guidance", "3.5", "--json", "--no-picture")
    assert status == 0 and len(json.loads(out)) == 2
    np.testing.assert_array_equal(io.read(tmp_path / "new" / "dog-1.wav").samples, sound.samples)


def test_edit(jaxaudio, folders, tmp_path):
    x = np.random.default_rng(0).standard_normal((250, 2)) / 5
    io.write("in.wav", x, 800, "PCM_24")
    before = io.read("in.wav")
    model = ("--model", folders / "audioldm", "--no-picture", "--quiet")
    assert jaxaudio("edit", "in.wav", "-o", "a.wav", "--style", "cat", *model) == (0, "", "")
    assert jaxaudio("edit", "in.wav", "-o", "b.wav", "--inpaint", "0.05:0.1", "--prompt", "cat", *model) == (0, "", "")
    styled, filled = io.read("a.wav"), io.read("b.wav")
    assert styled.samples.shape == filled.samples.shape == (250, 2)
    assert styled.subtype == "PCM_24"
    same = np.r_[0:40, 80:250]
    np.testing.assert_array_equal(filled.samples[same], before.samples[same])
    assert json.loads((tmp_path / "b.wav.json").read_text())["spans"] == [[0.05, 0.1]]
    io.write("low.wav", x[:100], 400)
    assert jaxaudio("edit", "low.wav", "-o", "c.wav", "--upsample", *model) == (0, "", "")
    assert (io.read("c.wav").samples.shape, io.read("c.wav").sample_rate) == ((200, 2), 800)


def test_generate_code_by_code(jaxaudio, folders, tmp_path):
    io.write("in.wav", np.random.default_rng(0).standard_normal((500, 2)) / 9, 800, "PCM_24")
    before = io.read("in.wav").samples
    words = (
        "generate",
        "a dog",
        "--model",
        folders / "soundlm",
        "--temperature",
        "0.9",
        "--top-k",
        "5",
        "--no-picture",
    )
    assert jaxaudio(*words, "-o", "new.wav", "--seconds", "0.5", "--quiet") == (0, "", "")
    assert io.read("new.wav").samples.shape == (400, 1)
    sampling = json.loads((tmp_path / "new.wav.json").read_text())["sampling"]
    assert sampling == {"temperature": 0.9, "top_k": 5, "top_p": 1.0, "guidance": 2.0}
    assert jaxaudio(*words, "-o", "more.wav", "--continue", "in.wav", "--seconds", "0.25", "--quiet") == (0, "", "")
    more = io.read("more.wav")
    assert (more.samples.shape, more.subtype) == ((700, 2), "PCM_24")
    np.testing.assert_array_equal(more.samples[:484], before[:484])
    assert json.loads((tmp_path / "more.wav.json").read_text())["continues"]["samples"] == 500


def test_options_of_the_other_kind_of_generator(jaxaudio, folders):
    words = ("generate", "a dog", "-o", "a.wav", "--model")
    for model, more, message in (
        ("soundlm", ("--steps", "3"), "a model of soundlm, which has no steps; leave --steps out"),
        ("soundlm", ("--negative", "x"), "has no negative; leave --negative out"),
        ("soundlm", ("--dtype", "bfloat16"), "computes in float32"),
        ("soundlm", ("--continue", "none.wav"), "no file none.wav"),
        ("audioldm", ("--top-p", "0.9"), "a model of audioldm, which has no top_p; leave --top-p out"),
        ("audioldm", ("--continue", "mix.wav"), "which goes on from no recording"),
    ):
        status, out, err = jaxaudio(*words, folders / model, *more)
        assert status in (2, 3) and out == "" and len(err.splitlines()) == 1
        assert message in err


def test_separate_by_flow(jaxaudio, folders, tmp_path):
    io.write("in.wav", np.random.default_rng(0).standard_normal((250, 1)) / 50, 800)
    words = ("separate", "in.wav", "a dog", "-o", "dog.wav", "--residual", "rest.wav", "--model", folders / "flowsep")
    assert jaxaudio(*words, "--span", "0.05:0.1", "--steps", "1", "--seed", "3")[0] == 0
    dog, rest, mix = (io.read(name).samples for name in ("dog.wav", "rest.wav", "in.wav"))
    assert not dog[:40].any() and not dog[80:].any() and dog[40:80].any()
    np.testing.assert_allclose(dog + rest, mix, atol=2**-14)
    record = json.loads((tmp_path / "dog.wav.json").read_text())
    assert (record["seed"], record["steps"], record["span"]) == (3, 1, ["0.05:0.1"])
    assert record["sampling"]["solver"] == "flow-euler"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["generate", "x", "-o", "a.wav", "--model", "nonesuch"], 3, "there is no model nonesuch"),
        (["generate", "x", "-o", "a.xyz"], 2, "cannot tell the audio format"),
        (["generate", "x", "-o", "a.wav", "--seconds", "0"], 2, "a duration of 0"),
        (["generate", "x", "-o", "a.wav", "--seconds", "601"], 2, "from 0.01 to 600"),
        (["generate", "x", "-o", "a.wav", "--solver", "magic"], 2, "No solver 'magic'"),
        (["generate", "x", "-o", "a.wav", "--steps", "10000"], 2, "from 1 to 1000"),
        (["generate", "x", "-o", "a.wav", "--best-of", "3"], 2, "--ranker FOLDER"),
        (["generate", "x", "-o", "a.wav", "--dtype", "int8"], 2, "no model computes in 'int8'"),
        (["edit", "mix.wav", "-o", "a.wav"], 2, "give one of --style TEXT, --inpaint FROM:TO and --upsample"),
        (["edit", "mix.wav", "-o", "a.wav", "--style", "x", "--upsample"], 2, "give one of"),
        (["edit", "mix.wav", "-o", "a.wav", "--style", "x", "--prompt", "y"], 2, "leave --prompt out"),
        (["edit", "mix.wav", "-o", "a.wav", "--inpaint", "2-3"], 2, "'2-3' is no span"),
        (["edit", "mix.wav", "-o", "a.wav", "--inpaint", "8:9"], 2, "the span 8 to 9 s cannot be"),
        (["edit", "mix.wav", "-o", "a.wav", "--upsample"], 2, "--cutoff 4000"),
        (["edit", "mix.wav", "-o", "mix.wav", "--style", "x"], 2, "would be overwritten"),
        (["edit", "none.wav", "-o", "a.wav", "--style", "x"], 3, "no file none.wav"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(jaxaudio, folders, tmp_path, words, status, message):
    model = [] if "--model" in words else ["--model", folders / "audioldm"]
    found, out, err = jaxaudio(*words, *model)
    assert (found, out) == (status, "")
    assert message in err and len(err.splitlines()) == 1 and err.startswith("jaxaudio: ")
    assert [path.name for path in tmp_path.iterdir()] == ["mix.wav"]


def test_options_of_the_other_kind_of_separator(jaxaudio, folders, tiny_folder):
    words = ("separate", "mix.wav", "a dog", "-o", "a.wav", "--model")
    for model, more, message in (
        (tiny_folder, ("--steps", "3"), "tiny is not generative and has no --steps"),
        (folders / "flowsep", ("--chunk", "5"), "leave --chunk and --fade out"),
        (folders / "flowsep", ("--span", "x"), "'x' is no span"),
        (folders / "audioldm", (), "which cannot separate"),
    ):
        status, _, err = jaxaudio(*words, model, *more)
        assert status == 2
        assert message in err
