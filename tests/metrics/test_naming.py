"""Which concepts a caption names."""

import pytest

from jaxaudio.metrics.naming import Names, naming_rate

NAMES = Names(
    {
        "piano": ["a piano playing", "piano music"],
        "electric piano": ["an electric piano playing"],
        "dog": ["a dog barks", "barking"],
        "seal": ["a seal barks", "barking"],
    }
)


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("A piano playing.", {"piano"}),
        ("an electric piano playing", {"electric piano"}),  # and not a piano, which is within it
        ("electric piano and a dog barks", {"electric piano", "dog"}),
        ("loud barking", {"dog", "seal"}),
        ("a cat", set()),
        ("", set()),
    ],
)
def test_the_longest_phrases_count(caption, named):
    assert NAMES.in_caption(caption) == named


def test_everything_that_is_heard_must_be_named():
    captions = ["a dog barks and piano music", "a dog barks", "piano music"]
    assert naming_rate(
        NAMES, captions, [["dog", "piano"], ["dog", "piano"], [("honky-tonk piano", "piano")]]
    ) == pytest.approx(2 / 3)
