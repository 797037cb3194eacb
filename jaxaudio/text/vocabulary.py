"""Whole words as ids, for captions: a list of words with a start, an end and one for what is not in it."""

import dataclasses
import functools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from jaxaudio.errors import CheckpointError

START, END, UNKNOWN = "<sos>", "<eos>", "<unk>"
_MARKS = re.compile(r'[(,.!?;:|*")]')


def words_of(text: str) -> list[str]:
    """Lower case, no punctuation, split at spaces, as captions are compared and learnt."""
    return _MARKS.sub(" ", text.lower()).split()


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Words and their ids, which are their places.

    Attributes:
      words: START and END among them, and mostly UNKNOWN.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        missing = {START, END} - set(self.words)
        if missing or len(set(self.words)) != len(self.words):
            why = f"lacks {', '.join(sorted(missing))}" if missing else "has a word twice"
            raise CheckpointError(f"The list of words {why}; get the model's words.json again.")

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    @property
    def start(self) -> int:
        """Id of what every caption begins with."""
        return self._ids[START]

    @property
    def end(self) -> int:
        """Id of what ends it; also the padding."""
        return self._ids[END]

    @property
    def unknown(self) -> int:
        """Id of every word that is not known; the end, which is padding, where a list has none, as Clotho's."""
        return self._ids.get(UNKNOWN, self.end)

    def knows(self, text: str) -> bool:
        """Whether a word of it is in the list."""
        return any(self._ids.get(word, self.unknown) not in (self.unknown, self.end) for word in words_of(text))

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of captions with start and end, cut or padded with ends, and their mask: (batch, length) int32 each."""
        ids, mask = (np.full((len(texts), length), fill, np.int32) for fill in (self.end, 0))
        for i, text in enumerate(texts):
            row = [self._ids.get(word, self.unknown) for word in words_of(text)]
            row = [self.start, *row[: length - 2], self.end]
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        return ids, mask

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to the first end, without the start."""
        said: list[str] = []
        for i in map(int, ids):
            if i == self.end:
                break
            if i != self.start:
                said.append(self.words[i])
        return " ".join(said)

    def save(self, path: str | Path) -> None:
        """Writes the words as a JSON list."""
        Path(path).write_text(json.dumps(self.words, ensure_ascii=False, indent=0), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        """Reads what `save` wrote; CheckpointError where it is something else."""
        try:
            words = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(tuple(str(word) for word in words))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is no list of words ({error}); get the model's words.json again.") from error

    @classmethod
    def of(cls, texts: Iterable[str], at_least: int = 1) -> "Vocabulary":
        """The words that occur so often, in alphabetical order, after start, end and unknown."""
        counts = Counter(word for text in texts for word in words_of(text))
        return cls((START, END, UNKNOWN, *sorted(word for word, n in counts.items() if n >= at_least)))
