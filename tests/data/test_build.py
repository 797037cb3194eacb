import importlib
import warnings
from pathlib import Path

import numpy as np
import pytest

from jaxaudio.data.audio_clips import open_dataset
from jaxaudio.data.build import _set_aside, available, build
from jaxaudio.data.layouts import LAYOUTS
from jaxaudio.data.layouts.listing import Entry
from jaxaudio.errors import MissingError, UsageError

from .sounds import clip, write_wav


def test_own_sounds(tmp_path):
    audio = [write_wav(tmp_path / "in" / "dog" / f"{i}.wav", seed=i) for i in range(12)]
    counts = build("captioned_audio", tmp_path / "out", tmp_path / "in", test_fraction=0.4)
    assert sum(counts.values()) == 12 and counts["train"] and counts["test"]
    again = build("captioned_audio", tmp_path / "again", tmp_path / "in", test_fraction=0.4)
    assert again == counts
    clips = {
        one.id: one
        for split in open_dataset(tmp_path / "out").values()
        for one in (split[i] for i in range(len(split)))
    }
    for i, one in enumerate(audio):
        np.testing.assert_array_equal(clips[f"dog/{i}"].audio, one)


def test_set_aside_keeps_recordings_whole():
    entries = [Entry(str(i), Path(), ("x",), source=f"tape{i // 4}") for i in range(2000)]
    parts = _set_aside({"train": entries}, 0.25)
    assert 0.17 < len(parts["test"]) / 2000 < 0.33  # 500 recordings: 4 standard deviations
    assert not {one.source for one in parts["train"]} & {one.source for one in parts["test"]}


def test_known_set_builds_the_splits_that_are_there(tmp_path):
    (tmp_path / "train.csv").write_text("audiocap_id,youtube_id,start_time,caption\n1,a,0,x\n2,b,0,y\n3,c,0,z\n")
    for name in ("1", "2"):
        write_wav(tmp_path / "audio" / f"{name}.wav")
    with pytest.warns(UserWarning, match="1 of 3"):
        assert build("audiocaps", tmp_path / "out", tmp_path) == {"train": 2}
    with pytest.raises(MissingError, match=r"no val\.csv"):
        build("audiocaps", tmp_path / "other", tmp_path, splits=["train", "val"])
    with pytest.raises(UsageError, match="no split 'dev'"):
        build("audiocaps", tmp_path / "other", tmp_path, splits=["dev"])
    with pytest.raises(UsageError, match="already exists"):
        build("audiocaps", tmp_path / "out", tmp_path)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["open_sounds", "open_speech", "open_music"])
def test_a_fetched_set_has_every_split(tmp_path, monkeypatch, name):
    source = importlib.import_module(f"jaxaudio.data.{name}")
    monkeypatch.setattr(source, "SPLITS", ("train", "unheard"))
    monkeypatch.setattr(
        source, "clips", lambda cache, split, progress: iter([clip(0), clip(1)][: 1 + (split == "train")])
    )
    assert build(name, tmp_path / "out", tmp_path / "cache") == {"train": 2, "unheard": 1}


def test_mistakes(tmp_path):
    with pytest.raises(UsageError, match="known are captioned_audio, open_sounds"):
        build("nonsense", tmp_path / "out", tmp_path)
    with pytest.raises(UsageError, match="esc50 needs --root FOLDER with meta/"):
        build("esc50", tmp_path / "out")
    for name in LAYOUTS:
        with warnings.catch_warnings(), pytest.raises(MissingError):
            build(name, tmp_path / "out", tmp_path)
    with pytest.raises(UsageError, match="no split 'test'"):
        write_wav(tmp_path / "in" / "dog" / "1.wav")
        build("captioned_audio", tmp_path / "out", tmp_path / "in", splits=["test"])
    assert not (tmp_path / "out").exists()


def test_listing_of_what_can_be_built():
    names = [one.name for one in available()]
    assert names[:4] == ["captioned_audio", "open_sounds", "open_speech", "open_music"] and set(names[4:]) == set(
        LAYOUTS
    )
    assert all(one.needs and one.where for one in available())
