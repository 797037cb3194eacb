"""Half precision is widened, and nothing wider is cut."""

import jax.numpy as jnp
import pytest

from jaxaudio.precision import computed, wide
from tests.precision import double_precision


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
