"""Codecs in hand: exact lengths, any rate and channel count, bit rates, tracks, and what is refused."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxaudio
from jaxaudio.errors import AudioError, UsageError
from jaxaudio.models import codes as code_files
from jaxaudio.models.codec import Codec
from jaxaudio.systems import dac, sdcodec
from tests.models import tiny_codec

RATE = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("codecs")
    tiny_codec.write(root / "dac", "dac", tiny_codec.DAC)
    tiny_codec.write(root / "other", "dac", tiny_codec.DAC, seed=1)
    tiny_codec.write(root / "sdcodec", "sdcodec", tiny_codec.SDCODEC)
    tiny_codec.write(root / "sitok", "sitok", tiny_codec.SITOK)
    return root


@pytest.fixture(scope="module")
def drawing(folder) -> Codec:
    return jaxaudio.load(folder / "sitok")


@pytest.fixture(scope="module")
def plain(folder) -> Codec:
    return jaxaudio.load(folder / "dac")


@pytest.fixture(scope="module")
def tracks(folder) -> Codec:
    return jaxaudio.load(folder / "sdcodec")


def noise(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) / 8).astype(np.float32)


@pytest.mark.parametrize(("length", "rate", "channels"), [(1, RATE, 1), (4003, RATE, 2), (5000, 11025, 1)])
def test_what_is_decoded_is_as_long_as_what_was_encoded(plain, length, rate, channels):
    audio = noise(length, channels)
    codes = plain.encode(audio, sample_rate=rate)
    assert codes.values.shape == (channels, 1, math.ceil(math.ceil(length * RATE / rate) / 10), 3)
    assert plain.decode(codes).shape == (length, channels)
    mono = plain.encode(audio[:, 0], sample_rate=rate)
    assert plain.decode(mono).shape == (length,)
    np.testing.assert_array_equal(mono.values, codes.values[:1])


def test_the_codes_are_those_of_the_system_for_audio_at_the_loudness(plain):
    audio = noise(4000)
    codes = plain.encode(audio, sample_rate=RATE)
    gain = np.float32(1 / codes.gains[0])
    expected = jax.jit(dac.encode, static_argnums=1)(plain.params, plain.config, jnp.asarray(audio * gain)[None])
    np.testing.assert_array_equal(codes.values[0, 0], expected[0])
    heard = jax.jit(dac.decode, static_argnums=1)(plain.params, plain.config, expected)[0, :4000]
    np.testing.assert_allclose(plain.decode(codes), np.asarray(heard) / gain, rtol=2e-4, atol=2e-6)


def test_a_louder_recording_has_the_same_codes_and_comes_back_louder(plain):
    audio = noise(8000) / 4
    quiet, loud = (plain.encode(level * audio, sample_rate=RATE) for level in (1, 4))
    assert np.mean(quiet.values != loud.values) < 0.01
    assert quiet.gains[0] == pytest.approx(loud.gains[0] / 4, rel=1e-4)


def test_a_lower_bit_rate_has_the_first_levels(plain):
    assert plain.bitrates == pytest.approx([800 * 5 * n for n in (1, 2, 3)])
    audio = noise(3000)
    best, low = (plain.encode(audio, sample_rate=RATE, bitrate=bits) for bits in (None, 9000))
    np.testing.assert_array_equal(low.values, best.values[..., :2])
    assert low.bits_per_second == 8000 and plain.decode(low).shape == (3000,)
    with pytest.raises(UsageError, match="too low: the model has 4000, 8000, 12000"):
        plain.encode(audio, sample_rate=RATE, bitrate=3999)


def test_tracks_are_decoded_apart_and_together(tracks):
    audio = noise(2005)
    codes = tracks.encode(audio, sample_rate=RATE)
    assert codes.tracks == ("speech", "music") and tracks.sources == ("mixture", "speech", "music")
    decode = jax.jit(sdcodec.decode, static_argnums=(1, 3))
    apart = decode(
        tracks.params, tracks.config, jnp.moveaxis(jnp.asarray(codes.values), 1, 2), ("mix", "speech", "music")
    )
    for i, source in enumerate(tracks.sources):
        np.testing.assert_allclose(tracks.decode(codes, source=source), apart[0, i, :2005], rtol=1e-4, atol=2e-6)
    alone = codes.of("music")
    np.testing.assert_array_equal(tracks.decode(alone, source="music"), tracks.decode(codes, source="music"))
    with pytest.raises(AudioError, match="hold music alone"):
        tracks.decode(alone)
    with pytest.raises(UsageError, match="no source 'effects'"):
        tracks.decode(codes, source="effects")


def test_a_codec_that_draws(drawing):
    audio = noise(5003)
    codes = drawing.encode(np.stack([audio, audio], 1), sample_rate=RATE)
    assert codes.values.shape == (2, 1, math.ceil(5003 / 128), 1) and drawing.coder.samples
    made = drawing.decode(codes, steps=2)
    assert made.shape == (5003, 2) and np.isfinite(made).all()
    np.testing.assert_array_equal(made[:, 0], made[:, 1])
    np.testing.assert_array_equal(drawing.decode(codes, steps=2), made)
    for changed in ({"seed": 1}, {"steps": 3}, {"guidance": 2.0}):
        assert not np.array_equal(drawing.decode(codes, **{"steps": 2, **changed}), made)
    with pytest.raises(UsageError, match="a number of steps 0 cannot be"):
        drawing.decode(codes, steps=0)


@pytest.mark.parametrize("name", ["silence", "constant", "square"])
def test_sounds_at_the_edge_of_sense(plain, name):
    audio = {
        "silence": np.zeros(3000, np.float32),
        "constant": np.full(3000, 0.7, np.float32),
        "square": np.sign(np.sin(np.arange(3000) / 9)).astype(np.float32),
    }[name]
    made = plain.decode(plain.encode(audio, sample_rate=RATE))
    assert made.shape == audio.shape and np.isfinite(made).all()


def test_what_is_refused(plain, folder):
    with pytest.raises(AudioError, match="sample 5 of channel 0 is nan"):
        plain.encode(np.where(np.arange(10) == 5, np.nan, 0.1), sample_rate=RATE)
    codes = plain.encode(noise(1000), sample_rate=RATE)
    with pytest.raises(AudioError, match="of the model dac, not of other"):
        jaxaudio.load(folder / "other").decode(codes)
    with pytest.raises(AudioError, match="whose books or rate sdcodec does not have"):
        jaxaudio.load(folder / "sdcodec").decode(dataclasses.replace(codes, fingerprint=""))
    with pytest.raises(AudioError, match="99 frames are not"):
        plain.decode(dataclasses.replace(codes, values=codes.values[:, :, :99]))
    with pytest.raises(UsageError, match="does not sample"):
        plain.decode(codes, steps=4)


def test_codes_from_a_file_decode_to_the_same(plain, tmp_path):
    codes = plain.encode(noise(1500, 2), sample_rate=RATE)
    code_files.save(tmp_path / "x.jac", codes)
    np.testing.assert_array_equal(plain.decode(code_files.load(tmp_path / "x.jac")), plain.decode(codes))


def test_long_audio_is_computed_in_windows_of_one_size(plain):
    audio = noise(12 * 256 * 10)  # windows are 256 frames of 10 samples
    codes = plain.encode(audio, sample_rate=RATE)
    wave = jnp.asarray(audio / np.float32(codes.gains[0]))[None]
    whole = jax.jit(dac.encode, static_argnums=1)(plain.params, plain.config, wave)
    assert np.mean(codes.values[0, 0] != np.asarray(whole[0])) < 1e-3  # near ties, which rounding decides
    done = []
    plain.decode(codes, progress=lambda *at: done.append(at))
    assert done[0] == (0, len(audio)) and done[-1] == (len(audio), len(audio)) and len(done) > 10
