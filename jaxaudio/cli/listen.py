"""What the verbs that listen share: recordings from the command line, and tables of what was heard."""

import csv
import io as text_io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxaudio import io
from jaxaudio.cli import show
from jaxaudio.errors import AudioError, UsageError


class Heard(NamedTuple):
    """A recording as a model is given it.

    Attributes:
      path: of the file.
      seconds: of the whole recording.
      samples: what `Captioner.hear` or the like made of it.
    """

    path: Path
    seconds: float
    samples: np.ndarray


def recordings(inputs: Sequence[Path]) -> list[tuple[Path, bool]]:
    """The files that are named, and those in folders that are; whether each was in a folder.

    Raises:
      UsageError: a folder without audio.
    """
    found: list[tuple[Path, bool]] = []
    for path in inputs:
        if not path.is_dir():
            found.append((path, False))
        elif inside := io.readable(path):
            found += [(file, True) for file in inside]
        else:
            raise UsageError(f"there is no audio in {path}; give recordings, or a folder of them.")
    return list(dict.fromkeys(found))


def hear(model: Any, files: Iterable[tuple[Path, bool]], quiet: bool = False) -> list[Heard]:
    """Reads recordings for a model; one in a folder that cannot be read is told of and left out.

    Raises:
      AudioError: a recording that was named cannot be read, or none of a folder can.
    """
    heard: list[Heard] = []
    for path, in_folder in files:
        try:
            sound = io.read(path)
            with show.naming(path):
                samples = model.hear(sound.samples, sample_rate=sound.sample_rate)
        except AudioError as error:
            if not in_folder:
                raise
            show.say(f"note: {str(error).splitlines()[0]} It is left out.", quiet)
            continue
        heard.append(Heard(path, len(sound.samples) / sound.sample_rate, samples))
    if not heard:
        raise AudioError("none of the recordings can be read; give WAV, FLAC, Ogg or MP3 files.")
    return heard


def deliver(options: Any, columns: Sequence[str], rows: Iterable[Sequence[Any]], record: dict[str, Any]) -> bool:
    """Hands over what a verb found as its options ask: a table with the record of how it was made, or the record.

    Args:
      options: of the verb, with `out`, `quiet` and `json`.
      columns: of the table.
      rows: of the table.
      record: see `io.record`.

    Returns:
      Whether neither was asked for, so that what was found is to be shown.
    """
    if options.out is not None:
        told = text_io.StringIO()
        writer = csv.writer(told, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
        with io.Outputs() as outputs:  # both or neither
            outputs.write_text(options.out, told.getvalue())
            outputs.write_json(io.sidecar(options.out), record)
        show.say(str(options.out), options.quiet or options.json)
    if options.json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
    return options.out is None and not options.json


def checked_table(path: Path | None) -> None:
    """UsageError unless a table can have that name."""
    if path is not None and path.suffix.lower() != ".csv":
        raise UsageError(f"a table is written as CSV, and {path} would be none; give --out NAME.csv.")
