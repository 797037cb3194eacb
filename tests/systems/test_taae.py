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
from jaxaudio.nn import receptive, weight_norm
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
    shapes = jax.eval_shape(lambda: taae.init(jax.random.key(0), taae.STABLE_CODEC))
    tree = flatten(shapes)
    buffers = sum(leaf.size for path, leaf in tree.items() if path.endswith("norm/beta"))
    assert count(jax.eval_shape(taae.weight_normed, shapes)) - buffers == 953_319_756
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
    for config in (taae.STABLE_CODEC, taae.STABLE_CODEC_CAUSAL):
        assert (config.hop, config.steps_per_second) == (640, 25)
        assert taae.bits_per_second(config) < 1000
        assert max(taae.bits_per_second(config, preset) for preset in fsq.PRESETS) == pytest.approx(950.98, abs=0.01)
    assert taae.bits_per_second(taae.MINI) == pytest.approx(100 / 3 * 6 * np.log2(17))
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


def test_what_is_causal_does_not_hear_the_future(audio):
    config = dataclasses.replace(CONFIG, causal=True, window=(3, 0), dilated=True)
    later = audio.copy()
    later[:, 80:] += 1
    latents, sound = both(params_of(config), config, audio)
    other, changed = both(params_of(config), config, later)
    np.testing.assert_array_equal(latents[:, :10], other[:, :10])
    np.testing.assert_array_equal(sound[:, :80], changed[:, :80])
    assert np.abs(latents[:, 10] - other[:, 10]).max() > 1e-3 and np.abs(sound - changed)[:, 80:88].max() > 1e-3
    loose = dataclasses.replace(config, causal=False)
    assert np.abs(both(params_of(loose), loose, audio)[0] - both(params_of(loose), loose, later)[0])[:, 9].max() > 1e-3


@pytest.mark.parametrize("window", [CONFIG.window, None])
def test_windows_give_what_the_whole_gives(window):
    config = dataclasses.replace(CONFIG, window=window)
    params, audio = params_of(config), np.asarray(np.random.default_rng(5).standard_normal((1, 1603)), np.float32)
    latents, _ = both(params, config, audio)
    whole = np.asarray(fsq.encode(latents, taae.quantizer(config)))
    size = 40 if config.window else None
    found = list(receptive.run(taae.encoder_windows(params, config, size=size), audio))
    assert (len(found) > 4) == (config.window is not None)
    agree = np.concatenate(found, 1) == whole
    assert agree.shape == whole.shape and agree.mean() > 0.98  # but for near ties, which rounding decides
    made = np.concatenate(list(receptive.run(taae.decoder_windows(params, config, size=size), whole)), 1)
    np.testing.assert_allclose(made, jax.jit(taae.detokenise, static_argnums=1)(params, config, whole), atol=2e-5)


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        dataclasses.replace(CONFIG, causal=True, window=(3, 1), dilated=True),
        dataclasses.replace(CONFIG, mels=5, patch=8),
    ],
)
def test_what_a_step_depends_on_is_known_to_the_step(config):
    """Of copies of one signal, each changed at another step, those differ that windows say a step sees."""
    params, steps, at, rng = params_of(config), 200, 100, np.random.default_rng(1)

    def seen(f, channels):
        x = np.tile(rng.standard_normal((steps, channels)), (steps, 1, 1)).astype(np.float32)
        x[np.arange(steps), np.arange(steps)] *= -1e3  # else rounding hides the faintest influence
        y = np.asarray(jax.jit(f)(x))
        changed = np.flatnonzero(np.any(y != np.median(y, 0), -1))
        return at - changed[0], changed[-1] - at

    def latent(x):
        return taae.encode(params, config, x.reshape(steps, -1))[:, at]

    def sound(x):
        return taae.decode(params, config, x).reshape(steps, steps, -1)[:, at]

    # On some processors rounding hides the furthest step all the same.
    for found, said in (
        (seen(latent, config.hop), taae.encoder_windows(params, config).context),
        (seen(sound, 6), taae.decoder_windows(params, config).context),
    ):
        assert all(0 <= own - step <= 1 for step, own in zip(found, said, strict=True)), (found, said)


def test_a_window_must_hold_more_than_context(params):
    with pytest.raises(UsageError, match="all context"):
        taae.encoder_windows(params, CONFIG, size=4)


@pytest.mark.parametrize(("preset", "count"), [(None, 1), ("2x15625", 2)])
def test_tokens_hold_all_that_is_decoded(params, audio, preset, count):
    @jax.jit
    def run(audio):
        made = taae.tokens(params, CONFIG, audio, preset)
        return made, taae.detokenise(params, CONFIG, made, preset, 203), taae.reconstruct(params, CONFIG, audio, preset)

    made, sound, again = run(audio)
    assert made.shape == (2, 26, count) and made.dtype == jnp.int32
    q = taae.quantizer(CONFIG, preset)
    latents, _ = both(params, CONFIG, audio)
    np.testing.assert_array_equal(made, fsq.encode(latents, q))
    np.testing.assert_allclose(sound, decode(params, fsq.decode(made, q)), atol=1e-5)
    np.testing.assert_allclose(again, sound, atol=1e-5)


def test_training_decodes_noisy_values_at_full_length(params, audio):
    key = jax.random.key(3)
    made, latents, values = jax.jit(lambda: taae.forward(params, CONFIG, audio, key, keep=0.05))()
    np.testing.assert_allclose(latents, both(params, CONFIG, audio)[0], atol=1e-5)
    np.testing.assert_allclose(values, fsq.dither(key, latents, taae.quantizer(CONFIG), keep=0.05), atol=1e-6)
    np.testing.assert_allclose(made, decode(params, values), atol=1e-5)


@functools.partial(jax.jit, static_argnums=2)
def decode(params, values, length=203):
    return taae.decode(params, CONFIG, values, length)


def loss(params, config, audio):
    made, latents, _ = taae.forward(params, config, audio, jax.random.key(0))
    return jnp.mean(jnp.square(made - audio)) + jnp.mean(taae.phonemes(params, config, latents) ** 2)


def test_gradients_reach_everything_but_buffers(params, audio):
    for path, slope in flatten(jax.jit(jax.grad(loss), static_argnums=1)(params, CONFIG, audio)).items():
        assert (np.abs(slope).max() > 0) != path.endswith("norm/beta"), path


@pytest.mark.parametrize("remat", [False, True])
def test_transformers_are_computed_again_if_asked(params, audio, remat):
    config = dataclasses.replace(CONFIG, remat=remat)
    shown = str(jax.make_jaxpr(lambda params: loss(params, config, audio))(params))
    assert shown.count("checkpoint[") + shown.count("remat[") + shown.count("remat2[") == 4 * remat


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
