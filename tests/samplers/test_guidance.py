import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.samplers import classifier_free

X = jnp.asarray(np.random.default_rng(0).standard_normal((2, 5, 3)), jnp.float32)
WANTED, NOT_WANTED = {"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([0.0, -1.0])}
T = jnp.float32(0.5)


def network(x, t, condition):
    sizes.append(len(x))
    return x * t + condition["a"][:, None, None] * jnp.sin(x)


sizes = []


def test_the_formula_in_one_doubled_batch():
    away, towards = network(X, T, NOT_WANTED), network(X, T, WANTED)
    for scale in (0.0, 2.5, -1.0, 40.0):
        sizes.clear()
        guided = classifier_free(network, WANTED, NOT_WANTED, scale)(X, T)
        assert sizes == [4]
        np.testing.assert_allclose(guided, away + scale * (towards - away), rtol=1e-5, atol=1e-5)
    sizes.clear()
    np.testing.assert_array_equal(classifier_free(network, WANTED, NOT_WANTED, 1.0)(X, T), towards)
    assert sizes == [2]


def test_a_traced_scale():
    made = jax.jit(lambda s: classifier_free(network, WANTED, NOT_WANTED, s)(X, T))(jnp.float32(3.0))
    np.testing.assert_allclose(made, classifier_free(network, WANTED, NOT_WANTED, 3.0)(X, T), rtol=1e-5)


def test_rescaling_gives_back_the_spread_of_the_condition_alone():
    towards = network(X, T, WANTED)
    full = classifier_free(network, WANTED, NOT_WANTED, 7.0, rescale=1.0)(X, T)
    plain = classifier_free(network, WANTED, NOT_WANTED, 7.0)(X, T)
    np.testing.assert_allclose(full.std((1, 2)), towards.std((1, 2)), rtol=1e-5)
    part = classifier_free(network, WANTED, NOT_WANTED, 7.0, rescale=0.7)(X, T)
    np.testing.assert_allclose(part, 0.7 * full + 0.3 * plain, rtol=1e-4, atol=1e-5)


def test_guidance_in_an_interval_only():
    predict = jax.jit(classifier_free(network, WANTED, NOT_WANTED, 7.0, interval=(0.3, 0.6)))
    guided = classifier_free(network, WANTED, NOT_WANTED, 7.0)
    for t in (0.3, 0.5):
        np.testing.assert_allclose(predict(X, jnp.float32(t)), guided(X, jnp.float32(t)), rtol=1e-5)
    for t in (0.2, 0.7):
        np.testing.assert_allclose(predict(X, jnp.float32(t)), network(X, t, WANTED), rtol=1e-5)
