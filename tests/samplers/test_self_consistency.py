"""Targets of shortcut models, where the right answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.errors import ConfigError
from jaxaudio.samplers import classifier_free, self_consistency

RNG = np.random.default_rng(0)
DATA, NOISE = (jnp.asarray(RNG.standard_normal((3, 5, 2)), jnp.float32) for _ in range(2))
T, HALF = jnp.asarray([0.0, 0.25, 0.5]), jnp.asarray([0.5, 0.125, 0.25])


def test_a_network_that_is_consistent_already_is_its_own_target():
    """It moves to `goal` as x(t) = goal + (1 - t)^2 c, whose mean velocity over any step is known."""
    goal = jnp.asarray(RNG.standard_normal((5, 2)), jnp.float32)

    def predict(x, t, step):
        t, step = t[:, None, None], step[:, None, None]
        return (goal - x) * (2 * (1 - t) - step) / (1 - t) ** 2

    made = self_consistency.target(predict, DATA, NOISE, T, HALF)
    np.testing.assert_allclose(made.x, T[:, None, None] * DATA + (1 - T[:, None, None]) * NOISE, atol=1e-6)
    np.testing.assert_allclose(made.velocity, predict(made.x, T, 2 * HALF), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.halfway, made.x + HALF[:, None, None] * made.first, atol=1e-6)


def test_limits_hold_and_no_gradient_passes():
    def value(scale):
        return jnp.sum(self_consistency.target(lambda x, t, d: scale * x, DATA, NOISE, T, HALF, limit=0.5).velocity)

    assert float(jax.grad(value)(10.0)) == 0
    made = self_consistency.target(lambda x, t, d: 10 * x, DATA, NOISE, T, HALF, limit=0.5)
    assert float(jnp.abs(made.velocity).max()) == 0.5 and float(jnp.abs(made.halfway).max()) == 0.5


def test_sizes_are_shared_as_published():
    assert self_consistency.step_exponents(9, 4).tolist() == [3, 3, 2, 2, 1, 1, 0, 0, 0]
    assert self_consistency.step_exponents(16, 4, favour_large=True).tolist() == [3, 3, 2, 2, *[1] * 4, *[0] * 8]
    with pytest.raises(ConfigError, match="0 sizes"):
        self_consistency.step_exponents(4, 0)


def test_times_lie_on_the_grid_of_their_steps():
    t, half = jax.jit(self_consistency.draw_times, static_argnums=1)(jax.random.split(jax.random.key(0), 2000), 5)
    sizes, counts = np.unique(np.asarray(half), return_counts=True)
    np.testing.assert_array_equal(sizes, 0.5 ** np.arange(5, 0, -1))
    assert counts.min() > 300
    np.testing.assert_array_equal(np.asarray(t / (2 * half)) % 1, 0)
    assert float(jnp.max(t + 2 * half)) == 1 and float(t.min()) == 0


def test_guidance_rescaled_together_depends_on_the_other_items():
    def network(x, t, condition):
        return condition * x

    towards, away = jnp.asarray([1.0, 5.0])[:, None, None], jnp.asarray([0.5, -2.0])[:, None, None]

    def made(items, together):
        pair = towards[items], away[items]
        return classifier_free(network, *pair, 3.0, rescale=1.0, together=together)(DATA[items], jnp.zeros(()))

    both, first = slice(0, 2), slice(0, 1)
    np.testing.assert_allclose(made(both, False)[0], made(first, False)[0], rtol=1e-5)
    assert np.abs(made(both, True)[0] - made(first, True)[0]).max() > 0.1
    np.testing.assert_allclose(np.std(made(both, True)), np.std(towards[both] * DATA[both]), rtol=1e-4)
