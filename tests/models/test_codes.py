"""Code files: what comes back, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from safetensors.numpy import load_file, save_file

from jaxaudio.errors import AudioError, MissingError, UsageError
from jaxaudio.models import codes as code_files
from jaxaudio.models.codes import Codes


def some(sizes=(1024, 17**6, 2), seed=0, **changes):
    rng = np.random.default_rng(seed)
    values = np.stack([rng.integers(0, size, (2, 1, 50)) for size in sizes], -1).astype(np.int32)
    return Codes(
        **{
            "values": values,
            "sizes": tuple(sizes),
            "tracks": ("mixture",),
            "frame_rate": 25.0,
            "sample_rate": 44100,
            "length": 88001,
            "squeeze": False,
            "gains": (0.5, 1.25),
            "model": "a-codec",
            "fingerprint": "abc",
            **changes,
        }
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(2, 2**30), min_size=3, max_size=3), st.integers(0, 99))
def test_everything_comes_back(tmp_path_factory, sizes, seed):
    path = tmp_path_factory.mktemp("codes") / "x.jac"
    codes = some(sizes, seed)
    code_files.save(path, codes)
    found = code_files.load(path)
    np.testing.assert_array_equal(found.values, codes.values)
    assert found.values.dtype == np.int32
    for field in dataclasses.fields(Codes):
        if field.name != "values":
            assert getattr(found, field.name) == getattr(codes, field.name)


def test_a_file_is_as_large_as_its_rate_says(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 1024, (1, 1, 80_000, 2)).astype(np.int32)
    codes = some((1024, 1024), values=values, gains=(1.0,))
    code_files.save(tmp_path / "x.jac", codes)
    assert 0 <= (tmp_path / "x.jac").stat().st_size - 80_000 * 20 / 8 < 1000
    assert codes.bits_per_second == 25 * 20 and codes.tokens_per_second == 50


def test_tracks_can_be_taken_out():
    values = np.arange(2 * 3 * 4).reshape(1, 2, 3, 4)
    codes = some((99,) * 4, values=values, tracks=("speech", "music"), gains=(1.0,))
    np.testing.assert_array_equal(codes.of("music").values, values[:, 1:])
    with pytest.raises(AudioError, match="no track 'effects', only speech, music"):
        codes.of("effects")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": np.full((2, 1, 5, 3), 2)}, "the code 2 is outside book 2, which has 2 entries"),
        ({"values": np.full((2, 1, 5, 3), -1)}, "the code -1 is outside book 0"),
        ({"values": np.zeros((2, 1, 5, 3))}, "type float64"),
        ({"values": np.zeros((2, 5, 3), int)}, "shape"),
        ({"gains": (1.0,)}, "a gain for each channel"),
        ({"length": 0}, "a length"),
    ],
)
def test_codes_that_cannot_be(changes, message):
    with pytest.raises(AudioError, match=message):
        some(**changes)


def test_files_that_are_refused(tmp_path):
    path = tmp_path / "x.jac"
    code_files.save(path, some())
    whole = path.read_bytes()
    with pytest.raises(MissingError, match="no file"):
        code_files.load(tmp_path / "none.jac")
    for content in (b"", b"RIFF" + bytes(100), whole[:40], whole[:-1], whole + b"x"):
        path.write_bytes(content)
        with pytest.raises(AudioError, match="no code file, or is cut short"):
            code_files.load(path)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(AudioError, match="no code file"):
        code_files.load(path)
    with pytest.raises(UsageError, match="cannot write"):
        code_files.save(tmp_path, some())


def test_an_altered_header_is_refused(tmp_path):
    path = tmp_path / "x.jac"
    code_files.save(path, some())
    books = load_file(path)
    header = {
        "format": 1,
        "shape": [2, 1, 50, 3],
        **{f.name: getattr(some(), f.name) for f in dataclasses.fields(Codes) if f.name != "values"},
    }
    for change, message in (
        ({"format": 2}, "newer jaxaudio"),
        ({"shape": [2, 1, 60, 3]}, "another length"),
        ({"shape": [2, 1, 10**9, 3]}, "another length"),
        ({"sizes": [1024, 17**6, 2**40]}, "do not agree"),
        ({"sizes": [3, 17**6, 2]}, "another length"),
        ({"tracks": ["a", "b"]}, "do not fit 2 tracks"),
        ({"unknown": 1}, "unexpected keyword"),
    ):
        save_file(books, path, {"jaxaudio.codes": json.dumps(header | change)})
        with pytest.raises(AudioError, match=message):
            code_files.load(path)
