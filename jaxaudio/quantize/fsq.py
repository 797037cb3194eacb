"""Finite scalar quantisation: every channel is rounded to a few levels, and the levels together are a token.

Mentzer et al., 2023 (arXiv:2309.15505) round a bounded value; Parker et al., 2024 (arXiv:2411.19842, section 3.2) place
the levels symmetrically, train with noise in place of rounding, and cut a trained space into coarser residual stages.

However a channel is bounded and in however many stages it is rounded, its levels are a staircase over the unbounded
value. Where each step lies is computed once, in double precision, for the type of the input: so a token is the one that
exact arithmetic gives, whatever the device, and needs no 64-bit arrays.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.precision import wide
from jaxaudio.quantize.vq import straight_through

_EPS = 1e-3  # by which Mentzer et al. widen the bound, so that the outer levels are reached
_MOST_CELLS = 2**16  # of one channel, all stages together


@dataclasses.dataclass(frozen=True, kw_only=True)
class FSQ:
    """A quantiser of as many channels as it has levels; hashable, so that it can be a static argument.

    Attributes:
      levels: number of levels of each channel, at least 2.
      scales: of each stage, where its outermost levels lie (-s and s), for all channels or one for each; a stage after
        the first rounds what the earlier ones left.
      reach: channels are bounded to (-reach, reach) by reach * tanh(x / reach), all of them or one for each.
      offset: the rounding of Mentzer et al. instead: levels at i / (L // 2) - 1, so that an even number of them holds 0
        and not 1. Has one stage, and no scale or reach.
    """

    levels: tuple[int, ...]
    scales: tuple[float | tuple[float, ...], ...] = (1.0,)
    reach: float | tuple[float, ...] = 1.0
    offset: bool = False

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 2 or self.size > 2**31 - 1:
            raise ConfigError(f"levels are at least 2, and their product below 2^31 (int32 tokens), not {self.levels}.")
        if any(isinstance(x, tuple) and len(x) != len(self.levels) for x in (*self.scales, self.reach)):
            raise ConfigError(f"scales and reach are one number, or one for each of the {len(self.levels)} channels.")
        if self.offset and (self.scales, self.reach) != ((1.0,), 1.0):
            raise ConfigError("levels with an offset have one stage of scale 1 and reach 1.")
        if max(self.levels) ** len(self.scales) > _MOST_CELLS:
            raise ConfigError(f"{len(self.scales)} stages of {max(self.levels)} levels are too fine; use fewer.")

    @property
    def size(self) -> int:
        """Tokens that a stage can give."""
        return math.prod(self.levels)

    @property
    def stages(self) -> int:
        """Tokens per step."""
        return len(self.scales)


STABLE_CODEC = FSQ(levels=(17,) * 6)
"""As Stable Codec is trained: one of 24 137 569 tokens per step."""

PRESETS: Mapping[str, FSQ] = MappingProxyType(
    {
        "1x46656": FSQ(levels=(6,) * 6),
        "2x15625": FSQ(levels=(5,) * 6, scales=(1.0, 0.25)),
        "4x729": FSQ(levels=(3,) * 6, scales=(1.0, 0.5, 0.25, 0.125)),
    }
)
"""What Stable Codec's latents are cut into afterwards, named "tokens per step" x "size of the dictionary"."""


def residual(levels: tuple[int, ...], stages: int) -> FSQ:
    """ResidualFSQ of vector-quantize-pytorch: stage k has levels^-k of the first one's range.

    A channel is bounded to L / (L - 1), so that every level of every stage has the same width.
    """
    scales = tuple(tuple(float(n) ** -k for n in levels) for k in range(stages))
    return FSQ(levels=levels, scales=scales, reach=tuple(n / (n - 1) for n in levels))


def bits_per_second(fsq: FSQ, steps_per_second: float) -> float:
    """Bits of the tokens if all of them are equally likely: steps times log2 of the dictionaries' sizes."""
    return steps_per_second * fsq.stages * math.log2(fsq.size)


def encode(x: Array, fsq: FSQ) -> Array:
    """The tokens of unbounded values.

    Args:
      x: (..., channels), float32 or float64; anything narrower is widened.
      fsq: the quantiser.

    Returns:
      (..., stages) int32 in [0, fsq.size): the sum of the channels' levels, the first channel's counting least. Exact
      ties go to the even level.

    Raises:
      UsageError: the channels are not as many as the quantiser's.
    """
    _check(x, fsq)
    x = wide(x)
    breaks, table = _staircases(fsq, np.dtype(x.dtype).name)
    method = "compare_all" if breaks.shape[1] <= 64 else "scan_unrolled"
    find = functools.partial(jnp.searchsorted, side="right", method=method)
    cells = jax.vmap(find, in_axes=(0, -1), out_axes=-1)(jnp.asarray(breaks), x)
    levels = jnp.asarray(table)[jnp.arange(x.shape[-1]), cells]  # (..., channels, stages)
    return from_levels(jnp.moveaxis(levels, -1, -2), fsq)


def decode(tokens: Array, fsq: FSQ, dtype: jax.typing.DTypeLike = jnp.float32) -> Array:
    """(..., stages) tokens -> (..., channels) the values that they stand for: the sum of what the stages say."""
    levels = to_levels(tokens, fsq)
    counts = np.asarray(fsq.levels)
    if fsq.offset:
        return ((levels[..., 0, :] - counts // 2) / (counts // 2)).astype(dtype)
    # Division first: the outermost levels are exactly -scale and scale.
    values = (2 * levels - (counts - 1)).astype(dtype) / jnp.asarray(counts - 1, dtype) * _scales(fsq).astype(dtype)
    return jnp.sum(values, -2)


def quantize(x: Array, fsq: FSQ) -> tuple[Array, Array]:
    """Rounds (..., channels) to the levels.

    Returns:
      The values `decode` gives for the tokens, whose gradient is that of the bounded x (`bound`), and the tokens. That
      of vector-quantize-pytorch's ResidualFSQ is as many times larger as it has stages.
    """
    tokens = encode(x, fsq)
    bounded = bound(x, fsq)
    return straight_through(bounded, decode(tokens, fsq, bounded.dtype)), tokens


def bound(x: Array, fsq: FSQ) -> Array:
    """The values (..., channels) before they are rounded, in at least float32."""
    _check(x, fsq)
    x = wide(x)
    if fsq.offset:
        half, offset, shift = _offsets(np.asarray(fsq.levels))
        return (jnp.tanh(x + shift.astype(x.dtype)) * half.astype(x.dtype) - offset) / (np.asarray(fsq.levels) // 2)
    reach = jnp.asarray(fsq.reach, x.dtype)
    return reach * jnp.tanh(x / reach)


def dither(key: Array, x: Array, fsq: FSQ, *, keep: float = 0.5, items: Array | None = None) -> Array:
    """Values for training, as Stable Codec draws them, so that a decoder learns to bear any level's width of error.

    With probability 1 - keep an item is its bounded values plus uniform noise of one level's width; else it is, with
    probability keep, the bounded values themselves, and the rounded ones otherwise. Gradients are those of `bound`.

    Args:
      key: of this step.
      x: (batch, ..., channels) unbounded.
      fsq: the quantiser, of one stage without offset.
      keep: the probability; the published class has 0.5, and 0.05 in its bottleneck.
      items: (batch,) numbers of the items, by which their draws are told apart; 0, 1, 2 ... by default.

    Returns:
      (batch, ..., channels).

    Raises:
      UsageError: a quantiser of several stages, or with an offset.
    """

    def draw(item: Array) -> tuple[Array, Array, Array]:
        first, second, third = jax.random.split(jax.random.fold_in(key, item), 3)
        kept, quiet = (jax.random.bernoulli(k, keep) for k in (first, second))
        return kept, quiet, jax.random.uniform(third, x.shape[1:], wide(x).dtype)

    return dithered(x, fsq, *jax.vmap(draw)(jnp.arange(len(x)) if items is None else items))


def dithered(x: Array, fsq: FSQ, kept: Array, quiet: Array, uniform: Array) -> Array:
    """`dither` of given draws: (batch,) bool, (batch,) bool, and numbers in [0, 1) of x's shape."""
    if fsq.stages > 1 or fsq.offset:
        raise UsageError("noise stands for the rounding of one stage of symmetric levels; quantize the others.")
    bounded, step = bound(x, fsq), _step(fsq)
    kept, quiet = (jnp.reshape(mask, (-1, *[1] * (x.ndim - 1))) for mask in (kept, quiet))
    rounded = straight_through(bounded, decode(encode(x, fsq), fsq, bounded.dtype))
    noisy = bounded + (uniform - 0.5) * step.astype(bounded.dtype)
    return jnp.where(quiet, jnp.where(kept, bounded, rounded), noisy)


def nearest(values: Array, fsq: FSQ) -> Array:
    """(..., channels) values within the bound, e.g. of `dither`, -> (..., 1) the tokens of the nearest levels."""
    if fsq.stages > 1 or fsq.offset:
        raise UsageError("values have one nearest level in quantisers of one stage of symmetric levels alone.")
    values = wide(values)
    levels = jnp.round((values + _scales(fsq)[0].astype(values.dtype)) / _step(fsq).astype(values.dtype))
    levels = jnp.clip(levels, 0, np.asarray(fsq.levels, values.dtype) - 1).astype(jnp.int32)
    return from_levels(levels[..., None, :], fsq)


def to_levels(tokens: Array, fsq: FSQ) -> Array:
    """(..., stages) tokens -> (..., stages, channels) int32, each channel's level."""
    return tokens[..., None].astype(jnp.int32) // _basis(fsq) % np.asarray(fsq.levels, np.int32)


def from_levels(levels: Array, fsq: FSQ) -> Array:
    """(..., stages, channels) levels -> (..., stages) tokens, in integers: 17^6 is more than float32 can count."""
    return jnp.sum(levels * _basis(fsq), -1, dtype=jnp.int32)


def _check(x: Array, fsq: FSQ) -> None:
    if x.shape[-1] != len(fsq.levels):
        raise UsageError(f"the quantiser has {len(fsq.levels)} channels, not {x.shape[-1]}; they are the last axis.")


def _basis(fsq: FSQ) -> np.ndarray:
    return np.cumprod((1, *fsq.levels[:-1])).astype(np.int32)


def _scales(fsq: FSQ) -> np.ndarray:
    """(stages, channels)."""
    return np.stack([np.broadcast_to(np.asarray(s, np.float64), len(fsq.levels)) for s in fsq.scales])


def _step(fsq: FSQ) -> np.ndarray:
    """(channels,) between levels of the first stage."""
    return 2 * _scales(fsq)[0] / (np.asarray(fsq.levels) - 1)


def _offsets(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Half the width of the bound, what puts an even number of levels around -1/2, and where that is before tanh."""
    half = (levels - 1) * (1 + _EPS) / 2
    offset = np.where(levels % 2 == 0, 0.5, 0.0)
    return half, offset, np.arctanh(offset / half)


@functools.lru_cache(maxsize=64)
def _staircases(fsq: FSQ, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Every channel's steps.

    Returns:
      (channels, cells - 1) the least value of `dtype` above each step, padded with inf, and (channels, cells, stages)
      the levels between them.
    """
    reach = np.broadcast_to(np.asarray(fsq.reach, np.float64), len(fsq.levels))
    channels = zip(fsq.levels, _scales(fsq).T, reach, strict=True)
    stairs = [_staircase(count, tuple(scales), float(r), fsq.offset, dtype) for count, scales, r in channels]
    cells = max(len(levels) for _, levels in stairs)
    breaks = np.full((len(stairs), cells - 1), np.inf, dtype)
    table = np.zeros((len(stairs), cells, fsq.stages), np.int32)
    for channel, (at, levels) in enumerate(stairs):
        breaks[channel, : len(at)] = at
        table[channel, : len(levels)] = levels
    return breaks, table


@functools.lru_cache(maxsize=64)
def _staircase(
    count: int, scales: tuple[float, ...], reach: float, offset: bool, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """One channel's steps (cells - 1,) and levels (cells, stages); see `_staircases`."""

    def cell(x: np.ndarray) -> np.ndarray:
        """All levels of x as one number, which never falls as x rises; its digits are in base `count`."""
        if offset:
            half, off, shift = _offsets(np.asarray(count))
            return (np.round(np.tanh(x + shift) * half - off) + count // 2).astype(np.int64)
        rest, number = reach * np.tanh(x / reach), np.zeros(x.shape, np.int64)
        for scale in scales:
            step = 2 * scale / (count - 1)
            level = np.clip(np.round((rest + scale) / step), 0, count - 1)
            rest = rest - (level * step - scale)
            number = number * count + level.astype(np.int64)
        return number

    # Numbers of `dtype` in order are the integers around 0; the step up to each cell is found by bisection among them.
    bits, unsigned = (np.int64, np.uint64) if dtype == "float64" else (np.int32, np.uint32)

    def value(place: np.ndarray) -> np.ndarray:
        return np.copysign(np.abs(place).astype(unsigned).view(dtype), place).astype(np.float64)

    largest = int(np.asarray(np.finfo(dtype).max, dtype).view(bits))
    first, last = cell(value(np.asarray([-largest, largest])))
    wanted = np.arange(first + 1, last + 1)
    below, above = np.full(wanted.shape, -largest, np.int64), np.full(wanted.shape, largest, np.int64)
    for _ in range(np.dtype(dtype).itemsize * 8):
        middle = (below & above) + ((below ^ above) >> 1)
        up = cell(value(middle)) >= wanted
        below, above = np.where(up, below, middle), np.where(up, middle, above)
    steps = np.unique(above)
    cells = cell(value(np.concatenate([[-largest], steps])))
    powers = count ** np.arange(len(scales) - 1, -1, -1)
    return value(steps).astype(dtype), (cells[:, None] // powers % count).astype(np.int32)
