"""SD-Codec at a small size: sources apart and together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import count
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import receptive, spectral_autoencoder, wave_autoencoder
from jaxaudio.systems import dac, sdcodec
from tests.codec_weights import lively
from tests.systems import tiny

SMALL = sdcodec.Config(
    sample_rate=8000,
    waves=wave_autoencoder.Config(channels=4, rates=(5, 3), latent=6, decoder_channels=16, crop="down"),
    tracks=("voice", "rest"),
    levels=4,
    shared=1,
    size=16,
    width=3,
)
SPECTRAL = dataclasses.replace(
    SMALL,
    waves=spectral_autoencoder.Config(
        step=8, stride=2, width=12, hidden=16, encoder_layers=2, decoder_layers=2, latent=6
    ),
)
MIXES = ("mix", "voice", "rest", "voice+rest")


def filled(module, config):
    return lively(jax.eval_shape(lambda: module.init(jax.random.key(0), config)))


PARAMS = filled(sdcodec, SMALL)
AUDIO = np.random.default_rng(1).standard_normal((3, 900)).astype(np.float32)
encode = jax.jit(lambda p, x, n: sdcodec.encode(p, SMALL, x, n), static_argnums=2)
decode = jax.jit(lambda p, x, sources: sdcodec.decode(p, SMALL, x, sources), static_argnums=2)


def test_codes_stand_for_the_latents_that_add_up():
    made = jax.jit(lambda p: sdcodec.quantize(p, SMALL, AUDIO))(PARAMS)
    codes = np.asarray(encode(PARAMS, AUDIO, None))
    assert codes.shape == (3, 60, 2, 4) and np.any(codes[:, :, 0] != codes[:, :, 1])
    np.testing.assert_array_equal(codes[:, :, 1], made["rest"].codes)
    z = np.asarray(sdcodec.latents(PARAMS, SMALL, codes))
    np.testing.assert_allclose(z, np.stack([made["voice"].z, made["rest"].z], 2), rtol=1e-4, atol=1e-5)
    audio = decode(PARAMS, codes, MIXES)
    assert audio.shape == (3, 4, 900)
    whole = wave_autoencoder.decode(PARAMS["params"], SMALL.waves, jnp.asarray(z.sum(2)))
    np.testing.assert_allclose(audio[:, 0], whole, atol=1e-5)
    np.testing.assert_allclose(audio[:, 3], whole, atol=1e-5)
    alone = wave_autoencoder.decode(PARAMS["params"], SMALL.waves, jnp.asarray(z[:, :, 1]))
    np.testing.assert_allclose(audio[:, 2], alone, atol=1e-5)


@pytest.mark.parametrize("levels", [1, 3])
def test_fewer_levels_are_the_first_ones(levels):
    np.testing.assert_array_equal(encode(PARAMS, AUDIO, levels), encode(PARAMS, AUDIO, None)[..., :levels])


@pytest.mark.parametrize("config", [SMALL, SPECTRAL])
def test_pieces_are_the_whole(config):
    params = PARAMS if config is SMALL else tiny.filled(lambda key: sdcodec.init(key, config))
    long = np.random.default_rng(2).standard_normal((1, 1801)).astype(np.float32)
    codes = np.asarray(jax.jit(lambda p, x: sdcodec.encode(p, config, x))(params, long))
    assert len(np.unique(codes)) > 5
    windows = sdcodec.encoder_windows(params, config, size=48)
    np.testing.assert_array_equal(np.concatenate(list(receptive.run(windows, long)), 1), codes)
    windows = sdcodec.decoder_windows(params, config, sources=MIXES[:2], size=48)
    made = np.concatenate(list(receptive.run(windows, codes)), 1).swapaxes(1, 2)
    whole = jax.jit(lambda p, x: sdcodec.decode(p, config, x, MIXES[:2]))(params, codes)
    assert whole.shape == (1, 2, codes.shape[1] * config.hop)
    np.testing.assert_allclose(made, whole, atol=1e-5 * max(1, np.abs(whole).max()))


def test_spectra_depend_on_what_their_layers_say():
    """What lies further away than the windows' context changes nothing, and what is nearer does."""
    params = tiny.filled(lambda key: sdcodec.init(key, SPECTRAL))["params"]
    left, right = sdcodec.encoder_windows(params, SPECTRAL).context
    x = np.random.default_rng(4).standard_normal((1, 200 * SPECTRAL.hop)).astype(np.float32)
    other = x.copy()
    other[:, 100 * SPECTRAL.hop : 101 * SPECTRAL.hop] *= -100
    one, two = (jax.jit(lambda x: spectral_autoencoder.encode(params, SPECTRAL.waves, x))(y) for y in (x, other))
    changed = np.flatnonzero(np.any(np.asarray(one != two), (0, 2)))
    assert changed.min() >= 100 - right and changed.max() <= 100 + left
    assert changed.min() <= 100 - right + 1 and changed.max() >= 100 + left - 1


