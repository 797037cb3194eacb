"""Does a caption name what is heard? For sounds whose concepts are known, without a model that judges."""

from collections.abc import Iterable, Mapping, Sequence

from jaxaudio.text.vocabulary import words_of


class Names:
    """The phrases that stand for concepts.

    Args:
      phrases: {concept: captions of it}; a phrase of several concepts stands for each of them.
    """

    def __init__(self, phrases: Mapping[str, Iterable[str]]):
        self._of: dict[str, set[str]] = {}
        for concept, captions in phrases.items():
            for text in (concept, *captions):
                self._of.setdefault(" ".join(words_of(text)), set()).add(concept)
        self._longest = max(len(phrase.split()) for phrase in self._of)

    def in_caption(self, caption: str) -> set[str]:
        """The concepts that a caption names: the longest phrases in it, each word used once, from the left."""
        words, found, place = words_of(caption), set(), 0
        while place < len(words):
            for size in range(min(self._longest, len(words) - place), 0, -1):
                concepts = self._of.get(" ".join(words[place : place + size]))
                if concepts:
                    found |= concepts
                    place += size - 1
                    break
            place += 1
        return found


def naming_rate(names: Names, captions: Sequence[str], concepts: Sequence[Sequence[str | Iterable[str]]]) -> float:
    """Share of the captions that name everything that is heard, in [0, 1].

    Args:
      names: the phrases.
      captions: one for each sound.
      concepts: of each sound; each may be a set of names that are all right for one source.

    A source with several labels, a trumpet that is also a brass instrument, is named by any of them.
    """
    right = 0
    for caption, sources in zip(captions, concepts, strict=True):
        named = names.in_caption(caption)
        right += all(named & ({source} if isinstance(source, str) else set(source)) for source in sources)
    return right / len(captions)
