"""Binary spherical quantisation, against its definition; the golden case of TaDiCodec holds its loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import ConfigError
from jaxaudio.quantize import bsq


@given(st.integers(0, 2**14 - 1))
@settings(max_examples=30, deadline=None)
def test_codes_name_corners_and_corners_their_codes(code):
    corner = bsq.lookup(jnp.asarray([code]), 14)
    np.testing.assert_allclose(jnp.linalg.norm(corner), 1, rtol=1e-6)
    assert (np.asarray(corner[0] > 0) == [bit == "1" for bit in f"{code:014b}"]).all()
    assert int(bsq.quantize(0.3 * corner).codes[0]) == code


def test_values_are_corners_and_gradients_pass():
    x = jnp.asarray([[0.6, -0.8, 0.0]])
    made = bsq.quantize(x)
    np.testing.assert_allclose(made.z, np.asarray([[1, -1, -1]]) / np.sqrt(3), rtol=1e-6)
    assert int(made.codes[0]) == 4
    slope = jax.grad(lambda x: jnp.sum(bsq.quantize(x).z * jnp.asarray([1.0, 2.0, 3.0])))(x)
    np.testing.assert_allclose(slope, np.asarray([[1, 2, 3]]) / np.sqrt(3), rtol=1e-6)
    np.testing.assert_allclose(bsq.commitment(x), np.sum((np.asarray(made.z) - x) ** 2), rtol=1e-6)


def test_the_penalty_prefers_bits_that_are_sure_and_used():
    sure = np.asarray([[1, 0], [-1, 0], [0, 1], [0, -1]], float)
    p = 1 / (1 + np.exp(-4 * np.asarray([1, -1]) / np.sqrt(2)))
    each = np.log(2) - np.mean(p * np.log(p) + (1 - p) * np.log(1 - p))
    np.testing.assert_allclose(bsq.entropy_penalty(jnp.asarray(sure)), each - 2 * np.log(2), atol=1e-5)
    same = bsq.entropy_penalty(jnp.asarray([[1.0, 0.0]] * 4))
    np.testing.assert_allclose(same, 0, atol=1e-6)


def test_more_bits_than_an_integer_has_are_refused():
    with pytest.raises(ConfigError, match="31 bits"):
        bsq.quantize(jnp.ones((1, 31)))
