"""What every data source yields: one captioned clip."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Clip:
    """One recording with what is known about it.

    Attributes:
      id: unique within its data set.
      audio: (time,) float32 in [-1, 1], mono, at `sample_rate`.
      sample_rate: samples per second.
      captions: one or more sentences that describe the whole clip.
      labels: class names, empty when none are known; two clips that share one are never mixed together.
      source: name of the source recording; clips cut from one recording share it and stay on one side of a split.
      licence: SPDX identifier or a short name.
    """

    id: str
    audio: np.ndarray
    sample_rate: int
    captions: tuple[str, ...]
    labels: tuple[str, ...] = ()
    source: str = ""
    licence: str = ""
