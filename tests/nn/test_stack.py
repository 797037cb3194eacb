"""Transformer layers with biases: the same in parts as whole, for rows that share a memory, with dropout by items."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import cache as caches, stack
from jaxaudio.nn.dropout import drop, split

CONFIG = stack.Config(width=12, layers=2, heads=3, hidden=20, memory=8, dropout=0.3, attention_dropout=0.2)
PARAMS = jax.tree.map(
    lambda x: jax.random.normal(jax.random.key(x.size), x.shape) * 0.4, stack.init(jax.random.key(0), CONFIG)
)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(2, 6, 12)), jnp.float32)
HEARD = jnp.asarray(RNG.normal(size=(2, 5, 8)), jnp.float32)
MASK = jnp.asarray([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def whole(x=X, config=CONFIG, heard=HEARD, mask=MASK, **options):
    return stack.apply(PARAMS, config, x, memory=stack.memorise(PARAMS, config, heard, mask), **options)


@pytest.mark.parametrize("sizes", [(1,) * 6, (4, 2)])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_parts_are_the_whole(sizes, norm):
    config = dataclasses.replace(CONFIG, norm=norm)
    memory, cache = stack.memorise(PARAMS, config, HEARD, MASK), stack.empty(config, 2, 6)
    made, begin = [], 0
    for size in sizes:
        y, cache = stack.extend(PARAMS, config, X[:, begin : begin + size], cache, memory=memory)
        made.append(y)
        begin += size
    np.testing.assert_allclose(jnp.concatenate(made, 1), whole(config=config), rtol=2e-5, atol=2e-5)


def test_what_is_padded_is_not_attended_to():
    changed = HEARD.at[1, 3:].set(99.0)
    np.testing.assert_array_equal(whole(heard=changed), whole())
    assert not np.allclose(whole(heard=HEARD.at[1, 2].set(99.0)), whole())


def test_a_position_sees_none_after_it():
    y = whole(X.at[:, 4:].set(7.0))
    np.testing.assert_array_equal(y[:, :4], whole()[:, :4])
    both = dataclasses.replace(CONFIG, causal=False)
    assert not np.allclose(whole(X.at[:, 4:].set(7.0), both)[:, :4], whole(config=both)[:, :4])


def test_neighbouring_rows_may_share_a_memory():
    rows = jnp.asarray([0, 0, 0, 1, 1, 1])
    x = X[rows] + jnp.arange(6)[:, None, None]
    shared = stack.memorise(PARAMS, CONFIG, HEARD, MASK)
    each = stack.memorise(PARAMS, CONFIG, HEARD[rows], MASK[rows])
    cache = stack.empty(CONFIG, 6, 3)
    for place in range(3):
        one, after = stack.extend(PARAMS, CONFIG, x[:, place : place + 1], cache, memory=shared)
        other, cache = stack.extend(PARAMS, CONFIG, x[:, place : place + 1], cache, memory=each)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(after.key, cache.key, rtol=1e-5, atol=1e-5)


def test_rows_of_a_cache_are_taken():
    _, cache = stack.extend(PARAMS, CONFIG, X, stack.empty(CONFIG, 2, 8), memory=stack.memorise(PARAMS, CONFIG, HEARD))
    taken = caches.take(cache, jnp.asarray([1, 0, 1]))
    np.testing.assert_array_equal(taken.value, np.asarray(cache.value)[:, [1, 0, 1]])
    assert taken.length == 6


def test_dropout_of_an_item_is_its_own():
    keys = jax.random.split(jax.random.key(3), 2)
    dropped = whole(key=keys)
    assert not np.allclose(dropped, whole())
    alone = whole(X[1:], heard=HEARD[1:], mask=MASK[1:], key=keys[1:])
    np.testing.assert_allclose(alone, dropped[1:], rtol=1e-5, atol=1e-5)
    assert not np.allclose(whole(key=keys[::-1]), dropped)


@pytest.mark.parametrize("many", [False, True], ids=["one key", "a key each"])
def test_dropout_keeps_the_mean(many):
    key = jax.random.key(0)
    x = jnp.ones((50, 400))
    y = drop(x, 0.25, jax.random.split(key, 50) if many else key)
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.75)}
    # Twenty thousand draws: five standard errors of the mean are 0.02.
    assert abs(float(y.mean()) - 1) < 0.02
    assert drop(x, 0.25, None) is x
    assert split(None, 3) == (None, None, None)


def test_positions_are_the_papers():
    made = stack.positions(50, 8)
    assert made.shape == (50, 8)
    np.testing.assert_allclose(made[7, 2], np.sin(7 / 10000 ** (2 / 8)), rtol=1e-5)
    np.testing.assert_allclose(made[7, 3], np.cos(7 / 10000 ** (2 / 8)), rtol=1e-5)
    np.testing.assert_allclose(stack.positions(10, 8, 40), made[40:], atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="do not divide"):
        stack.Config(width=10, layers=1, heads=3, hidden=4)
    with pytest.raises(ConfigError, match="No activation"):
        stack.Config(width=10, layers=1, heads=2, hidden=4, activation="swish")
    with pytest.raises(UsageError, match="give it one"):
        stack.apply(PARAMS, CONFIG, X)
    with pytest.raises(UsageError, match="do not fit a cache"):
        stack.extend(PARAMS, CONFIG, X, stack.empty(CONFIG, 2, 3), memory=stack.memorise(PARAMS, CONFIG, HEARD))
    with pytest.raises(UsageError, match="causal"):
        stack.extend(PARAMS, dataclasses.replace(CONFIG, causal=False), X, stack.empty(CONFIG, 2, 9))
