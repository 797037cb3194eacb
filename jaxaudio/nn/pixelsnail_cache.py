"""PixelSNAIL code by code: what was computed for earlier codes is kept, so that a new one costs its own column only.

A causal convolution sees the rows above and, in its own row, what is to the left. The rows above are complete when a
row begins: their share is one matrix product for the whole row. What is left for each code is the part to its left, a
tenth of the multiplications, and attention to kept keys and values.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.errors import UsageError
from jaxaudio.nn import weight_norm
from jaxaudio.nn.pixelsnail import Config, Params, biases, network, places, project, spread, tables
from jaxaudio.text.decode import Sampling
from jaxaudio.text.decode.sequences import warped

PLAIN = Sampling()
"""By chance alone, as published."""


class Sampled(NamedTuple):
    """What `sample` gives.

    Attributes:
      ids: (batch, height, width) int32.
      log_probs: (batch, height, width) of each code under the model, whatever the temperature; of given ones, too.
      logits: (batch, height, width, codes) under the model where asked for; else None.
    """

    ids: Array
    log_probs: Array
    logits: Array | None


class _Row(NamedTuple):
    """What is kept of the row at hand.

    Attributes:
      inputs: of each causal convolution, with zero edges: (batch, side + width + side, channels).
      keys: of each block (batch, heads, width, dim).
      values: the same.
    """

    inputs: tuple[Array, ...]
    keys: tuple[Array, ...]
    values: tuple[Array, ...]


class _Above(NamedTuple):
    """What is kept of the rows above it, the same for all codes of a row.

    Attributes:
      inputs: of each causal convolution in kernel - 1 rows: (batch, kernel - 1, side + width + side, channels).
      keys: of each block (batch, heads, height * width, dim), so far.
      values: the same.
    """

    inputs: tuple[Array, ...]
    keys: tuple[Array, ...]
    values: tuple[Array, ...]


def sample(
    params: Params,
    config: Config,
    classes: Array,
    key: Array | None = None,
    *,
    sampling: Sampling = PLAIN,
    prefix: Array | None = None,
    keep_logits: bool = False,
) -> Sampled:
    """Draws whole grids, row by row; compiled for a batch size, and for prefixes of any length.

    Args:
      params: of `pixelsnail.init`, `normalized` or a converted checkpoint.
      config: that they belong to.
      classes: (batch,) int in [0, config.classes).
      key: draws the codes, by its i-th derivative for item i; or (batch,) keys, one for each. Not needed at
        temperature 0.
      sampling: how codes are drawn.
      prefix: (batch, n) int, the first codes of each grid row by row, which are kept.
      keep_logits: return the logits, too.

    Raises:
      UsageError: codes are to be drawn and there is no key, or the prefix does not fit the grid or the batch.
    """
    batch, length = classes.shape[0], config.height * config.width
    if sampling.temperature and key is None:
        raise UsageError("Codes are drawn by chance at this temperature: give a key, or temperature 0.")
    if prefix is not None and (prefix.ndim != 2 or prefix.shape[0] != batch or prefix.shape[1] > length):
        raise UsageError(
            f"a prefix of shape {tuple(prefix.shape)}; give (batch, n) for a batch of {batch}, n at most {length}."
        )
    if key is not None and key.ndim == 0:
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
    fixed = 0 if prefix is None else prefix.shape[1]
    given = jnp.zeros((batch, length), jnp.int32)
    given = given if prefix is None else given.at[:, :fixed].set(prefix)
    return _sample(params, config, classes, key, given, fixed, sampling, keep_logits)


@functools.partial(jax.jit, static_argnames=("config", "sampling", "keep_logits"))
def _sample(
    params: Params,
    config: Config,
    classes: Array,
    key: Array | None,
    given: Array,
    fixed: Array | int,
    sampling: Sampling,
    keep_logits: bool,
) -> Sampled:
    batch = classes.shape[0]
    params = weight_norm.fuse(params)
    prepared = _prepared(params, config)
    condition, where = spread(params, config, classes), places(config)
    added, biased = tables(params), biases(params, config)
    offsets = jnp.asarray(config.horizontal + config.vertical) + config.side

    def choose(logits: Array, place: Array) -> Array:
        if sampling.temperature and key is not None:
            drawn = jax.vmap(jax.random.fold_in, (0, None))(key, place)
            code = jax.vmap(jax.random.categorical)(drawn, warped(logits, sampling))
        else:
            code = jnp.argmax(logits, -1)
        return jnp.where(place < fixed, given[:, place], code).astype(jnp.int32)

    def row(y: Array, carry: Any) -> Any:
        now, above, ids, made = carry
        shares = tuple(_from_above(p, config, x) for p, x in zip(prepared, above.inputs, strict=True))

        def column(x: Array, carry: Any) -> Any:
            now, ids, made = carry
            near = jax.lax.dynamic_slice(ids, (0, y, x), (batch, config.side + 1, 2 * config.side + 1))
            start = biased[y, x] + jnp.sum(added[jnp.arange(len(offsets)), near[:, offsets[:, 0], offsets[:, 1]]], 1)
            position = _Position(y, x, where[y, x], condition[:, y, x, None])
            logits, now = _step(params, prepared, config, start, position, now, above, shares)
            code = choose(logits, y * config.width + x)
            share = jnp.take_along_axis(jax.nn.log_softmax(logits), code[:, None], 1)[:, 0]
            kept = None if made.logits is None else made.logits.at[:, y, x].set(logits)
            made = Sampled(made.ids.at[:, y, x].set(code), made.log_probs.at[:, y, x].set(share), kept)
            return now, ids.at[:, config.side + y, config.side + x].set(code), made

        now, ids, made = jax.lax.fori_loop(0, config.width, column, (now, ids, made))
        return now, _moved(config, above, now, y), ids, made

    grid, dtype = (batch, config.height, config.width), params["out"]["kernel"].dtype
    nothing = Sampled(
        jnp.zeros(grid, jnp.int32),
        jnp.zeros(grid, dtype),
        jnp.zeros((*grid, config.codes), dtype) if keep_logits else None,
    )
    # The edges are of a code that adds nothing.
    edged = (batch, config.side + config.height, 2 * config.side + config.width)
    carry = (*_empty(params, config, batch), jnp.full(edged, config.codes, jnp.int32), nothing)
    return jax.lax.fori_loop(0, config.height, row, carry)[-1]


class _Convolution(NamedTuple):
    """A causal convolution in two parts: matrices (taps * inputs, features) for the rows above and for the left."""

    above: Array
    left: Array
    bias: Array


class _Position(NamedTuple):
    """Where a code is: row and column, `places` of it (2,), and the class's number (batch, 1)."""

    row: Array
    column: Array
    place: Array
    condition: Array


