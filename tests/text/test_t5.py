"""T5: position buckets, the recorded original, padding, tied tables, tokens."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers as hf
from tokenizers import models, pre_tokenizers

from jaxaudio.convert.rules import flatten
from jaxaudio.errors import CheckpointError, UsageError
from jaxaudio.text import t5
from jaxaudio.text.tokenizers import Tokenizer
from tests.golden.weights import fill

GOLDEN = Path(__file__).parents[1] / "golden" / "t5_small_random"
TINY = t5.Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=3)
encode = jax.jit(t5.encode, static_argnames=("config", "hidden_states", "dtype"))


@pytest.fixture(scope="module")
def tiny():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: t5.init(jax.random.key(0), TINY))
    return jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape) * 0.3, jnp.float32), shapes)


def _padded(ids, length):
    ids = np.asarray(ids, np.int32)
    rest = ((0, 0), (0, length - ids.shape[1]))
    return np.pad(ids, rest), np.pad(np.ones_like(ids), rest)


def test_buckets_count_near_keys_and_group_far_ones():
    """Eight buckets up to distance 16, worked out by hand: exact to 1, then logarithmic, four each way."""
    buckets = np.asarray(t5.relative_buckets(40, 8, 16))
    backwards = buckets[39, ::-1]  # keys 0, 1, 2, ... before the last query
    assert backwards[:8].tolist() == [0, 1, 2, 2, 2, 2, 3, 3]
    assert set(backwards[8:].tolist()) == {3}
    assert buckets[0, 1:8].tolist() == [5, 6, 6, 6, 6, 7, 7]
    assert buckets[5, 5] == 0


def test_published_buckets_at_their_borders():
    row = np.asarray(t5.relative_buckets(200, 32, 128))[199, ::-1]
    assert row[:8].tolist() == list(range(8))
    assert [int(row[d]) for d in (8, 11, 12, 15, 16, 22, 23, 31, 32, 63, 64, 90, 91, 127, 128, 199)] == [
        *(8, 8, 9, 9, 10, 10, 11, 11, 12, 13, 14, 14, 15, 15, 15, 15)
    ]


def test_padding_does_not_reach_the_text(tiny):
    ids = np.random.default_rng(0).integers(2, 40, (2, 6))
    short, long = (encode(tiny, TINY, *_padded(ids, n))["last_hidden_state"] for n in (6, 20))
    np.testing.assert_allclose(short, long[:, :6], atol=1e-5)


def test_order_matters_only_through_the_distances(tiny):
    ids = jnp.array([[5, 6, 7, 8]])
    mask = jnp.ones_like(ids)
    flat = {**tiny["params"], "relative_attention_bias": {"embedding": jnp.zeros((32, 3))}}
    there, back = (encode({"params": flat}, TINY, x, mask)["last_hidden_state"] for x in (ids, ids[:, ::-1]))
    np.testing.assert_allclose(there, back[:, ::-1], atol=1e-5)
    there, back = (encode(tiny, TINY, x, mask)["last_hidden_state"] for x in (ids, ids[:, ::-1]))
    assert np.abs(there - back[:, ::-1]).max() > 1e-2


def test_hidden_states_and_dtype_on_request(tiny):
    ids, mask = _padded([[3, 4, 1]], 8)
    plain = encode(tiny, TINY, ids, mask)
    states = encode(tiny, TINY, ids, mask, hidden_states=True)["hidden_states"]
    assert plain.keys() == {"last_hidden_state"}
    np.testing.assert_array_equal(states[0], tiny["params"]["shared"]["embedding"][ids])
    assert len(states) == 3
    half = encode(tiny, TINY, ids, mask, dtype="bfloat16")["last_hidden_state"]
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(plain["last_hidden_state"], half.astype(jnp.float32), atol=0.1)


@pytest.fixture(scope="module")
def state():
    keys = json.loads((GOLDEN / "keys.json").read_text())
    keys = {key.removeprefix("cond_stage_models.0.model."): shape for key, shape in keys.items()}
    return {key: fill(key.replace("encoder.embed_tokens", "shared"), shape) for key, shape in keys.items()}


CONFIG = t5.Config(vocab_size=512, d_model=64, d_kv=16, num_heads=4, d_ff=128, num_layers=3)


@pytest.mark.parametrize("left_out", ["shared.weight", "encoder.embed_tokens.weight"])
def test_the_word_table_may_be_stored_once(state, left_out):
    whole = flatten(t5.from_state(state, CONFIG))
    once = flatten(t5.from_state({key: x for key, x in state.items() if key != left_out}, CONFIG))
    assert whole.keys() == once.keys()
    assert all(np.array_equal(whole[path], once[path]) for path in whole)


def test_two_different_word_tables_are_an_error(state):
    with pytest.raises(CheckpointError, match="filled already"):
        t5.from_state(state | {"shared.weight": state["shared.weight"] + 1}, CONFIG)


def test_the_decoder_of_a_whole_t5_is_dropped(state):
    extra = {"lm_head.weight": np.zeros((512, 64)), "decoder.block.0.layer.0.layer_norm.weight": np.zeros(64)}
    assert t5.from_state(state | extra, CONFIG).keys() == {"params"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁a", -1.0), ("▁dog", -2.0), ("▁", -3.0), ("s", -3.0)]
    backend = hf.Tokenizer(models.Unigram(pieces, unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens(["<pad>", "</s>", "<unk>"])
    path = tmp_path_factory.mktemp("t5") / "tokenizer.json"
    backend.save(str(path))
    return Tokenizer.from_file(path)


def test_tokens_end_with_the_end_and_nothing_before(tokenizer):
    ids, mask = tokenizer.encode(["a dog", "a dogs"])
    assert ids.tolist() == [[3, 4, 1, 0, 0, 0, 0, 0], [3, 4, 6, 1, 0, 0, 0, 0]]
    assert mask.sum(1).tolist() == [3, 4]


def test_the_empty_prompt_has_to_be_asked_for(tokenizer):
    ids, mask = tokenizer.encode(["", "a"], allow_empty=True)
    assert ids[:, :3].tolist() == [[1, 0, 0], [3, 1, 0]]
    assert mask.sum(1).tolist() == [1, 2]
    with pytest.raises(UsageError, match="empty"):
        tokenizer.encode("")


def test_sentencepiece_models_are_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"tokenizer\.json published beside it"):
        Tokenizer.from_file(tmp_path / "spiece.model")
