import numpy as np
import pytest

from jaxaudio.dsp.masks import ratio_masked
from jaxaudio.errors import UsageError

RNG = np.random.default_rng(0)
MIXTURE = RNG.standard_normal((2, 1500)).astype(np.float32)


def test_the_parts_sum_to_the_mixture():
    parts = ratio_masked(MIXTURE, RNG.standard_normal((2, 3, 1500)).astype(np.float32), n_fft=256, hop=64)
    np.testing.assert_allclose(parts.sum(1), MIXTURE, atol=1e-5)


def test_the_ratio_is_that_of_the_estimates_magnitudes():
    """Three estimates of one shape, at 1 : -2 : 1 of level; signs do not matter."""
    shape = RNG.standard_normal((2, 1, 1500)).astype(np.float32)
    parts = ratio_masked(MIXTURE, shape * np.array([[1], [-2], [1]], np.float32), n_fft=256, hop=64)
    np.testing.assert_allclose(parts, MIXTURE[:, None] * np.array([[0.25], [0.5], [0.25]]), atol=1e-5)


def test_silent_estimates_share_alike():
    parts = ratio_masked(MIXTURE, np.zeros((2, 2, 1500), np.float32), n_fft=256, hop=64)
    np.testing.assert_allclose(parts, MIXTURE[:, None].repeat(2, 1) / 2, atol=1e-5)


def test_other_lengths_are_refused():
    with pytest.raises(UsageError, match="cut or pad one"):
        ratio_masked(MIXTURE, np.zeros((2, 2, 1499), np.float32))
