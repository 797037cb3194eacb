"""In what order the codes of a sound follow each other: between grids (bands, frames) and sequences of steps.

A step holds one code of one band, in the orders of frequency and of time; or, in the order of delay, one code of every
band (Copet et al., 2023, arXiv:2306.05284, section 2.2): band k comes k steps late, so that a frame's code of one band
is known before that of the next. A grid of 20 x 86 codes takes 1,720 steps of one code, or 105 steps of 20.
"""

from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.errors import UsageError

Order = Literal["frequency", "time", "delay"]
ORDERS: tuple[Order, ...] = get_args(Order)


class Places(NamedTuple):
    """Where the codes of each step are in the grid, and the other way round.

    Attributes:
      band: (steps, streams) int in [0, bands).
      frame: (steps, streams) int; outside [0, frames) where a band has not begun, or has ended.
      step: (bands, frames) int in [0, steps).
    """

    band: np.ndarray
    frame: np.ndarray
    step: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """(steps, streams) bool: where there is a code, and no padding."""
        return (self.frame >= 0) & (self.frame < self.step.shape[1])


def shape(size: tuple[int, int], order: Order) -> tuple[int, int]:
    """(steps, streams) of the sequence: how many steps, and how many codes at each.

    Args:
      size: (bands, frames) of the grid.
      order: of the codes.

    Raises:
      UsageError: there is no such order, or nothing in the grid.
    """
    bands, frames = size
    if order not in ORDERS:
        raise UsageError(f"Codes in the order of {order!r}; give one of {', '.join(ORDERS)}.")
    if bands < 1 or frames < 1:
        raise UsageError(f"A grid of {bands} x {frames} codes; give one band and one frame at least.")
    return (frames + bands - 1, bands) if order == "delay" else (bands * frames, 1)


def places(size: tuple[int, int], order: Order) -> Places:
    """See `Places`; arguments and errors as `shape`."""
    steps, _ = shape(size, order)
    bands, frames = size
    band, frame, index = np.arange(bands), np.arange(frames), np.arange(steps)[:, None]
    if order == "frequency":
        return Places(index // frames, index % frames, band[:, None] * frames + frame)
    if order == "time":
        return Places(index % bands, index // bands, frame * bands + band[:, None])
    return Places(np.broadcast_to(band, (steps, bands)), index - band, frame + band[:, None])


def to_sequence(codes: Array, order: Order, pad: int) -> Array:
    """The steps of grids.

    Args:
      codes: (batch, bands, frames) int.
      order: of the codes.
      pad: what stands where a band has not begun, or has ended; in the order of delay only.

    Returns:
      (batch, steps, streams), see `shape`.

    Raises:
      UsageError: as `shape`, or codes of another rank.
    """
    if codes.ndim != 3:
        raise UsageError(f"codes of shape {tuple(codes.shape)}; give (batch, bands, frames).")
    at = places((codes.shape[1], codes.shape[2]), order)
    steps = codes[:, at.band, np.clip(at.frame, 0, codes.shape[2] - 1)]
    return jnp.where(at.real, steps, pad)


def to_grid(sequence: Array, size: tuple[int, int], order: Order) -> Array:
    """The grids of steps: the inverse of `to_sequence`; what stands for padding is not read.

    Args:
      sequence: (batch, steps, streams, ...): codes, or anything that there is of each.
      size: (bands, frames).
      order: of the codes.

    Returns:
      (batch, bands, frames, ...).

    Raises:
      UsageError: as `shape`, or a sequence of another grid.
    """
    steps, streams = shape(size, order)
    if sequence.shape[1:3] != (steps, streams):
        raise UsageError(f"a sequence of shape {tuple(sequence.shape)}; give (batch, {steps}, {streams}).")
    stream = np.arange(size[0])[:, None] if order == "delay" else 0
    return sequence[:, places(size, order).step, stream]
