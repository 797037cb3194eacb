"""Pieces of words in the place of whole ones, for captioners whose decoder is BART."""

import dataclasses
import functools
from collections.abc import Iterable, Sequence

import numpy as np

from jaxaudio.text.tokenizers import Tokenizer
from jaxaudio.text.vocabulary import words_of

_MARKS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")


@dataclasses.dataclass(frozen=True, eq=False)
class Pieces:
    """A tokenizer with the methods of `Vocabulary` that captioners use.

    Attributes:
      tokenizer: of the decoder.
      start: what the decoder reads before the first token of every caption.
    """

    tokenizer: Tokenizer
    start: int

    @functools.cached_property
    def _silent(self) -> frozenset[int]:
        """Ids that mark something and are no text."""
        return frozenset(i for name in _MARKS if (i := self.tokenizer.backend.token_to_id(name)) is not None)

    @functools.cached_property
    def _reading(self) -> Tokenizer:
        return dataclasses.replace(self.tokenizer, start=(self.start, *self.tokenizer.start))

    def knows(self, text: str) -> bool:
        """Whether there is a word in it; pieces spell every word."""
        return bool(words_of(text))

    def encode(self, texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of captions as the decoder reads them, from its start to the end, and their mask.

        Texts are in lower case and without punctuation before they are split, as the captions that were learnt.

        Returns:
          (batch, width) int32 each; width is at most `length`, the ids are cut or padded to it.
        """
        return self._reading.encode([" ".join(words_of(text)) for text in texts], length, allow_empty=True)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids without start, end, padding and what is unknown."""
        return self.tokenizer.decode([i for i in map(int, ids) if i not in self._silent]).strip()
