import dataclasses
import functools
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert, count, flatten, to_torch
from jaxaudio.errors import AudioError, ConfigError, UsageError
from jaxaudio.nn import weight_norm
from jaxaudio.quantize import fsq
from jaxaudio.systems import taae
from tests.golden.weights import state_dict_of
from tests.systems.tiny import filled

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = taae.Config(
    patch=4,
    channels=8,
    strides=(1, 2),
    depths=(1, 1),
    levels=(17,) * 6,
    head_dim=4,
    window=(3, 4),
    feed_forward=2,
    snake=True,
    phonemes=5,
)
REACH = 4 * (3 + 2 * (3 + 8 + 4 + 2))  # samples; more than the convolutions and windows of one side add up to


def case(name, file="keys.json"):
    return json.loads((GOLDEN / name / file).read_text())


@functools.cache
def params_of(config):
    return filled(lambda key: taae.init(key, config))


@pytest.fixture(scope="module")
def params():
    return params_of(CONFIG)


@pytest.fixture(scope="module")
def audio():
    return np.asarray(np.random.default_rng(0).standard_normal((2, 203)), np.float32)


@functools.partial(jax.jit, static_argnums=1)
def both(params, config, audio):
    latents = taae.encode(params, config, audio)
    return latents, taae.decode(params, config, jnp.tanh(latents), audio.shape[1])


def test_the_reconstructed_configuration_has_the_published_size_and_keys():
    tree = flatten(jax.eval_shape(lambda: taae.init(jax.random.key(0), taae.STABLE_CODEC)))
    buffers = sum(leaf.size for path, leaf in tree.items() if path.endswith("/beta"))
    assert count(tree) - buffers == 953_319_756
    keys = [key.replace("weight_g", "weight") for key in case("taae_full_950M") if not key.endswith("weight_v")]
    paths = [target(key) for key in keys]
    assert set(paths) - {None} == set(tree)
    assert {key for key, path in zip(keys, paths, strict=True) if path is None} == {
        key for key in keys if key.endswith("inv_freq")
    }


def target(key):
    found = ((rule, re.fullmatch(rule.pattern, key)) for rule in taae.WEIGHTS)
    rule, match = next((rule, match) for rule, match in found if match)
    return rule.path and match.expand(rule.path)


def test_sizes_and_rates():
    for config in (taae.STABLE_CODEC, taae.STABLE_CODEC_CAUSAL, taae.MINI):
        assert (config.hop, config.steps_per_second) == (640, 25)
        assert taae.bits_per_second(config) < 1000
        assert max(taae.bits_per_second(config, preset) for preset in fsq.PRESETS) == pytest.approx(950.98, abs=0.01)
    assert count(jax.eval_shape(lambda: taae.init(jax.random.key(0), taae.MINI))) < 3.5e6


@pytest.mark.parametrize("name", ["taae_small", "taae_small_dilated"])
def test_directions_and_lengths_go_there_and_back(name):
    from tests.golden.cases.taae import config_of

    keys, config = case(name), config_of(case(name, "case.json")["config"])
    state = state_dict_of(keys, case(name, "case.json"))
    target = jax.eval_shape(lambda: taae.init(jax.random.key(0), config))
    plain = convert(state, taae.WEIGHTS, target)
    apart = convert(state, taae.WEIGHT_NORM_WEIGHTS, jax.eval_shape(taae.weight_normed, target))
    back = to_torch(apart, taae.WEIGHT_NORM_WEIGHTS, keys)
    assert back.keys() == state.keys()
    jax.tree.map(np.testing.assert_array_equal, back, state)
    for fused in (weight_norm.fuse(apart), weight_norm.fuse(taae.weight_normed(plain))):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), fused, plain)


