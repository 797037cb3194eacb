"""Your own sounds with captions: a folder, or a CSV or JSON list of files.

What is understood, the first that applies:
- a list: `captions.csv`, `.json` or `.jsonl` in the folder, or such a file given by name. One row per clip, with a path
  (`path`, `file`, `file_name`, `filename`, `audio` or `wav`; relative ones start at the list) and a caption (`caption`,
  `text`, `captions`, or `caption_1`, `caption_2` ...); `labels` (separated by `;`), `source`, `licence` and `split` if
  known. AudioSep's `{"data": [{"wav", "caption"}]}` is such a list.
- a text file beside each sound, of the same name with `.txt`: one caption per line.
- a folder's name for everything in it: `dog_barking/1.wav`.
Folders at the top called train, val, validation, test or eval are splits.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxaudio.data.clips import Clip
from jaxaudio.data.layouts.listing import (
    AUDIO_SUFFIXES,
    Entry,
    OnError,
    load,
    numbered_rows,
    read_json,
    read_text,
    words,
)
from jaxaudio.errors import MissingError, UsageError

LISTS = ("captions.csv", "captions.jsonl", "captions.json")
SPLITS = ("train", "val", "validation", "test", "eval")
PATH_FIELDS = ("path", "file", "file_name", "filename", "audio", "wav")
CAPTION_FIELDS = ("caption", "text", "captions")


def clips(
    root: str | Path, split: str = "train", *, on_error: OnError = "fail", min_samples: int = 0
) -> Iterator[Clip]:
    """The clips of one split.

    Args:
      root: the folder, or the list.
      split: "train" also holds everything that names no split.
      on_error: "fail" raises at the first file that is missing or unreadable; "skip" leaves such files out and warns
        once with their number.
      min_samples: leave out clips with fewer samples at their own rate.

    Raises:
      MissingError: there is no such folder or file.
      UsageError: a list is malformed (with its line), a sound has no caption, or there is no clip at all.
      AudioError: under "fail", for the first file that cannot be read.
    """
    return load(splits(root).get(split, []), on_error=on_error, min_samples=min_samples)


def splits(root: str | Path) -> dict[str, list[Entry]]:
    """What there is, by split, without reading the audio; raises as `clips` does."""
    root = Path(root)
    if not root.exists():
        raise MissingError(f"no file or folder {root}; give the one with your sounds.")
    listing = root if root.is_file() else next((root / name for name in LISTS if (root / name).is_file()), None)
    found: dict[str, list[Entry]] = {}
    for split, entry in _listed(listing) if listing else _lying(root):
        found.setdefault(split, []).append(entry)
    if not found:
        raise UsageError(f"no sounds in {listing or root}; put WAV, FLAC, OGG or MP3 files with captions there.")
    return found


def _listed(listing: Path) -> Iterator[tuple[str, Entry]]:
    for line, row in _rows(listing):
        origin = f"{listing}:{line}"
        row = {str(key).strip().lower(): value for key, value in row.items() if value not in (None, "")}
        name = next((row[field] for field in PATH_FIELDS if field in row), None)
        captions = _texts(next((row[field] for field in CAPTION_FIELDS if field in row), ())) + tuple(
            str(row[key]) for key in sorted(row) if key.startswith("caption_")
        )
        if not name or not captions:
            lack, fields = ("path", PATH_FIELDS) if not name else ("caption", CAPTION_FIELDS)
            raise UsageError(f"{origin}: no {lack}; name it with one of {', '.join(fields)}.")
        labels = _texts(row.get("labels", row.get("label", "")), ";")
        entry = Entry(
            id=str(row.get("id", name)),
            path=listing.parent / str(name),
            captions=captions,
            labels=labels,
            source=str(row.get("source", "")),
            licence=str(row.get("licence", row.get("license", ""))),
            origin=origin,
        )
        yield str(row.get("split", "train")), entry


def _rows(listing: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line or item number, row), counting from 1."""
    match listing.suffix.lower():
        case ".csv":
            yield from numbered_rows(listing)
        case ".jsonl":
            for line, text in enumerate(read_text(listing).split("\n"), 1):
                if text.strip():
                    yield line, _row(text, f"{listing}:{line}")
        case ".json":
            data = read_json(listing)
            rows = data.get("data", data) if isinstance(data, dict) else data
            if isinstance(rows, dict):  # {"a.wav": "caption"}
                rows = [{"path": name, "caption": caption} for name, caption in rows.items()]
            if not isinstance(rows, list):
                raise UsageError(f'{listing}: expected a list of clips; see AudioSep\'s {{"data": [...]}}.')
            yield from enumerate((_row(row, f"{listing}: item {item}") for item, row in enumerate(rows, 1)), 1)
        case _:
            raise UsageError(f"{listing} is not a list of sounds; give a folder, or a .csv, .json or .jsonl file.")


def _row(row: Any, origin: str) -> Mapping[str, Any]:
    if isinstance(row, str):
        try:
            row = json.loads(row)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{origin}: not JSON ({error}); mend the line.") from error
    if not isinstance(row, dict):
        raise UsageError(f'{origin}: expected an object such as {{"wav": "a.wav", "caption": "a dog barks"}}.')
    return row


def _lying(root: Path) -> Iterator[tuple[str, Entry]]:
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() not in AUDIO_SUFFIXES or not path.is_file():
            continue
        place = path.relative_to(root)
        split = place.parts[0] if place.parts[0] in SPLITS and len(place.parts) > 1 else "train"
        folders = place.parts[:-1] if split not in place.parts[:1] else place.parts[1:-1]
        beside = path.with_suffix(".txt")
        if beside.is_file():
            labels: tuple[str, ...] = ()
            captions = tuple(line.strip() for line in read_text(beside).splitlines() if line.strip())
        else:
            captions = labels = tuple(words(folder) for folder in folders[-1:])
        if not captions:
            raise UsageError(
                f"{path} has no caption; write one into {beside.name}, or put it in a folder that names it."
            )
        yield split, Entry(place.with_suffix("").as_posix(), path, captions, labels)


def _texts(value: Any, separator: str | None = None) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else str(value).split(separator) if separator else [value]
    return tuple(text for text in (str(one).strip() for one in values) if text)
