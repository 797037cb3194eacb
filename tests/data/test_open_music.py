"""Pieces, clips and splits of open_music; nothing is fetched."""

import io

import numpy as np
import pytest
import soundfile

from jaxaudio.data import open_music
from jaxaudio.data.open_sounds import sources
from jaxaudio.errors import UsageError

RATE = open_music.RATE


@pytest.fixture
def packages(monkeypatch):
    """Three files of lugaru instead of the packages: two pieces and a sound that is none."""
    piece = 0.5 * np.sin(2 * np.pi * 220 * np.arange(27 * RATE) / RATE)
    piece[: 10 * RATE] = 0
    names = ("usr/Sounds/Music1Snow.ogg", "usr/Sounds/Music2.ogg", "usr/Sounds/splat.ogg")

    def read(folder, name):
        file = io.BytesIO()
        soundfile.write(file, piece, RATE, format="WAV")
        return file.getvalue()

    monkeypatch.setattr(sources, "package_files", lambda package, cache: cache)
    monkeypatch.setattr(sources, "members", lambda folder: list(names))
    monkeypatch.setattr(sources, "read", read)
    monkeypatch.setattr(open_music, "SOURCES", open_music.SOURCES[:1])


def test_whole_pieces_are_held_out_and_silence_is_left_out(packages, tmp_path):
    for split, piece in (("train", "Music2"), ("heldout_pieces", "Music1Snow")):
        found = list(open_music.clips(tmp_path, split))
        assert {clip.source for clip in found} == {f"lugaru-data/usr/Sounds/{piece}.ogg"}
        assert [clip.id[-1] for clip in found] == ["1", "2"] and [len(clip.audio) / RATE for clip in found] == [10, 7]
    with pytest.raises(UsageError, match="no split 'test'"):
        next(open_music.clips(tmp_path, "test"))