@pytest.mark.parametrize("samples", [1, 7, 8, 9, 203])
@pytest.mark.parametrize("strides", [(1, 2), (3, 1)])
def test_lengths_are_exact(audio, samples, strides):
    config = dataclasses.replace(CONFIG, strides=strides)
    params = params_of(config)
    shapes = jax.eval_shape(
        lambda x: (taae.tokens(params, config, x), taae.reconstruct(params, config, x)), audio[:, :samples]
    )
    assert shapes[0].shape == (2, -(-samples // config.hop), 1) and shapes[0].dtype == jnp.int32
    assert shapes[1].shape == (2, samples)


def test_the_end_is_padded_with_silence(params, audio):
    padded = np.pad(audio, ((0, 0), (0, -203 % 8)))
    np.testing.assert_array_equal(both(params, CONFIG, audio)[0], both(params, CONFIG, padded)[0])


@pytest.mark.parametrize("dilated", [False, True])
def test_what_is_causal_does_not_hear_the_future(audio, dilated):
    config = dataclasses.replace(CONFIG, causal=True, window=(3, 0), dilated=dilated)
    later = audio.copy()
    later[:, 80:] += 1
    latents, sound = both(params_of(config), config, audio)
    other, changed = both(params_of(config), config, later)
    np.testing.assert_array_equal(latents[:, :10], other[:, :10])
    np.testing.assert_array_equal(sound[:, :80], changed[:, :80])
    assert np.abs(latents[:, 10] - other[:, 10]).max() > 1e-3 and np.abs(sound - changed)[:, 80:88].max() > 1e-3
    loose = dataclasses.replace(config, causal=False)
    assert np.abs(both(params_of(loose), loose, audio)[0] - both(params_of(loose), loose, later)[0])[:, 9].max() > 1e-3


def test_what_is_far_away_is_not_heard(params, audio):
    later = audio.copy()
    later[:, 40 + REACH :] += 1
    latents, other = both(params, CONFIG, audio)[0], both(params, CONFIG, later)[0]
    np.testing.assert_array_equal(latents[:, :5], other[:, :5])
    assert np.abs(latents - other)[:, -1].max() > 1e-3
    wide = dataclasses.replace(CONFIG, window=None)
    assert np.abs(both(params, wide, audio)[0] - both(params, wide, later)[0])[:, :5].max() > 0


@pytest.mark.parametrize(("preset", "count"), [(None, 1), ("1x46656", 1), ("2x15625", 2), ("4x729", 4)])
def test_tokens_hold_all_that_is_decoded(params, audio, preset, count):
    made = jax.jit(taae.tokens, static_argnums=(1, 3))(params, CONFIG, audio, preset)
    assert made.shape == (2, 26, count) and made.dtype == jnp.int32
    assert np.asarray(made).max() < taae.quantizer(CONFIG, preset).size
    values = fsq.decode(made, taae.quantizer(CONFIG, preset))
    direct = taae.decode(params, CONFIG, values, 203)
    np.testing.assert_allclose(taae.detokenise(params, CONFIG, made, preset, 203), direct, atol=1e-6)
    np.testing.assert_allclose(taae.reconstruct(params, CONFIG, audio, preset), direct, atol=1e-5)


def test_training_decodes_noisy_values_at_full_length(params, audio):
    key = jax.random.key(3)
    made, latents, values = jax.jit(lambda: taae.forward(params, CONFIG, audio, key, keep=0.05))()
    np.testing.assert_allclose(latents, both(params, CONFIG, audio)[0], atol=1e-5)
    np.testing.assert_allclose(values, fsq.dither(key, latents, taae.quantizer(CONFIG), keep=0.05), atol=1e-6)
    np.testing.assert_allclose(made, taae.decode(params, CONFIG, values, 203), atol=1e-5)


def test_gradients_reach_everything_but_buffers_with_remat_or_without(params, audio):
    def slopes(config):
        def loss(params):
            made, latents, _ = taae.forward(params, config, audio, jax.random.key(0))
            return jnp.mean(jnp.square(made - audio)) + jnp.mean(taae.phonemes(params, config, latents) ** 2)

        return jax.jit(jax.grad(loss))(params)

    kept, again = slopes(CONFIG), slopes(dataclasses.replace(CONFIG, remat=True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6), kept, again)
    for path, slope in flatten(kept).items():
        assert (np.abs(slope).max() > 0) != path.endswith("/beta"), path


def test_the_head_reads_bounded_latents(params):
    latents = np.asarray(np.random.default_rng(0).standard_normal((1, 3, 6)), np.float32) * 3
    x = np.tanh(latents)
    for i in (1, 3, 5):
        layer = params["params"]["head"][f"proj_head_{i}"]
        x = (np.maximum(x, 0) if i > 1 else x) @ layer["kernel"] + layer["bias"]
    np.testing.assert_allclose(taae.phonemes(params, CONFIG, latents), x, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near_and_gives_float32(params, audio):
    half = dataclasses.replace(CONFIG, dtype="bfloat16")
    for full, rough in zip(both(params, CONFIG, audio), both(params, half, audio), strict=True):
        assert rough.dtype == jnp.float32
        assert 1e-5 < np.linalg.norm(full - rough) / np.linalg.norm(full) < 0.1


def test_wrong_input_is_refused(params):
    with pytest.raises(AudioError, match="at least one sample"):
        taae.encode(params, CONFIG, jnp.zeros((1, 0)))
    with pytest.raises(AudioError):
        taae.encode(params, CONFIG, jnp.zeros((1, 1, 80)))
    with pytest.raises(UsageError, match="16 samples, not 17"):
        taae.decode(params, CONFIG, jnp.zeros((1, 2, 6)), 17)
    with pytest.raises(UsageError, match="there is"):
        taae.tokens(params, CONFIG, jnp.zeros((1, 8)), "8x27")
    with pytest.raises(UsageError, match=r"steps, 2"):
        taae.detokenise(params, CONFIG, jnp.zeros((1, 2, 1), jnp.int32), "2x15625")
    with pytest.raises(ConfigError, match="no head"):
        taae.phonemes(params, dataclasses.replace(CONFIG, phonemes=0), jnp.zeros((1, 2, 6)))
    with pytest.raises(ConfigError, match="head_dim"):
        taae.Config(channels=100)
    with pytest.raises(ConfigError, match="each level"):
        taae.Config(depths=(1,))
