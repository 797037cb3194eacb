"""The built set on disk: per split one flat file of int16 samples and one JSON list of what is where."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxaudio.data.clips import Clip
from jaxaudio.data.open_sounds.audio import RATE
from jaxaudio.errors import AudioError, MissingError


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as int16, clipped and rounded."""
    return np.round(np.clip(audio, -1, 1) * 32767).astype(np.int16)


class StoreWriter:
    """Appends clips to `<path>.int16` and, on a clean exit, writes `<path>.json`; use as a context manager."""

    def __init__(self, path: Path):
        self.path, self.records, self._length = Path(path), [], 0

    def __enter__(self) -> "StoreWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._samples = open(self.path.with_name(self.path.name + ".int16"), "wb")
        return self

    def add(self, record: dict, audio: np.ndarray) -> None:
        """Appends (time,) samples, int16 or float in [-1, 1]; `start` and `length` are added to the record."""
        audio = audio if audio.dtype == np.int16 else to_int16(audio)
        self.records.append(record | {"start": self._length, "length": len(audio)})
        self._length += len(audio)
        audio.astype("<i2").tofile(self._samples)

    def __exit__(self, kind, error, trace) -> None:
        self._samples.close()
        if kind is None:
            index = self.path.with_name(self.path.name + ".json")
            part = index.with_name(index.name + ".part")
            rows = ",\n".join(json.dumps(record, ensure_ascii=False) for record in self.records)
            part.write_text(f"[\n{rows}\n]\n", encoding="utf-8")
            part.replace(index)


class Store(Sequence[Clip]):
    """A read-only sequence of clips over a memory-mapped split; samples become float32 when a clip is taken.

    Attributes:
      records: what the JSON holds for each clip: id, start, length, concept, family, labels, captions, source, licence.
    """

    def __init__(self, path: Path | str):
        path = Path(path)
        index, samples = (path.with_name(path.name + suffix) for suffix in (".json", ".int16"))
        if not (index.exists() and samples.exists()):
            raise MissingError(f"there is no sound store at {path}; build it with `jaxaudio data build open_sounds`")
        self.records: list[dict] = json.loads(index.read_text(encoding="utf-8"))
        end = max((record["start"] + record["length"] for record in self.records), default=0)
        if samples.stat().st_size < 2 * end:
            raise AudioError(f"{samples} is shorter than its index says; build the set again")
        self._samples = np.memmap(samples, "<i2", "r") if end else np.zeros(0, np.int16)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        record = self.records[index]
        return Clip(
            id=record["id"],
            audio=self.samples(index).astype(np.float32) / 32767,
            sample_rate=RATE,
            captions=tuple(record["captions"]),
            labels=tuple(record["labels"]),
            source=record["source"],
            licence=record["licence"],
        )

    def samples(self, index: int) -> np.ndarray:
        """(time,) int16 view of one clip."""
        record = self.records[index]
        return self._samples[record["start"] : record["start"] + record["length"]]


def read_store(path: Path | str) -> Store:
    """The clips of one split, e.g. `read_store(out / "train")`.

    Raises:
      MissingError: nothing was built there.
    """
    return Store(path)


def summary(records: Iterable[dict]) -> dict[str, int | float]:
    """Numbers of clips, hours, concepts, families and source recordings."""
    records = list(records)
    return {
        "clips": len(records),
        "hours": round(sum(r["length"] for r in records) / RATE / 3600, 3),
        "concepts": len({r["concept"] for r in records}),
        "families": len({r["family"] for r in records}),
        "sources": len({r["source"] for r in records}),
    }


def open_split(root: Path | str, split: str) -> Any:
    """A split of `open_sounds` (`len`, `[index] -> Clip`), as `jaxaudio data build` or this package itself wrote it.

    Raises:
      MissingError: `root` holds neither.
    """
    from jaxaudio.data.audio_clips import is_dataset, open_dataset

    if not is_dataset(root):
        return read_store(Path(root) / split)
    splits = open_dataset(root)
    if split not in splits:
        raise MissingError(f"{root} has no split {split}; build it with `jaxaudio data build open_sounds`")
    return splits[split]
