"""What SiTok is trained on: the whole, then the decoder alone, then as a shortcut model."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.errors import ConfigError
from jaxaudio.nn import velocity as flow_network
from jaxaudio.quantize import vq
from jaxaudio.samplers import self_consistency
from jaxaudio.samplers.guidance import classifier_free, dropped
from jaxaudio.samplers.objectives import flow_point, item_normal, item_streams
from jaxaudio.systems import sitok
from jaxaudio.systems.sitok import Config
from jaxaudio.text.ctc import ctc_loss

Params = Any
Batch = dict[str, Any]
Result = tuple[Array, tuple[dict[str, Array], Params]]

FINEST = 7
"""Shortcut models are trained on steps of 1 / 2^7 to 1, as published for images; inferred for SiTok."""


def prepared(config: Config, batch: Batch) -> Batch:
    """The batch with "mel" (batch, frames, mels) of `sitok.mel`, and "frames" (batch,), how many of them are real.

    Args:
      config: of the system.
      batch: both, or "waveform" (batch, samples) and "length" (batch,), the samples of it that are sound. Without
        "frames" or "length" everything counts.
    """
    if "mel" in batch:
        return batch
    made = {**batch, "mel": sitok.mel(config, batch["waveform"])}
    if "length" in batch:
        made["frames"] = jnp.minimum(-(-batch["length"] // config.front_end.hop), made["mel"].shape[1])
    return made


def start(variables: Params) -> Params:
    """The state {"codebooks"} in which training begins, of `sitok.init`'s variables.

    The first step fills the codebooks with what the encoder says then.
    """
    return {"codebooks": vq.empty_state(variables["codebooks"]["codebook"])._asdict()}


def loss(
    params: Params,
    extra: Params,
    batch: Batch,
    key: Array,
    frozen: Params = None,
    *,
    config: Config,
    drop: float = 0.1,
    ctc_weight: float = 0.1,
    commitment: float = 0.25,
    decay: float = 0.99,
    revive: float = 0.1,
    crop: int | None = None,
    times: tuple[float, float] | None = None,
    axis_name: str | None = None,
) -> Result:
    """The whole system: flow matching, the text, and vectors that stay by their entries, which follow them.

    Args:
      params: {"encoder", "decoder", "reader"}.
      extra: {"codebooks"} of `start`, moved towards the vectors of this batch.
      batch: what `prepared` takes; "labels" (batch, n) int from 1 and "label_lengths" (batch,), where the text is
        known; "index" (batch,) each item's number, by which its time, noise and fate are drawn.
      key: of this step.
      frozen: not used.
      config: of the whole system.
      drop: probability that the decoder is told no tokens, which guidance needs. The paper drops them when it refines
        the decoder.
      ctc_weight: of the text; an item whose labels do not fit its tokens counts nothing.
      commitment: weight of the vectors' distance from their entries; inferred.
      decay: weight of the past in the codebooks; inferred.
      revive: entries that are chosen less often than this share of the mean start again at one of the vectors;
        inferred.
      crop: frames that the decoder learns of each item, whole tokens, from anywhere in it; all by default. The encoder
        and the reader, which are cheaper, go through all of it.
      times: mean and deviation of log(t / (1 - t)) where the flow is learnt, normally distributed; t uniform by
        default. A decoder that predicts the data is published with (-0.8, 0.8), see `velocity.Config`.
      axis_name: the mapped axis under `jax.pmap`.

    Returns:
      (loss, (metrics, extra)), a mean over items.
    """
    variables, batch = {"params": params, **extra}, prepared(config, batch)
    made = sitok.analysis(variables, config, batch["mel"], batch.get("frames"))
    said = _tokens_real(config, batch)
    flow = _flow_losses(variables, config, *cropped(config, made["z"], batch, key, crop), key, drop, times)
    apart = jnp.mean(jnp.square(made["continuous"] - jax.lax.stop_gradient(made["z"])), -1)
    apart = item_means(apart, said)
    metrics = {"flow_loss": jnp.mean(flow), "commitment": jnp.mean(apart)}
    each = flow + commitment * apart
    if config.labels and "labels" in batch:
        logits, spoken = sitok.read(variables, config, made["z"]), batch["label_lengths"]
        text = ctc_loss(logits, jnp.sum(said, 1) * config.slots, batch["labels"], spoken) / jnp.maximum(spoken, 1)
        metrics["ctc_loss"] = jnp.mean(text)
        each = each + ctc_weight * text
    codes = jnp.moveaxis(made["codes"][..., None] if config.books == 1 else made["codes"], -1, 0)
    books = vq.ema_levels(
        vq.EmaState(**extra["codebooks"]),
        made["rests"],
        codes,
        said,
        jax.random.fold_in(key, 2),
        decay=decay,
        revive=revive,
        axis_name=axis_name,
    )
    metrics["perplexity"] = vq.perplexity(codes[0], config.size)
    return jnp.mean(each), (metrics, {**extra, "codebooks": books._asdict()})


def decoder_loss(
    params: Params,
    extra: Params,
    batch: Batch,
    key: Array,
    frozen: Params,
    *,
    config: Config,
    drop: float = 0.1,
    crop: int | None = None,
    times: tuple[float, float] | None = None,
) -> Result:
    """The decoder's flow alone, on tokens that stay what they are.

    Args:
      params: {"decoder"}.
      extra: {}.
      batch: as in `loss`, with "codes" of `sitok.encode` or without.
      key: of this step.
      frozen: the trained system, of whose decoder nothing is used.
      config: of the whole system.
      drop: as in `loss`.
      crop: as in `loss`.
      times: as in `loss`.

    Returns:
      (loss, (metrics, extra)), a mean over items.
    """
    batch = prepared(config, batch)
    variables, z = _told(params, frozen, config, batch)
    z, batch = cropped(config, z, batch, key, crop)
    value = jnp.mean(_flow_losses(variables, config, z, batch, key, drop, times))
    return value, ({"flow_loss": value}, extra)


def with_steps(params: Params, config: Config, key: Array) -> tuple[Params, Config]:
    """A trained model as one that is told step sizes, which changes nothing until it is trained as such.

    Returns:
      (params, config), for `shortcut_loss`.
    """
    told = dataclasses.replace(config, steps=True)
    fresh = flow_network.init(key, told.decoder)["step_size_mlp"]
    tree = params["params"]
    return {**params, "params": {**tree, "decoder": {**tree["decoder"], "step_size_mlp": fresh}}}, told


def shortcut_loss(
    params: Params,
    extra: Params,
    batch: Batch,
    key: Array,
    frozen: Params,
    *,
    config: Config,
    drop: float = 0.1,
    every: int = 4,
    guidance: float = 1.0,
    crop: int | None = None,
    times: tuple[float, float] | None = None,
    finest: int = FINEST,
    limit: float | None = None,
    decay: float = 0.99,
) -> Result:
    """`decoder_loss`, and that one step says what two of half the size lead to (Frans et al., 2025).

    The network is told a step of 0 where it learns the flow, and where it takes the smallest steps as its own teacher.

    Args:
      params: {"decoder"} of a model with `config.steps`, see `with_steps`.
      extra: {"teacher": a moving average of the decoder}, which takes the two steps; {} if the decoder is its own
        teacher.
      batch: as in `decoder_loss`.
      key: of this step.
      frozen: as in `decoder_loss`.
      config: of the whole system.
      drop: as in `loss`.
      every: of so many items one learns from two steps, which cost three evaluations more; published as 4 to 8.
      guidance: of the teacher's smallest steps; larger ones learn it from those.
      crop: as in `loss`.
      times: as in `loss`.
      finest: the smallest steps are of 2^-finest.
      limit: see `self_consistency.target`.
      decay: weight of the past in the teacher.

    Returns:
      (loss, (metrics, extra)), the sum of both means.

    Raises:
      ConfigError: a model that is not told steps.
    """
    if not config.steps:
        raise ConfigError("This decoder is not told step sizes; begin with `with_steps`.")
    batch = prepared(config, batch)
    variables, z = _told(params, frozen, config, batch)
    z, batch = cropped(config, z, batch, key, crop)
    flow = jnp.mean(_flow_losses(variables, config, z, batch, key, drop, times))
    # Strided, so that each of the devices that share the batch has some.
    part = jax.tree.map(lambda x: x[::every], {**batch, "z": z})
    data, mask = part["mel"], sitok.real(part.get("frames"), part["mel"])
    streams = item_streams(jax.random.fold_in(key, 1), part["index"], 2)
    noise = item_normal(streams[:, 0], data)
    t, half = self_consistency.draw_times(streams[:, 1], finest)
    smallest = half <= 2.0**-finest
    slow = {**variables, "params": {**variables["params"], "decoder": extra.get("teacher", params["decoder"])}}
    towards, away = (sitok.heard(slow, config, told, mask) for told in (part["z"], jnp.zeros_like(part["z"])))

    def teacher(x: Array, t: Array, half: Array) -> Array:
        step = jnp.where(smallest, 0, half)
        if guidance == 1:
            return sitok.velocity(slow, config, x, t, towards, step)
        strength = jnp.where(smallest, guidance, 1.0)[:, None, None]

        def both(x: Array, t: Array, context: Any) -> Array:
            return sitok.velocity(slow, config, x, jnp.tile(t, 2), context, jnp.tile(step, 2))

        return classifier_free(both, towards, away, strength)(x, t)

    goal = self_consistency.target(teacher, data, noise, t, half, limit=limit)
    learner = sitok.heard(variables, config, part["z"], mask)
    error = jnp.square(sitok.velocity(variables, config, goal.x, t, learner, 2 * half) - goal.velocity)
    consistency = jnp.mean(item_means(jnp.mean(error, -1), mask))
    if "teacher" in extra:
        moved = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, extra["teacher"], params["decoder"])
        extra = {**extra, "teacher": jax.lax.stop_gradient(moved)}
    return flow + consistency, ({"flow_loss": flow, "consistency_loss": consistency}, extra)


def _told(params: Params, frozen: Params, config: Config, batch: Batch) -> tuple[Params, Array]:
    """The whole system with the trained decoder, and the entries that the decoder is told."""
    variables = {**frozen, "params": {**frozen["params"], **params}}
    codes = batch["codes"] if "codes" in batch else sitok.encode(frozen, config, batch["mel"], batch.get("frames"))
    return variables, jax.lax.stop_gradient(sitok.lookup(variables, config, codes))


def cropped(config: Config, z: Array, batch: Batch, key: Array, crop: int | None) -> tuple[Array, Batch]:
    """A part of each item's tokens z (batch, tokens, dim) and frames; see `loss`."""
    mel = batch["mel"]
    if crop is None or crop >= mel.shape[1]:
        return z, batch
    if crop < 1 or crop % config.stack:
        raise ConfigError(f"a crop is a number of whole tokens, {config.stack} frames each, not {crop} frames.")
    tokens, frames = crop // config.stack, jnp.broadcast_to(batch.get("frames", mel.shape[1]), len(mel))
    streams = item_streams(jax.random.fold_in(key, 3), batch["index"], 1)[:, 0]

    def of(stream: Array, z: Array, mel: Array, frames: Array) -> tuple[Array, Array, Array]:
        # A mel that is not whole tokens long has less than the last of them: so its crops end before.
        spare = jnp.minimum(-(-frames // config.stack) - tokens, mel.shape[0] // config.stack - tokens)
        start = jax.random.randint(stream, (), 0, jnp.maximum(spare, 0) + 1)
        part = jax.lax.dynamic_slice_in_dim(mel, start * config.stack, crop)
        rest = jnp.clip(frames - start * config.stack, 0, crop)
        return jax.lax.dynamic_slice_in_dim(z, start, tokens), part, rest

    z, mel, frames = jax.vmap(of)(streams, z, mel, frames)
    return z, {**batch, "mel": mel, "frames": frames}


def _tokens_real(config: Config, batch: Batch) -> Array:
    """(batch, tokens) whether any of a token's frames is real."""
    return sitok.real(batch.get("frames"), batch["mel"])[:, :: config.stack]


def _flow_losses(
    variables: Params,
    config: Config,
    z: Array,
    batch: Batch,
    key: Array,
    drop: float,
    times: tuple[float, float] | None,
) -> Array:
    """(batch,) mean squared error of the velocity over the real frames."""
    data = batch["mel"]
    mask = sitok.real(batch.get("frames"), data)
    streams = item_streams(key, batch["index"], 3)
    noise = item_normal(streams[:, 0], data)
    draw = jax.random.uniform if times is None else jax.random.normal
    t = jax.vmap(lambda k: draw(k, (), data.dtype))(streams[:, 1])
    if times is not None:
        t = jax.nn.sigmoid(times[0] + times[1] * t)
    z = dropped(streams[:, 2], drop, z, jnp.zeros_like(z))
    x, goal = flow_point(data, noise, t, 0.0)
    moved = sitok.velocity(variables, config, x, t, sitok.heard(variables, config, z, mask))
    return item_means(jnp.mean(jnp.square(moved - goal), -1), mask)


def item_means(x: Array, mask: Array) -> Array:
    """(batch, time) -> (batch,) means over what is real."""
    return jnp.sum(jnp.where(mask, x, 0), 1) / jnp.maximum(jnp.sum(mask, 1), 1)
