"""Attention weights and the padding bias, against a hand-written softmax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.nn.attention import SelfAttention, attend, attention_weights, padding_bias


def test_weights_are_the_softmax_of_scaled_products():
    rng = np.random.default_rng(0)
    query, key = (rng.standard_normal((2, n, 3, 4)).astype(np.float32) for n in (5, 6))
    logits = np.einsum("bqhd,bkhd->bhqk", query.astype(float), key.astype(float)) / 2
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(attention_weights(query, key), expected, atol=1e-6)


def test_padded_keys_get_no_weight_and_the_rest_renormalises():
    rng = np.random.default_rng(1)
    query, key = (jnp.asarray(rng.standard_normal((1, 4, 2, 8)), jnp.float32) for _ in range(2))
    masked = attention_weights(query, key, padding_bias(jnp.array([[1, 1, 1, 0]])))
    np.testing.assert_array_equal(masked[..., 3], 0)
    np.testing.assert_allclose(masked[..., :3], attention_weights(query, key[:, :3]), atol=1e-6)


def test_bfloat16_queries_get_a_float32_softmax():
    x = jnp.ones((1, 4, 2, 8), jnp.bfloat16)
    assert attention_weights(x, x).dtype == jnp.float32


def test_self_attention_is_equivariant_to_a_permutation():
    layer = SelfAttention(2)
    x = jnp.asarray(np.random.default_rng(2).standard_normal((1, 5, 8)), jnp.float32)
    params = jax.jit(layer.init)(jax.random.key(0), x)
    order = np.array([3, 0, 4, 1, 2])
    np.testing.assert_allclose(layer.apply(params, x[:, order]), layer.apply(params, x)[:, order], atol=1e-6)


def test_weights_without_scaling():
    x = jnp.asarray(np.random.default_rng(3).standard_normal((1, 4, 2, 9)), jnp.float32)
    np.testing.assert_allclose(attention_weights(x, x, scale=1.0), attention_weights(3 * x, x), atol=1e-6)


@pytest.mark.parametrize("queries", [3, 256, 300])
@pytest.mark.parametrize("masked", [False, True])
def test_attend_is_the_mean_of_the_values_by_the_weights(queries, masked):
    rng = np.random.default_rng(4)
    query, key, value = (jnp.asarray(rng.standard_normal((2, n, 3, 8)), jnp.float32) for n in (queries, 20, 20))
    bias = padding_bias(jnp.asarray(rng.random((2, 20)) < 0.5)) if masked else None

    def plain(query, key, value):
        return jnp.einsum("bhqk,bkhd->bqhd", attention_weights(query, key, bias), value)

    def total(f):
        return jax.jit(jax.value_and_grad(lambda x: jnp.sum(jnp.sin(f(*x)))))((query, key, value))

    def ours(query, key, value):
        return attend(query, key, value, bias)

    np.testing.assert_allclose(jax.jit(ours)(query, key, value), plain(query, key, value), atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), total(ours), total(plain))


def test_attend_survives_a_row_without_keys_and_large_logits():
    x = jnp.full((1, 2, 1, 4), 100.0)
    nothing = attend(x, x, x, padding_bias(jnp.zeros((1, 2))))
    np.testing.assert_allclose(nothing, x)


@pytest.mark.parametrize("queries", [5, 300])
@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("reach", "start"), [((None, 0), 20), ((3, 4), 0), ((4, 0), 9), ((None, 2), 0), ((0, None), 0)]
)
def test_a_reach_hides_what_is_beyond_it(whole, queries, reach, start):
    rng = np.random.default_rng(5)
    query = jnp.asarray(rng.standard_normal((2, queries, 4, 8)), jnp.float32)
    key, value = (jnp.asarray(rng.standard_normal((2, queries + 20, 2, 8)), jnp.float32) for _ in range(2))
    given = rng.random((2, queries + 20)) < 0.7
    given[:, start : start + queries] = True  # a row without keys is anybody's
    distance = np.arange(queries + 20) - (start + np.arange(queries))[:, None]
    seen = (distance >= -np.inf if reach[0] is None else distance >= -reach[0]) & (
        distance <= np.inf if reach[1] is None else distance <= reach[1]
    )

    def plain(query, key, value):
        logits = jnp.einsum("bqhd,bkhd->bhqk", query, jnp.repeat(key, 2, 2)) / np.sqrt(8)
        weights = jax.nn.softmax(jnp.where(seen & given[:, None, None], logits, -np.inf))
        return jnp.einsum("bhqk,bkhd->bqhd", weights, jnp.repeat(value, 2, 2))

    def ours(query, key, value):
        return attend(query, key, value, padding_bias(given), reach=reach, start=jnp.int32(start), whole=whole)

    def slopes(f):
        return jax.jit(jax.grad(lambda x: jnp.sum(jnp.sin(f(*x)))))((query, key, value))

    np.testing.assert_allclose(jax.jit(ours)(query, key, value), plain(query, key, value), atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), slopes(ours), slopes(plain))
