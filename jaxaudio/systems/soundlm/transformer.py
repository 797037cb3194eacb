"""A prior over the codes of sounds as a Transformer decoder, with the keys and values of earlier steps kept.

It stands where `prior` does, for the same grids of codes, and for the levels of neural codecs. Beside the orders of
`prior` there is the delay pattern of MusicGen (Copet et al., 2023, arXiv:2306.05284, section 2.2), in which all bands
of a step are read and written together: 105 steps instead of 1,720 for 20 x 86 codes. The codes of one step are drawn
independently of each other, given all steps before it.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import io_callback

from jaxaudio.errors import UsageError
from jaxaudio.nn import stack
from jaxaudio.nn.dropout import drop, split
from jaxaudio.nn.pixelsnail_cache import PLAIN, Sampled
from jaxaudio.precision import wide
from jaxaudio.systems.soundlm import grid_transformer as grids, orders
from jaxaudio.systems.soundlm.classes import URBANSOUND8K_CLASSES, class_ids
from jaxaudio.systems.soundlm.grid_transformer import Config, init
from jaxaudio.text.decode import Sampling
from jaxaudio.text.decode.sequences import warped

Params = Any

__all__ = ["MINI", "URBANSOUND8K", "Config", "class_ids", "init", "logits", "loss", "sample"]


def _layers(width: int, layers: int, heads: int, dropout: float) -> stack.Config:
    return stack.Config(
        width=width, layers=layers, heads=heads, hidden=4 * width, norm="pre", last_norm=True, dropout=dropout
    )


URBANSOUND8K = Config(network=_layers(512, 12, 8, 0.1), codes=512, names=URBANSOUND8K_CLASSES)
"""For the codes of `vqvae.URBANSOUND8K`; not a published one. 48 million parameters, half of those of PixelSNAIL."""

MINI = Config(network=_layers(160, 6, 5, 0.0), codes=256, bands=16, frames=128, vectors=384)
"""Small enough to be trained on a laptop, for the codes of `vqvae.MINI`, told sentences: 5.12 s in 143 steps."""


def logits(
    params: Params,
    config: Config,
    codes: Array,
    condition: Array | None = None,
    *,
    mask: Array | None = None,
    dropped: Array | None = None,
    key: Array | None = None,
) -> Array:
    """What each code may be, by all steps before its own.

    Args:
      params: of `init`.
      config: that they belong to.
      codes: (batch, *config.grid) int, of whole sounds.
      condition: classes (batch,) int or vectors (batch, n, config.vectors); None for without, as half of guidance is.
      mask: (batch, n), nonzero where a vector is real; all are by default.
      dropped: (batch,) bool, the items that are without their condition.
      key: () or (batch,), draws dropout, in training.

    Returns:
      (batch, *config.grid, codes).

    Raises:
      UsageError: codes of another grid, or a condition that does not fit.
    """
    if codes.ndim != 3 or codes.shape[1:] != config.grid:
        raise UsageError(f"codes of shape {tuple(codes.shape)}; give (batch, {config.grid[0]}, {config.grid[1]}).")
    given = grids.conditions(params, config, codes.shape[0], condition, mask)
    if dropped is not None:
        given = grids.without(params, config, given, dropped)
    sequence = orders.to_sequence(grids.turned(config, codes), config.order, config.codes)
    keys = split(key, 2)
    x, memory, hidden = grids.inputs(params, config, given, grids.read(params, config, sequence))
    x = drop(x, config.network.dropout, keys[0])
    x = stack.apply(params["layers"], config.network, x, mask=hidden, memory=memory, key=keys[1])
    return grids.turned(config, grids.scores(params, config, x[:, -config.steps :]))


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Any = None,
    *,
    config: Config,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """Mean cross entropy of the codes.

    Args:
      params: the parameters.
      extra: handed back as it is.
      batch: "codes" (batch, *config.grid), "class" (batch,) or "condition" (batch, n, config.vectors) with or without
        "mask" (batch, n), and, where it is known, "index" (batch,).
      key: draws dropout, and who is without its condition, for each item by its index.
      frozen: not used.
      config: of the prior.

    Returns:
      (loss in nats per code, ({"accuracy": share of the codes that are the likeliest}, extra)).
    """
    del frozen
    codes, dropped = batch["codes"], None
    if key is not None:
        index = batch.get("index", jnp.arange(codes.shape[0]))
        key, draws = split(jax.vmap(jax.random.fold_in, (None, 0))(key, index), 2)
        dropped = jax.vmap(lambda draw: jax.random.bernoulli(draw, config.unconditional))(draws)
    condition = batch.get("class" if config.names else "condition")
    scores = logits(params, config, codes, condition, mask=batch.get("mask"), dropped=dropped, key=key)
    share = jnp.take_along_axis(jax.nn.log_softmax(scores), codes[..., None], -1)
    accuracy = jnp.mean((jnp.argmax(scores, -1) == codes).astype(scores.dtype))
    return -jnp.mean(share), ({"accuracy": accuracy}, extra)


def sample(
    params: Params,
    config: Config,
    condition: Array | None = None,
    key: Array | None = None,
    *,
    mask: Array | None = None,
    sampling: Sampling = PLAIN,
    guidance: float | Array = 1.0,
    prefix: Array | None = None,
    keep_logits: bool = False,
    on_step: Callable[[Any, Any], None] | None = None,
) -> Sampled:
    """Draws whole sounds, step by step; compiled for a batch size, and for prefixes of any length.

    Args:
      params: of `init`.
      config: that they belong to.
      condition: as in `logits`. Without one there are as many sounds as prefixes or keys, or one.
      key: draws the codes, by its i-th derivative for item i; or (batch,) keys, which make each sound depend on its own
        alone. Not needed at temperature 0.
      mask: as in `logits`.
      sampling: how codes are drawn.
      guidance: scale s of classifier-free guidance (Ho & Salimans, 2022): logits are u + s (c - u), c with the
        condition and u without. 1.0 leaves the second half out; an array never does.
      prefix: codes that are kept: (batch, n, frames) of the lowest bands in the order of frequency, (batch, bands, n)
        of the first frames in the others, both turned as `config.last` says; or, where a step is one code, any number
        of the first, (batch, n).
      keep_logits: return the logits, too.
      on_step: called on the host with (step, codes (batch, streams)) as soon as they are drawn, in order; see
        `orders.places` for where they are. Padding is `config.codes`. In the order of delay, a frame is complete
        bands - 1 steps after its first code.

    Returns:
      See `Sampled`, with the axes of `config.grid`; log_probs and logits are those of the guided model.

    Raises:
      UsageError: there is no key for what is drawn by chance, or not one for each; guidance without a condition; or a
        condition or a prefix that does not fit.
    """
    if sampling.temperature and key is None:
        raise UsageError("Codes are drawn by chance at this temperature: give a key, or temperature 0.")
    sized = [x.shape[0] for x in (condition, prefix, key) if x is not None and x.ndim]
    batch = sized[0] if sized else 1
    if key is not None and key.ndim and key.shape != (batch,):
        raise UsageError(f"keys of shape {tuple(key.shape)} for a batch of {batch}; give one, or one for each.")
    scale = None if isinstance(guidance, (int, float)) and guidance == 1 else jnp.asarray(guidance)
    if scale is not None and condition is None:
        raise UsageError("Guidance leads away from no condition towards one; give a condition, or guidance 1.")
    given, known = grids.known(config, batch, prefix)
    whole = known.all(1)
    start = config.steps if whole.all() else int(np.argmin(whole))
    task = _Task(condition, mask, key, given, known, start, scale)
    return _sample(params, config, task, sampling, keep_logits, on_step, prefix is not None)


class _Task(NamedTuple):
    """What is to be drawn.

    Attributes:
      condition: as in `sample`, like the mask and the key.
      mask: see there.
      key: see there.
      given: (batch, steps, streams) int32: what is known, and padding.
      known: (steps, streams) bool: where.
      start: the first step of which anything is not known.
      guidance: () or None.
    """

    condition: Array | None
    mask: Array | None
    key: Array | None
    given: Array | np.ndarray
    known: np.ndarray
    start: int
    guidance: Array | None


@functools.partial(jax.jit, static_argnums=(1, 3, 4, 5, 6))
def _sample(
    params: Params,
    config: Config,
    task: _Task,
    sampling: Sampling,
    keep_logits: bool,
    on_step: Callable[[Any, Any], None] | None,
    prefixed: bool,
) -> Sampled:
    batch, steps, streams = task.given.shape
    layers, network, at = params["layers"], config.network, grids.tables(params, config)
    given, known, key = jnp.asarray(task.given), jnp.asarray(task.known), task.key
    if key is not None and key.ndim == 0:
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
    rows = batch if task.guidance is None else 2 * batch

    def twice(x: Array) -> Array:
        return jnp.concatenate([x] * (rows // batch))

    def mixed(scores: Array) -> Array:
        if task.guidance is None:
            return scores
        led, free = jnp.split(scores, 2)
        return free + task.guidance * (led - free)

    condition = grids.conditions(params, config, batch, task.condition, task.mask)
    if task.guidance is not None:
        condition = grids.without(params, config, jax.tree.map(twice, condition), jnp.arange(rows) >= batch)
    # What is known is read at once: all of a grid, so that one program serves prefixes of any length. The keys and
    # values past the prefix mean nothing; a step overwrites its own before any sees them.
    tokens = twice(grids.read(params, config, given)[:, : steps if prefixed else 0])
    x, memory, hidden = grids.inputs(params, config, condition, tokens)
    before = x.shape[1] - tokens.shape[1]
    cache = stack.empty(network, rows, before + steps)
    if x.shape[1]:
        x, cache = stack.extend(layers, network, x, cache, mask=hidden, memory=memory)
        cache = cache._replace(length=jnp.asarray(before + task.start, jnp.int32))

    def body(step: Array, carry: Any) -> Any:
        cache, ids, made = carry
        here = grids.Steps(*(jax.lax.dynamic_slice_in_dim(table, step, 1) for table in at))
        last = jax.lax.dynamic_slice_in_dim(ids, step, 1, 1)
        y, cache = stack.extend(
            layers, network, twice(grids.embed(params, here, last)), cache, mask=hidden, memory=memory
        )
        heads = params["out"]
        if config.order != "delay":  # where all are used, and need not be picked
            heads = jax.tree.map(lambda x: x[here.write[0]], heads)
        scores = mixed(jnp.einsum("rw,swc->rsc", wide(y[:, 0]), heads["kernel"]) + heads["bias"])
        if sampling.temperature and key is not None:
            drawn = jax.vmap(jax.random.fold_in, (0, None))(key, step)
            code = jax.vmap(jax.random.categorical)(drawn, warped(scores, sampling))
        else:
            code = jnp.argmax(scores, -1)
        code = jnp.where(known[step], given[:, step], code).astype(jnp.int32)
        if on_step is not None:
            io_callback(on_step, None, step, code, ordered=True)
        kept = None if made.logits is None else made.logits.at[:, step].set(scores)
        made = Sampled(made.ids.at[:, step].set(code), made.log_probs.at[:, step].set(_share(scores, code)), kept)
        return cache, ids.at[:, step + 1].set(code), made

    dtype = params["out"]["kernel"].dtype
    blank = jnp.zeros((batch, steps, streams, config.codes), dtype) if keep_logits else None
    nothing = Sampled(given, jnp.zeros((batch, steps, streams), dtype), blank)
    ids = jnp.pad(given, ((0, 0), (1, 0), (0, 0)), constant_values=config.codes)
    made = jax.lax.fori_loop(task.start, steps, body, (cache, ids, nothing))[2]
    made = jax.tree.map(lambda x: orders.to_grid(x, config.size, config.order), made)
    if prefixed:
        scores = mixed(grids.scores(params, config, x[:, -steps:]))
        early = orders.places(config.size, config.order).step < task.start
        kept = None if made.logits is None else jnp.where(early[..., None], scores, made.logits)
        made = Sampled(made.ids, jnp.where(early, _share(scores, made.ids), made.log_probs), kept)
    return jax.tree.map(lambda x: grids.turned(config, x), made)


def _share(scores: Array, codes: Array) -> Array:
    """Logarithms of the probabilities of codes (...) by logits (..., codes); of padding, those of the last code."""
    index = jnp.minimum(codes, scores.shape[-1] - 1)[..., None]
    return jnp.take_along_axis(jax.nn.log_softmax(scores), index, -1)[..., 0]
