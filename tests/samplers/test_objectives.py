"""Denoising losses: exact networks lose nothing, posteriors and bounds follow from Gaussian algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import ConfigError
from jaxaudio.samplers import convert, objectives, scaled_linear_betas, signal_power
from tests.precision import double_precision

BETAS = scaled_linear_betas()
rng = np.random.default_rng(0)
DATA, NOISE = (jnp.asarray(rng.standard_normal((3, 4, 2, 5)), jnp.float32) for _ in range(2))
T = jnp.array([0, 400, 999])


@pytest.mark.parametrize("prediction", ["epsilon", "x0", "v"])
def test_a_network_that_knows_loses_nothing(prediction):
    data, noise, t = DATA[:2], NOISE[:2], T[:2]  # at 999 the data cannot be told from x and the noise to many digits

    def network(x, t):
        alpha, sigma = objectives.levels(BETAS, t, x)
        return convert(noise, x, alpha, sigma, source="epsilon", target=prediction)

    loss, metrics = objectives.diffusion_loss(network, data, noise, t, BETAS, prediction=prediction)
    assert loss < 1e-9
    assert metrics["loss_vlb"] < 1e-9


@settings(max_examples=20, deadline=None)
@given(st.floats(-3, 3), st.floats(-2, 2))
def test_losses_are_means_of_the_error(shift, spread):
    def off(x, t):
        return NOISE + shift

    l2, metrics = objectives.diffusion_loss(off, DATA, NOISE, T, BETAS)
    l1, _ = objectives.diffusion_loss(off, DATA, NOISE, T, BETAS, norm="l1")
    np.testing.assert_allclose([l2, l1], [shift**2, abs(shift)], atol=1e-5)
    spreads = np.full(1000, spread)
    options = {"log_variance": spreads, "simple_weight": 0.5, "bound_weight": 2.0}
    weighted, metrics = objectives.diffusion_loss(off, DATA, NOISE, T, BETAS, **options)
    expected = 0.5 * (shift**2 / np.exp(spread) + spread) + 2 * float(metrics["loss_vlb"])
    np.testing.assert_allclose(weighted, expected, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(metrics["loss_simple"], shift**2, atol=1e-5)


def test_the_noised_sample_keeps_unit_variance():
    alpha, sigma = objectives.levels(BETAS, T, DATA)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-6)
    np.testing.assert_allclose(alpha[:, 0, 0, 0] ** 2, signal_power(BETAS)[np.asarray(T)], rtol=1e-5)
    np.testing.assert_allclose(objectives.diffuse(BETAS, DATA, 0 * NOISE, T), alpha * DATA)


def test_the_posterior_is_bayes_rule():
    """q(x_{t-1} | x_t, data) by multiplying the two Gaussians and completing the square."""
    with double_precision():
        data, x = (jnp.asarray(np.asarray(a), jnp.float64) for a in (DATA, NOISE))
        t = jnp.array([1, 400, 999])
        found = objectives.posterior(BETAS, data, x, t)
        assert found.mean.dtype == jnp.float64
        power, beta = signal_power(BETAS), BETAS[np.asarray(t)]
        before = power[np.asarray(t) - 1]
        precision = (1 - beta) / beta + 1 / (1 - before)
        of_x, of_data = np.sqrt(1 - beta) / beta / precision, np.sqrt(before) / (1 - before) / precision
        shape = (3, 1, 1, 1)
        np.testing.assert_allclose(found.variance, 1 / precision, rtol=1e-9)
        np.testing.assert_allclose(found.log_variance, -np.log(precision), rtol=1e-9)
        expected = of_x.reshape(shape) * x + of_data.reshape(shape) * data
        np.testing.assert_allclose(found.mean, expected, rtol=1e-8, atol=1e-8)


def test_the_posterior_at_time_zero_is_the_data():
    found = objectives.posterior(BETAS, DATA, NOISE, jnp.zeros(3, jnp.int32))
    np.testing.assert_allclose(found.mean, DATA, atol=1e-6)
    np.testing.assert_array_equal(found.variance, 0)
    np.testing.assert_allclose(found.log_variance, np.log(1e-20), rtol=1e-6)


def test_bound_weights_are_those_of_the_kl_divergence():
    """KL of two Gaussians of the posterior's variance whose means differ by an error in epsilon."""
    slope = BETAS / np.sqrt(1 - signal_power(BETAS)) / np.sqrt(1 - BETAS)  # of the mean in epsilon
    weights = objectives.bound_weights(BETAS, "epsilon")
    np.testing.assert_allclose(weights[1:], slope[1:] ** 2 / (2 * objectives.posterior_variances(BETAS)[1:]), rtol=1e-9)
    assert weights[0] == weights[1]
    assert np.isfinite(objectives.bound_weights(BETAS, "x0")).all()
    np.testing.assert_array_equal(objectives.bound_weights(BETAS, "v"), 1)


def test_an_unknown_prediction_is_named():
    with pytest.raises(ConfigError, match="epsilon"):
        objectives.diffusion_loss(lambda x, t: x, DATA, NOISE, T, BETAS, prediction="score")


def test_flow_goes_from_noise_to_data_at_a_constant_velocity():
    start, velocity = objectives.flow_point(DATA, NOISE, jnp.zeros(3))
    end, same = objectives.flow_point(DATA, NOISE, jnp.ones(3))
    np.testing.assert_allclose(start, NOISE)
    np.testing.assert_allclose(end, DATA + 1e-4 * NOISE, atol=1e-6)
    np.testing.assert_allclose(end - start, velocity, atol=1e-5)
    np.testing.assert_array_equal(velocity, same)


def test_flow_loss_sees_the_point_and_its_time():
    t = jnp.array([0.1, 0.5, 0.9])

    def network(x, seen):
        np.testing.assert_array_equal(seen, t)
        point, velocity = objectives.flow_point(DATA, NOISE, t)
        np.testing.assert_allclose(x, point)
        return velocity + 2

    loss, metrics = objectives.flow_loss(network, DATA, NOISE, t)
    np.testing.assert_allclose([loss, metrics["loss_simple"]], 4, rtol=1e-5)


def test_gradients_of_a_linear_network():
    """The mean over items: a network w x has the gradient 2 mean((w x - target) x)."""

    def loss(w):
        return objectives.flow_loss(lambda x, t: w * x, DATA, NOISE, jnp.full(3, 0.3))[0]

    x, target = objectives.flow_point(DATA, NOISE, jnp.full(3, 0.3))
    np.testing.assert_allclose(jax.grad(loss)(0.7), jnp.mean(2 * (0.7 * x - target) * x), rtol=1e-4)
