"""Writers: what they put down, and how a resumed run goes on in the same files."""

import json
import sys

import numpy as np
import pytest

from jaxaudio.errors import MissingError, UsageError
from jaxaudio.train import Sound, writers


def test_json_lines_are_on_disk_at_once(tmp_path):
    writer = writers.JsonLines(tmp_path / "m.jsonl")
    values = {"loss": np.float32(0.5), "bad": float("nan"), "clip": Sound(np.zeros(10), 16000)}
    writer.write(3, values, kind="eval")
    assert json.loads((tmp_path / "m.jsonl").read_text()) == {"step": 3, "kind": "eval", "loss": 0.5, "bad": None}


def test_resuming_drops_what_lies_beyond_and_a_line_cut_off(tmp_path):
    path = tmp_path / "m.jsonl"
    writer = writers.JsonLines(path)
    for step in (5, 10, 15):
        writer.write(step, {"x": step}, kind="train")
    writer.close()
    with path.open("a") as file:
        file.write('{"step": 10, "ki')
    writer = writers.JsonLines(path, step=10)
    writer.write(12, {"x": 12.0}, kind="train")
    writer.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [5, 10, 12]
    writers.JsonLines(path).close()
    assert path.read_text() == ""


def test_json_lines_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="--out"):
        writers.JsonLines(tmp_path / "no" / "m.jsonl")


def test_console():
    said = []
    writers.Console(said.append).write(7, {"loss": 0.25, "clip": Sound(np.zeros(3), 8000)}, kind="train")
    assert said == ["train step 7  loss 0.25"]


def test_tensorboard_holds_numbers_sounds_and_pictures(tmp_path):
    writer = writers.TensorBoard(tmp_path)
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(4000) / 16000)
    writer.write(2, {"sdri": 6.0, "dog": Sound(tone, 16000)}, kind="eval")
    writer.close()
    content = next(tmp_path.glob("events*")).read_bytes()
    for part in (b"eval/sdri", b"eval/dog", b"RIFF", b"PNG"):
        assert part in content


def test_tensorboard_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingError, match=r"pip install 'jaxaudio\[tensorboard\]'"):
        writers.TensorBoard(tmp_path)


def test_spectrogram_image_shows_a_tone_where_it_is():
    tone = np.sin(2 * np.pi * 4000 * np.arange(8000) / 16000)
    image = writers.spectrogram_image(tone)
    assert image.shape == (3, 257, 59) and image.dtype == np.uint8
    rows = image[0].astype(int).mean(1)
    assert rows.argmax() == 256 - 128 and rows.max() == 255 and rows[-1] < 40


@pytest.mark.parametrize("audio", [np.zeros(0), np.zeros(1), np.zeros(5000)])
def test_spectrogram_image_of_nothing(audio):
    assert writers.spectrogram_image(audio).max() <= 255
