"""Texts, splits and synthetic sentences of open_speech; nothing is fetched."""

import gzip
import io
import tarfile

import numpy as np
import pytest
import soundfile

from jaxaudio.data import open_speech
from jaxaudio.data.open_sounds import sources
from jaxaudio.errors import MissingError, UsageError

PROMPTS = """\ufeff; Core sounds

activated: Activated.
digits/1:  one
ascending-2tone: [ascending tones]
beeperr: (ahooga)
dir-multi1: "There's more than one."
"""


def test_lists_of_texts_in_both_forms():
    assert open_speech.transcripts(PROMPTS) == {
        "activated": "Activated.",
        "digits/1": "one",
        "dir-multi1": "There's more than one.",
    }
    assert open_speech.transcripts("<s> and mister john </s> (austen-0870)\n") == {"austen-0870": "and mister john"}


def test_a_text_is_held_out_for_every_speaker_and_spelling():
    texts = [f"sentence number {i}" for i in range(2000)]
    held = [open_speech.is_held_out(text) for text in texts]
    assert 0.08 < np.mean(held) < 0.12
    assert [open_speech.is_held_out(text.upper() + "!") for text in texts] == held


def tone(seconds, rate=16000):
    return (0.1 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


@pytest.fixture
def prompts(monkeypatch):
    """Four prompts of one speaker instead of the packages."""
    sounds = {"en/activated.wav": 1.0, "en/digits/1.wav": 0.6, "en/beeperr.wav": 1.0, "en/dir-multi1.wav": 20.0}

    def read(folder, name):
        file = io.BytesIO()
        soundfile.write(file, tone(sounds[name]), 16000, format="WAV")
        return file.getvalue()

    monkeypatch.setattr(sources, "package_files", lambda package, cache: cache)
    monkeypatch.setattr(sources, "documents", lambda package, cache, pattern: {"texts": PROMPTS.encode()})
    monkeypatch.setattr(sources, "members", lambda folder: list(sounds))
    monkeypatch.setattr(sources, "read", read)
    monkeypatch.setattr(open_speech, "SOURCES", open_speech.SOURCES[:1] + open_speech.SOURCES[3:4])
    monkeypatch.setattr(open_speech, "VOICES", ())
    monkeypatch.setattr(open_speech, "vocabulary", lambda cache: ["word"])


def test_what_has_no_text_or_is_too_long_is_left_out(prompts, tmp_path):
    known = [clip for split in open_speech.SPLITS[:2] for clip in open_speech.clips(tmp_path, split)]
    assert sorted(clip.captions[0] for clip in known) == ["Activated.", "one"]
    for clip in known:
        assert clip.labels == ("Allison Smith", "en") and clip.sample_rate == 16000
        np.testing.assert_allclose(np.abs(clip.audio).max(), 0.7, rtol=1e-6)
    unseen = list(open_speech.clips(tmp_path, "heldout_speakers"))
    assert {clip.labels for clip in unseen} == {("Carlo", "it")}
    with pytest.raises(UsageError, match="no split 'test'"):
        next(open_speech.clips(tmp_path, "test"))


def test_synthetic_sentences_are_new_for_every_clip_and_never_held_out(monkeypatch):
    monkeypatch.setattr(open_speech, "_flite", lambda text, voice, rng: tone(1.0 + 0.1 * len(text.split())))
    words = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"]
    first, again = (list(open_speech.synthetic("flite:slt", words, 40)) for _ in range(2))
    texts = [clip.captions[0] for clip in first]
    assert texts == [clip.captions[0] for clip in again] and len(set(texts)) == 40
    assert not any(map(open_speech.is_held_out, texts))
    assert all(4 <= len(text.split()) <= 9 for text in texts)


def test_documents_of_a_package(monkeypatch, tmp_path):
    archive = tmp_path / "fs.tar"
    with tarfile.open(archive, "w") as file:
        data = gzip.compress(b"activated: Activated.")
        info = tarfile.TarInfo("./usr/share/doc/core-sounds-en.txt.gz")
        info.size = len(data)
        file.addfile(info, io.BytesIO(data))
    monkeypatch.setattr(sources, "require", lambda command, package: "cat")
    monkeypatch.setattr(sources, "download", lambda package, cache: archive)
    real = sources.subprocess.Popen
    monkeypatch.setattr(sources.subprocess, "Popen", lambda command, **options: real(["cat", command[-1]], **options))
    found = sources.documents("prompts", tmp_path, "*/core-sounds-*.txt.gz")
    assert list(found.values()) == [b"activated: Activated."]
    with pytest.raises(MissingError, match="has no"):
        sources.documents("prompts", tmp_path, "*/nothing")
