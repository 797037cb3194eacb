"""DAC at a small size: any length, in pieces, and what is published."""

import jax
import numpy as np
import pytest

from jaxaudio.convert.rules import count
from jaxaudio.errors import UsageError
from jaxaudio.nn import receptive, wave_autoencoder
from jaxaudio.systems import dac, dac_files
from tests.codec_weights import lively

SMALL = dac.Config(
    sample_rate=8000,
    waves=wave_autoencoder.Config(channels=4, rates=(5, 3), latent=6, decoder_channels=16),
    levels=4,
    size=16,
    width=3,
)
WINDOW = 48
encode = jax.jit(lambda p, x: dac.encode(p, SMALL, x))
decode = jax.jit(lambda p, x: dac.decode(p, SMALL, x))


PARAMS = lively(jax.eval_shape(lambda: dac.init(jax.random.key(0), SMALL)))
AUDIO = np.random.default_rng(1).standard_normal((2, 1507)).astype(np.float32)


def test_codes_in_pieces_are_those_of_the_whole():
    whole = np.asarray(encode(PARAMS, AUDIO))
    assert whole.shape == (2, 101, 4) and len(np.unique(whole)) == 16
    pieces = list(dac.encode_chunks(PARAMS, SMALL, AUDIO, size=WINDOW))
    assert len(pieces) > 3
    np.testing.assert_array_equal(np.concatenate(pieces, 1), whole)
    windows, stream, said = dac.encoder_windows(PARAMS, SMALL, size=WINDOW), receptive.Stream(), []
    for i in range(0, 1507, 101):
        made, stream = receptive.push(windows, stream, AUDIO[:, i : i + 101])
        said += made
    np.testing.assert_array_equal(np.concatenate(said + receptive.flush(windows, stream), 1), whole)


@pytest.mark.parametrize("length", [101 * 15, 1507])
def test_samples_in_pieces_are_those_of_the_whole(length):
    codes = np.asarray(encode(PARAMS, AUDIO))
    whole = np.asarray(decode(PARAMS, codes))
    assert whole.shape == (2, 101 * 15) and whole.std() > 0.1
    made = np.concatenate(list(dac.decode_chunks(PARAMS, SMALL, codes, size=WINDOW, length=length)), 1)
    assert made.shape == (2, length)
    np.testing.assert_allclose(made, whole[:, :length], atol=1e-5)


def test_short_signals_are_one_piece():
    whole = encode(PARAMS, AUDIO[:, :100])
    np.testing.assert_array_equal(next(dac.encode_chunks(PARAMS, SMALL, AUDIO[:, :100], size=WINDOW)), whole)


def test_latents_decode_like_their_codes():
    codes = encode(PARAMS, AUDIO[:, :100])[..., :2]
    z = dac.latents(PARAMS, SMALL, codes)
    np.testing.assert_allclose(dac.decode(PARAMS, SMALL, z, 100), dac.decode(PARAMS, SMALL, codes, 100), atol=1e-6)


def test_training_hears_what_decoding_gives():
    made = jax.jit(lambda p, x: dac.reconstruct(p, SMALL, x))(dac.normalized(PARAMS), AUDIO)
    np.testing.assert_array_equal(made.quantized.codes, encode(PARAMS, AUDIO))
    np.testing.assert_allclose(made.audio, decode(PARAMS, made.quantized.codes)[:, : made.audio.shape[1]], atol=1e-4)


def test_published_windows_keep_level_and_length():
    made = dac_files.compress(PARAMS, SMALL, AUDIO, seconds=0.15)
    assert not made.padded and made.codes.shape[1] > made.frames
    audio = dac_files.decompress(PARAMS, SMALL, made)
    assert audio.shape == AUDIO.shape
    louder = dac_files.decompress(PARAMS, SMALL, made._replace(loudness=made.loudness + 6))
    np.testing.assert_allclose(louder, audio * 10 ** (6 / 20), rtol=1e-4)
    np.testing.assert_allclose(dac_files._loudness(audio, 8000), made.loudness, atol=1)  # the last window counts, too
    short = dac_files.compress(PARAMS, SMALL, AUDIO, seconds=1.0)
    assert short.padded
    peak = np.abs(AUDIO).max(1, keepdims=True)
    np.testing.assert_array_equal(short.codes, encode(PARAMS, AUDIO / peak))
    with pytest.raises(UsageError, match="too short"):
        dac_files.compress(PARAMS, SMALL, AUDIO, seconds=0.01)


@pytest.mark.parametrize(
    "config, millions, hop, delay",
    [
        (dac.DAC_44KHZ_8KBPS, 76.65, 512, 7904),
        (dac.DAC_44KHZ_16KBPS, 64.21, 512, 7904),
        (dac.DAC_24KHZ_8KBPS, 74.71, 320, 5264),
        (dac.DAC_16KHZ_8KBPS, 74.18, 320, 5264),
    ],
)
def test_published_sizes(config, millions, hop, delay):
    params = jax.eval_shape(lambda: dac.normalized(dac.init(jax.random.key(0), config)))
    assert round(count(params) / 1e6, 2) == millions
    assert config.hop == hop and dac_files.delay(config) == delay
    frames = wave_autoencoder.raw_length(config.waves, 26)
    assert frames == 26 * hop - (8 if hop == 320 else 0)


def test_what_cannot_be():
    with pytest.raises(UsageError, match="1 to 30 samples"):
        next(dac.decode_chunks(PARAMS, SMALL, np.zeros((1, 2, 4), np.int32), length=31))
    with pytest.raises(UsageError, match="all context"):
        dac.encoder_windows(PARAMS, SMALL, size=2)
