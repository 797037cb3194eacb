"""Losses of adversarial training in closed form, one step by hand, and many devices."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxaudio.dsp import front_ends
from jaxaudio.errors import ConfigError
from jaxaudio.nn import autoencoder, hifigan
from jaxaudio.nn.discriminators import PatchConfig, WaveConfig
from jaxaudio.train import adversarial, data_parallel
from jaxaudio.train.vae import init_vae, vae_losses
from jaxaudio.train.vocoder import init_vocoder, vocoder_losses

RNG = np.random.default_rng(0)


def draw(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def test_losses_in_closed_form():
    real, fake = jnp.array([2.0, 0.0]), jnp.array([-2.0, 1.0])
    np.testing.assert_allclose(adversarial.hinge_loss(real, fake), 0.5 * (0.5 + 1.0))
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    expected = 0.25 * (softplus(-2.0) + softplus(0.0) + softplus(-2.0) + softplus(1.0))
    np.testing.assert_allclose(adversarial.vanilla_loss(real, fake), expected, rtol=1e-6)
    of_real, of_fake = adversarial.least_squares_losses([real, fake], [fake, real])
    np.testing.assert_allclose(of_real, [1, 4.5])
    np.testing.assert_allclose(of_fake, [2.5, 2])
    np.testing.assert_allclose(adversarial.least_squares_generator_losses([fake]), [4.5])
    np.testing.assert_allclose(adversarial.feature_loss([[real], [fake]], [[fake], [fake]]), 2 * 2.5)


def test_the_adaptive_weight_balances_and_is_limited():
    g = draw(3, 4)
    norm = float(jnp.linalg.norm(g))
    np.testing.assert_allclose(adversarial.adaptive_weight(g, 2 * g), 0.5 * norm / (2 * norm + 1e-4), rtol=1e-5)
    np.testing.assert_allclose(adversarial.adaptive_weight(g, 0 * g, 2.0), 2 * min(norm / 1e-4, 1e4), rtol=1e-4)
    assert float(jax.grad(lambda g: adversarial.adaptive_weight(g, 2 * g))(g).sum()) == 0


def toy(axis_name=None):
    """A linear generator against a linear discriminator, with noise per item and counters on the way."""

    def generate(params, extra, batch, key, frozen):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])
        noise = jax.vmap(lambda k: jax.random.normal(k, (3,)))(keys)
        return (batch["x"] + 0.1 * noise) @ params["w"] * frozen, extra

    def discriminator_loss(params, extra, made, batch, key, frozen):
        count = extra["discriminator"]["count"] + 1
        real, fake = jnp.tanh(batch["y"] @ params["v"]), jnp.tanh(made @ params["v"])
        value = jnp.mean(jnp.square(real - 1)) + jnp.mean(jnp.square(fake))
        return value, ({"real": jnp.mean(real)}, {**extra, "discriminator": {"count": count}})

    def generator_loss(made, params, extra, batch, key, frozen):
        count = extra["discriminator"]["count"] + 10
        value = jnp.mean(jnp.square(jnp.tanh(made @ params["v"]) - 1)) + jnp.mean(jnp.square(made - batch["y"]))
        value = value + batch["step"] * jnp.sum(made * batch.get("poison", 0.0))
        return value, ({}, {**extra, "discriminator": {"count": count}})

    return adversarial.Adversarial(generate, discriminator_loss, generator_loss)


def batch(rows=8):
    rng = np.random.default_rng(3)
    return {name: rng.standard_normal((rows, size)).astype(np.float32) for name, size in (("x", 3), ("y", 2))}


def start(tx, ema=False):
    rng = np.random.default_rng(4)
    params = {
        "generator": {"w": jnp.asarray(rng.standard_normal((3, 2)), jnp.float32)},
        "discriminator": {"v": jnp.asarray(rng.standard_normal(2), jnp.float32)},
    }
    extra = {"generator": {}, "discriminator": {"count": jnp.zeros(())}}
    return adversarial.create_gan(params, extra, tx, jax.random.key(0), ema=ema)


TX = adversarial.gan_optimizer(optax.sgd(0.1), optax.sgd(0.2))


def test_one_step_by_hand():
    state, frozen, losses = start(TX, ema=True), jnp.float32(1.5), toy()
    step = jax.jit(adversarial.make_gan_step(losses, TX, ema_decay=0.9, learning_rate=lambda n: 0.1))
    new, metrics = step(state, batch(), frozen)

    data = {**batch(), "index": jnp.arange(8), "step": 0}
    key = jax.random.fold_in(state.key, 0)
    w, v, extra = state.params["generator"], state.params["discriminator"], state.extra
    made, _ = losses.generate(w, extra, data, key, frozen)
    judged, slope = jax.value_and_grad(lambda v: losses.discriminator_loss(v, extra, made, data, key, frozen)[0])(v)
    v = jax.tree.map(lambda p, g: p - 0.2 * g, v, slope)

    def composed(w):
        return losses.generator_loss(losses.generate(w, extra, data, key, frozen)[0], v, extra, data, key, frozen)[0]

    value, slope = jax.value_and_grad(composed)(w)
    w = jax.tree.map(lambda p, g: p - 0.1 * g, w, slope)
    np.testing.assert_allclose(new.params["discriminator"]["v"], v["v"], rtol=1e-5)
    np.testing.assert_allclose(new.params["generator"]["w"], w["w"], rtol=1e-5)
    np.testing.assert_allclose(new.ema["generator"]["w"], 0.9 * state.ema["generator"]["w"] + 0.1 * w["w"], rtol=1e-5)
    assert set(new.ema) == {"generator"} and int(new.step) == 1
    assert float(new.extra["discriminator"]["count"]) == 11  # the discriminator's pass, then the generator's
    np.testing.assert_allclose([metrics["loss"], metrics["discriminator_loss"]], [value, judged], rtol=1e-5)
    np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(slope["w"]), rtol=1e-5)
    assert float(metrics["skipped"]) == 0


def test_gradients_are_clipped_each_to_its_own_norm():
    limits = {"clip_norm": 0.01, "discriminator_clip_norm": 0.02}
    state = start(TX)
    new, _ = jax.jit(adversarial.make_gan_step(toy(), TX, **limits))(state, batch(), jnp.float32(1))
    for name, step in (("generator", 0.1 * 0.01), ("discriminator", 0.2 * 0.02)):
        change = jax.tree.map(jnp.subtract, new.params[name], state.params[name])
        np.testing.assert_allclose(optax.global_norm(change), step, rtol=1e-3)


def test_nothing_changes_where_a_side_is_not_finite():
    step = jax.jit(adversarial.make_gan_step(toy(), TX))
    state, _ = step(start(TX), batch(), jnp.float32(1))
    new, metrics = step(state, {**batch(), "poison": np.full((8, 2), np.nan, np.float32)}, jnp.float32(1))
    assert float(metrics["skipped"]) == 1 and int(new.step) == 2
    jax.tree.map(np.testing.assert_array_equal, (new.params, new.extra), (state.params, state.extra))


def test_the_sides_have_names():
    with pytest.raises(ConfigError, match="'generator' and 'discriminator'"):
        adversarial.create_gan({"gen": {}}, {}, TX, jax.random.key(0))


VAE = autoencoder.Config(mels=16, channels=8, multipliers=(1, 2), blocks=1, latent=2, groups=4)


def reduced(tree):
    """Weights that need no compiled initialiser."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda s: jnp.asarray(rng.standard_normal(s.shape) / max(1, np.prod(s.shape[:-1])) ** 0.5, s.dtype), tree
    )


