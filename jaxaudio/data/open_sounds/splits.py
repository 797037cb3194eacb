"""Who goes where: whole recordings, never clips, are dealt to the splits, by a hash instead of a shuffle."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

SPLITS = ("train", "heldout_clips", "heldout_concepts", "eval_gpl", "eval_speech")
"""Trained on; unseen recordings of known concepts; unseen concepts; sound that is not free enough to train shipped
weights on; real speech of people who are never trained on."""

FREE = re.compile(
    r"CC0-1\.0|PD|MIT|Apache-2\.0|BSD-[23]-Clause|Zlib|Artistic-[12]\.0|CC-BY(-SA)?-([234]\.0|2\.5)(-US)?"
)
"""Names of the licences under which sound may be trained on."""


def is_free(licence: str) -> bool:
    """Whether sound under this licence may enter the training split."""
    return FREE.fullmatch(licence) is not None


def rank(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but the text and the seed."""
    return hashed(f"{seed}:{text}") / 2**64


def hashed(text: str) -> int:
    """A whole number of 64 bits that depends on nothing but the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def recording(name: str, rule: str = "stem") -> str:
    """The source recording that a file belongs to, so that variants of one recording stay together.

    Args:
      name: path of the file in its package.
      rule: `stem` drops the marks that tell takes of one sound apart (numbers, a last letter, soft/medium/hard),
        `file` takes each file for a recording of its own, `folder` holds a whole folder together.
    """
    folder, _, file = name.rpartition("/")
    if rule == "file":
        return name
    if rule == "folder":
        return folder
    stem = re.sub(r"\.\w{2,4}$", "", file.lower())
    stem = re.sub(r"[-_ .]*(soft(est)?|med(ium)?|hard(est)?|loud|quiet)(?=$|[-_ .\d])", "", stem)
    stem = re.sub(r"([-_ .]*\d+|[-_ .][a-z])+$", "", stem)
    return f"{folder}/{stem or file.lower()}"


def assign(
    items: Iterable[tuple[str, str, str | None]], *, heldout: frozenset[str], fraction: float = 0.12, seed: int = 0
) -> Mapping[str, str]:
    """Deals every source to one split.

    Args:
      items: (source, concept, forced split or None) of every clip.
      heldout: concepts that are never trained on; a source that holds one goes whole to `heldout_concepts`.
      fraction: of the sources of each known concept that goes to `heldout_clips`; at least one where there are four.
      seed: another seed, another deal.

    Returns:
      source -> split. A source with a forced split has that one for all of its clips.
    """
    split: dict[str, str] = {}
    concepts: dict[str, set[str]] = defaultdict(set)
    for source, concept, forced in items:
        concepts[concept].add(source)
        if forced:
            split[source] = forced
        elif concept in heldout:
            split.setdefault(source, "heldout_concepts")
    for concept in sorted(concepts, key=lambda name: (len(concepts[name]), name)):
        mine = sorted(
            (s for s in concepts[concept] if split.get(s, "train") in ("train", "heldout_clips")),
            key=lambda s: rank(s, seed),
        )
        want = max(round(fraction * len(mine)), int(len(mine) >= 4))
        want -= sum(split.get(s) == "heldout_clips" for s in mine)
        for source in mine:
            if source not in split:
                split[source] = "heldout_clips" if want > 0 else "train"
                want -= 1
    return split
