"""Text as letters, for recognisers: a space, an apostrophe and a to z, accents taken off, everything else left out."""

import re
import unicodedata
from collections.abc import Sequence

ALPHABET = " 'abcdefghijklmnopqrstuvwxyz"
"""What the labels 1, 2, ... stand for; 0 is CTC's blank."""

LABELS = len(ALPHABET) + 1
"""Number of labels, the blank among them."""

_NUMBERS = {letter: number for number, letter in enumerate(ALPHABET, 1)}


def spell(text: str) -> list[int]:
    """The labels of a text: "Déjà vu!" reads as "deja vu". Texts in other alphabets have none."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("’", "'"))
    kept = "".join(letter for letter in plain if not unicodedata.combining(letter))
    words = re.sub(r"[^a-z']+", " ", kept).split()
    return [_NUMBERS[letter] for letter in " ".join(words)]


def read(labels: Sequence[int]) -> str:
    """The text of labels; blanks, and numbers that are no label, are left out."""
    return "".join(ALPHABET[label - 1] for label in labels if 1 <= label < LABELS)
