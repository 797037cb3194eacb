"""Residual vector quantisation: every level quantises what the ones before it left over.

Zeghidour et al., 2021 (arXiv:2107.03312), with the projections, cosine distances and dropout of DAC (Kumar et al.,
2023, arXiv:2306.06546, section 3.2).
"""

import dataclasses
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.convert.rules import Rule
from jaxaudio.errors import UsageError
from jaxaudio.precision import wide
from jaxaudio.quantize import vq

_INIT = nn.initializers.truncated_normal(0.02)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a residual quantiser.

    Attributes:
      dim: of what is quantised.
      levels: codes per vector.
      size: rows of each codebook.
      width: of a row; vectors are projected to it and back. 0 quantises them as they are.
      cosine: choose rows by angle rather than distance.
    """

    dim: int = 1024
    levels: int = 9
    size: int = 1024
    width: int = 8
    cosine: bool = True


class Quantized(NamedTuple):
    """What the levels made of (batch, frames, dim).

    Attributes:
      z: (batch, frames, dim) the sum of what the levels stand for; gradients pass through.
      codes: (batch, frames, levels) int32.
      latents: (batch, frames, levels * width) what each level was to quantise.
      commitment: (batch,) see `vq.commitment_loss`, summed over levels.
      codebook: (batch,) see `vq.codebook_loss`, summed over levels.
    """

    z: Array
    codes: Array
    latents: Array
    commitment: Array
    codebook: Array


def init(key: Array, config: Config) -> dict[str, Any]:
    """Random parameters {"quantizers_0": {"in_proj": ..., "codebook": ..., "out_proj": ...}, ...}."""
    width = config.width or config.dim

    def level(key: Array) -> dict[str, Any]:
        keys = jax.random.split(key, 3)
        made: dict[str, Any] = {"codebook": jax.random.normal(keys[0], (config.size, width))}
        if config.width:
            made["in_proj"] = {"kernel": _INIT(keys[1], (config.dim, width)), "bias": jnp.zeros(width)}
            made["out_proj"] = {"kernel": _INIT(keys[2], (width, config.dim)), "bias": jnp.zeros(config.dim)}
        return made

    return {f"quantizers_{i}": level(k) for i, k in enumerate(jax.random.split(key, config.levels))}


def quantize(
    params: Any, config: Config, x: Array, levels: int | None = None, *, limits: Array | None = None
) -> Quantized:
    """Quantises vectors.

    Args:
      params: of `init`.
      config: that they belong to.
      x: (batch, frames, dim).
      levels: use the first so many; all by default.
      limits: (batch,) levels that each item uses. The codes and latents of the others are still computed; they add
        nothing to z, the losses and the gradients. See `drop_levels`.

    Raises:
      UsageError: more levels than there are, or fewer than one.
    """
    used = _levels(config, levels)
    x = wide(x)
    active = jnp.ones((used, x.shape[0]), x.dtype)
    if limits is not None:
        active = (jnp.arange(used)[:, None] < limits).astype(x.dtype)

    def level(carry: tuple[Array, Array], step: tuple[Any, Array]) -> tuple[tuple[Array, Array], Any]:
        (rest, total), (p, on) = carry, step
        latent = _project(p, "in_proj", rest)
        codes = vq.nearest(latent, p["codebook"], cosine=config.cosine)
        row = vq.lookup(p["codebook"], codes).astype(latent.dtype)
        losses = vq.commitment_loss(latent, row), vq.codebook_loss(latent, row)
        made = _project(p, "out_proj", vq.straight_through(latent, row))
        carry = rest - made, total + made * on[:, None, None]
        return carry, (codes, latent, *(loss * on for loss in losses))

    steps = stacked(params, used), active
    (_, z), (codes, latents, commitment, codebook) = jax.lax.scan(level, (x, jnp.zeros_like(x)), steps)
    latents = jnp.moveaxis(latents, 0, 2).reshape(*x.shape[:2], -1)
    return Quantized(z, jnp.moveaxis(codes, 0, 2), latents, jnp.sum(commitment, 0), jnp.sum(codebook, 0))


def decode(params: Any, config: Config, codes: Array) -> Array:
    """The vectors (batch, frames, dim) that codes (batch, frames, levels) stand for, of the first levels or all.

    Raises:
      UsageError: more levels than there are, or none.
    """
    used = _levels(config, codes.shape[-1])
    rows = [
        _project(p, "out_proj", vq.lookup(p["codebook"], codes[..., i]))
        for i, p in enumerate(params[f"quantizers_{i}"] for i in range(used))
    ]
    return sum(rows[1:], rows[0])


def drop_levels(key: Array, indices: Array, levels: int, probability: float) -> Array:
    """Draws `limits` for `quantize`: with the probability, uniformly from 1 to `levels`; else all of them.

    Args:
      key: of this step.
      indices: (batch,) numbers of the items, from which alone their draws follow.
      levels: of the quantiser.
      probability: of dropping. DAC drops for the first items of each batch, this share of it, instead.

    Returns:
      (batch,) int32.
    """

    def draw(index: Array) -> Array:
        whether, how = jax.random.split(jax.random.fold_in(key, index))
        limit = jax.random.randint(how, (), 1, levels + 1)
        return jnp.where(jax.random.bernoulli(whether, probability), limit, levels)

    return jax.vmap(draw)(indices)


def _levels(config: Config, levels: int | None) -> int:
    used = config.levels if levels is None else levels
    if not 1 <= used <= config.levels:
        raise UsageError(f"the quantiser has {config.levels} levels, not {used}: give 1 to {config.levels}.")
    return used


def stacked(params: Any, levels: int) -> Any:
    """The parameters of the first levels as one tree, whose arrays have the level as their first axis."""
    return jax.tree.map(lambda *x: jnp.stack(x), *(params[f"quantizers_{i}"] for i in range(levels)))


def _project(params: Any, name: str, x: Array) -> Array:
    return x @ params[name]["kernel"] + params[name]["bias"] if name in params else x


def _pointwise(x: np.ndarray) -> np.ndarray:
    return x[..., 0].T


_LEVEL, _AT = r"quantizers\.(?P<level>\d+)", r"quantizers_\g<level>"

WEIGHTS = (
    Rule(rf"{_LEVEL}\.(?P<part>in_proj|out_proj)\.weight", rf"{_AT}/\g<part>/kernel", _pointwise),
    Rule(rf"{_LEVEL}\.(?P<part>in_proj|out_proj)\.bias", rf"{_AT}/\g<part>/bias"),
    Rule(rf"{_LEVEL}\.codebook\.weight", rf"{_AT}/codebook"),
)
"""Conversion rules for DAC's ResidualVectorQuantize."""
