"""Audio files: round trips, clipping, writing all or nothing, and readers that meet anything."""

import errno
import io as memory
import json
import os

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings, strategies as st

from jaxaudio import io
from jaxaudio.errors import AudioError, JaxAudioError, MissingError, UsageError

rng = np.random.default_rng(0)
NOISE = (rng.standard_normal((1000, 2)) / 5).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "FLOAT", 0),
        ("a.flac", "PCM_24", 2**-23),
        ("a.aiff", "PCM_16", 2**-15),
    ],
)
def test_round_trip(tmp_path, name, subtype, tolerance):
    io.write(tmp_path / name, NOISE, 44100, subtype)
    found = io.read(tmp_path / name)
    assert (found.sample_rate, found.subtype, found.samples.dtype) == (44100, subtype, np.float32)
    np.testing.assert_allclose(found.samples, NOISE, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats_keep_rate_and_channels(tmp_path, name):
    io.write(tmp_path / name, np.tile(NOISE, (10, 1)), 16000)
    found = io.read(tmp_path / name)
    assert found.sample_rate == 16000
    assert found.samples.shape[1] == 2


@pytest.mark.parametrize("rate", [8000, 192000])
@pytest.mark.parametrize("channels", [1, 8])
def test_rates_and_channels(tmp_path, rate, channels):
    x = rng.uniform(-1, 1, (10, channels)).astype(np.float32)
    io.write(tmp_path / "a.wav", x, rate, "FLOAT")
    found = io.read(tmp_path / "a.wav")
    assert found.sample_rate == rate
    np.testing.assert_array_equal(found.samples, x)


def test_integer_files_are_clipped_and_never_wrapped(tmp_path):
    x = np.array([-3, -1, -0.5, 0, 0.5, 1, 3], np.float32)
    io.write(tmp_path / "a.wav", x, 8000)
    stored, _ = soundfile.read(tmp_path / "a.wav", dtype="int16")
    assert stored.tolist() == [-32768, -32768, -16384, 0, 16384, 32767, 32767]
    io.write(tmp_path / "b.wav", x, 8000, "FLOAT")
    assert io.read(tmp_path / "b.wav").samples[-1] == 3


def test_an_encoding_that_the_format_lacks_becomes_one_that_it_has(tmp_path):
    assert io.kept_subtype("a.wav", "PCM_24") == "PCM_24"
    assert io.kept_subtype("a.flac", "FLOAT") == "PCM_24"
    assert io.kept_subtype("a.wav", "MPEG_LAYER_III") == "PCM_16"
    assert io.kept_subtype("a.ogg", "PCM_16") == "VORBIS"
    io.write(tmp_path / "a.flac", NOISE, 8000, "DOUBLE")
    assert io.read(tmp_path / "a.flac").subtype == "PCM_24"


def test_new_files_have_the_permissions_of_any_other(tmp_path):
    (tmp_path / "other").write_text("")
    io.write(tmp_path / "a.wav", NOISE, 8000)
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_is_not_there_or_no_audio(tmp_path):
    with pytest.raises(MissingError, match="no file"):
        io.read(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="is a folder"):
        io.read(tmp_path)
    (tmp_path / "a.wav").write_text("hello")
    with pytest.raises(AudioError, match="not audio that can be read"):
        io.read(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(AudioError, match="not audio that can be read"):
        io.read(tmp_path / "b.wav")
    soundfile.write(tmp_path / "c.wav", np.zeros(0), 8000)
    with pytest.raises(AudioError, match="holds no samples"):
        io.read(tmp_path / "c.wav")
    with pytest.raises(UsageError, match=r"format of .*a\.txt"):
        io.write(tmp_path / "a.txt", NOISE, 8000)


def as_bytes(kind="WAV", subtype="PCM_16", x=NOISE):
    file = memory.BytesIO()
    soundfile.write(file, x, 8000, format=kind, subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize(("kind", "suffix"), [("WAV", "wav"), ("FLAC", "flac")])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_file_that_is_cut_short_is_an_error(tmp_path, kind, suffix, share):
    data = as_bytes(kind)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(AudioError):
        io.read(path)


def test_a_wav_of_unknown_length_is_read_to_its_end(tmp_path):
    data = bytearray(as_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(data)
    np.testing.assert_array_equal(io.read(tmp_path / "a.wav").samples.shape, NOISE.shape)


def test_a_header_that_claims_too_much_takes_no_memory(tmp_path):
    data = bytearray(as_bytes("FLAC"))
    data[21] = (data[21] & 0xF0) | 0x0F  # the 36-bit number of samples: 2 ** 36 - 1
    data[22:26] = b"\xff\xff\xff\xff"
    (tmp_path / "a.flac").write_bytes(data)
    with pytest.raises(AudioError):
        io.read(tmp_path / "a.flac")


fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEEDS = [as_bytes(), as_bytes("FLAC"), as_bytes("OGG", "VORBIS"), as_bytes("AIFF"), as_bytes("WAV", "FLOAT")]


def read_or_refuse(path, data):
    path.write_bytes(data)
    try:
        found = io.read(path)
    except JaxAudioError as error:
        assert "\n" not in str(error).strip()
    else:
        assert found.samples.size
        assert found.samples.ndim == 2


@fuzz
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused(tmp_path, data):
    read_or_refuse(tmp_path / "a.wav", data)


@fuzz
@given(seed=st.sampled_from(SEEDS), share=st.floats(0, 1))
def test_truncated_files_are_read_or_refused(tmp_path, seed, share):
    read_or_refuse(tmp_path / "a.wav", seed[: int(share * len(seed))])


@fuzz
@given(seed=st.sampled_from(SEEDS), at=st.integers(0, 80), value=st.binary(min_size=1, max_size=8))
def test_damaged_headers_are_read_or_refused(tmp_path, seed, at, value):
    read_or_refuse(tmp_path / "a.wav", seed[:at] + value + seed[at + len(value) :])


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def short_write(*_, **__):
    raise AssertionError


@pytest.mark.parametrize("call", ["soundfile.write", "os.replace", "os.fsync"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    io.write(tmp_path / "a.wav", NOISE, 8000)
    before = (tmp_path / "a.wav").read_bytes()
    monkeypatch.setattr(call, no_space)
    with pytest.raises(UsageError, match=r"cannot write .*a\.wav: No space left on device; free some space"):
        io.write(tmp_path / "a.wav", -NOISE, 8000)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == before


def test_a_write_that_falls_short_is_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("soundfile.write", short_write)
    with pytest.raises(UsageError, match="No space left"):
        io.write(tmp_path / "a.wav", NOISE, 8000)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "a.wav", tmp_path / "file" / "b" / "a.wav"):
        with pytest.raises(UsageError, match="cannot write"):
            io.write(path, NOISE, 8000)
    (tmp_path / "dir.wav").mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        io.write(tmp_path / "dir.wav", NOISE, 8000)


def test_outputs_appear_together_or_not_at_all(tmp_path):
    with pytest.raises(KeyboardInterrupt), io.Outputs() as outputs:
        outputs.write_audio(tmp_path / "a.wav", NOISE, 8000)
        outputs.write_json(tmp_path / "a.json", {})
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with io.Outputs() as outputs:
        outputs.write_audio(tmp_path / "new" / "a.wav", NOISE, 8000)
        outputs.write_json(io.sidecar(tmp_path / "new" / "a.wav"), {"query": "a dög"})
        assert not (tmp_path / "new" / "a.wav").exists()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.wav", "a.wav.json"]
    assert json.loads((tmp_path / "new" / "a.wav.json").read_text(encoding="utf-8")) == {"query": "a dög"}


def test_readable_lists_audio_in_order(tmp_path):
    for name in ("b.WAV", "a.flac", "x/c.mp3", "notes.txt", ".hidden.wav", ".git/d.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    assert [str(path.relative_to(tmp_path)) for path in io.readable(tmp_path)] == ["a.flac", "b.WAV", "x/c.mp3"]


def test_a_record_says_when_and_with_what():
    made = io.record({"query": "x"})
    assert {"created", "query", "versions"} == set(made)
    assert {"python", "jaxaudio", "jax", "jaxlib", "flax"} <= set(made["versions"])
