"""The sound language model's parts as tasks for `fit`: the codec of spectrograms, then the prior over its codes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.dsp.front_ends import level
from jaxaudio.systems.soundlm import model as soundlm, vqvae
from jaxaudio.train.experiment import DataIterator, Experiment, Task

Batch = dict[str, Any]


def codec_task(experiment: Experiment, *, data: DataIterator, evaluation: np.ndarray) -> Task:
    """The VQ-VAE of log-mels.

    The evaluation gives "mel_error", the mean absolute difference of log-mels, "perplexity", the rows in use, and the
    loss's own "error".

    Args:
      experiment: its `model` is a `systems.soundlm.Config`.
      data: batches {"waveform": (batch, time)}.
      evaluation: (count, time) held-out waveforms.
    """
    config: soundlm.Config = experiment.model

    def loss(axis_name: str | None) -> Any:
        codec = dataclasses.replace(config.codec, axis_name=axis_name)

        def run(params: Any, extra: Any, batch: Batch, key: jax.Array, frozen: Any) -> Any:
            heard = {"mel": soundlm.mel(config, level(batch["waveform"]))}
            return vqvae.loss(params, extra, heard, key, frozen, config=codec)

        return run

    @jax.jit
    def errors(variables: Any, waveform: jax.Array) -> dict[str, jax.Array]:
        mel = soundlm.mel(config, level(waveform))
        made = vqvae.forward(variables, config.codec, mel)
        state = {name: value for name, value in variables.items() if name != "params"}
        metrics = vqvae.loss(variables["params"], state, {"mel": mel}, config=config.codec)[1][0]
        return {
            "mel_error": jnp.mean(jnp.abs(made.mel - mel)),
            "error": metrics["error"],
            "perplexity": metrics["perplexity"],
        }

    def init(key: jax.Array) -> tuple[Any, Any]:
        tree = vqvae.init(key, config.codec)
        return tree["params"], {"batch_stats": tree["batch_stats"]}

    return Task(
        loss=loss,
        init=init,
        data=data,
        evaluate=lambda variables: {name: float(x) for name, x in errors(variables, evaluation).items()},
        config={"stage": "vqvae", "config": dataclasses.asdict(config)},
    )


def prior_task(
    experiment: Experiment, *, data: DataIterator, stages: Any, evaluation: Batch, about: dict[str, Any] | None = None
) -> Task:
    """The prior over the codec's codes.

    The evaluation gives "loss", nats per code, and "accuracy" of held-out sounds told what they are, and as "gain" how
    many nats the telling is worth.

    Args:
      experiment: its `model` is a `systems.soundlm.Config`.
      data: batches {"codes": (batch, bands, frames), "sentence": (batch, vectors)}.
      stages: {"codec", "vocoder"}, which stay as they are and are stored with the prior.
      evaluation: one batch, of which whole batches of training's size are measured.
      about: further entries of the configuration that is stored with the weights.
    """
    config: soundlm.Config = experiment.model

    def loss(params: Any, extra: Any, batch: Batch, key: jax.Array, frozen: Any) -> Any:
        return soundlm.loss(params, extra, batch, key, frozen, config=config)

    @jax.jit
    def measure(params: Any, batch: Batch) -> dict[str, jax.Array]:
        value, (metrics, _) = soundlm.loss(params, {}, batch, config=config)
        untold = soundlm.loss(params, {}, {"codes": batch["codes"]}, config=config)[0]
        return {"loss": value, "accuracy": metrics["accuracy"], "gain": untold - value}

    def evaluate(tree: Any) -> dict[str, float]:
        size, rows = experiment.batch_size, len(evaluation["codes"])
        starts = range(0, rows - rows % size, size)
        parts = [measure(tree["prior"], {k: x[i : i + size] for k, x in evaluation.items()}) for i in starts]
        return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}

    return Task(
        loss=lambda axis_name: loss,
        init=lambda key: (soundlm.init(key, config)["prior"], {}),
        data=data,
        evaluate=evaluate,
        release=lambda variables: {"prior": variables["params"], **stages},
        config={"system": "soundlm", "config": dataclasses.asdict(config), **(about or {})},
    )


def coded(batch: Batch) -> Batch:
    """A batch of a `LatentPipeline` over codes, for `prior_task`."""
    rest = {name: value for name, value in batch.items() if name != "latent"}
    return {"codes": batch["latent"].astype(np.int32), **rest}
