"""The losses of codecs in closed form, and each codec as a task, small."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.dsp.distances import Resolution
from jaxaudio.errors import ConfigError
from jaxaudio.metrics import si_sdr
from jaxaudio.nn.spectral_discriminators import BandConfig, SpectrumConfig
from jaxaudio.nn.wave_autoencoder import Config as WaveConfig
from jaxaudio.quantize import rvq
from jaxaudio.systems import dac, sdcodec, taae
from jaxaudio.train import Experiment, Optimizer, fit, load_params
from jaxaudio.train.adversarial import create_gan, gan_optimizer, make_gan_step
from jaxaudio.train.codec import (
    Term,
    codec_losses,
    compared,
    dac_terms,
    given,
    hinge_critic,
    init_codec,
    least_squares_critic,
    measures,
    recognised,
    taae_terms,
)
from jaxaudio.train.codec_tasks import dac_task, sdcodec_task, taae_task
from tests.models.tiny_codec import SPECTRAL
from tests.train.tiny import Repeated

SAMPLES = 2400
BANDS = BandConfig(periods=(2,), period_channels=(2, 2), windows=(64,), bands=((0, 1),), channels=2)
SPECTRA = SpectrumConfig(channels=2, windows=(100,), hops=(50,), stride=2)
NEAR = {"near": compared(2.0, lambda a, b: jnp.mean(jnp.abs(a - b), -1))}
SOUND = np.random.default_rng(0).standard_normal((4, SAMPLES)).astype(np.float32) / 4


def experiment(model, out="", **fields):
    fields = {"steps": 2, "batch_size": 4, "log_every": 1, "save_every": 5, **fields}
    return Experiment(build=lambda e: None, out=str(out), model=model, optimizer=Optimizer(lr=1e-3), **fields)


def test_least_squares_add_up_discriminators_and_layers_but_the_last():
    critic = least_squares_critic(BANDS)
    real, fake = [jnp.array([0.5, 1.5]), jnp.array([1.0])], [jnp.array([2.0, 0.0]), jnp.array([-1.0])]
    assert float(critic.discriminator(real, fake)) == pytest.approx(0.25 + 0 + 2 + 1)
    assert float(critic.generator(fake)) == pytest.approx(1 + 4)
    maps = [[real[0], fake[0], real[0]], [real[1], real[1]]]
    others = [[fake[0], fake[0], fake[0]], [fake[1], fake[1]]]
    assert float(critic.features(maps, others)) == pytest.approx(1.5 + 0 + 2)


def test_hinges_average_over_discriminators_and_layers():
    real, fake = [jnp.array([0.5, 1.5]), jnp.array([1.0])], [jnp.array([2.0, 0.0]), jnp.array([-1.0])]
    critic = hinge_critic(SPECTRA)
    assert float(critic.discriminator(real, fake)) == pytest.approx((0.25 + 2 + 0 + 0) / 2)
    assert float(critic.generator(fake)) == pytest.approx((-1 + 1) / 2)
    maps, others = [[real[0], 2 * real[0]], [real[1]]], [[fake[0], fake[0]], [fake[1]]]
    assert float(critic.features(maps, others)) == pytest.approx(((1.5 + 2) / 2 + 2) / 2)
    relative = hinge_critic(SPECTRA, relative=True).features(maps, others)
    assert float(relative) == pytest.approx(((1.5 / 1.001 + 2 / 2.001) / 2 + 2 / 1.001) / 2)


def test_published_weights():
    assert {name: term.weight for name, term in dac_terms(16000).items()} == {
        "mel": 15.0,
        "commitment": 0.25,
        "codebook": 1.0,
    }
    critic = least_squares_critic()
    assert (critic.generator_weight, critic.feature_weight) == (1.0, 2.0)
    assert set(taae_terms(16000)) == {"stft", "l1", "l2"} and "ctc" in taae_terms(16000, phonemes=9)


def test_recognition_of_one_frame_is_cross_entropy():
    logits, labels = jnp.log(jnp.array([[[0.2, 0.5, 0.3]], [[0.6, 0.1, 0.3]]])), jnp.array([[0, 9], [1, 9]])
    value = recognised(3.0, blank=2).value({"logits": logits}, {"labels": labels, "label_lengths": jnp.array([1, 1])})
    assert float(value) == pytest.approx(-np.log(0.2 * 0.1) / 2, rel=1e-5)


def toy_losses(**options):
    def generate(params, extra, batch, key, frozen):
        estimate = params["gain"] * batch["waveform"]
        return {"reference": batch["waveform"], "estimate": estimate, "own": jnp.sum(params["gain"])}, extra

    terms = {**NEAR, "own": given(0.5, "own"), "sum": Term(0.25, lambda made, batch: jnp.mean(batch["number"]))}
    return codec_losses(generate, terms, least_squares_critic(BANDS), adversary_start=1, **options)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    losses = toy_losses()
    params, extra = init_codec(
        jax.random.key(0), lambda key: ({"params": {"gain": jnp.array(0.5)}}, {}), least_squares_critic(BANDS)
    )
    batch = {"waveform": jnp.asarray(SOUND), "number": jnp.arange(4.0)}
    made, _ = losses.generate(params["generator"], extra, batch, None, None)
    judge, please = jax.jit(losses.discriminator_loss), jax.jit(losses.generator_loss)
    alone, (metrics, _) = please(made, None, extra, batch, None, None)
    assert set(metrics) == {"near", "own", "sum"}
    np.testing.assert_allclose(metrics["near"], np.mean(np.abs(SOUND)) / 2, rtol=1e-5)
    np.testing.assert_allclose(alone, 2 * metrics["near"] + 0.5 * 0.5 + 0.25 * 1.5, rtol=1e-5)
    critic = params["discriminator"]
    total, (metrics, _) = please(made, critic, extra, batch, None, None)
    np.testing.assert_allclose(total - alone, metrics["adversary"] + 2 * metrics["features"], rtol=1e-4)
    # Half the level is no difference to discriminators that level their input, so both sides score alike.
    judged, _ = judge(critic, extra, made, batch, None, None)
    same, _ = judge(critic, extra, {**made, "estimate": made["reference"]}, batch, None, None)
    np.testing.assert_allclose(judged, same, rtol=1e-5)


def test_measures_of_a_tenth_of_noise():
    noise = np.random.default_rng(1).standard_normal(SOUND.shape).astype(np.float32)
    reference = SOUND - SOUND.mean(-1, keepdims=True)
    noise -= noise.mean(-1, keepdims=True)
    noise -= (noise * reference).sum(-1, keepdims=True) / np.square(reference).sum(-1, keepdims=True) * reference
    noise *= np.sqrt(np.square(reference).sum(-1, keepdims=True) / np.square(noise).sum(-1, keepdims=True) / 10)
    values = jax.jit(measures, static_argnums=2)(reference, 3 * (reference + noise) + 0.1, 16000)
    np.testing.assert_allclose(values["si_sdr"], 10, atol=1e-3)
    assert values["mel"].shape == values["stft"].shape == (4,)


def _si_sdr(reference, estimate):
    return si_sdr(*(x - x.mean(-1, keepdims=True) for x in (reference, estimate)))


def traced(task, batch):
    """(metrics, parameters) of a step, without computing it."""
    tx = gan_optimizer(Optimizer().build(2), Optimizer().build(2))
    step = make_gan_step(task.loss(None), tx)

    def run(key, batch):
        state = create_gan(*task.init(key), tx, key)
        return step(state, batch)[1], state.params

    return jax.eval_shape(run, jax.random.key(0), batch)


def test_dac_drops_levels_of_some_items():
    config = dac.Config(
        sample_rate=16000, waves=WaveConfig(channels=4, rates=(4, 5), latent=8, decoder_channels=16), levels=3, size=8
    )
    task = dac_task(
        experiment(config),
        data=Repeated(waveform=SOUND),
        evaluation={"waveform": SOUND},
        critic=least_squares_critic(BANDS),
    )
    metrics, params = traced(task, {"waveform": SOUND})
    assert {"mel", "commitment", "codebook", "adversary", "features", "loss"} <= set(metrics)
    assert "weight_g" in params["generator"]["encoder"]["block_0"]
    limits = np.concatenate([rvq.drop_levels(jax.random.key(i), jnp.arange(64), 3, 0.5) for i in range(8)])
    # Half of the items keep all three levels, and a third of the others happen to.
    assert np.mean(limits == 3) == pytest.approx(2 / 3, abs=0.08) and set(limits) == {1, 2, 3}


def test_sdcodec_compares_what_is_in_the_mixture():
    config = sdcodec.Config(
        waves=WaveConfig(channels=2, rates=(4, 5), latent=4, decoder_channels=8, crop="down"),
        tracks=("speech", "music"),
        levels=2,
        size=4,
        width=2,
    )
    sources = np.stack([SOUND, SOUND[::-1] / 2], 1)
    valid = np.array([[1, 1], [1, 0], [0, 1], [1, 1]])
    batch = {"sources": sources, "valid": valid}
    task, fewer = (
        sdcodec_task(
            experiment(config),
            data=Repeated(**batch),
            evaluation={"sources": sources},
            critic=least_squares_critic(BANDS),
            swap=1.0,
            decoded=decoded,
        )
        for decoded in (None, 1)
    )
    generate = task.loss(None).generate
    params = jax.eval_shape(lambda: sdcodec.normalized(sdcodec.init(jax.random.key(0), config)))["params"]
    params = jax.tree.map(lambda s: jnp.full(s.shape, 0.1, s.dtype), params)
    made, _ = jax.jit(lambda params, batch: generate(params, {}, batch, jax.random.key(3), None))(params, batch)
    assert made["estimate"].shape == (12, SAMPLES)
    rows = np.asarray(made["reference"]).reshape(4, 3, SAMPLES)
    np.testing.assert_array_equal(rows[[0, 3], 1:], sources[[0, 3]])
    np.testing.assert_array_equal(rows[1, 1], sources[1, 0])
    np.testing.assert_array_equal(rows[1, 2], rows[1, 0])  # no music here: the mixture again
    np.testing.assert_array_equal(rows[2, 1], rows[2, 0])
    # Every mixture is one item's speech and one's music.
    heard = sources * valid[:, :, None]
    pairs = heard[:, None, 0] + heard[None, :, 1]
    found = [(i, j) for row in rows[:, 0] for i in range(4) for j in range(4) if np.allclose(row, pairs[i, j])]
    assert sorted(i for i, _ in found) == sorted(j for _, j in found) == [0, 1, 2, 3]
    assert any(i != j for i, j in found)

    # One of them each, with what is made of it; never a source that is not there, and the mixture as often as others.
    few = jax.jit(lambda params, batch, key: fewer.loss(None).generate(params, {}, batch, key, None)[0])
    one = few(params, batch, jax.random.key(3))
    estimates = np.asarray(made["estimate"]).reshape(4, 3, SAMPLES)
    for i in range(4):
        row = next(j for j in range(3) if np.array_equal(one["reference"][i], rows[i, j]))
        np.testing.assert_allclose(one["estimate"][i], estimates[i, row], atol=1e-6)
    drawn = np.stack([few(params, batch, jax.random.key(i))["reference"] for i in range(60)])
    shares = [np.mean([np.array_equal(x, source) for x in drawn[:, 0]]) for source in sources[0]]
    assert all(0.15 < share < 0.55 for share in shares)
    assert not any(np.array_equal(x, sources[1, 1]) for x in drawn[:, 1])

    params = jax.eval_shape(lambda: sdcodec.init(jax.random.key(0), config))
    numbers = task.evaluate(jax.tree.map(lambda s: jnp.full(s.shape, 0.1, s.dtype), params))
    assert {"si_sdr/mix", "mel/speech", "stft/music", "improvement/music"} <= set(numbers)
    gain = numbers["si_sdr/speech"] - np.mean(_si_sdr(sources[:, 0], sources.sum(1)))
    assert numbers["improvement/speech"] == pytest.approx(gain, abs=1e-2)


def test_codebooks_of_sdcodec_may_follow_their_sources(tmp_path):
    sources = np.stack([SOUND, SOUND[::-1] / 2], 1)
    batch = {"sources": sources, "valid": np.array([[1, 1], [1, 0], [1, 0], [1, 1]])}
    e = experiment(SPECTRAL, tmp_path)
    task = sdcodec_task(
        e,
        data=Repeated(**batch),
        evaluation={"sources": sources},
        critic=least_squares_critic(BANDS),
        terms={**NEAR, "commitment": given(1.0, "commitment"), "perplexity": given(0.0, "perplexity")},
        follow=0.9,
        adversary_start=9,
    )
    params, extra = jax.jit(task.init)(jax.random.key(0))
    made, moved = jax.jit(lambda p, x, b: task.loss(None).generate(p, x, b, jax.random.key(3), None))(
        params["generator"], extra, {**batch, "sources": jnp.asarray(sources)}
    )
    books = moved["generator"]["books"]
    assert 1 <= made["perplexity"] <= 4
    assert {name: x["codebook"].shape for name, x in books.items()} == {
        "rvq_dict_speech": (2, 4, 2),
        "rvq_dict_music": (2, 4, 2),
        "shared_rvq": (1, 4, 2),
    }
    mixture = jnp.sum(sources * batch["valid"][:, :, None], 1)
    codes = np.asarray(jax.jit(lambda p, x: sdcodec.encode({"params": p}, SPECTRAL, x))(params["generator"], mixture))
    for track, name in enumerate(("rvq_dict_speech", "rvq_dict_music")):
        heard = codes[batch["valid"][:, track] > 0, :, track]
        for level in range(2):
            chosen, least = 0.1 * np.bincount(heard[..., level].ravel(), minlength=4), 0.1 * codes[..., 0, 0].size / 4
            np.testing.assert_allclose(books[name]["counts"][level], np.maximum(chosen, least), rtol=1e-5)

    result = fit(e, task, quiet=True)
    stored, _ = load_params(tmp_path / "final", jax.eval_shape(lambda: sdcodec.init(jax.random.key(0), SPECTRAL)))
    for name, book in result.state.extra["generator"]["books"].items():
        for i, level in enumerate(np.asarray(book["codebook"])):
            np.testing.assert_array_equal(stored["params"]["quantizer"][name][f"quantizers_{i}"]["codebook"], level)
            start = params["generator"]["quantizer"][name][f"quantizers_{i}"]["codebook"]
            assert not np.allclose(level, start)

    # Stopped after a step and resumed, it is the same to the last bit: parameters, discriminators, codebooks.
    cut = dataclasses.replace(e, out=str(tmp_path / "cut"), steps=1)
    fit(cut, task, quiet=True)
    resumed = fit(dataclasses.replace(cut, steps=e.steps), task, quiet=True)
    parts = [(x.state.params, x.state.opt_state, x.state.extra) for x in (result, resumed)]
    jax.tree.map(np.testing.assert_array_equal, *jax.device_get(parts))


TAAE = taae.Config(
    patch=20,
    channels=32,
    multiples=(1,),
    strides=(2,),
    depths=(1,),
    head_dim=32,
    window=(3, 4),
    feed_forward=1,
    levels=(5, 3),
    phonemes=4,
)


def test_taae_learns_to_be_read_and_leaves_plain_kernels(tmp_path):
    batch = {
        "waveform": SOUND,
        "labels": np.array([[0, 1, 2]] * 4),
        "label_lengths": np.array([3, 2, 1, 3]),
    }
    e = experiment(TAAE, tmp_path, steps=3)
    terms = taae_terms(16000, phonemes=4, resolutions=(Resolution(128, 32, 128),))
    task = taae_task(e, data=Repeated(**batch), evaluation=batch, critic=hinge_critic(SPECTRA), terms=terms)
    result = fit(e, task, quiet=True)
    assert {"si_sdr", "mel", "stft", "per"} <= set(result.metrics) and np.isfinite(result.metrics["per"])
    before = jax.jit(task.init)(jax.random.split(jax.random.key(0))[0])[0]
    moved = jax.tree.map(
        lambda a, b: not np.array_equal(a, b), before["generator"]["head"], result.state.params["generator"]["head"]
    )
    assert all(jax.tree.leaves(moved))
    stored, _ = load_params(tmp_path / "final", jax.eval_shape(lambda: taae.init(jax.random.key(0), TAAE)))
    assert "kernel" in stored["params"]["encoder"]["layers_0"]


def test_reading_needs_labels():
    with pytest.raises(ConfigError, match="set phonemes to 0"):
        taae_task(experiment(TAAE), data=Repeated(waveform=SOUND), evaluation={"waveform": SOUND})
