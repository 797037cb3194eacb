"""How close captions are to what people wrote: BLEU, ROUGE-L and CIDEr-D, as the COCO evaluation computes them.

Everything is in [0, 1] but CIDEr-D, which is in [0, 10]. Texts are split at spaces and nothing else is done to them;
the published protocol passes them through a tokeniser first that lowers case and removes punctuation, for which
`text.vocabulary.words_of` stands here. METEOR, SPICE and SPIDEr need Java and models, see `metrics.java`.
"""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from jaxaudio.errors import UsageError

Gram = tuple[str, ...]

_TINY, _SMALL = 1e-15, 1e-9  # what the COCO code adds above and below the fractions of BLEU


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of a set of captions, and of each of them.

    Attributes:
      bleu: BLEU-1 to BLEU-4 of the set: counts are added up before they are divided.
      rouge_l: mean ROUGE-L.
      cider_d: mean CIDEr-D.
      each: {"bleu_1", ..., "rouge_l", "cider_d"}: (captions,) float64.
    """

    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider_d: float
    each: Mapping[str, np.ndarray]


def scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Every score of captions against their references.

    Args:
      candidates: one caption per clip.
      references: one or more of each clip.

    Raises:
      UsageError: there are no captions, one has no reference, or the numbers differ.
    """
    _check(candidates, references)
    whole, single = bleu(candidates, references)
    rouge, cider = rouge_l(candidates, references), cider_d(candidates, references)
    each = {f"bleu_{n}": single[:, n - 1] for n in range(1, 5)} | {"rouge_l": rouge, "cider_d": cider}
    return Scores(
        bleu=(whole[0], whole[1], whole[2], whole[3]),
        rouge_l=float(rouge.mean()),
        cider_d=float(cider.mean()),
        each=each,
    )


def _check(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(candidates, str) or any(isinstance(refs, str) for refs in references):
        raise UsageError("Captions and references are lists: one caption, and a list of references, per clip.")
    if not candidates or len(candidates) != len(references) or not all(references):
        raise UsageError(f"{len(candidates)} captions, {len(references)} lists of references; give each its own.")


def grams(text: str, size: int) -> Counter[Gram]:
    """How often each run of `size` words occurs."""
    words = text.split()
    return Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1))


def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[float], np.ndarray]:
    """BLEU-1 to BLEU-4 (Papineni et al., 2002), with the length of the closest reference.

    Returns:
      (of the whole set, (captions, 4) of each).
    """
    rows = []  # per caption: its length, its reference's, matches and guesses of each size
    for text, refs in zip(candidates, references, strict=True):
        length = len(text.split())
        closest = min((abs(len(ref.split()) - length), len(ref.split())) for ref in refs)[1]
        row: list[float] = [length, closest]
        for size in range(1, 5):
            most: Counter[Gram] = Counter()
            for ref in refs:
                most |= grams(ref, size)
            own = grams(text, size)
            row += [sum((own & most).values()), max(0, length - size + 1)]
        rows.append(row)
    return _bleu(np.sum(rows, 0)).tolist(), np.stack([_bleu(np.asarray(row)) for row in rows])


def _bleu(row: np.ndarray) -> np.ndarray:
    length, reference, counts = row[0], row[1], row[2:].reshape(4, 2)
    product = np.cumprod((counts[:, 0] + _TINY) / (counts[:, 1] + _SMALL))
    values = product ** (1 / np.arange(1, 5))
    ratio = (length + _TINY) / (reference + _SMALL)
    return values * math.exp(1 - 1 / ratio) if ratio < 1 else values


def rouge_l(candidates: Sequence[str], references: Sequence[Sequence[str]], beta: float = 1.2) -> np.ndarray:
    """ROUGE-L (Lin, 2004) of each caption: the best precision and the best recall of a longest common subsequence.

    The two may come from different references, as in the COCO code.
    """
    values = []
    for text, refs in zip(candidates, references, strict=True):
        own = text.split()
        common = [(_longest_common(own, ref.split()), len(ref.split())) for ref in refs]
        precision = max(n / max(1, len(own)) for n, _ in common)
        recall = max(n / max(1, size) for n, size in common)
        both = precision and recall
        values.append((1 + beta**2) * precision * recall / (recall + beta**2 * precision) if both else 0.0)
    return np.asarray(values)


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    row = [0] * (len(b) + 1)
    for word in a:
        before = 0
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], before + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]


