"""A Transformer decoder over grids of codes: what `transformer` is made of.

It reads the steps of `orders`, each the sum of its codes' embeddings and of the place of the codes that follow, after a
condition or beside one, and says what these codes may be.
"""

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import stack
from jaxaudio.precision import wide
from jaxaudio.systems.soundlm import orders
from jaxaudio.systems.soundlm.orders import Order

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A network over a grid of codes.

    Attributes:
      network: its layers, causal. With a memory, they attend to the condition; without, it stands before the sequence.
      codes: how many there are of each band, 0 to codes - 1.
      bands: of a sound, the lowest first; or the levels of a codec, the first first.
      frames: of a sound.
      order: in which codes follow each other, see `orders`.
      last: the last axis of the codes: "frames" for the grids (batch, bands, frames) of `vqvae`, "bands" for the codes
        (batch, frames, levels) of the neural codecs.
      shared: whether a code means the same in all bands, as those of `vqvae` do; then the orders of one code per step
        have one table for all. False for the levels of a codec. In the order of delay each band has its own anyway.
      names: of the classes, where those are the condition.
      vectors: channels of the vectors, of a text, say, where those are the condition; 0 for none.
      unconditional: share of the items that learn without their condition, which guidance needs.
    """

    network: stack.Config
    codes: int
    bands: int = 20
    frames: int = 86
    order: Order = "delay"
    last: Literal["frames", "bands"] = "frames"
    shared: bool = True
    names: tuple[str, ...] = ()
    vectors: int = 0
    unconditional: float = 0.1

    def __post_init__(self) -> None:
        if self.order not in orders.ORDERS:
            raise ConfigError(f"Codes in the order of {self.order!r}; give one of {', '.join(orders.ORDERS)}.")
        if self.last not in ("frames", "bands"):
            raise ConfigError(f"The last axis of codes is {self.last!r}; give 'frames' or 'bands'.")
        if min(self.codes, self.bands, self.frames) < 1:
            raise ConfigError(
                f"{self.codes} codes, {self.bands} bands, {self.frames} frames; give one of each at least."
            )
        if not self.network.causal or self.network.width % 2:
            raise ConfigError("A prior has a causal network of an even width; set causal=True and the width.")
        if self.names and self.vectors:
            raise ConfigError("Both classes and vectors as a condition; give names or vectors.")
        if self.network.memory and not self.conditional:
            raise ConfigError("A network with a memory, and no condition to attend to; set memory=0, or give names.")
        if not 0 <= self.unconditional < 1:
            raise ConfigError(f"A share of {self.unconditional} without a condition; give one in [0, 1).")

    @property
    def conditional(self) -> bool:
        """Whether there is a condition."""
        return bool(self.names or self.vectors)

    @property
    def size(self) -> tuple[int, int]:
        """(bands, frames)."""
        return (self.bands, self.frames)

    @property
    def grid(self) -> tuple[int, int]:
        """Shape of a sound's codes: (bands, frames), or the other way round, see `last`."""
        return self.size if self.last == "frames" else self.size[::-1]

    @property
    def steps(self) -> int:
        """How many one sound takes."""
        return orders.shape(self.size, self.order)[0]

    @property
    def tables(self) -> int:
        """Tables of codes: one, or one per band."""
        return 1 if self.shared and self.order != "delay" else self.bands


class Condition(NamedTuple):
    """What stands before the sequence, or is attended to.

    Attributes:
      vectors: (batch, n, channels); n may be 0.
      mask: (batch, n), nonzero where a vector is real, or None where all are.
    """

    vectors: Array
    mask: Array | None


class Steps(NamedTuple):
    """What is known of steps beforehand.

    Attributes:
      read: (steps, streams) int: the tables of the codes that a step reads, those of the step before.
      write: (steps, streams) int: the tables of the codes that follow.
      position: (steps, width): where those are.
    """

    read: Array
    write: Array
    position: Array


def init(key: Array, config: Config) -> Params:
    """Random {"codes", "layers", "out"}, and "bands" and "condition" where they are needed."""
    keys = jax.random.split(key, 5)
    width, channels = config.network.width, config.network.memory or config.network.width
    streams = orders.shape(config.size, config.order)[1]
    # The codes of a step are added up, and begin with a variance of 1 together.
    codes = jax.random.normal(keys[0], (config.tables, config.codes + 1, width)) / math.sqrt(streams)
    kernel = jax.random.normal(keys[1], (config.tables, width, config.codes)) / width
    params = {
        "codes": codes,
        "layers": stack.init(keys[2], config.network),
        "out": {"kernel": kernel, "bias": jnp.zeros((config.tables, config.codes))},
    }
    if config.order != "delay":
        params["bands"] = jax.random.normal(keys[3], (config.bands, width))
    if config.names:
        params["condition"] = {"table": jax.random.normal(keys[4], (len(config.names) + 1, channels))}
    if config.vectors:
        # Not zeros: of those, every norm of a deep network makes gradients 300 times as large.
        none = jax.random.normal(jax.random.fold_in(keys[4], 1), (1, channels))
        params["condition"] = {"table": none, "map": stack.dense_init(keys[4], config.vectors, channels)}
    return params


