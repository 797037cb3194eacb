import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert
from jaxaudio.errors import ConfigError
from jaxaudio.nn import latent_audio, unet
from jaxaudio.systems import flowsep
from tests.systems.tiny import AUDIO, filled

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = flowsep.Config(
    audio=dataclasses.replace(AUDIO, vocoder_kind="bigvgan"),
    unet=unet.UNetConfig(
        inputs=4, outputs=4, channels=(32, 32), blocks=1, attention=(False, True), head_dim=16, transformers=(6,)
    ),
    window=0.32,
    overlap=0.08,
)


@pytest.fixture(scope="module")
def params():
    return filled(lambda key: flowsep.init(key, CONFIG))


@pytest.fixture(scope="module")
def mixture(params):
    return flowsep.encode(params, CONFIG, 0.3 * jnp.sin(jnp.arange(3 * 256).reshape(3, 256) * 0.7))


@pytest.fixture(scope="module")
def told():
    rng = np.random.default_rng(0)
    return {
        "contexts": [jnp.asarray(rng.standard_normal((3, 4, 6)), jnp.float32)],
        "masks": [jnp.asarray([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])],
    }


def nothing(condition):
    return {"contexts": [jnp.zeros_like(c) for c in condition["contexts"]], "masks": condition["masks"]}


@functools.partial(jax.jit, static_argnames="sampling")
def separate(params, mixture, condition, key, sampling, items=None):
    negative = nothing(condition)
    return flowsep.separate(params, CONFIG, mixture, condition, negative, key, sampling=sampling, items=items)


def test_euler_follows_the_published_formula(params, mixture, told):
    """Each step adds (1 / N) velocity(x, k / N), as the original's solve_euler."""
    key = jax.random.key(0)
    made = separate(params, mixture, told, key, flowsep.Sampling(steps=2))
    x = flowsep.samplers.item_noise(key, mixture.shape)
    for k in range(2):
        x = x + 0.5 * flowsep.velocity(params, CONFIG, x, jnp.float32(k / 2), mixture, told)
    np.testing.assert_allclose(made, x, atol=2e-5)


def test_guidance_moves_away_from_the_negative(params, mixture, told):
    key, sampling = jax.random.key(0), flowsep.Sampling(steps=1, guidance=3.0)
    made = separate(params, mixture, told, key, sampling)
    x = flowsep.samplers.item_noise(key, mixture.shape)
    towards, away = (
        flowsep.velocity(params, CONFIG, x, jnp.float32(0), mixture, condition) for condition in (told, nothing(told))
    )
    np.testing.assert_allclose(made, x + away + 3 * (towards - away), atol=1e-4)
    assert np.abs(np.asarray(towards - away)).max() > 1e-2


def test_long_mixtures_are_separated_in_windows_that_see_their_own_part(params, mixture, told):
    apart, key = dataclasses.replace(CONFIG, overlap=0.0), jax.random.key(1)
    one = jax.tree.map(lambda x: x[:1], told)
    both = jnp.concatenate([mixture[:1], mixture[1:2]], 1)
    sampling = flowsep.Sampling(steps=1)
    whole = flowsep.separate(params, apart, both, one, nothing(one), key, sampling=sampling)
    x = flowsep.samplers.item_noise(key, both.shape)
    halves = [
        x[:, i : i + 16] + flowsep.velocity(params, CONFIG, x[:, i : i + 16], jnp.float32(0), both[:, i : i + 16], one)
        for i in (0, 16)
    ]
    np.testing.assert_allclose(whole, jnp.concatenate(halves, 1), atol=2e-5)


def test_outside_its_span_the_sound_is_silent(params, mixture, told):
    silent = latent_audio.outside(CONFIG.audio, 16, [(0.1, 0.2)])
    made = flowsep.separate(
        params,
        CONFIG,
        mixture,
        told,
        nothing(told),
        jax.random.key(2),
        sampling=flowsep.Sampling(steps=1),
        silent=silent,
    )
    silence = flowsep.encode(params, CONFIG, jnp.zeros((1, 256)))
    np.testing.assert_allclose(made[:, :5], jnp.broadcast_to(silence[:, :5], (3, 5, 4, 2)), atol=1e-6)
    assert np.abs(np.asarray(made - silence))[:, 5:10].min() > 1e-6
    assert flowsep.decode(params, CONFIG, made, 250).shape == (3, 250)


def test_a_unet_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="two latents"):
        flowsep.Config(unet=unet.AUDIOLDM_S_UNET)


def test_the_loss_vanishes_for_the_true_velocity(params, mixture, told, monkeypatch):
    """Its target is what `separate` integrates: from noise to sound."""
    monkeypatch.setattr(flowsep, "velocity", lambda params, config, x, t, mixture, condition: params["unet"])
    batch = {
        "latent": mixture,
        "mixture": mixture,
        "condition": told,
        "negative": nothing(told),
        "index": jnp.arange(3),
    }
    value, (metrics, extra) = flowsep.loss(mixture, {}, batch, jax.random.key(0), config=CONFIG)
    keys = jax.vmap(lambda i: jax.random.split(jax.random.fold_in(jax.random.key(0), i), 3))(jnp.arange(3))
    noise = jax.vmap(lambda k: jax.random.normal(k, mixture.shape[1:]))(keys[:, 0])
    assert float(value) == pytest.approx(float(jnp.mean(((1 - 1e-4) * noise) ** 2)), rel=1e-5)
    assert extra == {} and metrics["loss_simple"] == value


def test_the_published_checkpoint_is_used_up_and_fills_every_weight():
    text = r"cond_stage_models.0.model."
    keys = json.loads((GOLDEN / "flowsep_full_ckpt_keys.json").read_text())
    state = {
        key: np.broadcast_to(np.float32(0), tuple(shape)) for key, shape in keys.items() if not key.startswith(text)
    }
    shapes = jax.eval_shape(lambda: flowsep.init(jax.random.key(0), flowsep.FLOWSEP))
    tree = convert(unet.with_ema(state), flowsep.weights(flowsep.FLOWSEP), shapes)
    assert jax.tree.structure(tree) == jax.tree.structure(shapes)