def _prepared(params: Params, config: Config) -> tuple[_Convolution, ...]:
    rows = config.kernel * (config.kernel - 1)

    def parts(p: Params) -> _Convolution:
        features = p["kernel"].shape[-1]
        above, left = p["kernel"][:rows], p["kernel"][rows:]
        return _Convolution(above.reshape(-1, features), left.reshape(-1, features), p["bias"])

    return tuple(parts(p) for p in _convolutions(params, config))


def _convolutions(params: Params, config: Config) -> list[Params]:
    """The parameters of all causal convolutions, in the order in which they run."""
    residual = [params["blocks"][str(i)]["resblocks"] for i in range(config.blocks)]
    return [layers[str(j)][name] for layers in residual for j in range(config.layers) for name in ("conv1", "conv2")]


def _empty(params: Params, config: Config, batch: int) -> tuple[_Row, _Above]:
    c, dtype = config, params["out"]["kernel"].dtype
    inputs = [(c.width + 2 * c.side, p["kernel"].shape[1]) for p in _convolutions(params, c)]

    def kept(length: int) -> tuple[Array, ...]:
        return (jnp.zeros((batch, c.heads, length, c.channels // 2 // c.heads), dtype),) * c.blocks

    now = _Row(tuple(jnp.zeros((batch, *shape), dtype) for shape in inputs), kept(c.width), kept(c.width))
    earlier = tuple(jnp.zeros((batch, c.kernel - 1, *shape), dtype) for shape in inputs)
    return now, _Above(earlier, kept(c.height * c.width), kept(c.height * c.width))


def _from_above(p: _Convolution, config: Config, above: Array) -> Array:
    """The share of the rows above, and the bias, in each position of a row: (batch, width, features)."""
    taps = [above[:, y, x : x + config.width] for y in range(config.kernel - 1) for x in range(config.kernel)]
    return jnp.concatenate(taps, -1) @ p.above + p.bias


def _moved(config: Config, above: _Above, now: _Row, y: Array) -> _Above:
    """What is above the next row, once the row y is complete."""
    inputs = tuple(
        jnp.concatenate([old[:, 1:], new[:, None]], 1) for old, new in zip(above.inputs, now.inputs, strict=True)
    )
    keys, values = (
        tuple(
            jax.lax.dynamic_update_slice_in_dim(old, new, y * config.width, 2)
            for old, new in zip(getattr(above, name), getattr(now, name), strict=True)
        )
        for name in ("keys", "values")
    )
    return _Above(inputs, keys, values)


def _step(
    params: Params,
    prepared: tuple[_Convolution, ...],
    config: Config,
    start: Array,
    at: _Position,
    now: _Row,
    above: _Above,
    shares: tuple[Array, ...],
) -> tuple[Array, _Row]:
    """The logits (batch, codes) at a position, and its row with what is kept of it."""
    batch, side = start.shape[0], config.side
    inputs, keys, values = list(now.inputs), list(now.keys), list(now.values)

    # What is to the right of a position is of the row before: it is overwritten before it is seen. Arrays are written
    # first and then read, for XLA would copy what is read as it was.
    def convolve(p: Params, new: Array, number: int) -> Array:
        del p  # in other parts
        inputs[number] = jax.lax.dynamic_update_slice(inputs[number], new[:, None], (0, at.column + side, 0))
        left = jax.lax.dynamic_slice(inputs[number], (0, at.column, 0), (batch, side, new.shape[-1]))
        shared = jax.lax.dynamic_index_in_dim(shares[number], at.column, 1, keepdims=False)
        return shared + left.reshape(batch, -1) @ prepared[number].left

    def to_past(p: Params, query: Array, keyed: Array, drawn: Any, number: int) -> Array:
        del drawn  # nothing is dropped
        q, k, v = project(p, config, query, keyed)
        for kept, new in ((keys, k), (values, v)):
            kept[number] = jax.lax.dynamic_update_slice(kept[number], new[:, :, None], (0, 0, at.column, 0))
        q = q * q.shape[-1] ** -0.5
        scores = [jnp.einsum("bhd,bhnd->bhn", q, k) for k in (above.keys[number], keys[number])]
        ends = (at.row * config.width, at.column)
        before = [jnp.arange(x.shape[-1]) < end for x, end in zip(scores, ends, strict=True)]
        hidden = jnp.finfo(q.dtype).min
        weights = jax.nn.softmax(jnp.where(jnp.concatenate(before), jnp.concatenate(scores, -1), hidden))
        # The first position has nothing before it, and its weights are of nothing.
        weights = jnp.split(jnp.where(jnp.concatenate(before), weights, 0), [scores[0].shape[-1]], -1)
        sources = (above.values[number], values[number])
        y = sum(jnp.einsum("bhn,bhnd->bhd", w, v) for w, v in zip(weights, sources, strict=True))
        return jnp.asarray(y).reshape(batch, -1)

    logits = network(params, config, start, at.place, at.condition, convolve, to_past)
    return logits, _Row(tuple(inputs), tuple(keys), tuple(values))
