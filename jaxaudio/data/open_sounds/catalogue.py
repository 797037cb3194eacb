"""The reviewed concept map: which file is what sound, under which licence, and how people may call it."""

import csv
import dataclasses
import functools
import json
from collections.abc import Mapping
from importlib import resources

DROP = "-"
"""In place of a concept: files that match this row are left out, whatever later rows say."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of `concepts.csv`.

    Attributes:
      package: Debian package; or `procedural` (our generators), `espeak-ng` (speech synthesis).
      glob: of files in the unpacked package, or `archive!member`; the first of a package's rows that matches counts.
        For the sound font `program:N:LOW-HIGH:STYLE` or `drum:KEYS`, for the others `generator:NAME` or `voice:NAME`.
      concept: key of `captions.json`, or `-` to drop the files.
      caption: of these very files, where they are more special than the concept; may be empty.
      licence: SPDX name, or `PD` for the public domain.
      split_hint: the split that these files go to whatever the seed, or empty.
      grouping: `stem`, `file` or `folder`; see `splits.recording`.
      notes: for the reader.
    """

    package: str
    glob: str
    concept: str
    caption: str
    licence: str
    split_hint: str
    grouping: str
    notes: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Concept:
    """One kind of sound.

    Attributes:
      name: unique.
      family: coarse class, to report by.
      groups: names of sets of sound-alikes; two clips that share their concept or a group are never mixed.
      heldout: never trained on.
      captions: short English phrasings, the canonical one first.
    """

    name: str
    family: str
    groups: tuple[str, ...]
    heldout: bool
    captions: tuple[str, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The concept's name and its groups, each once."""
        return tuple(dict.fromkeys((self.name, *self.groups)))

    def phrasings(self, caption: str = "") -> tuple[str, ...]:
        """All captions, a file's own first."""
        return tuple(dict.fromkeys(filter(None, (caption, *self.captions))))


def _text(name: str) -> str:
    return resources.files("jaxaudio.data.open_sounds").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def rows() -> tuple[Row, ...]:
    """Every row of `concepts.csv`, in order."""
    return tuple(Row(**row) for row in csv.DictReader(_text("concepts.csv").splitlines()))


@functools.cache
def concepts() -> Mapping[str, Concept]:
    """Every concept of `captions.json` by name."""
    return {
        name: Concept(
            name=name,
            family=entry["family"],
            groups=tuple(entry["groups"]),
            heldout=entry["heldout"],
            captions=tuple(entry["captions"]),
        )
        for name, entry in json.loads(_text("captions.json")).items()
    }


def packages() -> tuple[str, ...]:
    """The packages of the map, in its order."""
    return tuple(dict.fromkeys(row.package for row in rows()))


def attribution() -> str:
    """Who made what of it under which licence, as Markdown without its title: for the cards of models trained on it."""
    text = _text("SOURCES.md")
    return text[text.index("\n") :].strip()
