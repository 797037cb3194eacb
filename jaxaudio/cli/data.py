"""`jaxaudio data`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from jaxaudio.cli import show
from jaxaudio.cli.parse import choose, parse


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build:
    """Builds a data set that training reads, all or nothing.

    jaxaudio data build captioned_audio --root my_sounds --out data/my_sounds
    """

    name: tyro.conf.Positional[str]
    """Which one; see jaxaudio data list."""

    root: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Where its files are; for open_sounds, where to keep what is fetched."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder to make; data/NAME by default."""

    force: bool = False
    """Replace a data set that is there already."""

    quiet: bool = False
    """Say nothing but errors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class List:
    """Lists the data sets that can be built."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    return choose({"build": _build, "list": _list}, words, "data", "Builds data sets from what is on this machine.")


def _build(words: list[str]) -> int:
    options = parse(Build, words, "data build")
    from jaxaudio.data.build import build

    out = options.out or Path("data") / options.name
    shown = not options.quiet and sys.stderr.isatty()
    counts = build(options.name, out, options.root, overwrite=options.force, progress=shown)
    show.say(f"{out}: {', '.join(f'{count} clips in {split}' for split, count in counts.items())}", options.quiet)
    return 0


def _list(words: list[str]) -> int:
    parse(List, words, "data list")
    from jaxaudio.data.build import available

    for one in available():
        print(f"{one.name}{': ' if one.splits else ''}{', '.join(one.splits)}")
        print(f"    needs {one.needs}\n    from {one.where}")
    return 0
