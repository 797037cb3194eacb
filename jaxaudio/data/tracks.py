"""Endless batches of sources to be mixed, speech with music with effects, for SD-Codec (Bie et al., 2024).

As of `pipeline`, batch k is a pure function of (clips, config, k), and an iterator's state is `{"step": k}`.
"""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxaudio.data import mixing
from jaxaudio.data.pipeline import Clips, MixtureIterator, Prepared, grain_module, made_ahead, own_rows
from jaxaudio.errors import ConfigError, UsageError

Batch = dict[str, Any]

_STREAM = 12  # first word of the random seeds here

LEVELS = {"speech": -17.0, "music": -24.0, "sfx": -21.0}
"""LUFS of the sources in SD-Codec's mixtures."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """What a batch of sources is made of; the defaults are SD-Codec's.

    Attributes:
      batch: mixtures per batch.
      sample_rate: of what comes out, in Hz.
      seconds: length of a mixture.
      counts: how likely one, two, ... sources are in a mixture; cut to the number of tracks and made to sum to 1.
      mix_level: LUFS of the mixtures.
      spread: every level is drawn from so many LU below it to so many above.
      speed: range of a random factor on speed and pitch; (1, 1) for none.
      steady: share of the sounds that are left as they are, whatever `speed`. Resampling leaves traces near the highest
        frequencies, and a model that knows nothing else takes them for granted.
      place: where sounds shorter than a mixture go, see `mixing.cut`.
      balance: pick a class of a track evenly, which is a clip's first label, and then one of its clips.
      seed: of everything random.
      buffer: batches made ahead.
      cache_bytes: decoded and converted clips are kept in memory up to this size, per track.
    """

    batch: int = 8
    sample_rate: int = 16000
    seconds: float = 2.0
    counts: tuple[float, ...] = (0.6, 0.2, 0.2)
    mix_level: float = -27.0
    spread: float = 2.0
    speed: tuple[float, float] = (1.0, 1.0)
    steady: float = 0.0
    place: mixing.Place = "random"
    balance: bool = False
    seed: int = 0
    buffer: int = 4
    cache_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.batch < 1 or self.length < 1 or self.seed < 0 or self.buffer < 1:
            raise ConfigError("mixtures of tracks need batch >= 1, seconds > 0, seed >= 0 and buffer >= 1.")
        if not 0 <= self.steady <= 1:
            raise ConfigError(f"a share of sounds is 0 to 1, not {self.steady}.")
        if not self.counts or min(self.counts) < 0 or not self.counts[0]:
            raise ConfigError(f"counts are how likely 1, 2, ... sources are, the first above 0, not {self.counts}.")

    @property
    def length(self) -> int:
        """Samples in a mixture."""
        return round(self.seconds * self.sample_rate)


class TrackPipeline:
    """Sources of the given tracks: `for batch in TrackPipeline(clips, config)` never ends.

    A batch is a dict of
      sources: (batch, tracks, time) float32, each at the level of its clip.
      valid: (batch, tracks) float32, 1 for the sources that are in the mixture.
      levels: (batch, tracks) float32 LUFS to bring them to, see `dsp.loudness.mixed`.
      mix_level: (batch,) float32 LUFS of the mixture.

    Args:
      clips: of each track, in the order of the tracks.
      config: see `TrackConfig`.
      levels: LUFS of each track.
      share: (index, count) of this process: it gets the index-th of count equal parts of every batch.

    Raises:
      UsageError: a track has no clips.
      ConfigError: the batch does not divide into the shares, or a track has no level.
      MissingError: grain, of the `data` extra, is not installed.
    """

    def __init__(
        self,
        clips: Mapping[str, Clips],
        config: TrackConfig,
        *,
        levels: Mapping[str, float] = LEVELS,
        share: tuple[int, int] = (0, 1),
    ):
        self._rows = range(config.batch)[own_rows(config.batch, share)]
        if missing := [name for name in clips if name not in levels]:
            raise ConfigError(f"the track {missing[0]!r} has no level; give levels={{{missing[0]!r}: LUFS}}.")
        if empty := [name for name, own in clips.items() if not len(own)]:
            raise UsageError(f"the track {empty[0]!r} has no clips; give it some, or leave it out.")
        self.config = config
        self._levels = np.array([levels[name] for name in clips], np.float32)
        self._clips = [Prepared(own, config.sample_rate, config.cache_bytes) for own in clips.values()]
        self._members = [_members(own) if config.balance else [range(len(own))] for own in clips.values()]
        odds = np.array(config.counts[: len(clips)], np.float64)
        self._odds = odds / odds.sum()

    def __getitem__(self, step: int) -> Batch:
        """Batch number `step`, made here and now."""
        rows = [self._row(step * self.config.batch + row) for row in self._rows]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def __iter__(self) -> MixtureIterator:
        return MixtureIterator(self._from)

    def _from(self, step: int) -> Iterator[Batch]:
        batches = grain_module().MapDataset.range(2**62).map(self.__getitem__)
        return iter(made_ahead(batches, step, self.config.buffer))

    def _row(self, index: int) -> dict[str, np.ndarray]:
        config = self.config
        rng = np.random.default_rng((_STREAM, config.seed, index))
        tracks = len(self._clips)
        chosen = rng.permutation(tracks)[: 1 + int(rng.choice(len(self._odds), p=self._odds))]
        valid = np.isin(np.arange(tracks), chosen).astype(np.float32)
        spread = rng.uniform(-config.spread, config.spread, tracks + 1).astype(np.float32)
        return {
            "sources": np.stack([self._sound(*track, rng) for track in zip(self._clips, self._members, strict=True)]),
            "valid": valid,
            "levels": self._levels + spread[1:],
            "mix_level": np.float32(config.mix_level) + spread[0],
        }

    def _sound(self, clips: Prepared, members: Sequence[Sequence[int]], rng: np.random.Generator) -> np.ndarray:
        config = self.config
        own = members[int(rng.integers(len(members)))] if len(members) > 1 else members[0]
        audio = clips[own[int(rng.integers(len(own)))]].audio
        speed = rng.uniform(*config.speed)
        if config.speed == (1.0, 1.0) or rng.random() < config.steady:
            return mixing.cut(audio, config.length, rng, config.place).astype(np.float32)
        rate = round(config.sample_rate / speed)
        part = mixing.cut(audio, math.ceil(config.length * config.sample_rate / rate), rng, config.place)
        return mixing.resample(part, config.sample_rate, rate)[: config.length].astype(np.float32)


def _members(clips: Clips) -> list[list[int]]:
    """The numbers of the clips of every class."""
    classes: dict[str, list[int]] = {}
    for i in range(len(clips)):
        clip = clips[i]
        classes.setdefault((clip.labels or (clip.id,))[0], []).append(i)
    return list(classes.values())
