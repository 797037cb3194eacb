"""`jaxaudio data build NAME`: from what the user has on disk to a data set that training reads."""

import functools
import hashlib
import importlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from jaxaudio.data import captioned_audio, layouts
from jaxaudio.data.clips import Clip
from jaxaudio.data.layouts.listing import Entry, OnError, load
from jaxaudio.errors import MissingError, UsageError

OWN, FETCHED = "captioned_audio", ("open_sounds", "open_speech", "open_music")


class Available(NamedTuple):
    """A data set that `build` knows, for a listing."""

    name: str
    splits: tuple[str, ...]
    needs: str
    where: str


def available() -> list[Available]:
    """What can be built, what it needs and where that comes from."""
    own = Available(
        OWN,
        ("train", *(split for split in captioned_audio.SPLITS if split != "train")),
        "a folder of sounds with .txt captions, or in folders that name them, or a CSV or JSON list",
        "your own",
    )
    fetched = (
        Available(
            name,
            (),
            "nothing: Debian packages are fetched into a cache folder (--root; OUT-cache by default)",
            "apt; freely licensed",
        )
        for name in FETCHED
    )
    known = (Available(name, layout.splits, layout.needs, layout.where) for name, layout in layouts.LAYOUTS.items())
    return [own, *fetched, *known]


def build(
    name: str,
    out: str | Path,
    root: str | Path | None = None,
    *,
    splits: Iterable[str] | None = None,
    overwrite: bool = False,
    on_error: OnError | None = None,
    min_samples: int = 0,
    test_fraction: float = 0.0,
    progress: bool = False,
) -> dict[str, int]:
    """Writes a data set to `out`, all or nothing.

    Args:
      name: one of `available()`.
      out: the folder to make.
      root: where the data set was unpacked, or the cache folder of a set that is fetched (by default beside `out`).
      splits: which splits; by default all whose listing is there.
      overwrite: replace a data set in `out`.
      on_error: "skip" leaves out files that are missing or unreadable and warns with their number (the default for the
        known sets, whose audio is seldom complete), "fail" raises at the first (the default for `captioned_audio`).
      min_samples: leave out clips with fewer samples at their own rate (AudioSep: 32000).
      test_fraction: for `captioned_audio` without a test split, the share of its recordings to set aside as "test".
      progress: show a progress bar.

    Returns:
      the number of clips in each split.

    Raises:
      UsageError: an unknown name or split, an `out` that exists or cannot be written, a full disk, a malformed list.
      MissingError: `root` or its listings are not there, or the `data` extra is not installed.
      AudioError: under "fail", a file is missing or unreadable.
    """
    from jaxaudio.data.audio_clips import write_dataset

    known = {one.name: one for one in available()}
    if name not in known:
        raise UsageError(f"no data set '{name}'; known are {', '.join(known)}.")
    if root is None:
        if name not in FETCHED:
            raise UsageError(f"{name} needs --root FOLDER with {known[name].needs}.")
        root = f"{Path(out)}-cache"
    wanted = None if splits is None else tuple(splits)
    if name in FETCHED:
        clips = _fetched(name, Path(root), progress)
    elif name == OWN:
        listed = _set_aside(captioned_audio.splits(root), test_fraction)
        clips = {
            split: load(entries, on_error=on_error or "fail", min_samples=min_samples)
            for split, entries in listed.items()
        }
    else:
        clips = {
            split: load(entries, on_error=on_error or "skip", min_samples=min_samples)
            for split, entries in _present(layouts.LAYOUTS[name], Path(root), wanted).items()
        }
    for split in wanted or ():
        if split not in clips:
            raise UsageError(f"{name} has no split '{split}'; it has {', '.join(clips)}.")
    chosen = {split: clips[split] for split in wanted or clips}
    return write_dataset(name, chosen, out, overwrite=overwrite, progress=progress)


def _present(layout: layouts.Layout, root: Path, wanted: tuple[str, ...] | None) -> dict[str, Iterator[Entry]]:
    """Entries of the splits whose listing is there; of those asked for, every one must be.

    Listings are opened here and not when the first clip is written, so that what is missing is said first.
    """
    found: dict[str, Iterator[Entry]] = {}
    missing: list[MissingError] = []
    for split in layout.splits:
        if wanted is None or split in wanted:
            entries = layout.entries(root, split)
            try:
                found[split] = itertools.chain([next(entries)], entries)
            except StopIteration:
                continue
            except MissingError as error:
                missing.append(error)
    if missing and (wanted or not found):
        raise missing[0]
    return found


def _set_aside(listed: dict[str, list[Entry]], fraction: float) -> dict[str, list[Entry]]:
    """Moves a share of the training recordings to a test split, whole, by a hash of their names."""
    if not fraction or "test" in listed:
        return listed
    parts: dict[str, list[Entry]] = {"train": [], "test": []}
    for entry in listed["train"]:
        number = int.from_bytes(hashlib.sha256((entry.source or entry.id).encode()).digest()[:8], "big") / 2**64
        parts["test" if number < fraction else "train"].append(entry)
    return {**listed, **{split: entries for split, entries in parts.items() if entries}}


def _fetched(name: str, cache: Path, progress: bool) -> dict[str, Iterator[Clip]]:
    source = importlib.import_module(f"jaxaudio.data.{name}")
    tell = functools.partial(print, file=sys.stderr, flush=True) if progress else None
    return {split: source.clips(cache, split=split, progress=tell) for split in source.SPLITS}
