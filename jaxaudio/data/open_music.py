"""`open_music`: freely licensed recorded music, 29 pieces from the soundtracks of three games, mono at 32 kHz.

Build it with `jaxaudio data build open_music`. Whole pieces are held out. `SOURCES` is the attribution that weights
trained on it owe; all of it is under CC-BY-SA-3.0, which is share-alike.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxaudio.data.clips import Clip
from jaxaudio.data.open_sounds import audio, sources
from jaxaudio.errors import UsageError

RATE = audio.RATE
"""Sample rate, Hz."""

SPLITS = ("train", "heldout_pieces")
"""Trained on; pieces that are never trained on."""

SECONDS = 10.0  # of a clip
LICENCE = "CC-BY-SA-3.0"

Progress = Callable[[str], None]


class Source(NamedTuple):
    """The music of one game.

    Attributes:
      package: Debian package.
      pattern: of its music files.
      authors: whom to name.
      held_out: words in the names of the pieces that are never trained on.
    """

    package: str
    pattern: str
    authors: str
    held_out: tuple[str, ...]


SOURCES = (
    Source("lugaru-data", "*/Sounds/Music*.ogg", "Wolfire Games", ("Music1Snow",)),
    Source(
        "unknown-horizons",
        "*/audio/music/*.ogg",
        "Unknown Horizons Team: Sebastian Ahlen, Matthew Pablo, Tobias Escher, Thomas Davey, Ollo123",
        ("irelands_coast", "newfrontier", "uh_gameplay3"),
    ),
    Source(
        "megaglest-data",
        "*/music/*.ogg",
        "The Glest Team and The MegaGlest Team; Aminos, Margaras, Manolo Camp, Mattias Westlund",
        ("music_indian", "romans"),
    ),
)


def clips(cache: Path | str, split: str, *, progress: Progress | None = None) -> Iterator[Clip]:
    """The clips of one split, the same ones every time: consecutive stretches of ten seconds of every piece.

    Args:
      cache: where packages are kept for the next time.
      split: one of `SPLITS`.
      progress: called with a line of text now and then.

    Raises:
      UsageError: there is no such split.
      MissingError: apt-get is not there.
    """
    if split not in SPLITS:
        raise UsageError(f"open_music has no split {split!r}; choose one of {', '.join(SPLITS)}.")
    for source in SOURCES:
        folder, count = sources.package_files(source.package, Path(cache)), 0
        for name in sources.members(folder):
            kept = any(f"/{word}." in name for word in source.held_out) == (split == "heldout_pieces")
            if kept and sources.first_match(name, [source.pattern]) is not None:
                for clip in _cut(source, name, audio.decode(sources.read(folder, name), name)):
                    count += 1
                    yield clip
        if progress:
            progress(f"{source.package}: {count} clips")


def _cut(source: Source, name: str, piece: np.ndarray) -> Iterator[Clip]:
    size = round(SECONDS * RATE)
    for start in range(0, len(piece) - size // 2, size):
        part = piece[start : start + size]
        if np.abs(part).max() > 0.01:  # pieces begin and end with silence
            yield Clip(
                id=f"{source.package}/{name}#{start // size}",
                audio=part,
                sample_rate=RATE,
                captions=("music",),
                labels=("music",),
                source=f"{source.package}/{name}",
                licence=LICENCE,
            )
