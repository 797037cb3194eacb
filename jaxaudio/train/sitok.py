"""SiTok's stages as tasks for `fit`: the whole system, its decoder alone, and the decoder as a shortcut model."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.metrics.wer import edits
from jaxaudio.systems import sitok, sitok_training
from jaxaudio.systems.sitok import Config, Sampling
from jaxaudio.text.ctc import greedy
from jaxaudio.train.experiment import DataIterator, Experiment, Task

Params = Any
Batch = dict[str, Any]

USUAL, SHORTCUT = Sampling(), Sampling(steps=2, solver="shortcut")
"""How evaluations decode: as the whole system does, and as a shortcut model is meant to."""


def tokeniser_task(
    experiment: Experiment, *, data: DataIterator, evaluation: Batch, sampling: Sampling = USUAL, **weights: float
) -> Task:
    """Encoder, codebooks, decoder and reader together.

    The evaluation gives "mel" (`distance`), "perplexity" of the first codebook, and "cer", the error rate of the
    letters that the reader finds in the tokens.

    Args:
      experiment: its `model` is a `sitok.Config`.
      data: batches as `sitok_training.loss` takes them.
      evaluation: one such batch of any length, held out.
      sampling: how its spectrograms are decoded.
      **weights: of `sitok_training.loss`.
    """
    config: Config = experiment.model

    def loss(params: Params, extra: Params, batch: Batch, key: Array, frozen: Params, axis_name: str | None = None):
        return sitok_training.loss(params, extra, batch, key, frozen, config=config, axis_name=axis_name, **weights)

    def init(key: Array) -> tuple[Params, Params]:
        made = sitok.init(key, config)
        return made["params"], {"codebooks": made["codebooks"]}

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
        config={"system": "sitok", "config": dataclasses.asdict(config)},
    )


def decoder_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: Batch,
    trained: Params,
    sampling: Sampling = USUAL,
    drop: float = 0.1,
) -> Task:
    """The decoder alone, on tokens that stay what they are; see `tokeniser_task`.

    Args:
      experiment: its `model` is that of the trained system.
      data: batches as `sitok_training.decoder_loss` takes them.
      evaluation: one such batch, held out.
      trained: variables of the whole system.
      sampling: how the evaluation decodes.
      drop: probability that the decoder is told no tokens.
    """
    loss = functools.partial(sitok_training.decoder_loss, config=experiment.model, drop=drop)
    return _refined(experiment, loss, data, evaluation, trained, sampling)


def shortcut_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: Batch,
    trained: Params,
    sampling: Sampling = SHORTCUT,
    drop: float = 0.1,
    every: int = 4,
    guidance: float = 1.0,
) -> Task:
    """The decoder as one that is told the size of its steps, so that few of them do; see `decoder_task`.

    Args:
      experiment: its `model` is that of the trained system; what comes out has `steps` set.
      data: see `decoder_task`.
      evaluation: see `decoder_task`.
      trained: variables of the whole system.
      sampling: how the evaluation decodes.
      drop: see `decoder_task`.
      every: see `sitok_training.shortcut_loss`.
      guidance: see `sitok_training.shortcut_loss`.
    """
    told, config = sitok_training.with_steps(trained, experiment.model, jax.random.key(experiment.seed))
    loss = functools.partial(sitok_training.shortcut_loss, config=config, drop=drop, every=every, guidance=guidance)
    return _refined(dataclasses.replace(experiment, model=config), loss, data, evaluation, told, sampling)


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
        config={"system": "sitok", "config": dataclasses.asdict(config)},
    )


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
