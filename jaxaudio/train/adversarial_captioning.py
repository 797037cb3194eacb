"""Captioners against a critic of captions, as a task for `fit`; see `systems.captioning.adversarial`."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.data.described import DescribedConfig
from jaxaudio.data.pipeline import Clips
from jaxaudio.errors import ConfigError
from jaxaudio.models.systems import config_from_json
from jaxaudio.systems import captioning
from jaxaudio.systems.captioning import adversarial, critical
from jaxaudio.train.adversarial import DISCRIMINATOR, GENERATOR, Adversarial
from jaxaudio.train.captioning import captioning_task
from jaxaudio.train.experiment import Experiment, Task

Batch = dict[str, Array]


def caption_losses(
    config: captioning.Config,
    critic: adversarial.Critic,
    weights: adversarial.Weights | None = None,
    *,
    length: int = 30,
    start: int = 0,
) -> Adversarial:
    """The losses of `systems.captioning.adversarial`, for `make_gan_step`.

    Both sides learn from one draw: the critic from its words, then the captioner, by how much better the new critic
    finds them than the likeliest ones. CIDEr-D and the captions of others are of the batch, on several devices of each
    device's part.

    Args:
      config: of the captioner.
      critic: see `adversarial.Critic`.
      weights: of the rewards.
      length: most words of a caption, the end among them.
      start: steps before the critic learns and counts; until then CIDEr-D is the reward.
    """
    end = config.words.end

    def generate(params: Any, extra: Any, batch: Batch, key: Array, frozen: Any) -> tuple[dict[str, Array], Any]:
        said = critical.rehearse(params, extra[GENERATOR], batch, key, config=config, length=length)
        # The step differentiates what is made, so that ids are floats, which hold them exactly below 2^24.
        words = {name: x.astype(jnp.float32) for name, x in (("drawn", said.drawn), ("likeliest", said.likeliest))}
        return {"log_probs": said.log_probs, "embedding": said.made["embedding"]} | words, extra

    def discriminator_loss(
        params: Any, extra: Any, made: Any, batch: Batch, key: Array, frozen: Any
    ) -> tuple[Array, Any]:
        drawn, real = made["drawn"].astype(jnp.int32), batch["ids"][:, 1:]
        other = adversarial.others(batch, end)
        value, metrics = adversarial.critic_loss(params, critic, made["embedding"], real, drawn, other)
        return value, (metrics, extra)

    def generator_loss(made: Any, params: Any, extra: Any, batch: Batch, key: Array, frozen: Any) -> tuple[Array, Any]:
        drawn, likeliest = (made[name].astype(jnp.int32) for name in ("drawn", "likeliest"))
        said = critical.Rehearsal(drawn, likeliest, made["log_probs"], {})
        heard = jax.lax.stop_gradient(made["embedding"])
        judge = adversarial.reward(params, critic, heard, weights, critical.told(batch, end))
        value, metrics = critical.rewarded(said, judge, end)
        return value, (metrics, extra)

    return Adversarial(generate, discriminator_loss, generator_loss, start)


def adversarial_captioning_task(
    experiment: Experiment,
    clips: Clips,
    held_out: Clips,
    *,
    data: DescribedConfig,
    words: int = 24,
    trials: int = 400,
    start_from: str = "",
    critic: dict[str, int] | None = None,
    weights: adversarial.Weights | None = None,
    start: int = 0,
) -> Task:
    """A captioner with noise that learns to say what people would say of a sound, in more ways than one.

    It should know how to caption before: train it with `captioning_task` and the same noise first.

    Args:
      experiment: its `model` is the captioner's configuration, with `noise`.
      clips: see `captioning_task`, as the next five; batches need `data.references`.
      held_out: see there.
      data: see there.
      words: see there.
      trials: see there.
      start_from: see there.
      critic: fields of `adversarial.Critic` that differ from its defaults, {"width": 64} say.
      weights: of the rewards.
      start: see `caption_losses`.

    Raises:
      ConfigError: a captioner without noise or without an encoder of sound; others as `captioning_task`.
    """
    model: captioning.Config = experiment.model
    if model.sound is None or not model.noise:
        raise ConfigError("The captioner needs a sound encoder and noise to vary what it says; give --model.noise 16.")
    task = captioning_task(
        experiment,
        clips,
        held_out,
        data=data,
        words=words,
        trials=trials,
        start_from=start_from,
        self_critical=True,
    )
    config: captioning.Config = config_from_json("captioning", task.config["config"])
    shape = adversarial.Critic(
        vocab_size=config.words.vocab_size, end=config.words.end, sound=model.sound.embedding, **(critic or {})
    )

    def init(key: Array) -> tuple[Any, Any]:
        params, extra = task.init(key)
        judge = adversarial.init(jax.random.fold_in(key, 1), shape)
        return {GENERATOR: params, DISCRIMINATOR: judge}, {GENERATOR: extra, DISCRIMINATOR: {}}

    def release(variables: dict[str, Any]) -> dict[str, Any]:
        return {"params": variables["params"][GENERATOR], **variables[GENERATOR]}

    return dataclasses.replace(
        task,
        loss=lambda axis_name: caption_losses(config, shape, weights, length=words, start=start),
        init=init,
        release=release,
    )
