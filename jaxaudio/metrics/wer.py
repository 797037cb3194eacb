"""Error rates of transcriptions: words, characters, phonemes, or any other symbols, by edit distance (Levenshtein)."""

import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np

from jaxaudio.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edits:
    """How a shortest sequence of edits turns references into hypotheses.

    Attributes:
      hits: symbols that are right.
      substitutions: replaced ones.
      deletions: reference symbols that the hypothesis lacks.
      insertions: symbols of the hypothesis that the reference lacks.
    """

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    @property
    def distance(self) -> int:
        """Number of edits: the Levenshtein distance."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def error_rate(self) -> float:
        """Edits over reference symbols (WER, CER, PER); above 1 with many insertions. Over 1 for an empty reference."""
        return self.distance / max(1, self.hits + self.substitutions + self.deletions)

    @property
    def match_error_rate(self) -> float:
        """Edits over edits and hits, in [0, 1]."""
        return self.distance / max(1, self.distance + self.hits)

    @property
    def information_lost(self) -> float:
        """1 - hits^2 / (reference symbols * hypothesis symbols), in [0, 1] (Morris et al., 2004: WIL)."""
        both = self.hits + self.substitutions
        pairs = (both + self.deletions) * (both + self.insertions)
        return 1 - self.hits**2 / pairs if pairs else float(self.distance > 0)


def edits(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Edits:
    """The edits from one sequence of symbols to another, e.g. lists of words or phonemes.

    Of several shortest ways it takes the one that RapidFuzz (and so jiwer) reports.
    """
    # What both have in common at their ends costs nothing.
    shorter, start = min(len(reference), len(hypothesis)), 0
    while start < shorter and reference[start] == hypothesis[start]:
        start += 1
    end = 0
    while end < shorter - start and reference[-1 - end] == hypothesis[-1 - end]:
        end += 1
    a, b = reference[start : len(reference) - end], hypothesis[start : len(hypothesis) - end]
    costs = _costs(a, b)
    counts = {"hits": start + end, "substitutions": 0, "deletions": 0, "insertions": 0}
    i, j = len(a), len(b)
    while i and j:
        if costs[i, j] == costs[i - 1, j] + 1:
            counts["deletions"] += 1
            i -= 1
        elif costs[i, j - 1] == costs[i - 1, j - 1] - 1:
            counts["insertions"] += 1
            j -= 1
        else:
            i, j = i - 1, j - 1
            counts["hits" if a[i] == b[j] else "substitutions"] += 1
    counts["deletions"] += i
    counts["insertions"] += j
    return Edits(**counts)


def errors(references: Sequence[Sequence[Hashable]], hypotheses: Sequence[Sequence[Hashable]]) -> Edits:
    """The edits of a whole test set, added up, so that long references count for more.

    Raises:
      UsageError: not one hypothesis per reference.
    """
    if len(references) != len(hypotheses):
        raise UsageError(f"{len(references)} references and {len(hypotheses)} hypotheses: give one for each.")
    made = [dataclasses.astuple(edits(*pair)) for pair in zip(references, hypotheses, strict=True)]
    sums = np.sum(made, axis=0, dtype=int) if made else [0] * 4
    return Edits(**{field.name: int(x) for field, x in zip(dataclasses.fields(Edits), sums, strict=True)})


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> Edits:
    """Of sentences, whose words are what white space separates; their `error_rate` is the WER."""
    return errors([x.split() for x in references], [x.split() for x in hypotheses])


def character_errors(references: Sequence[str], hypotheses: Sequence[str]) -> Edits:
    """Of sentences without the white space around them, that inside counted; their `error_rate` is the CER."""
    return errors([x.strip() for x in references], [x.strip() for x in hypotheses])


def _costs(a: Sequence[Hashable], b: Sequence[Hashable]) -> np.ndarray:
    """(len(a) + 1, len(b) + 1) distances between what both begin with."""
    names = {symbol: number for number, symbol in enumerate(dict.fromkeys([*a, *b]))}
    other = np.array([names[symbol] for symbol in b], int)
    steps = np.arange(len(b) + 1)
    rows = [steps]
    for symbol in a:
        before = rows[-1]
        row = before + 1
        row[1:] = np.minimum(row[1:], before[:-1] + (other != names[symbol]))
        rows.append(np.minimum.accumulate(row - steps) + steps)  # insertions, from left to right
    return np.stack(rows)