@pytest.mark.parametrize("lazy", [False, True])
def test_an_autoencoder_learns_and_the_adversary_waits_for_its_step(lazy):
    patch = PatchConfig(channels=4, layers=1)
    losses = vae_losses(
        VAE, patch, kl_weight=1.0, adversary_start=6, perceptual=lambda a, b: 0 * a[:, 0, 0, 0], lazy=lazy
    )
    tx = adversarial.gan_optimizer(optax.adam(1e-3, 0.5, 0.9), optax.adam(1e-3, 0.5, 0.9))
    params, extra = reduced(jax.eval_shape(lambda: init_vae(jax.random.key(0), VAE, patch)))
    extra["discriminator"] = jax.tree.map(jnp.ones_like, extra["discriminator"])
    state = adversarial.create_gan(params, extra, tx, jax.random.key(0))
    warm_up, step = (jax.jit(adversarial.make_gan_step(losses, tx, alone=alone)) for alone in (True, False))
    assert losses.start == (6 if lazy else 0)
    data = {"mel": np.asarray(draw(2, 16, 16, 1)), "weight": np.ones((2, 16, 1, 1), np.float32)}
    found = []
    for _ in range(10):
        before, kept = state.params["discriminator"], state.extra["discriminator"]
        state, metrics = (warm_up if len(found) < losses.start else step)(state, data)
        found.append(metrics)
        moved = not np.array_equal(before["main_0"]["kernel"], state.params["discriminator"]["main_0"]["kernel"])
        assert moved == (float(metrics["discriminator_loss"]) > 0) == (len(found) > 6)
        looked = not jax.tree.all(jax.tree.map(np.array_equal, kept, state.extra["discriminator"]))
        assert looked == (len(found) > 6 or not lazy) == ("logits_real" in metrics)
    assert float(found[5]["nll"]) < 0.95 * float(found[0]["nll"])
    assert 0 < float(found[-1]["adversary_weight"]) <= 5000


