import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.linalg import sqrtm

from jaxaudio.errors import UsageError
from jaxaudio.metrics.frechet import Moments, between, frechet_distance, moments


def published(a, b):
    """The formula as it stands in Heusel et al.'s code, with scipy's root of the product."""
    (m, c), (n, d) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a, b))
    return np.sum((m - n) ** 2) + np.trace(c) + np.trace(d) - 2 * np.trace(sqrtm(c @ d).real)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 10), st.floats(-3, 3))
def test_agrees_with_the_published_formula(seed, scale, shift):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((60, 7)) @ rng.standard_normal((7, 7))
    b = scale * rng.standard_normal((45, 7)) @ rng.standard_normal((7, 7)) + shift
    wanted = published(a, b)
    np.testing.assert_allclose(frechet_distance(a, b), wanted, rtol=1e-7)
    np.testing.assert_allclose(frechet_distance(b, a), wanted, rtol=1e-7)


def test_normals_with_diagonal_covariances():
    # |m - n|^2 + sum (s - t)^2
    a = Moments(np.array([1.0, 2.0, 3.0]), np.diag([4.0, 9.0, 0.0]))
    b = Moments(np.array([1.0, 0.0, 3.0]), np.diag([1.0, 9.0, 25.0]))
    assert between(a, b) == pytest.approx(4 + 1 + 0 + 25, abs=1e-12)
    assert between(a, a) == pytest.approx(0, abs=1e-12)


def test_a_shift_costs_its_square_and_order_nothing():
    x = np.random.default_rng(0).standard_normal((50, 4))
    assert frechet_distance(x, x + 2.0) == pytest.approx(16.0, rel=1e-9)
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-12)


def test_fewer_items_than_numbers_in_an_embedding():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 32)), rng.standard_normal((6, 32))
    assert np.isfinite(frechet_distance(a, b))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-7)  # roots of rounding
    # With ranks 4 and 5 in 32 dimensions scipy's root is only good to some digits.
    np.testing.assert_allclose(frechet_distance(a, b), published(a, b), rtol=1e-4)


def test_large_means_do_not_cancel():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 3))
    np.testing.assert_allclose(moments(x + 1e6).covariance, np.cov(x, rowvar=False), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "at least 2 items"),
        (np.zeros((4, 3)), np.zeros((0, 3)), "at least 2 items"),
        (np.full((4, 3), np.nan), np.zeros((4, 3)), "NaN"),
        (np.zeros((4, 3)), np.full((4, 3), np.inf), "infinity"),
        (np.zeros((4, 3)), np.zeros((4, 2)), "width 3 and 2"),
        (np.zeros(4), np.zeros((4, 2)), "items, width"),
    ],
)
def test_bad_input_is_one_line(a, b, said):
    with pytest.raises(UsageError, match=said) as caught:
        frechet_distance(a, b)
    assert "\n" not in str(caught.value)
