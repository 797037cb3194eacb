"""Latents made once and kept on disk, so that a latent model trains without its autoencoder in the loop."""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxaudio.data.mixing import resample, to_mono
from jaxaudio.data.pipeline import Clips, MixtureIterator, own_rows
from jaxaudio.errors import CheckpointError, ConfigError, MissingError

Encode = Callable[[np.ndarray], np.ndarray]
TextFunction = Callable[[Sequence[str]], Mapping[str, Any]]

_QUIET = 0.02  # windows whose RMS is this much below that of their clip are left out


class Latents(NamedTuple):
    """What `write_latents` wrote.

    Attributes:
      values: (windows, positions, frequencies, channels) float16, mapped into memory; multiply by `scale`.
      records: of each window: id, captions, labels, source and licence of its clip.
      scale: one over the standard deviation of all values.
      about: what the encoder was, as given.
    """

    values: np.ndarray
    records: list[dict[str, Any]]
    scale: float
    about: dict[str, Any]


def windows_of(audio: np.ndarray, size: int, *, repeat: bool = False) -> list[np.ndarray]:
    """Windows of so many samples that overlap by a half, the last flush with the end.

    A short clip is filled up with silence, or repeated.

    Windows that are all but silent next to the rest of the clip are left out.
    """
    if len(audio) <= size:
        return [np.resize(audio, size) if repeat else np.pad(audio, (0, size - len(audio)))]
    starts = [*range(0, len(audio) - size, size // 2), len(audio) - size]
    cut = [audio[start : start + size] for start in starts]
    floor = _QUIET * np.sqrt(np.mean(np.square(audio)))
    return [window for window in cut if np.sqrt(np.mean(np.square(window))) > floor] or cut[:1]


def write_latents(
    out: str | os.PathLike,
    clips: Clips,
    encode: Encode,
    *,
    sample_rate: int,
    seconds: float,
    batch: int = 16,
    repeat: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Latents:
    """Encodes every clip in windows, all or nothing.

    Args:
      out: folder to write; an older one is replaced.
      clips: what to encode.
      encode: (batch, time) float32 at `sample_rate` -> latents; always called with the same shape.
      sample_rate: of what it takes, in Hz.
      seconds: length of a window.
      batch: windows per call.
      repeat: fill short clips up with themselves, not with silence, which a model would learn to make.
      about: JSON-able, stored beside, to tell later by what the latents were made.
      progress: called with the numbers of clips done and in all.
    """
    out = Path(out)
    beside = out.with_name(f".{out.name}.{secrets.token_hex(4)}.part")
    beside.mkdir(parents=True)
    try:
        records: list[dict[str, Any]] = []
        waiting: list[np.ndarray] = []
        count, total, squares = 0, 0.0, 0.0
        with open(beside / "values.f16", "wb") as file:

            def flush() -> None:
                nonlocal count, total, squares
                rows = np.stack([*waiting, *[waiting[-1]] * (batch - len(waiting))])
                made = np.asarray(encode(rows.astype(np.float32)), np.float32)[: len(waiting)]
                count, total, squares = count + made.size, total + made.sum(dtype=float), squares + np.vdot(made, made)
                made.astype(np.float16).tofile(file)
                shape.append(made.shape[1:])
                waiting.clear()

            shape: list[tuple[int, ...]] = []
            for i in range(len(clips)):
                clip = clips[i]
                audio = resample(to_mono(clip.audio), clip.sample_rate, sample_rate)
                record = {
                    "id": clip.id,
                    "captions": list(clip.captions),
                    "labels": list(clip.labels),
                    "source": clip.source,
                    "licence": clip.licence,
                }
                for window in windows_of(audio, round(seconds * sample_rate), repeat=repeat):
                    waiting.append(window)
                    records.append(record)
                    if len(waiting) == batch:
                        flush()
                if progress:
                    progress(i + 1, len(clips))
            if waiting:
                flush()
        if not records:
            raise ConfigError("no clip to encode: the data set is empty.")
        spread = float(np.sqrt(squares / count - (total / count) ** 2))
        fields = {"shape": list(shape[0]), "scale": 1 / spread, "about": dict(about or {}), "windows": records}
        (beside / "latents.json").write_text(json.dumps(fields, ensure_ascii=False) + "\n", encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return read_latents(out)


def read_latents(folder: str | os.PathLike) -> Latents:
    """Opens a folder of latents.

    Raises:
      MissingError: nothing was written there.
      CheckpointError: it is truncated.
    """
    folder = Path(folder)
    try:
        fields = json.loads((folder / "latents.json").read_text(encoding="utf-8"))
        values = np.memmap(folder / "values.f16", np.float16, "r")
    except OSError as error:
        raise MissingError(f"there are no latents in {folder}; write them with data.latents.write_latents.") from error
    shape = (len(fields["windows"]), *fields["shape"])
    if values.size != np.prod(shape):
        raise CheckpointError(f"{folder / 'values.f16'} is truncated; write the latents again.")
    return Latents(values.reshape(shape), fields["windows"], fields["scale"], fields["about"])


def balance(latents: Latents, most: int = 100) -> np.ndarray:
    """(windows,) probabilities of being drawn: a label's grows as the root of its windows, up to `most` of them."""
    labels = [(record["labels"] or [record["id"]])[0] for record in latents.records]
    _, where, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weight = np.sqrt(np.minimum(counts, most)) / counts
    each = weight[where]
    return each / each.sum()


class LatentPipeline:
    """Endless batches of latents with a caption each; batch k is a pure function of (latents, seed, k).

    A batch holds "latent" (batch, positions, frequencies, channels) float32, scaled, and what `text` made of one of
    each clip's captions, drawn at random.

    Args:
      latents: of `read_latents`.
      batch: latents in a batch, of all processes.
      text: captions -> named arrays with a leading batch axis.
      seed: of everything random.
      share: (index, count) of this process, as for `MixturePipeline`.
    """

    def __init__(
        self, latents: Latents, batch: int, text: TextFunction, *, seed: int = 0, share: tuple[int, int] = (0, 1)
    ):
        self._latents, self._batch, self._text, self._seed = latents, batch, text, seed
        self._rows = own_rows(batch, share)
        self._edges = np.cumsum(balance(latents))

    def __getitem__(self, step: int) -> dict[str, Any]:
        """Batch number `step`."""
        rng = np.random.default_rng((self._seed, step))
        chosen = np.minimum(np.searchsorted(self._edges, rng.random(self._batch)), len(self._edges) - 1)
        luck = rng.random(self._batch)
        chosen, luck = chosen[self._rows], luck[self._rows]
        captions = [self._caption(int(i), u) for i, u in zip(chosen, luck, strict=True)]
        values = self._latents.values[chosen].astype(np.float32) * np.float32(self._latents.scale)
        return {"latent": values, **self._text(captions)}

    def __iter__(self) -> MixtureIterator:
        return MixtureIterator(self._from)

    def _caption(self, index: int, luck: float) -> str:
        captions = self._latents.records[index]["captions"]
        return captions[int(luck * len(captions))] if captions else ""

    def _from(self, step: int) -> Iterator[dict[str, Any]]:
        while True:
            yield self[step]
            step += 1