def test_padding_does_not_count_in_the_autoencoders_error():
    losses = vae_losses(VAE, PatchConfig(channels=4, layers=1))
    params, extra = reduced(jax.eval_shape(lambda: init_vae(jax.random.key(0), VAE, PatchConfig(channels=4, layers=1))))
    made = {"mean": draw(1, 8, 8, 2), "logvar": draw(1, 8, 8, 2), "mel": draw(1, 16, 16, 1)}
    made["last"] = {"input": draw(1, 16, 16, 8), **params["generator"]["decoder"]["conv_out"]}
    weight = np.arange(16)[None, :, None, None] < 10
    data = {"step": jnp.asarray(0), "mel": draw(1, 16, 16, 1), "weight": jnp.asarray(weight, jnp.float32)}
    _, (metrics, _) = jax.jit(losses.generator_loss)(made, params["discriminator"], extra, data, None, None)
    error = np.abs(data["mel"] - made["mel"])
    np.testing.assert_allclose(metrics["nll"], error[:, :10].sum(), rtol=1e-5)


@pytest.mark.parametrize("start", [0, 4])
def test_a_vocoder_learns_and_the_adversary_waits_for_its_step(start):
    config = hifigan.Config(mels=64, channels=8, rates=(8, 20), widths=(16, 40), block_widths=(3,), dilations=(1,))
    waves = WaveConfig(periods=(2,), period_channels=(4, 4), scales=1, scale_layers=((4, 15, 4, 1), (4, 41, 4, 2)))
    losses = vocoder_losses(
        lambda p, mel: hifigan.generate(p, config, mel),
        front_ends.AUDIOLDM_16K,
        front_ends.HIFIGAN_16K,
        waves,
        adversary_start=start,
        resolutions=(64, 256) if start else (),
    )
    shapes = jax.eval_shape(lambda: init_vocoder(jax.random.key(0), lambda key: hifigan.init(key, config), waves))
    params, extra = reduced(shapes)
    tx = adversarial.gan_optimizer(optax.adam(2e-3, 0.8, 0.99), optax.adam(2e-3, 0.8, 0.99))
    state = adversarial.create_gan(params, extra, tx, jax.random.key(0))
    warm_up, step = (jax.jit(adversarial.make_gan_step(losses, tx, alone=alone)) for alone in (True, False))
    data = {"waveform": np.asarray(0.1 * draw(2, 3200))}
    found = []
    for _ in range(8):
        state, metrics = (warm_up if len(found) < losses.start else step)(state, data)
        found.append(float(metrics["mel"]))
        assert (float(metrics["discriminator_loss"]) > 0) == (float(metrics.get("features", 0)) > 0)
        assert (float(metrics["discriminator_loss"]) > 0) == (len(found) > start)
        assert (float(metrics.get("stft", 0)) > 0) == bool(start)
    assert found[-1] < 0.97 * found[0]
    assert not np.array_equal(state.extra["discriminator"]["spectral"]["msd"]["discriminators_0"]["convs_0"]["u"], 0)


def trained(mode):
    """A few steps of the toy on all devices; run in a process of its own below."""
    tx = adversarial.gan_optimizer(optax.adam(0.05), optax.adam(0.05))
    runner = data_parallel(lambda axis: adversarial.make_gan_step(toy(), tx, axis_name=axis), mode)
    state, frozen = runner.place(start(tx)), runner.place(jnp.float32(1.5))
    for _ in range(4):
        state, metrics = runner(state, batch(), frozen)
        jax.block_until_ready(metrics)
    leaves = jax.tree.leaves((state.params, state.extra, metrics))
    return np.concatenate([np.ravel(np.asarray(x)) for x in leaves])


@pytest.mark.parametrize("mode", ["mesh", "pmap"])
def test_four_devices_give_the_result_of_one(mode, tmp_path):
    code = (
        f"import numpy, tests.train.test_adversarial as t; numpy.save(r'{tmp_path / 'out.npy'}', t.trained({mode!r}))"
    )
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    root = pathlib.Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=root, timeout=300)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), trained("mesh"), rtol=2e-5, atol=1e-6)
