import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio import samplers
from jaxaudio.convert.rules import convert
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import autoencoder, latent_audio, unet
from jaxaudio.systems import audioldm
from tests.systems.tiny import AUDIO, filled

GOLDEN = Path(__file__).parents[1] / "golden"
CONFIG = audioldm.Config(
    audio=AUDIO,
    unet=unet.UNetConfig(
        inputs=2, outputs=2, channels=(32, 32), blocks=1, attention=(False, True), head_dim=16, film=6
    ),
    window=0.32,
    overlap=0.08,
)
RULES = audioldm.weights(CONFIG)
QUICK = audioldm.Sampling(steps=3, guidance=2.0)
SAMPLES = 250  # 16 positions of 16 samples, the size of one window


@pytest.fixture(scope="module")
def params():
    return filled(lambda key: audioldm.init(key, CONFIG))


@pytest.fixture(scope="module")
def film():
    return {"film": jnp.asarray(np.random.default_rng(0).standard_normal((3, 6)), jnp.float32)}


def nothing(condition):
    return jax.tree.map(jnp.zeros_like, condition)


@functools.partial(jax.jit, static_argnames=("samples", "sampling"))
def generate(params, condition, key, samples=SAMPLES, sampling=QUICK, items=None):
    negative = nothing(condition)
    return audioldm.generate(params, CONFIG, condition, negative, key, samples=samples, sampling=sampling, items=items)


def test_an_item_does_not_depend_on_its_batch(params, film):
    key = jax.random.key(1)
    together = generate(params, film, key)
    alone = generate(params, {"film": film["film"][1:2]}, key, items=jnp.array([1]))
    assert together.shape == (3, 16, 4, 2)
    np.testing.assert_allclose(
        together[1:2], alone, atol=1e-4 * np.abs(alone).max()
    )  # six rows round otherwise than two
    assert np.abs(np.asarray(together[0] - together[1])).max() > 0.1


def test_the_waveform_has_the_length_that_was_asked_for(params, film):
    audio = audioldm.decode(params, CONFIG, generate(params, film, jax.random.key(1)), SAMPLES)
    assert audio.shape == (3, SAMPLES) and np.all(np.abs(audio) <= 1) and np.std(audio) > 0


def test_long_sounds_are_made_of_windows(params, film):
    """Where windows do not overlap, a long latent is what the network makes of each window by itself."""
    apart = dataclasses.replace(CONFIG, overlap=0.0)
    key, one = jax.random.key(2), {"film": film["film"][:1]}
    sampling = audioldm.Sampling(steps=2, solver="ddim", guidance=1.0)
    whole = audioldm.generate(params, apart, one, nothing(one), key, samples=2 * 256, sampling=sampling)
    x = audioldm.samplers.item_noise(key, (1, 32, 4, 2))
    grid = audioldm.schedule(CONFIG, sampling)

    def network(x, t):
        return audioldm.predict(params, CONFIG, x, t, one)

    halves = [audioldm.samplers.sample(network, x[:, i : i + 16], grid, solver="ddim") for i in (0, 16)]
    np.testing.assert_allclose(whole, jnp.concatenate(halves, 1), atol=2e-5)


def test_filling_in_keeps_what_the_mask_keeps(params, film):
    known = jnp.asarray(np.random.default_rng(1).standard_normal((3, 16, 4, 2)), jnp.float32)
    mask = latent_audio.outside(CONFIG.audio, 16, [(0.1, 0.2)])
    np.testing.assert_array_equal(mask[0, :, 0, 0], [1] * 5 + [0] * 5 + [1] * 6)
    made = audioldm.fill(
        params, CONFIG, known, mask, film, nothing(film), jax.random.key(3), sampling=audioldm.Sampling(steps=2)
    )
    np.testing.assert_array_equal(made[:, :5], known[:, :5])
    np.testing.assert_array_equal(made[:, 10:], known[:, 10:])
    assert np.abs(np.asarray(made - known))[:, 5:10].min() > 0
    np.testing.assert_array_equal(audioldm.frequency_mask(CONFIG, 0.75)[0, 0, :, 0], [1, 1, 1, 0])


def test_strength_0_returns_the_sound_and_more_goes_farther(params, film):
    known = audioldm.encode(params, CONFIG, jnp.sin(jnp.arange(SAMPLES) * 0.3)[None].repeat(3, 0))
    far = [
        float(
            jnp.linalg.norm(
                audioldm.vary(params, CONFIG, known, film, nothing(film), jax.random.key(4), strength=s, sampling=QUICK)
                - known
            )
        )
        for s in (0.0, 1 / 3, 1.0)
    ]
    assert far[0] == 0 < far[1] < far[2]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: latent_audio.outside(CONFIG.audio, 16, [(0.2, 0.1)]), "span 0.2 to 0.1"),
        (lambda: latent_audio.outside(CONFIG.audio, 16, [(0.4, 0.5)]), "not within"),
        (lambda: audioldm.frequency_mask(CONFIG, 1.0), "between 0 and 1"),
        (lambda: audioldm.schedule(CONFIG, audioldm.Sampling(steps=0)), "steps"),
        (lambda: latent_audio.Config(vae=autoencoder.AUDIOLDM_48K), "agree"),
    ],
)
def test_wrong_wishes_are_refused(call, words):
    with pytest.raises(ConfigError, match=words):
        call()


