"""SiTok's stages as tasks for `fit`: the whole, its decoder alone, the same as a shortcut model, and its vocoder."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.dsp.distances import log_mel_distance
from jaxaudio.dsp.mel import log_mel
from jaxaudio.errors import ConfigError
from jaxaudio.metrics.wer import edits
from jaxaudio.nn import vocos
from jaxaudio.nn.discriminators import WaveConfig
from jaxaudio.systems import sitok, sitok_training
from jaxaudio.systems.sitok import Config, Sampling
from jaxaudio.text.ctc import greedy
from jaxaudio.train.adversarial import GENERATOR
from jaxaudio.train.experiment import DataIterator, Experiment, Task
from jaxaudio.train.vocoder import first_frames, init_vocoder, vocoder_losses

Params = Any
Batch = dict[str, Any]

USUAL, SHORTCUT = Sampling(), Sampling(steps=2, solver="shortcut")
"""How evaluations decode: as the whole system does, and as a shortcut model is meant to."""


def tokeniser_task(
    experiment: Experiment, *, data: DataIterator, evaluation: Batch, sampling: Sampling = USUAL, **options: Any
) -> Task:
    """Encoder, codebooks, decoder and reader together.

    The evaluation gives "mel" (`distance`), "perplexity" of the first codebook, and "cer", the error rate of the
    letters that the reader finds in the tokens.

    Args:
      experiment: its `model` is a `sitok.Config`.
      data: batches as `sitok_training.loss` takes them.
      evaluation: one such batch of any length, held out.
      sampling: how its spectrograms are decoded.
      **options: of `sitok_training.loss`.
    """
    config: Config = experiment.model

    def loss(params: Params, extra: Params, batch: Batch, key: Array, frozen: Params, axis_name: str | None = None):
        return sitok_training.loss(params, extra, batch, key, frozen, config=config, axis_name=axis_name, **options)

    def init(key: Array) -> tuple[Params, Params]:
        made = sitok.init(key, config)
        return made["params"], sitok_training.start(made)

    measured = _measured(config, evaluation, sampling)

    @jax.jit
    def listen(variables: Params, batch: Batch) -> tuple[Array, Array]:
        ready = sitok_training.prepared(config, batch)
        made = sitok.analysis(variables, config, ready["mel"], ready.get("frames"))
        said = jnp.sum(sitok.real(ready.get("frames"), ready["mel"])[:, :: config.stack], 1) * config.slots
        return greedy(sitok.read(variables, config, made["z"]), said, 0)

    def evaluate(variables: Params) -> dict[str, float]:
        values = measured(variables)
        if config.labels and "labels" in evaluation:
            found = zip(*(np.asarray(x) for x in listen(variables, evaluation)), strict=True)
            known = zip(evaluation["labels"], evaluation["label_lengths"], strict=True)
            rates = [
                edits(list(labels[:most]), list(heard[:count])).error_rate
                for (heard, count), (labels, most) in zip(found, known, strict=True)
            ]
            values["cer"] = float(np.mean(rates))
        return values

    return Task(
        loss=lambda axis_name: functools.partial(loss, axis_name=axis_name),
        init=init,
        data=data,
        evaluate=evaluate,
        release=lambda variables: {**variables, "codebooks": {"codebook": variables["codebooks"]["codebook"]}},
        config=_facts(config),
    )


def decoder_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: Batch,
    trained: Params,
    sampling: Sampling = USUAL,
    **options: Any,
) -> Task:
    """The decoder alone, on tokens that stay what they are; see `tokeniser_task`.

    Args:
      experiment: its `model` is that of the trained system.
      data: batches as `sitok_training.decoder_loss` takes them.
      evaluation: one such batch, held out.
      trained: variables of the whole system.
      sampling: how the evaluation decodes.
      **options: of `sitok_training.decoder_loss`.
    """
    loss = functools.partial(sitok_training.decoder_loss, config=experiment.model, **options)
    return _refined(experiment, loss, data, evaluation, trained, sampling)


def shortcut_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: Batch,
    trained: Params,
    sampling: Sampling = SHORTCUT,
    **options: Any,
) -> Task:
    """The decoder as one that is told the size of its steps, so that few of them do; see `decoder_task`.

    Args:
      experiment: its `model` is that of the trained system; what comes out has `steps` set.
      data: see `decoder_task`.
      evaluation: see `decoder_task`.
      trained: variables of the whole system.
      sampling: how the evaluation decodes.
      **options: of `sitok_training.shortcut_loss`.
    """
    told, config = sitok_training.with_steps(trained, experiment.model, jax.random.key(experiment.seed))
    loss = functools.partial(sitok_training.shortcut_loss, config=config, **options)
    task = _refined(dataclasses.replace(experiment, model=config), loss, data, evaluation, told, sampling)

    def init(key: Array) -> tuple[Params, Params]:
        params, extra = task.init(key)
        return params, {**extra, "teacher": jax.tree.map(jnp.array, params["decoder"])}

    return dataclasses.replace(task, init=init)


def vocoder_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: Batch,
    waves: WaveConfig,
    adversary_start: int = 0,
    resolutions: tuple[int, ...] = (),
) -> Task:
    """The vocoder, on the spectrograms of recordings, against HiFi-GAN's discriminators.

    The evaluation gives "mel", the mean absolute difference of natural log-mels.

    Args:
      experiment: its `model` is a `sitok.Config` with a vocoder.
      data: batches {"waveform": (batch, time)}, whole frames long.
      evaluation: one such batch of any length, held out.
      waves: shape of the discriminators.
      adversary_start: see `vocoder_losses`.
      resolutions: see `vocoder_losses`.

    Raises:
      ConfigError: a model without a vocoder.
    """
    config: Config = experiment.model
    vocoder, front_end = config.vocoder, config.front_end
    if vocoder is None:
        raise ConfigError("this SiTok has no vocoder; give its configuration one.")

    def generate(variables: Params, mel: Array) -> Array:
        return vocos.generate(variables, vocoder, mel)

    losses = vocoder_losses(
        generate, front_end, front_end, waves, adversary_start=adversary_start, resolutions=resolutions
    )

    def run(params: Params, extra: Params, batch: Batch, key: Array, frozen: Params) -> tuple[Array, Params]:
        mel, first = log_mel(batch["waveform"], front_end), first_frames(key, batch["index"])
        return vocos.generate({"params": params}, vocoder, mel, first=first), extra

    @jax.jit
    def error(variables: Params, waveform: Array) -> Array:
        made = generate(variables, log_mel(waveform, front_end))
        return jnp.mean(log_mel_distance(waveform, made, front_end))

    return Task(
        loss=lambda axis_name: losses._replace(generate=run),
        init=functools.partial(init_vocoder, init=lambda key: vocos.init(key, vocoder), config=waves),
        data=data,
        evaluate=lambda variables: {"mel": float(error(variables, evaluation["waveform"]))},
        release=lambda variables: {"params": variables["params"][GENERATOR]},
        config={"stage": "vocoder", "config": dataclasses.asdict(config)},
    )


def distance(config: Config, reference: Array, made: Array, mask: Array) -> Array:
    """(batch,) mean absolute difference of natural log-mels over the real frames."""
    return sitok_training.item_means(jnp.mean(jnp.abs(reference - made), -1) * config.variance**0.5, mask)


def _refined(
    experiment: Experiment,
    loss: Callable[..., Any],
    data: DataIterator,
    evaluation: Batch,
    trained: Params,
    sampling: Sampling,
) -> Task:
    config: Config = experiment.model
    decoder = trained["params"]["decoder"]
    measured = _measured(config, evaluation, sampling)

    def whole(variables: Params) -> Params:
        return {**trained, "params": {**trained["params"], "decoder": variables["params"]["decoder"]}}

    return Task(
        loss=lambda axis_name: loss,
        init=lambda key: ({"decoder": jax.tree.map(jnp.asarray, decoder)}, {}),
        data=data,
        evaluate=lambda variables: measured(whole(variables)),
        release=whole,
        frozen=trained,
        config=_facts(config),
    )


def _facts(config: Config) -> dict[str, Any]:
    """What a run's weights are of: all but the vocoder, which is trained apart."""
    return {"system": "sitok", "config": dataclasses.asdict(dataclasses.replace(config, vocoder=None))}


def _measured(config: Config, evaluation: Batch, sampling: Sampling) -> Callable[[Params], dict[str, float]]:
    """How near the spectrograms of held-out speech are that its tokens become."""

    @jax.jit
    def measure(variables: Params, batch: Batch) -> dict[str, Array]:
        ready = sitok_training.prepared(config, batch)
        mel, frames = ready["mel"], ready.get("frames")
        found = sitok.analysis(variables, config, mel, frames)
        made = sitok.decode(variables, config, found["codes"], jax.random.key(0), sampling=sampling, frames=frames)
        mask = sitok.real(frames, mel)
        first = found["codes"] if config.books == 1 else found["codes"][..., 0]
        used = jnp.zeros(config.size).at[first].add(mask[:, :: config.stack])
        share = used / jnp.sum(used)
        perplexity = jnp.exp(-jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.maximum(share, 1e-12)), 0)))
        return {"mel": jnp.mean(distance(config, mel, made[:, : mel.shape[1]], mask)), "perplexity": perplexity}

    return lambda variables: {name: float(x) for name, x in measure(variables, evaluation).items()}