def conditions(params: Params, config: Config, batch: int, condition: Array | None, mask: Array | None) -> Condition:
    """What the network makes of a condition, or of none; arguments and errors as `transformer.logits`."""
    channels = config.network.memory or config.network.width
    if not config.conditional:
        if condition is not None:
            raise UsageError("This prior takes no condition; leave it out.")
        return Condition(jnp.zeros((batch, 0, channels)), None)
    table = params["condition"]["table"]
    if condition is None:
        return Condition(jnp.broadcast_to(table[-1], (batch, 1, channels)), None)
    if config.names:
        if condition.shape != (batch,) or mask is not None:
            raise UsageError(f"classes of shape {tuple(condition.shape)}; give ({batch},), and no mask.")
        vectors = table[condition][:, None]
    else:
        if condition.ndim != 3 or condition.shape[::2] != (batch, config.vectors) or not condition.shape[1]:
            raise UsageError(f"vectors of shape {tuple(condition.shape)}; give ({batch}, n, {config.vectors}).")
        if mask is not None and mask.shape != condition.shape[:2]:
            raise UsageError(
                f"a mask of shape {tuple(mask.shape)}; give {tuple(condition.shape[:2])}, like the vectors."
            )
        vectors = stack.dense(params["condition"]["map"], condition)
    return Condition(vectors, mask)


def without(params: Params, config: Config, given: Condition, dropped: Array) -> Condition:
    """Conditions, but none for the items of which `dropped` (batch,) bool says so."""
    if not config.conditional:
        return given
    vectors = jnp.where(dropped[:, None, None], params["condition"]["table"][-1], given.vectors)
    if vectors.shape[1] == 1:
        return Condition(vectors, None)
    # One vector stands for no condition, however many there were.
    real = jnp.ones(vectors.shape[:2], bool) if given.mask is None else given.mask != 0
    return Condition(vectors, jnp.where(dropped[:, None], jnp.arange(vectors.shape[1]) == 0, real))


def tables(params: Params, config: Config) -> Steps:
    """See `Steps`."""
    at = orders.places(config.size, config.order)
    write = jnp.asarray(at.band if config.tables > 1 else np.zeros_like(at.band))
    if config.order == "delay":
        position = stack.positions(config.steps, config.network.width)
    else:  # frames by sines, bands by vectors that are learned
        position = stack.positions(config.frames, config.network.width)[at.frame[:, 0]] + params["bands"][at.band[:, 0]]
    return Steps(jnp.concatenate([write[:1], write[:-1]]), write, position)


def embed(params: Params, at: Steps, codes: Array) -> Array:
    """The codes (batch, steps, streams) that steps read and the places of those that follow: (batch, steps, width)."""
    return params["codes"][at.read, codes].sum(2) + at.position


def read(params: Params, config: Config, sequence: Array) -> Array:
    """What all steps read of a sequence (batch, steps, streams): padding, then the step before."""
    before = jnp.pad(sequence[:, :-1], ((0, 0), (1, 0), (0, 0)), constant_values=config.codes)
    return embed(params, tables(params, config), before)


def inputs(
    params: Params, config: Config, condition: Condition, tokens: Array
) -> tuple[Array, stack.Memory | None, Array | None]:
    """(what the layers read, the memory, a mask of all positions) of tokens (batch, n, width)."""
    if config.network.memory:
        return tokens, stack.memorise(params["layers"], config.network, *condition), None
    mask = condition.mask
    if mask is not None:
        mask = jnp.pad(mask != 0, ((0, 0), (0, config.steps)), constant_values=True)
    return jnp.concatenate([condition.vectors.astype(tokens.dtype), tokens], 1), None, mask


def scores(params: Params, config: Config, x: Array) -> Array:
    """Logits (batch, bands, frames, codes) of what the layers make of all steps, (batch, steps, width)."""
    x = wide(x)[:, orders.places(config.size, config.order).step]
    return x @ params["out"]["kernel"] + params["out"]["bias"][:, None]


def known(config: Config, batch: int, prefix: Array | None) -> tuple[Array | np.ndarray, np.ndarray]:
    """What is known of sequences (batch, steps, streams), padding included, and where: (steps, streams) bool.

    Raises:
      UsageError: a prefix that `transformer.sample` does not take.
    """
    at = orders.places(config.size, config.order)
    if prefix is None:
        nothing = np.where(at.real, 0, config.codes).astype(np.int32)
        return np.broadcast_to(nothing, (batch, *nothing.shape)), ~at.real
    single, rank = config.order != "delay", prefix.ndim
    if rank == 2 and single and prefix.shape[0] == batch and prefix.shape[1] <= config.steps:
        count = prefix.shape[1]
        given = jnp.pad(prefix.astype(jnp.int32), ((0, 0), (0, config.steps - count)))
        return given[..., None], np.arange(config.steps)[:, None] < count
    bands, frames = turned(config, prefix).shape[1:] if rank == 3 else (0, 0)
    whole = frames == config.frames if config.order == "frequency" else bands == config.bands
    if rank != 3 or prefix.shape[0] != batch or not whole or bands > config.bands or frames > config.frames:
        most = [str(n) for n in config.size]
        most[config.order != "frequency"] = f"n <= {most[config.order != 'frequency']}"
        axes = ", ".join(most if config.last == "frames" else most[::-1])
        more = f", or (batch, n <= {config.steps})" if single else ""
        raise UsageError(f"a prefix of shape {tuple(prefix.shape)} for a batch of {batch}; give (batch, {axes}){more}.")
    grid = jnp.zeros((batch, *config.size), jnp.int32).at[:, :bands, :frames].set(turned(config, prefix))
    known = (at.band < bands) & (at.frame < frames) | ~at.real
    return orders.to_sequence(grid, config.order, config.codes), known


def turned(config: Config, x: Array) -> Array:
    """Between (batch, bands, frames, ...) and codes as they are given, in either direction."""
    return x if config.last == "frames" else x.swapaxes(1, 2)
