"""Endless batches of single sounds, for codecs and vocoders; of speech, with what is said, for recognisers.

As of `pipeline`, batch k is a pure function of (clips, config, k), and an iterator's state is `{"step": k}`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxaudio.data import mixing
from jaxaudio.data.pipeline import Clips, MixtureIterator, Prepared, grain_module, made_ahead, own_rows
from jaxaudio.errors import ConfigError, UsageError

Batch = dict[str, Any]
Spell = Callable[[str], Sequence[int]]

_STREAM = 11  # first word of the random seeds here; `pipeline` has the small ones


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentConfig:
    """What a batch of sounds is made of.

    Attributes:
      batch: sounds per batch.
      sample_rate: of what comes out, in Hz.
      seconds: length of a sound; of utterances with labels, the longest that is taken.
      speed: range of a random factor on speed and pitch, drawn evenly; (1, 1) for none. At other speeds a few speakers
        stand for many.
      level_db: range of a random gain, in dB.
      place: where sounds shorter than a segment go, see `mixing.cut`; utterances with labels start at the start.
      most_labels: labels are filled up to so many; utterances with more are left out.
      balance: pick a class evenly, which is a clip's first label, and then one of its clips.
      seed: of everything random.
      buffer: batches made ahead.
      cache_bytes: decoded and converted clips are kept in memory up to this size.
    """

    batch: int = 16
    sample_rate: int = 16000
    seconds: float = 1.28
    speed: tuple[float, float] = (1.0, 1.0)
    level_db: tuple[float, float] = (-12.0, 2.0)
    place: mixing.Place = "random"
    most_labels: int = 200
    balance: bool = False
    seed: int = 0
    buffer: int = 4
    cache_bytes: int = 2**31

    def __post_init__(self) -> None:
        if self.batch < 1 or self.length < 1 or self.seed < 0 or self.buffer < 1 or self.most_labels < 1:
            raise ConfigError("segments need batch >= 1, seconds > 0, seed >= 0, buffer >= 1 and most_labels >= 1.")
        if not 0.25 <= self.speed[0] <= self.speed[1] <= 4 or self.level_db[0] > self.level_db[1]:
            raise ConfigError("speeds go from 0.25 to 4, the lower one first, as do levels.")

    @property
    def length(self) -> int:
        """Samples in a segment."""
        return round(self.seconds * self.sample_rate)


class SegmentPipeline:
    """Segments of the given clips: `for batch in SegmentPipeline(clips, config)` never ends.

    A batch is a dict of
      waveform: (batch, time) float32.
      length: (batch,) int32, samples of `waveform` that are sound; with `spell` alone.
      labels: (batch, most_labels) int32, 0 beyond its end; with `spell` alone.
      label_lengths: (batch,) int32; with `spell` alone.

    Args:
      clips: anything with `len` and `[index] -> Clip`.
      config: see `SegmentConfig`.
      spell: from what is said, a clip's first caption, to integers. Utterances are then whole: those that are too long,
        or whose text has no integer or too many, are left out.
      share: (index, count) of this process: it gets the index-th of count equal parts of every batch.

    Raises:
      UsageError: no clip is left.
      ConfigError: the batch does not divide into the shares.
      MissingError: grain, of the `data` extra, is not installed.
    """

    def __init__(
        self, clips: Clips, config: SegmentConfig, *, spell: Spell | None = None, share: tuple[int, int] = (0, 1)
    ):
        self.config = config
        self._batches = _batches(clips, config, spell, own_rows(config.batch, share))

    def __getitem__(self, step: int) -> Batch:
        """Batch number `step`, made here and now."""
        return self._batches[step]

    def __iter__(self) -> MixtureIterator:
        return MixtureIterator(self._from)

    def _from(self, step: int) -> Iterator[Batch]:
        return iter(made_ahead(self._batches, step, self.config.buffer))


def _batches(clips: Clips, config: SegmentConfig, spell: Spell | None, mine: slice) -> Any:
    grain = grain_module()
    classes: dict[str, list[int]] = {}
    for i in range(len(clips)) if config.balance or spell else ():  # these take a pass over the data
        clip = clips[i]
        if spell is None or _fits(clip, config, spell):
            classes.setdefault((clip.labels or (clip.id,))[0] if config.balance else "", []).append(i)
    members = tuple(classes.values()) if config.balance or spell else (range(len(clips)),)
    if not any(members):
        raise UsageError("no clip is left: the data set is empty, or every utterance is too long or has no text.")
    prepared = Prepared(clips, config.sample_rate, config.cache_bytes)
    if config.balance:
        order = grain.MapDataset.range(sum(map(len, members))).repeat()
        order = order.map_with_index(functools.partial(_pick, members, config.seed))
    else:
        order = grain.MapDataset.source(members[0]).shuffle(config.seed).repeat()
    return (
        order.map_with_index(functools.partial(_segment, prepared, config, spell))
        .batch(config.batch, batch_fn=functools.partial(_stacked, mine))
        .map(dict)
    )


def _fits(clip: Any, config: SegmentConfig, spell: Spell) -> bool:
    longest = len(clip.audio) / clip.sample_rate / config.speed[0]
    labels = spell(clip.captions[0]) if clip.captions else ()
    return longest <= config.seconds and 0 < len(labels) <= config.most_labels


def _pick(members: Sequence[Sequence[int]], seed: int, index: int, _: int) -> int:
    rng = np.random.default_rng((_STREAM, 0, seed, index))
    own = members[int(rng.integers(len(members)))]
    return own[int(rng.integers(len(own)))]


def _segment(clips: Clips, config: SegmentConfig, spell: Spell | None, index: int, which: int) -> Batch:
    rng = np.random.default_rng((_STREAM, 1, config.seed, index))
    clip = clips[which]
    audio = clip.audio
    low, high = config.speed
    if low < high or low != 1:
        audio = mixing.resample(audio, config.sample_rate, round(config.sample_rate / rng.uniform(low, high)))
    gain = np.float32(10.0 ** (rng.uniform(*config.level_db) / 20))
    if spell is None:
        return {"waveform": mixing.cut(audio, config.length, rng, config.place) * gain}
    labels = np.asarray(spell(clip.captions[0]), np.int32)
    return {
        "waveform": mixing.cut(audio, config.length, rng, "start") * gain,
        "length": np.int32(min(len(audio), config.length)),
        "labels": np.pad(labels, (0, config.most_labels - len(labels))),
        "label_lengths": np.int32(len(labels)),
    }


def _stacked(mine: slice, rows: Sequence[Batch]) -> Batch:
    return {name: np.stack([row[name] for row in rows[mine]]) for name in rows[0]}