def test_too_short_a_sound_is_refused():
    with pytest.raises(UsageError, match="too few"):
        latent_audio.mel(CONFIG.audio, jnp.zeros((1, 16)))


def test_the_loss_draws_per_item(params, film):
    """A batch's loss is the mean of its items' losses, whoever computes them: times, noise and drops go by number."""
    batch = {
        "latent": jnp.asarray(np.random.default_rng(2).standard_normal((3, 8, 4, 2)), jnp.float32),
        "condition": film,
        "negative": nothing(film),
        "index": jnp.arange(3),
    }
    loss = jax.jit(functools.partial(audioldm.loss, config=CONFIG, drop=0.5))
    whole, _ = loss(params["unet"], {}, batch, jax.random.key(5))
    rows = [{name: jax.tree.map(lambda x, i=i: x[i : i + 1], value) for name, value in batch.items()} for i in range(3)]
    parts = [loss(params["unet"], {}, row, jax.random.key(5))[0] for row in rows]
    assert float(whole) == pytest.approx(float(np.mean(parts)), rel=1e-5)
    always = functools.partial(audioldm.loss, config=CONFIG, drop=1.0)
    blank = {**batch, "condition": batch["negative"]}
    assert float(always(params["unet"], {}, batch, jax.random.key(5))[0]) == pytest.approx(
        float(always(params["unet"], {}, blank, jax.random.key(5))[0]), rel=1e-6
    )


VELOCITIES = dataclasses.replace(CONFIG, prediction="v")


def _levels(t, x):
    """Weights of data and noise at times t, to multiply x."""
    power = samplers.signal_power(CONFIG.variances)
    rows = (jnp.asarray(np.sqrt(share), x.dtype)[t] for share in (power, 1 - power))
    return [row.reshape(-1, *[1] * (x.ndim - 1)) if row.ndim else row for row in rows]


def test_a_model_that_says_v_goes_where_the_same_model_goes_that_says_the_noise(monkeypatch, film):
    def predict(params, config, x, t, condition):
        noise = jnp.tanh(x) + 0.1 * condition["film"][:, :2].reshape(-1, 1, 1, 2)
        alpha, sigma = _levels(t, x)
        return noise if config.prediction == "epsilon" else (noise - sigma * x) / alpha

    monkeypatch.setattr(audioldm, "predict", predict)
    made = [
        audioldm.generate({}, config, film, nothing(film), jax.random.key(3), samples=SAMPLES, sampling=QUICK)
        for config in (CONFIG, VELOCITIES)
    ]
    np.testing.assert_allclose(*made, atol=1e-4 * np.abs(made[0]).max())


def test_the_loss_of_a_model_that_says_v_is_zero_for_v(monkeypatch, film):
    data = jnp.asarray(np.random.default_rng(2).standard_normal((3, 8, 4, 2)), jnp.float32)

    def predict(params, config, x, t, condition):
        alpha, sigma = _levels(t, x)
        return alpha * (x - alpha * data) / sigma - sigma * data

    monkeypatch.setattr(audioldm, "predict", predict)
    batch = {"latent": data, "condition": film, "negative": nothing(film), "index": jnp.arange(3)}
    losses = [audioldm.loss({}, {}, batch, jax.random.key(5), config=c)[0] for c in (VELOCITIES, CONFIG)]
    assert float(losses[0]) < 1e-6 < 0.1 < float(losses[1])


def _published_keys() -> dict:
    """Every tensor of an audioldm-s .ckpt but the text encoder, from the keys of its parts."""

    def of(case):
        return {key: tuple(shape) for key, shape in json.loads((GOLDEN / case / "keys.json").read_text()).items()}

    keys = of("audioldm_s_unet_original")
    keys |= {f"model_ema.{key.removeprefix('model.').replace('.', '')}": shape for key, shape in keys.items()}
    keys |= {
        "model_ema.decay": (),
        "model_ema.num_updates": (),
        "scale_factor": (),
        "betas": (1000,),
        "logvar": (1000,),
    }
    keys |= {f"{name}alphas_cumprod": (1000,) for name in ("", "sqrt_", "sqrt_one_minus_", "log_one_minus_")}
    keys |= of("audioldm_vae_original") | of("audioldm_hifigan_original")
    return keys


def test_the_published_checkpoint_is_used_up_and_fills_every_weight():
    config, keys = audioldm.AUDIOLDM_S, _published_keys()
    state = {key: np.broadcast_to(np.float32(i % 97), shape) for i, (key, shape) in enumerate(keys.items())}
    shapes = jax.eval_shape(lambda: audioldm.init(jax.random.key(0), config))
    plain = unet.with_ema(state)
    tree = convert(plain, audioldm.weights(config), shapes)
    assert jax.tree.structure(tree) == jax.tree.structure(shapes)
    assert tree["scale"] == state["scale_factor"]
    key = "model.diffusion_model.input_blocks.1.0.in_layers.2.weight"
    average = state["model_ema.diffusion_modelinput_blocks10in_layers2weight"]
    kernel = tree["unet"]["params"]["down_blocks_0"]["resnets_0"]["conv1"]["kernel"]
    assert plain[key].flat[0] == average.flat[0] != state[key].flat[0]
    assert np.all(kernel == average.flat[0])
