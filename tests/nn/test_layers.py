import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.nn.conv import Conv3x3, Pointwise, TiledTranspose, average_pool
from jaxaudio.nn.film import BiasTree
from jaxaudio.nn.norm import BatchNorm
from tests.precision import double_precision

X = np.random.default_rng(0).standard_normal((3, 4, 6, 5)).astype(np.float32) * 2 + 1


def test_batch_norm_in_training_has_torchs_statistics():
    norm = BatchNorm(momentum=0.25)
    start = norm.init(jax.random.key(0), jnp.asarray(X))
    y, new = norm.apply(start, jnp.asarray(X), train=True, mutable=["batch_stats"])
    flat = X.reshape(-1, 5)
    np.testing.assert_allclose(y, (X - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), atol=2e-6)
    np.testing.assert_allclose(new["batch_stats"]["mean"], 0.25 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(new["batch_stats"]["var"], 0.75 + 0.25 * flat.var(0, ddof=1), rtol=1e-5)


def test_batch_norm_in_use_takes_the_running_statistics_and_a_bias_per_item():
    stats = {"mean": jnp.arange(5.0), "var": jnp.arange(1.0, 6.0)}
    params = {"scale": jnp.full(5, 2.0), "bias": jnp.full(5, 0.5)}
    beta = np.arange(15.0, dtype=np.float32).reshape(3, 5)
    y = BatchNorm().apply({"params": params, "batch_stats": stats}, jnp.asarray(X), beta=jnp.asarray(beta))
    expected = (X - np.arange(5)) / np.sqrt(np.arange(1, 6) + 1e-5) * 2 + 0.5 + beta[:, None, None]
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_batch_norm_of_parts_is_that_of_their_concatenation():
    norm, parts = BatchNorm(momentum=0.25), (jnp.asarray(X[..., :2]), jnp.asarray(X[..., 2:]))
    start, beta = norm.init(jax.random.key(0), jnp.asarray(X)), jnp.arange(15.0).reshape(3, 5)
    for train in (False, True):
        options = {"train": train, "beta": beta, "mutable": ["batch_stats"]}
        whole, new = norm.apply(start, jnp.asarray(X), **options)
        pair, after = norm.apply(start, parts, **options, method="parts")
        np.testing.assert_allclose(jnp.concatenate(pair, -1), whole, atol=1e-5)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after, new)


def test_batch_norm_keeps_float64():
    with double_precision():
        x = jnp.asarray(X, jnp.float64)
        start = jax.tree.map(lambda a: a.astype(jnp.float64), BatchNorm().init(jax.random.key(0), x))
        y, _ = BatchNorm().apply(start, x, train=True, mutable=["batch_stats"])
        assert y.dtype == jnp.float64


def test_pointwise_of_parts_is_that_of_their_concatenation():
    params = Pointwise(7).init(jax.random.key(1), jnp.asarray(X))
    whole = Pointwise(7).apply(params, jnp.asarray(X))
    parts = Pointwise(7).apply(params, jnp.asarray(X[..., :2]), jnp.asarray(X[..., 2:]))
    expected = X @ np.asarray(params["params"]["kernel"][0, 0]) + np.asarray(params["params"]["bias"])
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    np.testing.assert_allclose(parts, expected, atol=1e-5)


def test_conv3x3_of_parts_is_that_of_their_concatenation():
    params = Conv3x3(7, bias=False).init(jax.random.key(1), jnp.asarray(X))
    whole = Conv3x3(7, bias=False).apply(params, jnp.asarray(X))
    parts = Conv3x3(7, bias=False).apply(params, jnp.asarray(X[..., :2]), jnp.asarray(X[..., 2:]))
    kernel = np.asarray(params["params"]["kernel"])
    np.testing.assert_allclose(whole[1, 2, 0], np.einsum("uvi,uvio->o", X[1, 1:4, :2], kernel[:, 1:]), atol=1e-5)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_tiled_transpose_puts_every_kernel_tap_in_its_place():
    params = TiledTranspose(2, (1, 3)).init(jax.random.key(2), jnp.asarray(X))
    kernel = np.asarray(params["params"]["kernel"])
    y = TiledTranspose(2, (1, 3)).apply(params, jnp.asarray(X))
    assert y.shape == (3, 4, 18, 2)
    np.testing.assert_allclose(y[1, 2, 3 * 4 + 2], X[1, 2, 4] @ kernel[0, 2], rtol=1e-4, atol=1e-5)


def test_average_pool_leaves_out_what_does_not_fill_a_tile():
    y = average_pool(jnp.asarray(X), (2, 4))
    assert y.shape == (3, 2, 1, 5)
    np.testing.assert_allclose(y[0, 1, 0], X[0, 2:4, :4].mean((0, 1)), rtol=1e-5)


def test_bias_tree_follows_its_sites():
    sites = {"block": {"beta1": 3, "beta2": 4}, "beta1": 2}
    condition = jnp.ones((2, 6))
    params = BiasTree(sites).init(jax.random.key(0), condition)
    biases = BiasTree(sites).apply(params, condition)
    assert jax.tree.map(jnp.shape, biases) == {"block": {"beta1": (2, 3), "beta2": (2, 4)}, "beta1": (2, 2)}
    kernel = params["params"]["block"]["beta2"]["kernel"]
    np.testing.assert_allclose(biases["block"]["beta2"][0], kernel.sum(0), rtol=1e-5)
