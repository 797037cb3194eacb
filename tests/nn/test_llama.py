"""Llama stacks: rotary angles, masks, caches; the golden cases hold their numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import llama, rotary

CONFIG = llama.Config(width=16, layers=2, heads=4, kv_heads=2, hidden=24)


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


PARAMS = jax.jit(llama.init, static_argnums=1)(jax.random.key(0), CONFIG)
X = draw(2, 9, 16)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_products_of_rotated_vectors_depend_on_their_distance(query, key, shift):
    q, k = draw(1, 1, 1, 12), draw(1, 1, 1, 12, seed=1)

    def product(a, b):
        turned = [rotary.rotate(x, rotary.angles(1, 8, start=jnp.int32(place))) for x, place in ((q, a), (k, b))]
        return float(jnp.sum(turned[0] * turned[1]))

    np.testing.assert_allclose(product(query + shift, key + shift), product(query, key), rtol=1e-4, atol=1e-4)


def test_rotation_is_that_of_complex_numbers_and_leaves_the_rest():
    x = draw(2, 3, 2, 10)
    angles = rotary.angles(3, 8, base=100.0, start=jnp.asarray([0, 5]))
    np.testing.assert_allclose(angles[1, 2], 7 * 100.0 ** (-np.arange(4) / 4), rtol=1e-6)
    z = (np.asarray(x[..., :4]) + 1j * np.asarray(x[..., 4:8])) * np.exp(1j * np.asarray(angles)[:, :, None])
    expected = np.concatenate([z.real, z.imag, x[..., 8:]], -1)
    np.testing.assert_allclose(rotary.rotate(x, angles), expected, atol=1e-5)


def test_a_causal_stack_does_not_see_ahead_and_another_one_does():
    changed = X.at[:, 6].add(1.0)
    moved = np.abs(llama.apply(PARAMS, CONFIG, changed) - llama.apply(PARAMS, CONFIG, X)).max((0, 2))
    assert (moved[:6] == 0).all() and (moved[6:] > 1e-3).all()
    both = dataclasses.replace(CONFIG, causal=False)
    assert (np.abs(llama.apply(PARAMS, both, changed) - llama.apply(PARAMS, both, X)).max((0, 2)) > 1e-4).all()


@pytest.mark.parametrize("parts", [(9,), (1, 1, 7), (4, 5)])
def test_parts_through_a_cache_are_the_whole(parts):
    cache, made, begin = llama.empty(CONFIG, 2, 12), [], 0
    for size in parts:
        y, cache = llama.extend(PARAMS, CONFIG, X[:, begin : begin + size], cache)
        made.append(y)
        begin += size
    assert int(cache.length) == 9
    np.testing.assert_allclose(jnp.concatenate(made, 1), llama.apply(PARAMS, CONFIG, X), atol=1e-5)


def test_left_padding_with_its_mask_changes_nothing():
    padded = jnp.concatenate([draw(2, 3, 16, seed=5), X], 1)
    mask = jnp.concatenate([jnp.zeros((2, 3)), jnp.ones((2, 9))], 1)
    y = llama.apply(PARAMS, CONFIG, padded, mask=mask, start=jnp.asarray([-3, -3]))
    np.testing.assert_allclose(y[:, 3:], llama.apply(PARAMS, CONFIG, X), atol=1e-5)


def test_remat_and_attention_at_once_give_the_same_gradients():
    def slopes(config):
        return jax.jit(jax.grad(lambda p: jnp.sum(jnp.sin(llama.apply(p, config, X)))))(PARAMS)

    other = slopes(dataclasses.replace(CONFIG, remat=True, whole=True))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), slopes(CONFIG), other)


def test_adaptive_norms_begin_as_plain_ones_and_follow_their_condition():
    adaptive = dataclasses.replace(CONFIG, norm="adaptive")
    params = jax.jit(llama.init, static_argnums=1)(jax.random.key(0), adaptive)
    plain = {"layers": {name: params["layers"][name] for name in ("self_attn", "mlp")}}
    condition = draw(2, 16, seed=3)
    y = llama.apply(params, adaptive, X, condition=condition)
    np.testing.assert_allclose(y, llama.apply(plain, dataclasses.replace(CONFIG, norm="plain"), X), atol=1e-5)
    # A last norm whose scale is the condition itself.
    params["norm"]["to_weight"] = {"kernel": jnp.eye(16), "bias": jnp.zeros(16)}
    told = llama.apply(params, adaptive, X, condition=condition)
    np.testing.assert_allclose(told, y * condition[:, None], rtol=1e-4, atol=1e-5)


def test_half_precision_stays_near():
    half = dataclasses.replace(CONFIG, dtype="bfloat16")
    y, full = llama.apply(PARAMS, half, X), llama.apply(PARAMS, CONFIG, X)
    assert y.dtype == jnp.bfloat16
    assert 0 < np.linalg.norm(y - full) / np.linalg.norm(full) < 0.03


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="do not divide"):
        dataclasses.replace(CONFIG, heads=3)
    with pytest.raises(ConfigError, match="heads of keys"):
        dataclasses.replace(CONFIG, kv_heads=3)
    with pytest.raises(ConfigError, match="No norm"):
        dataclasses.replace(CONFIG, norm="layer")
    with pytest.raises(UsageError, match="do not fit a cache of 4"):
        llama.extend(PARAMS, CONFIG, X, llama.empty(CONFIG, 2, 4))
    with pytest.raises(UsageError, match="Only a causal stack"):
        llama.extend(PARAMS, dataclasses.replace(CONFIG, causal=False), X, llama.empty(CONFIG, 2, 9))
