"""Codebooks: the nearest row, gradients past it, and rows that follow their vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.quantize import vq

nearest = jax.jit(lambda x, book, cosine: vq.nearest(x, book, cosine=cosine), static_argnums=2)
SEEDS = st.integers(0, 2**31 - 1)


def drawn(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, cosine=st.booleans())
def test_nearest_is_the_smallest_distance_or_angle(seed, cosine):
    x, book = drawn(seed, (2, 5, 3), (7, 3))
    codes = np.asarray(nearest(jnp.asarray(x), jnp.asarray(book), cosine))
    far = np.square(x[..., None, :].astype(np.float64) - book).sum(-1)
    if cosine:
        far = -np.einsum("btd,nd->btn", x, book) / np.linalg.norm(book, axis=-1)
    assert codes.dtype == np.int32
    chosen = np.take_along_axis(far, codes[..., None], -1)[..., 0]
    np.testing.assert_allclose(chosen, far.min(-1), atol=1e-5)


def test_of_equal_rows_the_first_is_chosen():
    book = jnp.array([[0.0, 2.0], [1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    x = jnp.array([[3.0, 0.1], [-3.0, 0.1], [0.0, 0.0]])
    np.testing.assert_array_equal(vq.nearest(x, book), [1, 3, 1])
    np.testing.assert_array_equal(vq.nearest(x, book, cosine=True), [1, 3, 0])


def test_gradients_pass_straight_through():
    x, q = jnp.array([1.0, 2.0]), jnp.array([5.0, 7.0])
    value, slopes = jax.value_and_grad(lambda x, q: jnp.sum(vq.straight_through(x, q) ** 2), (0, 1))(x, q)
    assert value == 74
    np.testing.assert_array_equal(slopes[0], 2 * q)
    np.testing.assert_array_equal(slopes[1], 0 * q)


def test_each_loss_moves_one_side():
    x, q = (jnp.asarray(a) for a in drawn(0, (2, 4, 3), (2, 4, 3)))
    expected = np.square(np.asarray(x - q)).mean((1, 2))
    for loss, moved in ((vq.commitment_loss, 0), (vq.codebook_loss, 1)):
        np.testing.assert_allclose(loss(x, q), expected, rtol=1e-6)
        slopes = jax.grad(lambda x, q, loss=loss: jnp.sum(loss(x, q)), (0, 1))(x, q)
        np.testing.assert_allclose(slopes[moved], (1 - 2 * moved) * 2 * (x - q) / 12, rtol=1e-5)
        assert not np.any(slopes[1 - moved])


def test_perplexity_counts_what_is_used():
    np.testing.assert_allclose(vq.perplexity(jnp.array([[0, 1], [2, 3]]), 8), 4, rtol=1e-5)
    np.testing.assert_allclose(vq.perplexity(jnp.zeros((5,), jnp.int32), 8), 1, rtol=1e-5)


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_rows_that_follow_become_the_means_of_their_vectors(seed):
    x, book = drawn(seed, (30, 2), (4, 2))
    state = vq.ema_state(jnp.asarray(book))
    codes = vq.nearest(jnp.asarray(x), state.codebook)
    for _ in range(400):
        state = _update(state, x, codes)
    for row in range(4):
        if np.any(codes == row):
            np.testing.assert_allclose(state.codebook[row], x[codes == row].mean(0), rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(state.counts[row], np.sum(codes == row), rtol=1e-3)


@settings(deadline=None, max_examples=10)
@given(seed=SEEDS)
def test_levels_are_moved_one_by_one_by_what_counts(seed):
    x, book, sums = drawn(seed, (2, 5, 7, 3), (2, 4, 3), (2, 4, 3))
    rng = np.random.default_rng(seed)
    real = np.arange(7) < rng.integers(0, 8, (5, 1))
    state = vq.EmaState(book, rng.uniform(1, 2, (2, 4)).astype(np.float32), sums)
    codes = np.stack([vq.nearest(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(x, book, strict=True)])
    made = _levels(state, x, codes, real, jax.random.key(0), 0.0)
    spoilt = _levels(state, np.where(real[..., None], x, 1e9), codes, real, jax.random.key(0), 0.0)
    for level in range(2):
        one = vq.EmaState(*(jnp.asarray(part[level]) for part in state))
        expected = vq.ema_update(one, jnp.asarray(x[level][real]), jnp.asarray(codes[level][real]), decay=0.9)
        for a, b, c in zip(made, spoilt, expected, strict=True):
            np.testing.assert_allclose(a[level], c, rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(a[level], b[level])


def test_an_empty_codebook_is_filled_with_vectors_that_count():
    x, book = drawn(3, (1, 4, 6, 2), (1, 8, 2))
    real = np.broadcast_to([[True], [False], [True], [False]], (4, 6))
    codes = np.zeros((1, 4, 6), np.int32)
    made = _levels(vq.empty_state(jnp.asarray(book)), x, codes, real, jax.random.key(1), 0.1)
    np.testing.assert_allclose(made.codebook[0, 0], x[0][real].mean(0), rtol=1e-3)
    rows = np.asarray(made.codebook[0, 1:])
    assert all(np.any(np.all(x[0][real] == row, -1)) for row in rows) and len(np.unique(rows, axis=0)) > 3


_levels = jax.jit(
    lambda state, x, codes, real, key, revive: vq.ema_levels(state, x, codes, real, key, decay=0.9, revive=revive),
    static_argnums=5,
)
_update = jax.jit(lambda state, x, codes: vq.ema_update(state, x, codes, decay=0.97))
_revive = jax.jit(lambda state, x, codes, key: vq.ema_update(state, x, codes, key, decay=0.9, revive_below=1.0))


def test_rows_that_nothing_chooses_come_back_as_vectors():
    book = jnp.array([[0.0, 0.0], [100.0, 100.0]])
    x = jnp.asarray(drawn(1, (20, 2))[0])
    state = vq.ema_state(book)._replace(counts=jnp.array([20.0, 0.01]))
    codes = vq.nearest(x, book)
    dead = _update(state, x, codes)
    assert dead.counts[1] < 0.01 and dead.codebook[1, 0] > 100
    alive = _revive(state, x, codes, jax.random.key(0))
    assert np.any(np.all(np.asarray(x) == np.asarray(alive.codebook[1]), -1))
    np.testing.assert_allclose(alive.sums[1] / alive.counts[1], alive.codebook[1])
    np.testing.assert_allclose(alive.codebook[0], 0.1 * x.sum(0) / alive.counts[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="key"):
        vq.ema_update(state, x, codes, revive_below=1.0)
