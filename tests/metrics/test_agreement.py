import jax
import numpy as np
import pytest
from scipy.spatial.distance import cosine
from scipy.special import softmax

from jaxaudio.errors import UsageError
from jaxaudio.metrics import cosines, named


def test_cosines_are_scipys():
    a, b = np.random.default_rng(0).standard_normal((2, 6, 5))
    np.testing.assert_allclose(cosines(a, 3 * b), [1 - cosine(x, y) for x, y in zip(a, b)], rtol=1e-12)
    np.testing.assert_allclose(cosines(a, 2 * a), 1)
    np.testing.assert_allclose(cosines(a, -a), -1)
    assert cosines([[1.0, 0.0]], [[0.0, 2.0]]) == pytest.approx(0)


def test_probabilities_are_softmax():
    logits = np.asarray(5 * jax.random.normal(jax.random.key(0), (7, 4)))
    wanted = np.array([0, 1, 2, 3, 0, 1, 2])
    probability, right = named(logits, wanted)
    np.testing.assert_allclose(probability, softmax(logits.astype(float), 1)[np.arange(7), wanted], rtol=1e-12)
    np.testing.assert_array_equal(right, logits.argmax(1) == wanted)
    assert named([[1000.0, 0.0]], [0])[0] == 1  # no overflow


@pytest.mark.parametrize(
    ("function", "a", "b", "said"),
    [
        (cosines, np.ones((2, 3)), np.ones((3, 3)), "one embedding of each"),
        (cosines, np.ones(3), np.ones(3), "items, width"),
        (cosines, np.zeros((2, 3)), np.ones((2, 3)), "zero"),
        (cosines, np.full((2, 3), np.nan), np.ones((2, 3)), "finite"),
        (named, np.ones((2, 3)), np.array([0, 3]), "one class per item"),
        (named, np.ones((2, 3)), np.array([0]), "one class per item"),
        (named, np.full((1, 3), np.nan), np.array([0]), "NaN"),
    ],
)
def test_bad_input_is_one_line(function, a, b, said):
    with pytest.raises(UsageError, match=said) as caught:
        function(a, b)
    assert "\n" not in str(caught.value)
