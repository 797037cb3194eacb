"""Neural codecs as tasks for `fit`: DAC, SD-Codec and the transformer autoencoder (Stable Codec)."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.dsp.masks import ratio_masked
from jaxaudio.errors import ConfigError
from jaxaudio.metrics.wer import edits
from jaxaudio.nn.weight_norm import fuse
from jaxaudio.quantize import fsq, rvq
from jaxaudio.systems import dac, sdcodec, taae
from jaxaudio.text.ctc import greedy
from jaxaudio.train import codebooks
from jaxaudio.train.adversarial import GENERATOR
from jaxaudio.train.codec import (
    Batch,
    Critic,
    Made,
    Term,
    codec_losses,
    dac_terms,
    hinge_critic,
    init_codec,
    least_squares_critic,
    measures,
    taae_terms,
)
from jaxaudio.train.experiment import DataIterator, Experiment, Task


def dac_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: Batch,
    critic: Critic | None = None,
    terms: Mapping[str, Term] | None = None,
    adversary_start: int = 0,
) -> Task:
    """DAC, trained as published, with weight normalisation; what is stored has plain kernels.

    The evaluation gives "si_sdr", "mel" and "stft" (`codec.measures`).

    Args:
      experiment: its `model` is a `dac.Config`.
      data: batches {"waveform": (batch, time)}.
      evaluation: {"waveform": (count, time)}, held out.
      critic: the discriminators; as published by default.
      terms: of the loss; as published by default.
      adversary_start: see `codec_losses`.
    """
    config: dac.Config = experiment.model

    def generate(params: Any, extra: Any, batch: Batch, key: Array, frozen: Any) -> tuple[Made, Any]:
        sound = batch["waveform"]
        limits = rvq.drop_levels(key, batch["index"], config.levels, config.dropout)
        made = dac.reconstruct({"params": params}, config, sound, limits)
        return {
            "reference": sound[:, : made.audio.shape[1]],
            "estimate": made.audio,
            "commitment": made.commitment,
            "codebook": made.codebook,
        }, extra

    def measure(variables: Any, batch: Batch) -> dict[str, Array]:
        sound = batch["waveform"]
        made = dac.decode(variables, config, dac.encode(variables, config, sound), sound.shape[1])
        return measures(sound, made, config.sample_rate)

    return _task(
        experiment,
        name="dac",
        init=lambda key: (dac.normalized(dac.init(key, config)), {}),
        generate=lambda axis_name: generate,
        data=data,
        evaluate=_averaged(measure, evaluation, experiment.batch_size),
        terms=dac_terms(config.sample_rate) if terms is None else terms,
        critic=critic or least_squares_critic(),
        adversary_start=adversary_start,
    )


def sdcodec_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: Batch,
    critic: Critic | None = None,
    terms: Mapping[str, Term] | None = None,
    swap: float = 0.5,
    decoded: int | None = None,
    follow: float = 0.0,
    adversary_start: int = 0,
) -> Task:
    """SD-Codec: mixtures, and every source in them by itself.

    The codec makes the mixture, and each source from its own codes; the rows of those that are not in a mixture are the
    mixture again, so that no loss compares silences. (The original draws the sources once per batch, and has no such
    rows.)

    The evaluation gives `codec.measures` of "mix" and of each separated track, as "si_sdr/speech", and
    "improvement/speech", the SI-SDR over that of the mixture, decoded and as a share of the mixture
    ("masked_improvement/speech", see `sdcodec.separate`).

    Args:
      experiment: its `model` is an `sdcodec.Config`.
      data: batches {"sources": (batch, tracks, time), "valid": (batch, tracks)}: sources, at their levels in the
        mixture, and 1 for those that are in it, at least one of each row.
      evaluation: {"sources": (count, tracks, time)}, held out, all of them in the mixtures.
      critic: the discriminators; as published by default.
      terms: of the loss; as published by default, but with mel filters for the true rate.
      swap: probability that a step mixes latents of different items, so that they learn to add up.
      decoded: how many of the mixture and its sources are made of each item, drawn anew for each step; all by default.
        Fewer leave time for more mixtures.
      follow: decay of the moving averages that make the codebooks, near 1, see `train.codebooks`; 0 to learn them by
        gradients, as published, for which the terms need "codebook".
      adversary_start: see `codec_losses`.
    """
    config: sdcodec.Config = experiment.model
    tracks = len(config.tracks)

    def init(key: Array) -> tuple[Any, Any]:
        params = sdcodec.normalized(sdcodec.init(key, config))
        return params, {"books": codebooks.start(params["params"]["quantizer"])} if follow else {}

    def with_books(params: Any, extra: Any) -> Any:
        if not follow:
            return params
        return {**params, "quantizer": codebooks.put(params["quantizer"], extra[GENERATOR]["books"])}

    def generate(
        params: Any, extra: Any, batch: Batch, key: Array, frozen: Any, axis_name: str | None
    ) -> tuple[Made, Any]:
        params = with_books(params, extra)
        valid = batch["valid"].astype(batch["sources"].dtype)
        sources = batch["sources"] * valid[:, :, None]
        whether, how, which, draw = jax.random.split(key, 4)
        items = jnp.arange(len(sources))
        orders = jax.vmap(lambda k: jax.random.permutation(k, len(items)))(jax.random.split(how, tracks))
        swaps = jnp.where(jax.random.bernoulli(whether, swap), orders, items)
        there = jnp.pad(valid, ((0, 0), (1, 0)), constant_values=1)
        rows = jnp.broadcast_to(jnp.arange(1 + tracks), there.shape)
        if decoded is not None:
            rows = jnp.argsort(-there - jax.random.uniform(which, there.shape))[:, :decoded]
        rows = jnp.where(jnp.take_along_axis(there, rows, 1) > 0, rows, 0)
        made = sdcodec.reconstruct({"params": params}, config, jnp.sum(sources, 1), valid, swaps=swaps, rows=rows)
        mix = sum(sources[order, i] for i, order in enumerate(swaps))
        reference = jnp.concatenate([mix[:, None], sources], 1)[..., : made.audio.shape[2]]
        reference = jnp.take_along_axis(reference, rows[:, :, None], 1)
        if follow:
            books = codebooks.moved(
                extra[GENERATOR]["books"], config, made, valid, draw, decay=follow, axis_name=axis_name
            )
            extra = {**extra, GENERATOR: {"books": books}}
        return {
            "reference": reference.reshape(-1, reference.shape[2]),
            "estimate": made.audio.reshape(-1, reference.shape[2]),
            "commitment": made.commitment,
            "codebook": made.codebook,
            "perplexity": jnp.mean(made.perplexity),
        }, extra

    def measure(variables: Any, batch: Batch) -> dict[str, Array]:
        sources = batch["sources"]
        mix = jnp.sum(sources, 1)
        reference = jnp.concatenate([mix[:, None], sources], 1)
        codes = sdcodec.encode(variables, config, mix)
        made = sdcodec.decode(variables, config, codes, (sdcodec.MIX, *config.tracks), mix.shape[1])
        values = measures(reference, made, config.sample_rate)
        before = measures(sources, jnp.broadcast_to(mix[:, None], sources.shape), config.sample_rate)["si_sdr"]
        named = {
            f"{name}/{t}": x[:, i] for name, x in values.items() for i, t in enumerate((sdcodec.MIX, *config.tracks))
        }
        masked = measures(sources, ratio_masked(mix, made[:, 1:]), config.sample_rate)["si_sdr"]
        for i, t in enumerate(config.tracks):
            named[f"improvement/{t}"] = values["si_sdr"][:, 1 + i] - before[:, i]
            named[f"masked_improvement/{t}"] = masked[:, i] - before[:, i]
        return named

    return _task(
        experiment,
        name="sdcodec",
        init=init,
        complete=lambda variables: with_books(fuse(variables["params"][GENERATOR]), variables),
        generate=lambda axis_name: functools.partial(generate, axis_name=axis_name),
        data=data,
        evaluate=_averaged(measure, evaluation, experiment.batch_size),
        terms=dac_terms(config.sample_rate) if terms is None else terms,
        critic=critic or least_squares_critic(),
        adversary_start=adversary_start,
    )


def taae_task(
    experiment: Experiment,
    *,
    data: DataIterator,
    evaluation: Batch,
    critic: Critic | None = None,
    terms: Mapping[str, Term] | None = None,
    keep: float = 0.5,
    adversary_start: int = 0,
) -> Task:
    """The transformer autoencoder, whose latents may learn to be read as phonemes.

    The evaluation gives "si_sdr", "mel" and "stft" (`codec.measures`), and "per", the phoneme error rate.

    Args:
      experiment: its `model` is a `taae.Config`; with `phonemes`, batches need labels.
      data: batches {"waveform": (batch, time)}, and "labels" (batch, most) int32 below `phonemes` - 1, the blank, and
        "label_lengths" (batch,) of their phonemes.
      evaluation: one such batch of any length, held out.
      critic: the discriminators; Encodec's by default.
      terms: of the loss; `taae_terms` by default.
      keep: see `fsq.dither`.
      adversary_start: see `codec_losses`.

    Raises:
      ConfigError: the configuration has a head for phonemes, and the evaluation has no labels.
    """
    config: taae.Config = experiment.model
    if config.phonemes and "labels" not in evaluation:
        raise ConfigError("a model with phonemes needs data with labels; give them, or set phonemes to 0.")

    def generate(params: Any, extra: Any, batch: Batch, key: Array, frozen: Any) -> tuple[Made, Any]:
        variables, sound = fuse({"params": params}), batch["waveform"]
        audio, latents, _ = taae.forward(variables, config, sound, key, keep=keep, items=batch["index"])
        made = {"reference": sound, "estimate": audio}
        return {**made, "logits": taae.phonemes(variables, config, latents)} if config.phonemes else made, extra

    def measure(variables: Any, batch: Batch) -> dict[str, Array]:
        sound = batch["waveform"]
        latents = taae.encode(variables, config, sound)
        made = taae.decode(variables, config, fsq.quantize(latents, taae.quantizer(config))[0], sound.shape[1])
        return measures(sound, made, config.sample_rate)

    @jax.jit
    def read(variables: Any, sound: Array) -> tuple[Array, Array]:
        logits = taae.phonemes(variables, config, taae.encode(variables, config, sound))
        return greedy(logits, jnp.full(len(logits), logits.shape[1]), config.phonemes - 1)

    def error_rate(variables: Any) -> float:
        rates = []
        for part in _parts(evaluation, experiment.batch_size):
            said = zip(*(np.asarray(x) for x in read(variables, part["waveform"])), strict=True)
            for (heard, count), labels, most in zip(said, part["labels"], part["label_lengths"], strict=True):
                rates.append(edits(list(labels[:most]), list(heard[:count])).error_rate)
        return float(np.mean(rates))

    averaged = _averaged(measure, evaluation, experiment.batch_size)

    def evaluate(variables: Any) -> dict[str, float]:
        values = averaged(variables)
        return {**values, "per": error_rate(variables)} if config.phonemes else values

    return _task(
        experiment,
        name="taae",
        init=lambda key: (taae.weight_normed(taae.init(key, config)), {}),
        generate=lambda axis_name: generate,
        data=data,
        evaluate=evaluate,
        terms=taae_terms(config.sample_rate, phonemes=config.phonemes) if terms is None else terms,
        critic=critic or hinge_critic(),
        adversary_start=adversary_start,
    )


def _task(
    experiment: Experiment,
    *,
    name: str,
    init: Callable[[Array], tuple[Any, Any]],
    generate: Callable[[str | None], Callable[[Any, Any, Batch, Array, Any], tuple[Made, Any]]],
    data: DataIterator,
    evaluate: Callable[[Any], dict[str, float]],
    terms: Mapping[str, Term],
    critic: Critic,
    adversary_start: int,
    complete: Callable[[Any], Any] = lambda variables: fuse(variables["params"][GENERATOR]),
) -> Task:
    return Task(
        loss=lambda axis_name: codec_losses(generate(axis_name), terms, critic, adversary_start=adversary_start),
        init=functools.partial(init_codec, init=init, critic=critic),
        data=data,
        evaluate=evaluate,
        release=lambda variables: {"params": complete(variables)},
        config={"system": name, "config": dataclasses.asdict(experiment.model)},
    )


def _averaged(
    measure: Callable[[Any, Batch], dict[str, Array]], evaluation: Batch, rows: int
) -> Callable[[Any], dict[str, float]]:
    """The mean over all rows of what `measure` gives for each, computed for so many rows at once."""
    compiled = jax.jit(measure)

    def evaluate(variables: Any) -> dict[str, float]:
        made = [compiled(variables, part) for part in _parts(evaluation, rows)]
        return {name: float(np.mean(np.concatenate([part[name] for part in made]))) for name in made[0]}

    return evaluate


def _parts(batch: Batch, rows: int) -> list[Batch]:
    count = len(next(iter(batch.values())))
    return [{name: x[i : i + rows] for name, x in batch.items()} for i in range(0, count, rows)]
