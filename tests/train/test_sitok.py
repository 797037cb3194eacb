"""SiTok's stages as tasks: each improves what it is for, and hands over what the next one takes."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxaudio.errors import ConfigError
from jaxaudio.nn import vocos
from jaxaudio.nn.discriminators import WaveConfig
from jaxaudio.systems import sitok, sitok_training
from jaxaudio.train import Experiment, Optimizer, fit, sitok as tasks
from tests.train.tiny import Repeated

SMALL = dataclasses.replace(
    sitok.MINI,
    front_end=dataclasses.replace(sitok.MINI.front_end, n_fft=1280, hop=320, pad=480, n_mels=8),
    stack=4,
    books=1,
    window=10.0,
    overlap=1.0,
    width=16,
    hidden=24,
    heads=2,
    encoder_layers=1,
    decoder_layers=1,
    reader_layers=1,
    size=16,
    dim=4,
    labels=5,
)


@pytest.fixture(scope="module")
def batch():
    """Two tones of their own pitch, each with a text of its own."""
    t = np.arange(6400) / 16000
    tones = np.stack([np.sin(2 * np.pi * f * t) for f in (300, 3000)]).astype(np.float32) / 3
    return {
        "waveform": np.tile(tones, (2, 1)),
        "length": np.int32([6400, 6400, 6400, 5000]),
        "labels": np.int32([[1, 2], [3, 4], [1, 2], [3, 4]]),
        "label_lengths": np.int32([2, 2, 2, 2]),
    }


def experiment(folder, steps, config=SMALL):
    return Experiment(
        build=lambda e: None,
        out=str(folder),
        steps=steps,
        batch_size=4,
        model=config,
        optimizer=Optimizer(lr=1e-2, warm_up_steps=5),
        log_every=steps,
        save_every=steps,
    )


def test_from_the_whole_to_two_steps(tmp_path, batch):
    sampling = sitok.Sampling(steps=4)
    run = experiment(tmp_path / "whole", 60)
    task = tasks.tokeniser_task(run, data=Repeated(**batch), evaluation=batch, sampling=sampling)
    params, extra = task.init(jax.random.key(0))
    before = task.evaluate({"params": params, **extra})
    result = fit(run, task, quiet=True)
    trained = {"params": result.state.params, **result.state.extra}
    after = task.evaluate(trained)
    assert after["mel"] < 0.7 * before["mel"] and after["cer"] < before["cer"] and 1 < after["perplexity"] <= 16

    refined = tasks.decoder_task(
        experiment(tmp_path / "decoder", 2),
        data=Repeated(**batch),
        evaluation=batch,
        trained=trained,
        sampling=sampling,
    )
    start, _ = refined.init(jax.random.key(0))
    assert refined.evaluate({"params": start})["mel"] == pytest.approx(after["mel"], rel=1e-5)

    shortcut = tasks.shortcut_task(
        experiment(tmp_path / "shortcut", 2), data=Repeated(**batch), evaluation=batch, trained=trained
    )
    start, _ = shortcut.init(jax.random.key(0))
    whole = shortcut.release({"params": start})
    assert shortcut.config["config"]["steps"] and "step_size_mlp" in whole["params"]["decoder"]
    assert np.isfinite(shortcut.evaluate({"params": start})["mel"])


def test_a_crop_is_a_part_of_an_item_with_its_tokens(batch):
    """Frames and tokens that say where they are from stay together, lie within the item, and begin anywhere."""
    rows, frames = 40, np.int32([48, 30, 17, 5] * 10)
    mel = np.tile(np.arange(50.0)[:, None], (rows, 1, SMALL.front_end.n_mels))
    z = np.tile(np.arange(13.0)[:, None], (rows, 1, SMALL.dim))
    given = {"mel": mel, "frames": frames, "index": np.arange(rows)}
    cut = jax.jit(lambda z, given, key: sitok_training.cropped(SMALL, z, given, key, 16))
    tokens, made = cut(z, given, jax.random.key(0))
    starts = np.asarray(made["mel"])[:, 0, 0]
    np.testing.assert_array_equal(made["mel"][:, :, 0], starts[:, None] + np.arange(16))
    np.testing.assert_array_equal(tokens[:, :, 0], starts[:, None] / 4 + np.arange(4))
    np.testing.assert_array_equal(made["frames"], np.clip(frames - starts, 0, 16))
    assert np.all(starts <= np.maximum(-(-frames // 4) * 4 - 16, 0)) and len(np.unique(starts[::4])) > 4
    whole = sitok_training.cropped(SMALL, z, given, jax.random.key(0), None)
    assert whole[0] is z and whole[1] is given
    with pytest.raises(ConfigError, match="whole tokens"):
        sitok_training.cropped(SMALL, z, given, jax.random.key(0), 15)


def test_the_vocoder_learns_and_hands_over_its_weights(tmp_path, batch):
    vocoder = vocos.Config(
        sample_rate=16000, mels=8, width=16, hidden=24, layers=1, n_fft=1280, hop=320, padding="same", noise=2
    )
    run = experiment(tmp_path, 20, dataclasses.replace(SMALL, vocoder=vocoder))
    waves = WaveConfig(periods=(2,), period_channels=(2, 2), scales=1, scale_layers=((2, 5, 2, 1),))
    task = tasks.vocoder_task(
        run, data=Repeated(waveform=batch["waveform"]), evaluation=batch, waves=waves, adversary_start=10**6
    )
    params, _ = task.init(jax.random.key(0))
    before = task.evaluate(task.release({"params": params}))
    made = task.release({"params": fit(run, task, quiet=True).state.params})
    assert task.evaluate(made)["mel"] < 0.8 * before["mel"]
    sound = vocos.generate(made, vocoder, np.zeros((1, 3, 8), np.float32))
    assert sound.shape == (1, 960) and np.isfinite(sound).all()
    with pytest.raises(ConfigError, match="no vocoder"):
        tasks.vocoder_task(
            experiment(tmp_path, 1, dataclasses.replace(SMALL, vocoder=None)), data=None, evaluation=batch, waves=waves
        )
