"""The captioner's task: after a few steps it names what it hears."""

import dataclasses

import jax
import numpy as np
import optax
import pytest

from jaxaudio.data.clips import Clip
from jaxaudio.data.described import DescribedConfig
from jaxaudio.dsp.mel import MelConfig
from jaxaudio.errors import ConfigError
from jaxaudio.nn import panns
from jaxaudio.systems import captioning
from jaxaudio.systems.captioning import words
from jaxaudio.train import Experiment, save_params
from jaxaudio.train.captioning import captioning_task

RATE = 8000
MODEL = captioning.Config(
    sound=panns.Config(
        widths=(8, 12),
        mel=MelConfig(sample_rate=RATE, n_fft=256, hop=128, n_mels=16, fmin=50, fmax=4000),
        head="frames",
        embedding=24,
        classes=0,
        dropout=0.0,
        augment=False,
    ),
    words=words.Config(vocab_size=3, width=24, layers=1, heads=2, hidden=32, dropout=0.0),
    tags=3,
    guides=2,
)


def clips(seed):
    rng, made = np.random.default_rng(seed), []
    times = np.arange(4000) / RATE
    for number in range(24):
        kind = ("hum", "whistle", "hiss")[number % 3]
        pitch = {"hum": rng.uniform(100, 200), "whistle": rng.uniform(1500, 2500), "hiss": 0}[kind]
        audio = np.sin(2 * np.pi * pitch * times) if pitch else rng.normal(size=4000) / 2
        made.append(
            Clip(
                id=f"{kind} {number}",
                audio=(0.2 * audio).astype(np.float32),
                sample_rate=RATE,
                captions=(f"a {kind}", f"someone makes a {kind}"),
                labels=(kind,),
                source=f"{seed} {number}",
                licence="CC0-1.0",
            )
        )
    return made


def test_it_learns_to_name_what_is_heard(tmp_path):
    experiment = Experiment(build=lambda _: None, batch_size=24, model=MODEL)
    data = DescribedConfig(batch=24, sample_rate=RATE, seconds=0.5)
    task = captioning_task(experiment, clips(0), clips(1), data=data, words=14, trials=24)
    assert task.config["text"]["tags"] == ["hiss", "hum", "whistle"]
    loss, tx = task.loss(None), optax.adam(1e-2)

    @jax.jit
    def step(params, extra, opt, batch, key):
        (value, (_, extra)), slopes = jax.value_and_grad(loss, has_aux=True)(params, extra, batch, key, None)
        updates, opt = tx.update(slopes, opt, params)
        return optax.apply_updates(params, updates), extra, opt, value

    params, extra = task.init(jax.random.key(0))
    before, opt = task.evaluate({"params": params, **extra}), tx.init(params)
    for number in range(100):
        params, extra, opt, _ = step(params, extra, opt, next(task.data), jax.random.key(number))
    after = task.evaluate({"params": params, **extra})
    task.data.close()
    save_params(tmp_path / "best", {"params": params, **extra}, task.config)
    assert before["named"] < 0.5
    assert after["named"] > 0.9
    assert after["tagged"] > 0.9

    # What it says is rewarded from there on, with the words that it had.
    data = dataclasses.replace(data, references=4)
    how = {"words": 14, "trials": 24, "start_from": str(tmp_path / "best")}
    task = captioning_task(experiment, clips(0), clips(1), data=data, self_critical=True, **how)
    same, extra = task.init(jax.random.key(1))
    jax.tree.map(np.testing.assert_array_equal, same, params)
    batch = next(task.data)
    assert batch["references_ids"].shape == (24, 4, 14)
    words = task.config["text"]["words"]
    told = {" ".join(words[i] for i in row if i > 1) for row in batch["references_ids"].reshape(-1, 14)}
    assert told >= {"a hum", "someone makes a hum", "a hiss and a hum", "a hum and a hiss"}
    (value, (metrics, _)), _ = jax.jit(jax.value_and_grad(task.loss(None), has_aux=True))(
        same, extra, batch, jax.random.key(2), None
    )
    task.data.close()
    assert np.isfinite(value) and metrics["baseline"] > 2  # of 10

    # Or it teaches a smaller one.
    small = dataclasses.replace(MODEL, words=dataclasses.replace(MODEL.words, width=12, hidden=16))
    data = dataclasses.replace(data, references=0)
    taught = {"words": 14, "trials": 24, "teacher": str(tmp_path / "best")}
    task = captioning_task(dataclasses.replace(experiment, model=small), clips(0), clips(1), data=data, **taught)
    student, extra = task.init(jax.random.key(1))
    _, (metrics, _) = jax.jit(task.loss(None))(student, extra, next(task.data), jax.random.key(2), task.frozen)
    task.data.close()
    assert metrics["teacher_loss"] > 0.1
    with pytest.raises(ConfigError, match="leave the teacher out"):
        captioning_task(
            experiment, clips(0), clips(1), data=DescribedConfig(references=2), self_critical=True, **taught
        )

    with pytest.raises(ConfigError, match=r"data\.references"):
        captioning_task(
            experiment, clips(0), clips(1), data=DescribedConfig(batch=24, sample_rate=RATE), self_critical=True
        )
    with pytest.raises(ConfigError, match="of another captioner"):
        captioning_task(dataclasses.replace(experiment, model=small), clips(0), clips(1), data=data, **how)
