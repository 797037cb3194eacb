"""Residual quantisers: levels add up, and can be left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import UsageError
from jaxaudio.quantize import rvq

CONFIG = rvq.Config(dim=6, levels=4, size=16, width=3)
run = jax.jit(lambda p, x, limits: rvq.quantize(p, CONFIG, x, limits=limits))
first = jax.jit(lambda p, x, levels: rvq.quantize(p, CONFIG, x, levels), static_argnums=2)
decode = jax.jit(lambda p, codes: rvq.decode(p, CONFIG, codes))


def filled():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: rvq.init(jax.random.key(0), CONFIG))
    return jax.tree.map(lambda s: jnp.asarray(rng.standard_normal(s.shape), s.dtype), shapes)


PARAMS = filled()


def latents(seed):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((3, 5, 6)), jnp.float32)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**31 - 1), limits=st.lists(st.integers(1, 4), min_size=3, max_size=3))
def test_codes_decode_to_what_the_levels_used_add_up_to(seed, limits):
    x = latents(seed)
    made = run(PARAMS, x, jnp.array(limits))
    whole = run(PARAMS, x, jnp.full(3, 4))
    np.testing.assert_array_equal(made.codes, whole.codes)
    for z, codes, limit in zip(made.z, made.codes, limits, strict=True):
        np.testing.assert_allclose(z, decode(PARAMS, codes[None, :, :limit])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("levels", [1, 3])
def test_fewer_levels_are_the_first_ones(levels):
    x = latents(0)
    few, whole = first(PARAMS, x, levels), first(PARAMS, x, 4)
    np.testing.assert_array_equal(few.codes, whole.codes[..., :levels])
    np.testing.assert_array_equal(few.latents, whole.latents[..., : 3 * levels])
    assert whole.codes.shape == (3, 5, 4) and len(np.unique(whole.codes)) > 4


def test_levels_that_an_item_does_not_use_learn_nothing_from_it():
    def loss(p, limits):
        made = run(p, latents(1), limits)
        return jnp.sum(made.z**2) + jnp.sum(made.commitment) + jnp.sum(made.codebook)

    slopes = jax.jit(jax.grad(loss))(PARAMS, jnp.array([1, 2, 2]))
    sizes = [float(sum(jnp.sum(jnp.abs(g)) for g in jax.tree.leaves(slopes[f"quantizers_{i}"]))) for i in range(4)]
    assert min(sizes[:2]) > 0 and sizes[2:] == [0, 0]


def test_losses_are_sums_over_levels_of_mean_squares():
    made = first(PARAMS, latents(2), 4)
    rows = np.stack([PARAMS[f"quantizers_{i}"]["codebook"][made.codes[..., i]] for i in range(4)], 2)
    expected = np.square(np.asarray(made.latents).reshape(rows.shape) - rows).mean((1, 3)).sum(1)
    np.testing.assert_allclose(made.commitment, expected, rtol=1e-5)
    np.testing.assert_array_equal(made.commitment, made.codebook)


def test_limits_are_drawn_by_item():
    indices = jnp.arange(2000)
    drawn = jax.jit(lambda indices, share: rvq.drop_levels(jax.random.key(3), indices, 4, share))
    limits = np.asarray(drawn(indices, 0.5))
    share = np.bincount(limits, minlength=5) / len(limits)
    np.testing.assert_allclose(share, [0, 0.125, 0.125, 0.125, 0.625], atol=0.03)
    np.testing.assert_array_equal(drawn(indices[7:9], 0.5), limits[7:9])
    assert np.all(drawn(indices, 0.0) == 4)


@pytest.mark.parametrize("levels", [0, 5])
def test_levels_that_do_not_exist(levels):
    with pytest.raises(UsageError, match="give 1 to 4"):
        rvq.quantize(PARAMS, CONFIG, latents(0), levels)
    with pytest.raises(UsageError, match="give 1 to 4"):
        rvq.decode(PARAMS, CONFIG, jnp.zeros((1, 2, levels), jnp.int32))
