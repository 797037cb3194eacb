"""What the layouts share: finding listings and audio, reading them, saying clearly what is missing."""

import csv
import io
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import soundfile

from jaxaudio.data.clips import Clip
from jaxaudio.data.mixing import to_mono
from jaxaudio.errors import AudioError, MissingError, UsageError

OnError = Literal["skip", "fail"]

AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".w64", ".caf"})


class Entry(NamedTuple):
    """What a listing says of one clip: the fields are those of `Clip`, with a path in place of the audio.

    `path` need not exist. `origin` is the file and line that said so, for errors.
    """

    id: str
    path: Path
    captions: tuple[str, ...]
    labels: tuple[str, ...] = ()
    source: str = ""
    licence: str = ""
    origin: str = ""


def load(entries: Iterable[Entry], *, on_error: OnError = "skip", min_samples: int = 0) -> Iterator[Clip]:
    """Reads the audio of listed clips, one at a time.

    Args:
      entries: what to read.
      on_error: "skip" leaves out what is missing or unreadable and warns once, at the end; "fail" raises at the first.
      min_samples: clips with fewer samples at their own rate are left out.

    Raises:
      AudioError: under "fail", a file is missing or unreadable.
      UsageError: not one clip was left.
    """
    count, short, failures = 0, 0, []
    for entry in entries:
        try:
            audio, sample_rate = read_audio(entry.path)
        except AudioError as error:
            message = f"{entry.origin}: {error}" if entry.origin else str(error)
            if on_error == "fail":
                raise AudioError(message) from error
            failures.append(message)
            continue
        if len(audio) < min_samples:
            short += 1
            continue
        count += 1
        yield Clip(
            id=entry.id,
            audio=audio,
            sample_rate=sample_rate,
            captions=entry.captions,
            labels=entry.labels,
            source=entry.source or entry.id,
            licence=entry.licence,
        )
    if not count:
        why = failures[0] if failures else f"all {short} are shorter than {min_samples} samples." if short else ""
        raise UsageError(f"no clip could be read of {len(failures) + short} listed. {why}".strip())
    if failures:
        warnings.warn(f"{len(failures)} of {count + len(failures)} clips left out; {failures[0]}", stacklevel=2)


def read_audio(path: Path) -> tuple[np.ndarray, int]:
    """(time,) float32 mono and its sample rate.

    Raises:
      AudioError: the file is missing, not audio, truncated, empty or not finite.
    """
    try:
        if not path.is_file():
            raise AudioError(f"no audio file {path}; check the path, or leave the clip out.")
        audio, sample_rate = soundfile.read(path, dtype="float32", always_2d=False)
    except AudioError:
        raise
    except (soundfile.SoundFileError, OSError, ValueError) as error:
        raise AudioError(f"cannot read {path} as audio ({error}); convert it to WAV or FLAC.") from error
    audio = to_mono(audio)
    if not audio.size or not np.isfinite(audio).all():
        raise AudioError(f"{path} is empty or not finite; leave it out.")
    return audio, sample_rate


class AudioIndex:
    """The audio files below a folder, by file name without suffix."""

    def __init__(self, root: Path):
        self._root = root
        self._paths: dict[str, Path] = {}
        self._pieces: dict[str, list[Path]] = {}
        for folder, subfolders, files in os.walk(root):
            subfolders.sort()
            for file in sorted(files):
                stem, suffix = os.path.splitext(file)
                if suffix.lower() in AUDIO_SUFFIXES:
                    self._paths.setdefault(stem, Path(folder, file))

    def find(self, *stems: str) -> Path:
        """The first of the given names that is there; if none is, a path that does not exist."""
        for stem in stems:
            if stem in self._paths:
                return self._paths[stem]
        return self._root / stems[0]

    def pieces(self, stem: str) -> list[Path]:
        """Files named `stem_0`, `stem_1`, ..., with or without a leading Y."""
        if not self._pieces:
            for name, path in self._paths.items():
                video, _, number = name.rpartition("_")
                if number.isdecimal():
                    self._pieces.setdefault(video, []).append(path)
        return self._pieces.get(stem, []) + self._pieces.get(f"Y{stem}", [])


def find_file(root: Path, *names: str) -> Path:
    """The first of some relative paths that exists below `root`, else the same file name anywhere below it.

    Raises:
      MissingError: none is there.
    """
    if not root.is_dir():
        raise MissingError(f"no folder {root}; give the one where the data set was unpacked.")
    for name in names:
        if (root / name).is_file():
            return root / name
    for name in names:
        for path in sorted(root.rglob(Path(name).name)):
            return path
    raise MissingError(f"no {names[0]} in {root}; download the listing and put it there.")


def read_text(path: Path) -> str:
    """The contents of a text file: UTF-8, or else Latin-1 (Clotho's metadata)."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_rows(path: Path, fields: tuple[str, ...] = ()) -> Iterator[dict[str, str]]:
    """The rows of a CSV file; see `numbered_rows`."""
    return (row for _, row in numbered_rows(path, fields))


def numbered_rows(path: Path, fields: tuple[str, ...] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) for each row of a CSV file.

    Args:
      path: the file.
      fields: names of the columns of a file without a header, whose lines starting with `#` are comments (AudioSet).

    Raises:
      UsageError: it is not CSV, or a row has not as many columns as the header, named with its line.
    """
    # Comments become empty lines, which the csv module skips, so that line numbers stay true.
    lines = ("\n" if fields and line.startswith("#") else line for line in io.StringIO(read_text(path), newline=""))
    reader = csv.DictReader(lines, fieldnames=fields or None, skipinitialspace=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                columns = ", ".join(reader.fieldnames or ())
                raise UsageError(
                    f"{path}:{reader.line_num}: expected the columns {columns}; quote texts that hold commas."
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise UsageError(f"{path}:{reader.line_num}: not CSV ({error}); mend the line.") from error


def read_json(path: Path) -> Any:
    """The contents of a JSON file.

    Raises:
      UsageError: it is not JSON, named with the line.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(f"{path}{line}: not JSON ({error}); mend it.") from error


def words(label: str) -> str:
    """A class name as words: `acoustic_guitar` -> `acoustic guitar`."""
    return " ".join(label.replace("_", " ").split())
