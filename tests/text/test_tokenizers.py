"""Tokenisers on tiny made-up vocabularies: known ids, buckets, truncation, errors, arbitrary unicode."""

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import CheckpointError, MissingError, UsageError
from jaxaudio.text.tokenizers import BUCKETS, Tokenizer, bucket

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "dog", "bark", "##s", "##ing", "cafe", ",", "rain", "##drop"]
SYMBOLS = {
    "<s>": 0,
    "<pad>": 1,
    "</s>": 2,
    "d": 3,
    "o": 4,
    "g": 5,
    "Ġ": 6,
    "a": 7,
    "do": 8,
    "dog": 9,
    "Ġdog": 10,
    "<unk>": 11,
}
MERGES = "#version: 0.2\nd o\ndo g\nĠ dog\n"


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    path = tmp_path_factory.mktemp("bert") / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n")
    return path


@pytest.fixture(scope="module")
def wordpiece(vocab):
    return Tokenizer.wordpiece(vocab)


@pytest.fixture(scope="module")
def byte_bpe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    (folder / "vocab.json").write_text(json.dumps(SYMBOLS))
    (folder / "merges.txt").write_text(MERGES)
    return Tokenizer.byte_bpe(folder / "vocab.json", folder / "merges.txt")


def test_wordpiece_lowers_case_strips_accents_and_splits_words(wordpiece):
    ids, mask = wordpiece.encode("A Dog barks, Café raindrops")
    assert ids.tolist() == [[2, 4, 5, 6, 7, 10, 9, 11, 12, 7, 3, 0, 0, 0, 0, 0]]
    assert mask.tolist() == [[1] * 11 + [0] * 5]
    assert ids.dtype == mask.dtype == np.int32
    assert wordpiece.decode(ids[0]) == "a dog barks, cafe raindrops"
    assert wordpiece.vocab_size == len(WORDS)


def test_wordpiece_without_end_token_as_lassnet(vocab):
    ids, _ = Tokenizer.wordpiece(vocab, end_token=False).encode("a dog")
    assert ids.tolist() == [[2, 4, 5, 0, 0, 0, 0, 0]]


def test_unknown_script_becomes_the_unknown_token(wordpiece):
    assert wordpiece.encode("собака dog 犬")[0][0, :5].tolist() == [2, 1, 5, 1, 3]


def test_byte_bpe_keeps_case_and_joins_pairs(byte_bpe):
    ids, mask = byte_bpe.encode(["dog dog", "ago"])
    assert ids.tolist() == [[0, 9, 10, 2, 1, 1, 1, 1], [0, 7, 5, 4, 2, 1, 1, 1]]
    assert mask.sum(1).tolist() == [4, 5]


def test_tokenizer_json_gives_the_same_ids(wordpiece, byte_bpe, tmp_path):
    for name, tokenizer, text in (("w", wordpiece, "A dog barking"), ("b", byte_bpe, "dog ado dog")):
        tokenizer.backend.save(str(tmp_path / name))
        again = Tokenizer.from_file(tmp_path / name)
        assert again.encode(text)[0].tolist() == tokenizer.encode(text)[0].tolist()


@pytest.mark.parametrize(("length", "padded"), [(1, 8), (8, 8), (9, 16), (33, 64), (512, 512), (900, 512)])
def test_bucket_is_the_next_power_of_two(length, padded):
    assert bucket(length) == padded


def test_bucket_never_exceeds_the_limit():
    assert bucket(40, limit=50) == 50
    assert bucket(5, limit=6) == 6


def test_batch_is_padded_to_the_bucket_of_its_longest(wordpiece):
    ids, mask = wordpiece.encode(["dog", "dog " * 10])
    assert ids.shape == (2, 16)
    assert mask.sum(1).tolist() == [3, 12]


def test_long_text_is_cut_and_keeps_its_end_token(wordpiece):
    ids, mask = wordpiece.encode("dog " * 3000)
    assert ids.shape == (1, 512)
    assert ids[0, -1] == 3
    assert mask.all()
    ids, _ = wordpiece.encode("dog " * 3000, max_length=20)
    assert ids[0].tolist() == [2] + [5] * 18 + [3]


@pytest.mark.parametrize("texts", ["", "  \n", [], ["dog", ""], "\x00\x01"])
def test_nothing_to_read_is_a_usage_error(wordpiece, texts):
    with pytest.raises(UsageError, match="describe"):
        wordpiece.encode(texts)


@pytest.mark.parametrize("texts", [[3], [None], [b"dog"]])
def test_a_query_that_is_no_string_is_a_usage_error(wordpiece, texts):
    with pytest.raises(UsageError, match="must be a string"):
        wordpiece.encode(texts)


def test_no_room_for_text_is_a_usage_error(wordpiece):
    with pytest.raises(UsageError, match="at least 3"):
        wordpiece.encode("dog", max_length=2)


def test_missing_and_corrupt_vocabularies_are_named(tmp_path):
    with pytest.raises(MissingError, match=r"vocab\.txt"):
        Tokenizer.wordpiece(tmp_path / "vocab.txt")
    bad = tmp_path / "bad"
    for content, why in ((b"\xff\xfe\x00", "UTF-8"), (b"dog\ncat\n", "lacks"), (b"", "lacks")):
        bad.write_bytes(content)
        with pytest.raises(CheckpointError, match=why):
            Tokenizer.wordpiece(bad)
    bad.write_text("\n".join([*WORDS, "dog"]))
    with pytest.raises(CheckpointError, match="twice"):
        Tokenizer.wordpiece(bad)
    merges = tmp_path / "merges"
    merges.write_text(MERGES)
    for content in ("{", "[]", "{}", '{"a": "b"}', '{"d": 0}'):
        bad.write_text(content)
        with pytest.raises(CheckpointError, match="again"):
            Tokenizer.byte_bpe(bad, merges)
        with pytest.raises(CheckpointError, match="again"):
            Tokenizer.from_file(bad)
    bad.write_text(json.dumps(SYMBOLS))
    for content in ("d o o\n", "d\n", "x y\n"):
        merges.write_text(content)
        with pytest.raises(CheckpointError, match="again"):
            Tokenizer.byte_bpe(bad, merges)


def test_undecodable_bytes_of_the_command_line_do_not_crash(wordpiece):
    assert wordpiece.encode("dog \udc80")[0][0, :4].tolist() == [2, 5, 1, 3]


@given(text=st.text(st.characters(), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_gives_ids_in_range_or_a_usage_error(wordpiece, byte_bpe, text):
    for tokenizer in (wordpiece, byte_bpe):
        try:
            ids, mask = tokenizer.encode([text, "dog"], max_length=32)
        except UsageError:
            continue
        assert ids.shape == mask.shape
        assert ids.shape[1] in BUCKETS
        assert ids.min() >= 0
        assert ids.max() < tokenizer.vocab_size
        assert (ids[mask == 0] == tokenizer.pad_id).all()
        assert (np.diff(mask, axis=1) <= 0).all()
