"""Endless batches of mixtures for training a separator, from a data set on disk or from clips in memory.

Batch k of a pipeline is a pure function of (clips, config, k). So the stream does not depend on the number of
workers, and its position is a single number: an iterator's state is `{"step": k}`.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from jaxaudio.data import mixing
from jaxaudio.data.clips import Clip
from jaxaudio.errors import ConfigError, MissingError, UsageError

Batch = dict[str, Any]
TextFunction = Callable[[Sequence[str]], Mapping[str, np.ndarray]]


class Clips(Protocol):
    """Random access to clips: a list of them, or a split of a built data set."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...


_STREAMS = {"pick": 0, "clip": 1, "mix": 2}  # first word of each random stream's seed


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureConfig:
    """What a batch of mixtures is made of; the defaults are AudioSep's.

    Attributes:
      batch: mixtures per batch.
      sample_rate: of what comes out, in Hz; clips are converted once, by soxr.
      seconds: length of a mixture.
      max_mix_num: sources per mixture are drawn from 2..max_mix_num.
      low_db: lowest gain of the interference over the target, whole dB.
      high_db: highest gain of the interference over the target, whole dB.
      level_db: range of a random gain on each mixture as a whole, in dB. AudioSep has none; clips from many sources
        differ in level anyway, a small collection may need some.
      place: where clips shorter than a mixture go, see `mixing.cut`.
      min_samples: clips with fewer samples at their own rate are left out (AudioSep: 32000).
      balance: pick a class uniformly, which is a clip's first label, and then one of its clips, instead of running
        through all clips in shuffled order.
      draws: "fresh" draws anew for every batch and never mixes clips that share a label, a source or an id; "reference"
        repeats AudioSep's draws, equal in every epoch, and mixes neighbours whatever they are.
      seed: of everything random.
      workers: processes that make batches, each with a copy of clips that are given in memory; 0 makes the batches in a
        thread of this process.
      buffer: batches made ahead, per process.
      cache_bytes: decoded and converted clips are kept in memory up to this size, per process.
    """

    batch: int = 12
    sample_rate: int = 32000
    seconds: float = 5.0
    max_mix_num: int = 2
    low_db: int = -10
    high_db: int = 10
    level_db: tuple[float, float] = (0.0, 0.0)
    place: mixing.Place = "start"
    min_samples: int = 0
    balance: bool = False
    draws: Literal["fresh", "reference"] = "fresh"
    seed: int = 0
    workers: int = 0
    buffer: int = 4
    cache_bytes: int = 2**31

    def __post_init__(self):
        if self.batch < 1 or self.length < 1 or self.max_mix_num < 2 or self.low_db > self.high_db:
            raise ConfigError("a mixture needs batch >= 1, seconds > 0, max_mix_num >= 2 and low_db <= high_db.")
        if self.seed < 0 or self.workers < 0 or self.buffer < 1:
            raise ConfigError("a pipeline needs seed >= 0, workers >= 0 and buffer >= 1.")

    @property
    def length(self) -> int:
        """Samples in a mixture."""
        return round(self.seconds * self.sample_rate)


