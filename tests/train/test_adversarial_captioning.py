"""The adversarial captioner's task: what it is made of, and what is stored of it."""

import dataclasses

import jax
import optax
import pytest

from jaxaudio.data.described import DescribedConfig
from jaxaudio.errors import ConfigError
from jaxaudio.models.systems import config_from_json
from jaxaudio.systems import captioning
from jaxaudio.train import Experiment, adversarial as gan
from jaxaudio.train.adversarial_captioning import adversarial_captioning_task
from tests.train.test_captioning import MODEL, RATE, clips


def test_both_sides_are_trained_and_the_captioner_is_kept():
    experiment = Experiment(build=lambda _: None, batch_size=6, model=dataclasses.replace(MODEL, noise=3))
    data = DescribedConfig(batch=6, sample_rate=RATE, seconds=0.5, references=3)
    how = {"data": data, "words": 14, "trials": 6}
    critic = {"width": 16, "hidden": 16, "heads": 2}
    task = adversarial_captioning_task(experiment, clips(0), clips(1), critic=critic, start=2, **how)
    batch, tx = next(task.data), gan.gan_optimizer(optax.sgd(0.1), optax.sgd(0.1))
    task.data.close()
    state = gan.create_gan(*task.init(jax.random.key(0)), tx, jax.random.key(0), ema=True)
    for alone in (False, True):
        after, metrics = jax.eval_shape(
            gan.make_gan_step(task.loss(None), tx, ema_decay=0.9, alone=alone), state, batch
        )
        assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
        assert {"reward", "baseline"} <= metrics.keys() and ("natural_made" in metrics) is not alone
    config = config_from_json("captioning", task.config["config"])
    wanted = jax.eval_shape(lambda: captioning.init(jax.random.key(0), config))
    assert jax.tree.structure(task.release(state.variables)) == jax.tree.structure(wanted)

    plain = dataclasses.replace(experiment, model=MODEL)
    with pytest.raises(ConfigError, match=r"model\.noise"):
        adversarial_captioning_task(plain, clips(0), clips(1), **how)