def test_masked_sources_sum_to_the_mixture():
    long = np.random.default_rng(2).standard_normal((1, 1801)).astype(np.float32)
    run = jax.jit(lambda p, x, masked: sdcodec.separate(p, SMALL, x, masked=masked), static_argnums=2)
    parts, plain = run(PARAMS, long, True), run(PARAMS, long, False)
    assert parts.shape == plain.shape == (1, 2, 1801)
    np.testing.assert_allclose(parts.sum(1), long, atol=1e-4)
    codes = encode(PARAMS, long, None)
    np.testing.assert_allclose(plain, decode(PARAMS, codes, SMALL.tracks)[..., :1801], atol=1e-4)


def test_training_leaves_absent_sources_out_and_swaps_the_others():
    valid = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    swaps = jnp.array([[1, 2, 0], [0, 1, 2]])

    @jax.jit
    def run(p, valid, swaps):
        return sdcodec.reconstruct(p, SMALL, AUDIO, valid, swaps=swaps)

    made = run(sdcodec.normalized(PARAMS), valid, swaps)
    codes = encode(PARAMS, AUDIO, None)
    np.testing.assert_array_equal(made.codes, codes)
    z = np.asarray(sdcodec.latents(PARAMS, SMALL, codes)) * np.asarray(valid)[:, None, :, None]
    mix = z[np.asarray(swaps[0]), :, 0] + z[:, :, 1]
    expected = wave_autoencoder.decode_raw(PARAMS["params"], SMALL.waves, jnp.asarray(mix))[:, :900]
    np.testing.assert_allclose(made.audio[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(made.audio[:, 1:], decode(PARAMS, codes, SMALL.tracks), atol=1e-4)
    rows = jnp.array([[2], [0], [1]])
    one = jax.jit(lambda p: sdcodec.reconstruct(p, SMALL, AUDIO, valid, swaps=swaps, rows=rows).audio)(PARAMS)
    np.testing.assert_allclose(one[:, 0], made.audio[np.arange(3), rows[:, 0]], atol=1e-5)
    losses = jax.jit(lambda p: sdcodec.quantize(p, SMALL, AUDIO))(PARAMS)
    voice, rest = (np.asarray(losses[t].commitment) for t in SMALL.tracks)
    np.testing.assert_allclose(made.commitment, (voice[0] + (voice[1] + rest[1]) / 2 + rest[2]) / 3, rtol=1e-4)
    assert made.perplexity.shape == (2, 4)
    assert np.all(made.perplexity <= 16.01) and np.all(made.perplexity >= 1)


def test_starting_from_a_dac():
    small = dac.Config(sample_rate=8000, waves=SMALL.waves, levels=3, size=16, width=3)
    theirs = filled(dac, small)
    made = sdcodec.from_dac(PARAMS, theirs, SMALL)["params"]["quantizer"]
    books = theirs["params"]["quantizer"]
    for name, level, theirs_level in (("rvq_dict_rest", 2, 2), ("shared_rvq", 0, 0)):
        np.testing.assert_array_equal(
            made[name][f"quantizers_{level}"]["codebook"], books[f"quantizers_{theirs_level}"]["codebook"]
        )
    with pytest.raises(ConfigError, match="3 levels"):
        sdcodec.from_dac(filled(sdcodec, dataclasses.replace(SMALL, shared=0)), theirs, SMALL)
    with pytest.raises(ConfigError, match="other sizes"):
        sdcodec.from_dac(PARAMS, filled(dac, dataclasses.replace(small, size=8)), SMALL)


def test_sizes():
    published = jax.eval_shape(lambda: sdcodec.normalized(sdcodec.init(jax.random.key(0), sdcodec.SDCODEC_16KHZ)))
    assert round(count(published) / 1e6, 2) == 74.82
    assert sdcodec.SDCODEC_16KHZ.hop == sdcodec.MINI.hop == 320
    mini = count(jax.eval_shape(lambda: sdcodec.init(jax.random.key(0), sdcodec.MINI)))
    assert mini < 4e6


def test_what_cannot_be():
    codes = jnp.zeros((1, 2, 2, 4), jnp.int32)
    with pytest.raises(UsageError, match=r"no track 'drums'.*voice, rest, mix"):
        sdcodec.decode(PARAMS, SMALL, codes, ("voice+drums",))
    with pytest.raises(UsageError, match="give 1 to 4"):
        sdcodec.encode(PARAMS, SMALL, jnp.asarray(AUDIO), 5)
    with pytest.raises(ConfigError, match="names of their own"):
        sdcodec.Config(tracks=("mix", "voice"))
    with pytest.raises(ConfigError, match="0 to 11 can be shared"):
        sdcodec.Config(shared=12)