class MixtureIterator(Iterator[Batch]):
    """Batches from a given step on; made by `MixturePipeline`."""

    def __init__(self, stream: Callable[[int], Iterator[Batch]]):
        self._stream = stream
        self._batches: Iterator[Batch] | None = None
        self._step = 0

    def __next__(self) -> Batch:
        if self._batches is None:
            self._batches = self._stream(self._step)
        batch = next(self._batches)
        self._step += 1
        # A worker's arrays are views of shared memory, which would outlive it if they were kept: hand out copies.
        return {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in batch.items()}

    def get_state(self) -> dict[str, int]:
        """The position: plain JSON, valid under any number of workers."""
        return {"step": self._step}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Continues as if `state["step"]` batches had been taken."""
        self.close()
        self._step = int(state["step"])

    def close(self) -> None:
        """Stops the workers; the next batch starts them again."""
        close = getattr(self._batches, "close", None)
        self._batches = None
        if close:
            close()


class MixturePipeline:
    """Mixtures of the given clips: `for batch in MixturePipeline(clips, config)` never ends.

    A batch is a dict of
      mixture: (batch, time) float32.
      segment: (batch, time) float32, the target within the mixture.
      caption: list of `batch` strings, one of each target's captions drawn at random; or, with `text`, whatever arrays
        that made of them.

    Args:
      clips: clips in memory, anything else with `len` and `[index] -> Clip`, or the folder of a built data set.
      config: see `MixtureConfig`.
      text: turns `batch` captions into named arrays with a leading batch axis (token ids, or embeddings looked up in a
        table); must be picklable if `config.workers` > 0.
      split: which split of a built data set.
      share: (index, count) of this process: it gets the index-th of count equal parts of every batch. Give
        `(jax.process_index(), jax.process_count())` to train on several hosts.

    Raises:
      UsageError: no clip is left to mix.
      ConfigError: the batch does not divide into the shares.
      MissingError: grain, of the `data` extra, is not installed.
    """

    def __init__(
        self,
        clips: Clips | str | Path,
        config: MixtureConfig,
        *,
        text: TextFunction | None = None,
        split: str = "train",
        share: tuple[int, int] = (0, 1),
    ):
        own_rows(config.batch, share)  # so that what does not divide is noticed now
        if isinstance(clips, str | Path):
            from jaxaudio.data.audio_clips import open_dataset

            splits = open_dataset(clips)
            if split not in splits:
                raise UsageError(f"{clips} has no split '{split}'; it has {', '.join(sorted(splits))}.")
            clips = splits[split]
        self.config = config
        self._batches = _batches(clips, config, text, share)

    def __getitem__(self, step: int) -> Batch:
        """Batch number `step`, made here and now."""
        return self._batches[step]

    def __iter__(self) -> MixtureIterator:
        return MixtureIterator(self._from)

    def _from(self, step: int) -> Iterator[Batch]:
        grain, config = grain_module(), self.config
        batches = made_ahead(self._batches, step, config.buffer)
        if config.workers:
            _parse_grain_flags()
            batches = batches.mp_prefetch(
                grain.MultiprocessingOptions(num_workers=config.workers, per_worker_buffer_size=config.buffer)
            )
        return iter(batches)


class Prepared:
    """Clips as the mixer wants them: mono, at one sample rate, kept in memory while they fit.

    Args:
      clips: where they come from.
      sample_rate: Hz to convert to.
      cache_bytes: how much audio to keep.
    """

    def __init__(self, clips: Clips, sample_rate: int, cache_bytes: int):
        self._clips, self._sample_rate, self._room = clips, sample_rate, cache_bytes
        self._kept: dict[int, Clip] = {}

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Clip:
        if index in self._kept:
            return self._kept[index]
        clip = self._clips[index]
        audio = mixing.resample(mixing.to_mono(clip.audio), clip.sample_rate, self._sample_rate)
        clip = dataclasses.replace(clip, audio=audio, sample_rate=self._sample_rate)
        if audio.nbytes <= self._room:
            self._room -= audio.nbytes
            self._kept[index] = clip
        return clip


def conflict_names(clip: Clip) -> set[str]:
    """What two clips must not have in common to be mixed: a label, the source recording, the id."""
    names = {f"label {label}" for label in clip.labels} | {f"id {clip.id}"}
    return names | {f"source {clip.source}"} if clip.source else names


def _batches(clips: Clips, config: MixtureConfig, text: TextFunction | None, share: tuple[int, int]):
    """The endless grain.MapDataset of batches."""
    grain = grain_module()
    usable: Sequence[int] = range(len(clips))
    if config.min_samples or config.balance:  # these take a pass over the data, which may be large
        facts = [(len(clip.audio), (clip.labels or (clip.id,))[0]) for clip in (clips[i] for i in usable)]
        usable = [i for i in usable if facts[i][0] >= config.min_samples]
    if not usable:
        raise UsageError("no clip to mix: the data set is empty, or every clip is shorter than min_samples.")
    if config.balance:
        members: dict[str, list[int]] = {}
        for i in usable:
            members.setdefault(facts[i][1], []).append(i)
        pick = functools.partial(_pick, tuple(members.values()), config.seed)
        order = grain.MapDataset.range(len(usable)).repeat().map_with_index(pick)
    else:
        order = grain.MapDataset.source(usable).shuffle(config.seed).repeat()
    prepared = Prepared(clips, config.sample_rate, config.cache_bytes)
    return (
        order.map_with_index(functools.partial(_example, prepared, config))
        .batch(config.batch, batch_fn=list)
        .map_with_index(functools.partial(_mix, config, text, share, -(-len(usable) // config.batch)))
    )


def _pick(members: Sequence[Sequence[int]], seed: int, index: int, _: int) -> int:
    rng = _rng("pick", seed, index)
    own = members[int(rng.integers(len(members)))]
    return own[int(rng.integers(len(own)))]


def _example(clips: Clips, config: MixtureConfig, index: int, which: int) -> tuple[np.ndarray, str, set[str]]:
    """One segment, one of its captions, and the names that must not meet in a mixture."""
    rng = _rng("clip", config.seed, index)
    clip = clips[which]
    segment = mixing.cut(clip.audio, config.length, rng, config.place)
    gain = 10.0 ** (rng.uniform(*config.level_db) / 20)
    caption = clip.captions[rng.integers(len(clip.captions))] if clip.captions else ""
    return segment * np.float32(gain), caption, conflict_names(clip)


def _mix(
    config: MixtureConfig,
    text: TextFunction | None,
    share: tuple[int, int],
    epoch: int,
    step: int,
    examples: list[tuple],
) -> Batch:
    segments, captions, names = zip(*examples)
    options = {"max_mix_num": config.max_mix_num, "low_db": config.low_db, "high_db": config.high_db}
    if config.draws == "fresh":
        draws = mixing.draw(_rng("mix", config.seed, step), len(examples), names, **options)
    else:
        draws = mixing.reference_draws(step % epoch, len(examples), **options)
    mixture, segment = mixing.mix(np.stack(segments).astype(np.float32), draws)
    rows = own_rows(len(captions), share)
    query = text(captions[rows]) if text else {"caption": list(captions[rows])}
    return {"mixture": mixture[rows], "segment": segment[rows], **query}


def _rng(stream: str, seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng((_STREAMS[stream], seed, index))


def own_rows(batch: int, share: tuple[int, int]) -> slice:
    """The rows of a batch that belong to process `share` = (index, count).

    Raises:
      ConfigError: the batch does not divide into the processes.
    """
    part, parts = share
    if batch % parts:
        raise ConfigError(f"a batch of {batch} does not divide into {parts} processes; change `batch`.")
    return slice(part * batch // parts, (part + 1) * batch // parts)


def made_ahead(batches: Any, step: int, buffer: int) -> Any:
    """The batches of a grain.MapDataset from a step on, so many made ahead by a thread: a grain.IterDataset."""
    options = grain_module().ReadOptions(num_threads=1, prefetch_buffer_size=buffer)
    return batches.slice(slice(step, None)).to_iter_dataset(options)


def grain_module() -> Any:
    """Grain, or MissingError that says how to get it."""
    try:
        import grain
    except ImportError as error:
        raise MissingError("training pipelines need grain; pip install 'jaxaudio[data]'.") from error
    return grain


def _parse_grain_flags() -> None:
    """Lets grain start workers outside of absl's `app.run`.

    Grain 0.2.17 and 0.2.18, with JAX present, read an absl flag when they start workers; only `app.run` parses it.
    """
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
