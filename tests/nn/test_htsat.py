import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from jaxaudio.errors import UsageError
from jaxaudio.nn import htsat

SMALL = htsat.Config(
    mel_bins=16, spec_size=32, patch_size=2, embed_dim=8, depths=(2, 2), heads=(2, 4), window=4, classes=5
)


@pytest.fixture(scope="module")
def variables():
    """Random normals everywhere, so that no bias or scale hides a mistake."""
    shapes = jax.eval_shape(lambda: htsat.init(jax.random.key(0), SMALL))
    flat, restore = ravel_pytree(jax.tree.map(lambda s: jnp.zeros(s.shape), shapes))
    tree = restore(jnp.asarray(0.3 * np.random.default_rng(0).standard_normal(flat.shape), jnp.float32))
    tree["batch_stats"] = jax.tree.map(lambda x: jnp.exp(x), tree["batch_stats"])
    return tree


encode = jax.jit(lambda variables, mel: htsat.HTSAT(SMALL).apply(variables, mel))


def mel(frames, seed=1, batch=1):
    return np.random.default_rng(seed).standard_normal((batch, frames, SMALL.mel_bins)).astype(np.float32)


def test_published_sizes():
    assert (htsat.BASE.features, htsat.TINY.features) == (1024, 768)
    assert (htsat.BASE.frames, htsat.BASE.strips) == (1024, 4)


def test_folding_stacks_the_quarters_of_time():
    x = mel(64)
    image = np.asarray(htsat.fold(jnp.asarray(x), SMALL))
    for strip in range(2):
        np.testing.assert_array_equal(image[0, strip * 16 : strip * 16 + 16], x[0, strip * 32 : strip * 32 + 32].T)


@pytest.mark.parametrize("frames", [1, 2, 30, 63])
def test_stretching_keeps_ends_and_constants(frames):
    x = mel(frames)
    x[..., 3] = 2.5
    image = np.asarray(htsat.fold(jnp.asarray(x), SMALL))[0].reshape(2, 16, 32).swapaxes(0, 1).reshape(16, 64).T
    np.testing.assert_allclose(image[:, 3], 2.5, rtol=1e-5)
    np.testing.assert_allclose(image[0], x[0, 0], atol=1e-5)
    if frames > 1:
        np.testing.assert_allclose(image[-1], x[0, -1], atol=1e-5)


def test_stretching_is_torchs_bicubic():
    """Three samples from two, by hand: the middle one lies half way, ends repeated, a = -0.75."""
    weights = htsat._bicubic_matrix(2, 3)
    np.testing.assert_allclose(weights, [[1, 0], [0.5, 0.5], [0, 1]], atol=1e-12)
    # Between the inner two of four samples: -0.09375, 0.59375, 0.59375, -0.09375.
    np.testing.assert_allclose(htsat._bicubic_matrix(4, 7)[3], [-0.09375, 0.59375, 0.59375, -0.09375], atol=1e-12)


def test_windows_shift_and_do_not_wrap_around(variables):
    """A disturbed corner token reaches exactly its window in block 0, and its shifted, unwrapped window in block 1."""
    block0 = {"params": variables["params"]["layers_0"]["blocks_0"]}
    block1 = {"params": variables["params"]["layers_0"]["blocks_1"]}
    x = jnp.asarray(np.random.default_rng(2).standard_normal((1, 16, 16, 8)), jnp.float32)
    disturbed = x.at[0, 0, 0, 0].add(1.0)

    def reached(params, shift):
        block = jax.jit(htsat._Block(2, 4, shift, 4.0).apply)
        change = np.asarray(block(params, disturbed)) - block(params, x)
        return np.abs(change[0]).max(-1) > 1e-6

    expected = np.zeros((16, 16), bool)
    expected[:4, :4] = True
    np.testing.assert_array_equal(reached(block0, 0), expected)
    expected[:] = False
    expected[:2, :2] = True
    np.testing.assert_array_equal(reached(block1, 2), expected)


def test_outputs_agree_with_each_other(variables):
    out = encode(variables, mel(50))
    assert out["fine_grained"].shape == (1, 16, 16) and out["framewise"].shape == (1, 16, 5)
    np.testing.assert_allclose(out["embedding"], np.mean(out["norm"], (1, 2)), atol=1e-5)
    np.testing.assert_allclose(out["embedding"], np.mean(out["fine_grained"], 1), atol=1e-5)
    logit = np.mean(out["tscam_conv"], 1)
    np.testing.assert_allclose(out["clipwise"], 1 / (1 + np.exp(-logit)), atol=1e-6)


def test_fine_grained_time_runs_through_the_strips(variables):
    """Rows of `norm` are two strips of four bands; time step t lies in strip t // 8, column t % 8."""
    out = encode(variables, mel(64))
    norm = np.asarray(out["norm"])[0]
    for t in (0, 7, 8, 13):
        strip = norm[t // 8 * 4 : t // 8 * 4 + 4, t % 8]
        np.testing.assert_allclose(out["fine_grained"][0, t], strip.mean(0), atol=1e-5)


def test_items_of_a_batch_do_not_mix(variables):
    x = mel(64, batch=3)
    together = encode(variables, x)["embedding"]
    alone = np.concatenate([encode(variables, item[None])["embedding"] for item in x])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_training_updates_the_statistics_of_the_bands_only(variables):
    train = jax.jit(lambda v, x: htsat.HTSAT(SMALL).apply(v, x, train=True, mutable=["batch_stats"])[1])
    new = train(variables, mel(64, batch=2))
    assert jax.tree.structure(new["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
    assert np.abs(new["batch_stats"]["bn0"]["mean"] - variables["batch_stats"]["bn0"]["mean"]).max() > 1e-3


def test_too_long_or_too_wide_is_refused(variables):
    for frames, bands in ((65, 16), (64, 17)):
        with pytest.raises(UsageError, match="crop"):
            htsat.fold(jnp.zeros((1, frames, bands)), SMALL)
