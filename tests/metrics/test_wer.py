import json
import pathlib

import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import UsageError
from jaxaudio.metrics.wer import Edits, character_errors, edits, errors, word_errors

STORED = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "wer" / "io.json").read_text())
SYMBOLS = st.lists(st.sampled_from("abc"), max_size=9)


def test_equals_jiwer():
    words = word_errors(STORED["refs"], STORED["hyps"])
    assert words == Edits(
        hits=STORED["hits"], substitutions=STORED["sub"], deletions=STORED["del"], insertions=STORED["ins"]
    )
    assert words.error_rate == pytest.approx(STORED["wer"])
    assert words.match_error_rate == pytest.approx(STORED["mer"])
    assert words.information_lost == pytest.approx(STORED["wil"])
    assert character_errors(STORED["refs"], STORED["hyps"]).error_rate == pytest.approx(STORED["cer"])


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("kitten", "sitting", (4, 2, 0, 1)),
        ("", "abc", (0, 0, 0, 3)),
        ("abc", "", (0, 0, 3, 0)),
        ("ab", "ba", (1, 0, 1, 1)),  # of several ways, the one that jiwer reports
        ("", "", (0, 0, 0, 0)),
    ],
)
def test_known_edits(reference, hypothesis, expected):
    made = edits(reference, hypothesis)
    assert (made.hits, made.substitutions, made.deletions, made.insertions) == expected


@settings(deadline=None, max_examples=60)
@given(a=SYMBOLS, b=SYMBOLS)
def test_the_distance_is_the_shortest(a, b):
    def shortest(i, j):
        if not i or not j:
            return i + j
        return min(
            table[i - 1, j] + 1,
            table[i, j - 1] + 1,
            table[i - 1, j - 1] + (a[i - 1] != b[j - 1]),
        )

    table = {}
    for i in range(len(a) + 1):
        for j in range(len(b) + 1):
            table[i, j] = shortest(i, j)
    made = edits(a, b)
    assert made.distance == table[len(a), len(b)]
    assert made.hits + made.substitutions + made.deletions == len(a)
    assert made.hits + made.substitutions + made.insertions == len(b)


def test_nothing_said_where_nothing_was_is_no_error():
    silent = word_errors([""], [""])
    assert (silent.error_rate, silent.information_lost) == (0, 0)
    assert word_errors([], []) == Edits()
    assert word_errors([""], ["a b"]).error_rate == 2


def test_every_reference_needs_a_hypothesis():
    with pytest.raises(UsageError, match="give one for each"):
        errors([["a"]], [])
