"""BERT and RoBERTa: the recorded original, independence of padding, conversion, dropout."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import flatten
from jaxaudio.errors import CheckpointError
from jaxaudio.text import bert, roberta
from tests.golden.cases.text import CASES
from tests.golden.weights import state_dict_of

GOLDEN = Path(__file__).parents[1] / "golden" / "hf_bert_small"
TINY = bert.Config(
    vocab_size=50,
    hidden_size=32,
    num_hidden_layers=1,
    num_attention_heads=4,
    intermediate_size=64,
    max_position_embeddings=80,
)

encode = jax.jit(bert.encode, static_argnames=("config", "hidden_states"))
roberta_encode = jax.jit(roberta.encode, static_argnames="config")
sentence_embedding = jax.jit(bert.sentence_embedding, static_argnames="config")


@pytest.fixture(scope="module")
def golden():
    case, keys = (json.loads((GOLDEN / f"{name}.json").read_text()) for name in ("case", "keys"))
    return case, keys, dict(np.load(GOLDEN / "io_dev.npz"))


@pytest.fixture(scope="module")
def tiny():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: bert.init(jax.random.key(0), TINY))
    return jax.tree.map(lambda x: jnp.asarray(rng.standard_normal(x.shape) * 0.3, jnp.float32), shapes)


def padded(ids, length, pad=0):
    """Ids and mask, filled up to `length`."""
    ids = np.asarray(ids, np.int32)
    rest = ((0, 0), (0, length - ids.shape[1]))
    return np.pad(ids, rest, constant_values=pad), np.pad(np.ones_like(ids), rest)


def test_equals_the_recorded_transformers_bert(golden):
    case, keys, io = golden
    with jax.default_matmul_precision("highest"):
        ours = CASES["hf_bert_small"](case, keys, io)
    assert ours.keys() == io.keys() - {"input_ids", "attention_mask", "token_type_ids"}
    for name, value in ours.items():
        assert np.linalg.norm(value - io[name]) <= 1e-5 * np.linalg.norm(io[name]), name


def test_sentence_embedding_does_not_depend_on_padding(tiny):
    ids = np.random.default_rng(0).integers(1, 50, (3, 11))
    short, long = (sentence_embedding(tiny, TINY, *padded(ids, n)) for n in (16, 64))
    np.testing.assert_allclose(short, long, atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(short, axis=-1), 1, atol=1e-6)


def test_masked_tokens_do_not_reach_the_others(tiny):
    ids, mask = padded(np.random.default_rng(1).integers(1, 50, (2, 5)), 8)
    changed = np.where(mask == 1, ids, 7)
    a, b = (encode(tiny, TINY, x, mask)["last_hidden_state"] for x in (ids, changed))
    np.testing.assert_allclose(a[:, :5], b[:, :5], atol=1e-6)
    assert np.abs(a[:, 5:] - b[:, 5:]).max() > 1e-2


def test_a_row_without_tokens_stays_finite(tiny):
    ids = np.ones((2, 8), np.int32)
    assert np.isfinite(sentence_embedding(tiny, TINY, ids, np.zeros_like(ids))).all()


def test_hidden_states_only_on_request(tiny):
    ids, mask = padded([[1, 2, 3]], 8)
    assert encode(tiny, TINY, ids, mask).keys() == {"last_hidden_state", "pooler_output"}
    states = encode(tiny, TINY, ids, mask, hidden_states=True)["hidden_states"]
    assert [s.shape for s in states] == [(1, 8, 32)] * 2


def test_dropout_needs_a_key_and_follows_it(tiny):
    ids, mask = padded([[1, 2, 3]], 8)
    plain, one, same, other = (
        encode(tiny, TINY, ids, mask, key=key)["last_hidden_state"]
        for key in (None, jax.random.key(1), jax.random.key(1), jax.random.key(2))
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - plain).max() > 0.1
    assert np.abs(one - other).max() > 0.1


def test_conversion_drops_buffers_and_the_pooler_by_name(golden):
    case, keys, _ = golden
    state = state_dict_of(keys, case) | {"embeddings.position_ids": np.arange(64)[None]}
    config = bert.Config(**{k: case["config"][k] for k in case["config"]}, pooler=False)
    params = bert.from_state(state, config)
    assert "pooler" not in params["params"]
    path = "params/encoder/layer_2/attention/self/key/kernel"
    np.testing.assert_array_equal(flatten(params)[path], state["encoder.layer.2.attention.self.key.weight"].T)


def test_conversion_names_what_does_not_fit(golden):
    case, keys, _ = golden
    state = state_dict_of(keys, case)
    config = bert.Config(**case["config"])
    with pytest.raises(CheckpointError, match=r"unknown key decoder\.bias"):
        bert.from_state(state | {"decoder.bias": np.zeros(3)}, config)
    del state["pooler.dense.bias"]
    with pytest.raises(CheckpointError, match="pooler/dense/bias"):
        bert.from_state(state, config)


def test_masked_mean_and_unit():
    hidden = jnp.array([[[3.0, 0.0], [3.0, 8.0], [100.0, 100.0]]])
    mean = bert.masked_mean(hidden, jnp.array([[1, 1, 0]]))
    np.testing.assert_allclose(mean, [[3, 4]])
    np.testing.assert_allclose(bert.unit(mean), [[0.6, 0.8]], atol=1e-7)
    np.testing.assert_array_equal(bert.unit(jnp.zeros(3)), np.zeros(3))


def test_roberta_positions_start_after_the_padding_id():
    ids = jnp.array([[0, 9, 8, 2, 1, 1], [0, 2, 1, 1, 1, 1]])
    assert roberta.position_ids(ids, 1).tolist() == [[2, 3, 4, 5, 1, 1], [2, 3, 1, 1, 1, 1]]


def test_roberta_does_not_depend_on_padding(tiny):
    config = bert.Config(**{**vars(TINY), "pad_token_id": 1})
    ids = np.random.default_rng(2).integers(2, 50, (2, 7))
    short, long = (roberta_encode(tiny, config, *padded(ids, n, pad=1))["pooler_output"] for n in (8, 32))
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_projection_is_linear_relu_linear():
    layer = {"kernel": jnp.array([[1.0, -1.0], [0.0, 2.0]]), "bias": jnp.array([0.0, -1.0])}
    params = {"params": {"linear1": layer, "linear2": layer}}
    np.testing.assert_allclose(roberta.project(params, jnp.array([[2.0, 3.0]])), [[2.0, 3.0]])
