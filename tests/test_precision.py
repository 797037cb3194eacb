"""What networks compute in, and the convolution that stands in for XLA's in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.precision import computed, wide
from tests.precision import convolve, double_precision

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    "x, kernel, strides, padding, dilation, layout, groups",
    [
        ((2, 11, 4), (3, 2, 6), (2,), ((1, 1),), (1,), ("NWC", "WIO", "NWC"), 2),
        ((2, 12, 3), (5, 3, 4), (1,), ((4, 3),), (2,), ("NWC", "WIO", "NWC"), 1),
        ((1, 3, 7, 6), (5, 3, 3, 2), (1, 2), "SAME", (1, 1), ("NCHW", "OIHW", "NCHW"), 1),
        ((2, 7, 6, 4), (4, 4, 4, 2), (2, 1), ((1, 1), (0, 2)), (1, 1), ("NHWC", "HWIO", "NHWC"), 1),
    ],
)
def test_it_is_xlas(x, kernel, strides, padding, dilation, layout, groups):
    x, kernel = (RNG.standard_normal(shape) for shape in (x, kernel))
    options = {"rhs_dilation": dilation, "dimension_numbers": layout, "feature_group_count": groups}
    narrow = [jnp.asarray(a, jnp.float32) for a in (x, kernel)]
    expected = jax.lax.conv_general_dilated(*narrow, strides, padding, **options)
    with double_precision():
        y = jax.lax.conv_general_dilated(jnp.asarray(x), jnp.asarray(kernel), strides, padding, **options)
        assert jax.lax.conv_general_dilated is convolve and y.dtype == jnp.float64
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert jax.lax.conv_general_dilated is not convolve


@pytest.mark.parametrize(("given", "made"), [("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_sums_are_in_float32_at_least(given, made):
    with double_precision():
        x = jnp.asarray([0.1, 2.0], given)
        assert wide(x).dtype == made
        assert (wide(x) == x).all()


def test_networks_compute_in_what_they_are_told():
    with double_precision():
        x = jnp.asarray([0.1], "float64")
        assert computed(x, "float32").dtype == "float64"
        assert computed(x, "bfloat16").dtype == "bfloat16"
