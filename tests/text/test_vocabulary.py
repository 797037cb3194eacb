"""Words as ids and back."""

import json

import numpy as np
import pytest

from jaxaudio.errors import CheckpointError
from jaxaudio.text.vocabulary import Vocabulary, words_of

KNOWN = Vocabulary.of(["A dog barks.", "a dog, then rain!"])


def test_words_are_lower_case_without_punctuation():
    assert words_of('A dog ("Rex") barks; then: rain.') == ["a", "dog", "rex", "barks", "then", "rain"]
    assert KNOWN.words == ("<sos>", "<eos>", "<unk>", "a", "barks", "dog", "rain", "then")
    assert Vocabulary.of(["a dog", "a cat"], at_least=2).words[3:] == ("a",)


def test_captions_become_ids_and_back():
    ids, mask = KNOWN.encode(["A dog barks", "rain falls"], 6)
    assert ids.tolist() == [[0, 3, 5, 4, 1, 1], [0, 6, 2, 1, 1, 1]]
    assert mask.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0]]
    assert ids.dtype == mask.dtype == np.int32
    assert [KNOWN.decode(row) for row in ids] == ["a dog barks", "rain <unk>"]


def test_long_captions_are_cut_and_still_end():
    ids, mask = KNOWN.encode(["a dog barks then rain"], 4)
    assert ids.tolist() == [[0, 3, 5, 1]]
    assert mask.all()


def test_it_is_kept_as_a_list(tmp_path):
    KNOWN.save(tmp_path / "words.json")
    assert Vocabulary.load(tmp_path / "words.json") == KNOWN
    for broken in ("{", json.dumps(["a"]), json.dumps([*KNOWN.words, "a"]), "3"):
        (tmp_path / "words.json").write_text(broken)
        with pytest.raises(CheckpointError, match=r"get the model's words\.json again"):
            Vocabulary.load(tmp_path / "words.json")
