"""SiTok's stages as tasks: each improves what it is for, and hands over what the next one takes."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxaudio.systems import sitok
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
