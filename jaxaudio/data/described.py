"""Endless batches of sounds with a sentence each, some of two sounds at a time, for what learns to describe them."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxaudio.data import mixing
from jaxaudio.data.clips import Clip
from jaxaudio.data.pipeline import Clips, MixtureIterator, Prepared, conflict_names, grain_module, made_ahead, own_rows
from jaxaudio.errors import ConfigError, UsageError

Batch = dict[str, Any]
Row = tuple[np.ndarray, str, frozenset[str], tuple[str, ...]]

JOINED = ("{} and {}", "{} with {} in the background", "{}, while {}")
"""How the captions of two sounds become one; the first is the louder's where one is in the background."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DescribedConfig:
    """What a batch is made of.

    Attributes:
      batch: rows.
      sample_rate: Hz.
      seconds: of each sound.
      pairs: share of the rows that hold two sounds, in [0, 1].
      ratio_db: lowest and highest level of the second sound over the first.
      level_db: lowest and highest gain of the whole.
      joined: how two captions become one; templates with two braces.
      references: how many sentences of each row are told beside its own, as people said them; 0 for none.
      balance: pick a concept uniformly, which is a clip's first label, and then one of its clips.
      cache_bytes: how much audio to keep in memory.
      buffer: batches made ahead.
      seed: of all that is drawn.
    """

    batch: int = 32
    sample_rate: int = 32000
    seconds: float = 4.0
    pairs: float = 0.4
    ratio_db: tuple[float, float] = (-6.0, 6.0)
    level_db: tuple[float, float] = (-12.0, 6.0)
    joined: tuple[str, ...] = JOINED[:1]
    references: int = 0
    balance: bool = True
    cache_bytes: int = 4 << 30
    buffer: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.pairs <= 1:
            raise ConfigError(f"pairs={self.pairs} is a share of the rows; give 0 to 1.")

    @property
    def length(self) -> int:
        """Samples of each sound."""
        return round(self.seconds * self.sample_rate)


class DescribedPipeline:
    """Sounds and their captions: `for batch in DescribedPipeline(clips, config)` never ends.

    A batch is a dict of audio (batch, time) float32, whatever arrays `text` makes of the captions, with `concepts` tags
    (batch, concepts) float32, 1 for what is heard, and with `config.references` what `text` makes of those, under
    "references_NAME" (batch, references, ...).

    Args:
      clips: anything with `len` and `[index] -> Clip`.
      config: see `DescribedConfig`.
      text: captions -> named arrays with a leading batch axis.
      concepts: labels that are told.
      share: (index, count) of this process, as in `MixturePipeline`.

    Raises:
      UsageError: no clip has a caption.
      ConfigError: the batch does not divide into the shares.
      MissingError: grain, of the `data` extra, is not installed.
    """

    def __init__(
        self,
        clips: Clips,
        config: DescribedConfig,
        *,
        text: Callable[[Sequence[str]], dict[str, np.ndarray]],
        concepts: Sequence[str] = (),
        share: tuple[int, int] = (0, 1),
    ):
        own_rows(config.batch, share)
        self.config = config
        members: dict[str, list[int]] = {}
        for i in range(len(clips)):
            clip = clips[i]
            if clip.captions:
                concept = (clip.labels or (clip.id,))[0]
                members.setdefault(concept if config.balance else "", []).append(i)
        if not members:
            raise UsageError("No clip to describe: the data set is empty, or no clip has a caption.")
        prepared = Prepared(clips, config.sample_rate, config.cache_bytes)
        rows = functools.partial(described, prepared, tuple(members.values()), config)
        self._batches = (
            grain_module()
            .MapDataset.range(1 << 40)
            .map(rows)
            .batch(config.batch, batch_fn=list)
            .map(functools.partial(_stacked, text, {name: i for i, name in enumerate(concepts)}, share))
        )

    def __getitem__(self, step: int) -> Batch:
        """Batch number `step`, made here and now."""
        return self._batches[step]

    def __iter__(self) -> MixtureIterator:
        return MixtureIterator(self._from)

    def _from(self, step: int) -> Iterator[Batch]:
        return iter(made_ahead(self._batches, step, self.config.buffer))


def described(clips: Clips, members: Sequence[Sequence[int]], config: DescribedConfig, index: int) -> Row:
    """Row number `index`: (time,) float32 of one sound or two, the sentence, their labels, and the references.

    Args:
      clips: mono, at the rate wanted.
      members: places of clips; one of these groups is picked, then one of its clips.
      config: see `DescribedConfig`.
      index: which row; everything is drawn by it.
    """
    rng = np.random.default_rng((7, config.seed, index))

    def pick() -> Clip:
        own = members[int(rng.integers(len(members)))]
        return clips[own[int(rng.integers(len(own)))]]

    def heard(clip: Clip) -> tuple[np.ndarray, str]:
        audio = mixing.cut(clip.audio, config.length, rng, "random")
        return audio, clip.captions[int(rng.integers(len(clip.captions)))]

    first = pick()
    audio, caption = heard(first)
    labels, told = frozenset(first.labels), first.captions
    if rng.random() < config.pairs:
        others = (pick() for _ in range(20))
        second = next((clip for clip in others if not conflict_names(clip) & conflict_names(first)), None)
        if second is not None:
            other, words = heard(second)
            ratio = float(rng.uniform(*config.ratio_db))
            audio = audio + other * np.float32(_gain(audio, other, ratio))
            pair = (caption, words) if rng.random() < 0.5 else (words, caption)
            caption = config.joined[int(rng.integers(len(config.joined)))].format(*pair)
            labels |= frozenset(second.labels)
            pairs = list(zip(first.captions, itertools.cycle(second.captions)))
            orders = [order for one, other in pairs for order in ((one, other), (other, one))]
            told = tuple(template.format(*order) for order in orders for template in config.joined)
    peak = float(np.abs(audio).max())
    gain = 10.0 ** (rng.uniform(*config.level_db) / 20)
    references = tuple(itertools.islice(itertools.cycle(told), config.references))
    return audio * np.float32(min(gain, 1.0 / max(peak, 1e-9))), caption, labels, references


def _gain(first: np.ndarray, second: np.ndarray, ratio_db: float) -> float:
    """What brings the second sound's level to so many dB over the first's; 1 where one of them is silent."""
    powers = [float(np.mean(np.square(x, dtype=np.float64))) for x in (first, second)]
    if min(powers) <= 1e-12:
        return 1.0
    return (powers[0] / powers[1]) ** 0.5 * 10.0 ** (ratio_db / 20)


def _stacked(
    text: Callable[[Sequence[str]], dict[str, np.ndarray]],
    places: Mapping[str, int],
    share: tuple[int, int],
    rows: list[Row],
) -> Batch:
    sounds, captions, labels, references = zip(*rows[own_rows(len(rows), share)], strict=True)
    batch = {"audio": np.stack(sounds).astype(np.float32), **text(captions)}
    if places:
        batch["tags"] = np.zeros((len(labels), len(places)), np.float32)
        for row, names in zip(batch["tags"], labels, strict=True):
            row[[places[name] for name in names if name in places]] = 1
    if references[0]:
        told = text([one for own in references for one in own])
        batch |= {f"references_{name}": x.reshape(len(references), -1, *x.shape[1:]) for name, x in told.items()}
    return batch
