"""Batches of unequal length: each item's codes and samples are those that it has by itself, whatever lies after it."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxaudio.nn import spectral_autoencoder
from jaxaudio.systems import dac, sdcodec, taae
from tests.codec_weights import lively
from tests.systems.test_dac import SMALL as DAC
from tests.systems.test_taae import CONFIG as TAAE
from tests.systems.tiny import filled

TRACKS = sdcodec.Config(
    waves=dataclasses.replace(DAC.waves, crop="down"), tracks=("a", "b"), levels=3, shared=1, size=16, width=3
)
SPECTRA = spectral_autoencoder.Config(
    step=8, stride=2, width=12, hidden=16, encoder_layers=2, decoder_layers=2, latent=6
)
LENGTHS = np.int32([290, 149, 1])


def near(made, wanted):
    """Equal but for the order of sums."""
    np.testing.assert_allclose(made, wanted, atol=2e-5 * max(1, np.abs(wanted).max()))


@functools.cache
def waves():
    """Noise everywhere, past an item's end too."""
    return np.random.default_rng(3).standard_normal((3, 290)).astype(np.float32)


def test_dac():
    config = DAC
    params = lively(jax.eval_shape(lambda: dac.init(jax.random.key(0), config)))
    frames = -(-LENGTHS // config.hop)
    encode = jax.jit(lambda p, x, n=None: dac.encode(p, config, x, lengths=n))
    decode = jax.jit(lambda p, x, n=None: dac.decode(p, config, x, frames=n))
    codes = encode(params, waves(), LENGTHS)
    alone = [np.asarray(encode(params, waves()[i : i + 1, :n]))[0] for i, n in enumerate(LENGTHS[:2])]
    for i, wanted in enumerate(alone):
        np.testing.assert_array_equal(codes[i, : frames[i]], wanted)
    assert not np.asarray(codes)[2, 1:].any() and np.asarray(codes)[0].any()
    sounds = np.asarray(decode(params, codes, frames))
    for i, n in enumerate(frames[:2]):
        wanted = decode(params, codes[i : i + 1, :n])[0]
        assert len(wanted) == n * config.hop and np.std(wanted) > 0.05
        near(sounds[i, : len(wanted)], wanted)
        assert not sounds[i, len(wanted) :].any()


@pytest.mark.parametrize("waves_of", ["waves", "spectra"])
def test_sdcodec(waves_of):
    config = TRACKS if waves_of == "waves" else dataclasses.replace(TRACKS, waves=SPECTRA)
    if waves_of == "waves":
        params = lively(jax.eval_shape(lambda: sdcodec.init(jax.random.key(0), config)))
    else:
        params = filled(lambda key: sdcodec.init(key, config))
    frames = -(-LENGTHS // config.hop)
    encode = jax.jit(lambda p, x, n=None: sdcodec.encode(p, config, x, lengths=n))
    decode = jax.jit(lambda p, x, n=None: sdcodec.decode(p, config, x, ("a", sdcodec.MIX), frames=n))
    codes = encode(params, waves(), LENGTHS)
    sounds = decode(params, codes, frames)
    for i, n in enumerate(frames[:2]):
        alone = encode(params, waves()[i : i + 1, : LENGTHS[i]])
        np.testing.assert_array_equal(codes[i, :n], alone[0])
        wanted = decode(params, alone)[0]
        near(sounds[i, :, : n * config.hop], wanted)


@pytest.mark.parametrize("changes", [{"dilated": True, "strides": (2, 3)}, {"mels": 5, "patch": 8}])
def test_taae(changes):
    config = dataclasses.replace(TAAE, **changes)
    params = filled(lambda key: taae.init(key, config))
    steps = -(-LENGTHS // config.hop)
    encode = jax.jit(lambda p, x, n=None: taae.encode(p, config, x, n))
    decode = jax.jit(lambda p, x, n=None: taae.decode(p, config, x, steps=n))
    latents = encode(params, waves(), LENGTHS)
    sounds = np.asarray(decode(params, latents, steps))
    for i, n in enumerate(steps[:2]):
        alone = encode(params, waves()[i : i + 1, : LENGTHS[i]])
        near(latents[i, :n], alone[0])
        wanted = decode(params, alone)[0]
        assert np.std(wanted) > 1e-3
        near(sounds[i, : len(wanted)], wanted)
        assert not sounds[i, len(wanted) :].any()
    tokens = np.asarray(jax.jit(lambda p, x, n: taae.tokens(p, config, x, lengths=n))(params, waves(), LENGTHS))
    assert not tokens[2, 1:].any() and tokens[0].any()
