"""Vector quantisation: the nearest of a codebook's rows (van den Oord et al., 2017, arXiv:1711.00937).

Codebooks are learnt by gradients, through `codebook_loss`, or follow their vectors by moving averages (appendix A.1).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.precision import wide

_TINY = 1e-12  # torch's guard against dividing by a length of zero
_SMOOTHING = 1e-5


def nearest(x: Array, codebook: Array, *, cosine: bool = False) -> Array:
    """The code of each vector: the row of the codebook next to it.

    Args:
      x: (..., dim).
      codebook: (size, dim).
      cosine: by the angle between them rather than the distance.

    Returns:
      (...) int32, the first of rows that are equally near.
    """
    x, codebook = wide(x), wide(codebook)
    score = x @ (unit(codebook).T if cosine else codebook.T)
    if not cosine:
        score = score - 0.5 * jnp.sum(jnp.square(codebook), -1)
    # Two plain reductions: XLA for CPUs computes an argmax number by number.
    best = jnp.max(score, -1, keepdims=True)
    size = codebook.shape[0]
    return jnp.min(jnp.where(score >= best, jnp.arange(size, dtype=jnp.int32), size - 1), -1)


def lookup(codebook: Array, codes: Array) -> Array:
    """The rows (..., dim) of a codebook (size, dim) that codes (...) name."""
    return jnp.take(codebook, codes, axis=0, mode="clip")


def unit(x: Array) -> Array:
    """Vectors of length one in the same directions; those of no length stay zero."""
    squares = jnp.sum(jnp.square(x), -1, keepdims=True)
    return x * jnp.where(squares > _TINY**2, jax.lax.rsqrt(jnp.maximum(squares, _TINY**2)), 1 / _TINY)


@jax.custom_jvp
def straight_through(x: Array, q: Array) -> Array:
    """The value of q, through which gradients pass to x as if nothing had been quantised (Bengio et al., 2013)."""
    return q


@straight_through.defjvp
def _passed(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return primals[1], tangents[0]


def commitment_loss(x: Array, q: Array) -> Array:
    """How far the vectors are from their rows, to be lowered by moving the vectors.

    Args:
      x: (batch, ..., dim) vectors.
      q: their rows.

    Returns:
      (batch,) mean squared differences of each item.
    """
    return _distance(x, jax.lax.stop_gradient(q))


def codebook_loss(x: Array, q: Array) -> Array:
    """The same number as `commitment_loss`, to be lowered by moving the rows."""
    return _distance(jax.lax.stop_gradient(x), q)


def _distance(x: Array, q: Array) -> Array:
    return jnp.mean(jnp.square(wide(x) - wide(q)), tuple(range(1, x.ndim)))


def perplexity(codes: Array, size: int) -> Array:
    """How many rows are in use: the exponential of the entropy of codes (...), between 1 and `size`."""
    share = jnp.bincount(codes.reshape(-1), length=size) / codes.size
    return jnp.exp(-jnp.sum(share * jnp.log(share + 1e-7)))


class EmaState(NamedTuple):
    """A codebook that follows its vectors.

    Attributes:
      codebook: (size, dim).
      counts: (size,) how many vectors chose each row, averaged over the steps.
      sums: (size, dim) their sum, averaged likewise.
    """

    codebook: Array
    counts: Array
    sums: Array


def ema_state(codebook: Array) -> EmaState:
    """The state in which training starts: every row stands for one vector, itself."""
    return EmaState(codebook, jnp.ones(codebook.shape[:1], codebook.dtype), codebook)


def empty_state(codebook: Array) -> EmaState:
    """The state of (..., size, dim) rows that stand for nothing, and that an update with `revive_below` replaces."""
    return EmaState(codebook, jnp.zeros(codebook.shape[:-1], codebook.dtype), jnp.zeros_like(codebook))


def ema_update(
    state: EmaState,
    x: Array,
    codes: Array,
    key: Array | None = None,
    *,
    decay: float = 0.99,
    revive_below: float = 0.0,
    axis_name: str | None = None,
) -> EmaState:
    """Moves the rows towards the vectors that chose them.

    Args:
      state: before the step.
      x: (..., dim) the vectors; nothing flows back through them.
      codes: (...) the row that each of them chose.
      key: draws the vectors that revived rows become; needed if there are any.
      decay: weight of the past, near 1.
      revive_below: a row whose average count falls below this becomes one of the vectors.
      axis_name: the mapped axis that counts and sums are added over, under `jax.pmap`.

    Returns:
      The state after it.
    """
    size, dim = state.codebook.shape
    x = jax.lax.stop_gradient(x).reshape(-1, dim).astype(state.codebook.dtype)
    codes = codes.reshape(-1)
    counts = jnp.zeros(size, x.dtype).at[codes].add(1)
    sums = jnp.zeros_like(state.sums).at[codes].add(x)
    if axis_name is not None:
        counts, sums = jax.lax.psum((counts, sums), axis_name)
    counts = decay * state.counts + (1 - decay) * counts
    sums = decay * state.sums + (1 - decay) * sums
    total = jnp.sum(counts)
    smoothed = (counts + _SMOOTHING) / (total + size * _SMOOTHING) * total
    codebook = sums / smoothed[:, None]
    if revive_below:
        if key is None:
            raise ValueError("ema_update: reviving rows needs a key.")
        drawn = jax.random.choice(key, x, (size,))
        if axis_name is not None:  # every device must revive to the same vectors
            drawn = jax.lax.all_gather(drawn, axis_name)[0]
        dead = counts < revive_below
        codebook = jnp.where(dead[:, None], drawn, codebook)
        counts = jnp.where(dead, revive_below, counts)
        sums = jnp.where(dead[:, None], drawn * revive_below, sums)
    return EmaState(codebook, counts, sums)


def ema_levels(
    state: EmaState,
    x: Array,
    codes: Array,
    real: Array,
    key: Array,
    *,
    decay: float = 0.99,
    revive: float = 0.1,
    axis_name: str | None = None,
) -> EmaState:
    """Moves the codebooks of several levels, of batches in which not every vector counts.

    Args:
      state: of all levels, stacked: (levels, size, dim) and (levels, size).
      x: (levels, batch, frames, dim) what each level was to quantise.
      codes: (levels, batch, frames) the row that each of them chose.
      real: (batch, frames) bool, which vectors count; of an item that has any, the first does.
      key: draws what revived rows become.
      decay: as in `ema_update`.
      revive: a row is revived once its count falls below this share of the mean.
      axis_name: as in `ema_update`.

    Returns:
      The state after it.
    """
    levels, size, _ = state.codebook.shape
    total = real.size if axis_name is None else real.size * jax.lax.psum(1, axis_name)
    # Vectors that do not count choose no row, and nothing is revived to them: others stand in their places.
    some = real[:, 0]
    item = jnp.where(some, jnp.arange(len(some)), jnp.argmax(some))
    x = jnp.where(real[..., None], x, x[:, item, :1])
    codes = jnp.where(real, codes, size)

    def level(state: EmaState, x: Array, codes: Array, key: Array) -> EmaState:
        below = revive * total / size
        return ema_update(state, x, codes, key, decay=decay, revive_below=below, axis_name=axis_name)

    return jax.vmap(level)(state, x, codes, jax.random.split(key, levels))
