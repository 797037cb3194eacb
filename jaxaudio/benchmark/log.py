"""A file with one line of JSON per cell, appended to; what a kill tore off is cut off again."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxaudio.errors import UsageError

NAME = "cells.jsonl"
Row = dict[str, Any]


def read(folder: str | os.PathLike) -> list[Row]:
    """The rows of a benchmark's folder, or of a .jsonl file; [] where there is none. A torn last line is left out.

    Raises:
      UsageError: a line before the last is not JSON.
    """
    path = _file(folder)
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("not an object")
            rows.append(row)
        except ValueError as error:
            if number < len(lines):
                raise UsageError(f"line {number} of {path} is not a cell ({error}); delete it.") from None
    return rows


def append(folder: str | os.PathLike, row: Mapping[str, Any]) -> None:
    """Adds a line, at once and for good.

    Raises:
      UsageError: the folder cannot be written to.
    """
    path = _file(folder)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a+b") as file:
            _cut_torn(file)
            file.write((json.dumps(dict(row), allow_nan=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror}); choose another --out.") from error


def _file(folder: str | os.PathLike) -> Path:
    path = Path(folder)
    return path if path.suffix == ".jsonl" else path / NAME


def _cut_torn(file: Any) -> None:
    """Ends the file after its last whole line."""
    size = file.seek(0, os.SEEK_END)
    tail = b""
    while size and b"\n" not in tail:
        step = min(size, 1 << 16)
        size -= step
        file.seek(size)
        tail = file.read(step) + tail
    file.truncate(size + tail.rfind(b"\n") + 1)
    file.seek(0, os.SEEK_END)