class Cider:
    """CIDEr-D (Vedantam et al., 2015, arXiv:1411.5726) with the document frequencies of a set of references.

    Args:
      references: of the clips whose words are counted; each clip once, however many of its references have a word.
      sigma: of the Gaussian on the difference in length.
    """

    def __init__(self, references: Sequence[Sequence[str]], sigma: float = 6.0):
        self._sigma, self._log_clips = sigma, math.log(len(references))
        self._found: Counter[Gram] = Counter()
        for refs in references:
            self._found.update({gram for ref in refs for size in range(1, 5) for gram in grams(ref, size)})

    def _vectors(self, text: str) -> tuple[list[dict[Gram, float]], list[float], int]:
        """Weighted counts of each size, their norms, and the length, which the COCO code counts in pairs."""
        vectors = [
            {gram: n * (self._log_clips - math.log(max(1, self._found[gram]))) for gram, n in grams(text, size).items()}
            for size in range(1, 5)
        ]
        norms = [math.sqrt(sum(x * x for x in vector.values())) for vector in vectors]
        return vectors, norms, max(0, len(text.split()) - 1)

    def score(self, candidate: str, references: Sequence[str]) -> float:
        """The score of one caption, in [0, 10]."""
        own, own_norms, own_length = self._vectors(candidate)
        total = 0.0
        for ref in references:
            other, norms, length = self._vectors(ref)
            near = math.exp(-((own_length - length) ** 2) / (2 * self._sigma**2))
            for a, b, norm_a, norm_b in zip(own, other, own_norms, norms, strict=True):
                product = sum(min(x, b.get(gram, 0.0)) * b.get(gram, 0.0) for gram, x in a.items())
                total += near * (product / (norm_a * norm_b) if norm_a and norm_b else product)
        return 10 * total / 4 / len(references)


def cider_d(candidates: Sequence[str], references: Sequence[Sequence[str]], sigma: float = 6.0) -> np.ndarray:
    """CIDEr-D of each caption, with the document frequencies of all references; a set of one clip has zeros."""
    scorer = Cider(references, sigma)
    return np.asarray([scorer.score(text, refs) for text, refs in zip(candidates, references, strict=True)])


def diversity(candidates: Sequence[str]) -> dict[str, float]:
    """How much is said in different ways.

    Returns:
      {"vocabulary": different words, "distinct": share of the captions that are said once only or for the first time,
      "words": mean length}.
    """
    words = [text.split() for text in candidates]
    return {
        "vocabulary": float(len({word for text in words for word in text})),
        "distinct": len(set(candidates)) / len(candidates),
        "words": sum(map(len, words)) / len(words),
    }


def variety(captions: Sequence[Sequence[str]]) -> dict[str, float]:
    """How much several captions of the same clip differ, as papers on diverse captions measure it.

    Args:
      captions: two or more of each clip.

    Returns:
      Means over the clips: {"div_1", "div_2": different words and pairs of them by the number of words (Shetty et al.,
      2017, arXiv:1703.10476), "mbleu_4": BLEU-4 of a caption against the clip's others, lower where they differ more};
      all in [0, 1].

    Raises:
      UsageError: a clip has fewer than two captions.
    """
    if not captions or any(isinstance(own, str) or len(own) < 2 for own in captions):
        raise UsageError("Give a list of clips, each with two captions or more, to tell how much they differ.")
    rows = []
    for own in captions:
        words = max(1, sum(len(text.split()) for text in own))
        div = [len(set().union(*(grams(text, size) for text in own))) / words for size in (1, 2)]
        rest = [[other for j, other in enumerate(own) if j != i] for i in range(len(own))]
        rows.append([*div, float(bleu(own, rest)[1][:, 3].mean())])
    one, two, alike = np.mean(rows, 0)
    return {"div_1": float(one), "div_2": float(two), "mbleu_4": float(alike)}
