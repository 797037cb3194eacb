import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from jaxaudio import dsp

SIGNALS = hnp.arrays(np.float32, (2, 50), elements=st.floats(-1, 1, width=32, allow_subnormal=False))


def test_known_values():
    np.testing.assert_allclose(dsp.power_to_db(jnp.array([1.0, 0.1, 0.0])), [0, -10, -100], atol=1e-5)
    np.testing.assert_allclose(dsp.amplitude_to_db(jnp.array([1.0, -0.1, 0.0])), [0, -20, -100], atol=1e-5)
    np.testing.assert_allclose(dsp.power_to_db(jnp.array([4.0, 0.04]), ref=4.0, amin=0.4), [0, -10], atol=1e-5)
    np.testing.assert_allclose(dsp.db_to_amplitude(-6.0205999), 0.5, rtol=1e-6)
    np.testing.assert_allclose(dsp.db_to_power(jnp.array([10, 20])), [10, 100], rtol=1e-6)
    np.testing.assert_allclose(dsp.rms(jnp.array([[3, -3, 3, -3], [1, 0, 0, 0]])), [3, 0.5])
    np.testing.assert_allclose(dsp.peak(jnp.array([[0.2, -0.7], [0.1, 0.0]])), [0.7, 0.1])


def test_top_db_by_item_and_over_all():
    power = jnp.array([[[1.0, 1e-6]], [[1e-3, 1e-9]]])
    np.testing.assert_allclose(dsp.power_to_db(power, top_db=40.0)[:, 0], [[0, -40], [-30, -40]], atol=1e-4)
    by_item = dsp.power_to_db(power, top_db=40.0, axis=(-2, -1))[:, 0]
    np.testing.assert_allclose(by_item, [[0, -40], [-30, -70]], atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(db=hnp.arrays(np.float32, (8,), elements=st.floats(-80, 40, width=32)))
def test_decibels_there_and_back(db):
    np.testing.assert_allclose(dsp.power_to_db(dsp.db_to_power(db)), db, atol=1e-4)
    np.testing.assert_allclose(dsp.amplitude_to_db(dsp.db_to_amplitude(db)), db, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(x=SIGNALS, db=st.floats(-40, 0))
def test_normalising_reaches_the_level_or_leaves_silence(x, db):
    for normalize, measure in ((dsp.normalize_rms, dsp.rms), (dsp.normalize_peak, dsp.peak)):
        before, after = np.asarray(measure(x)), np.asarray(measure(normalize(x, db)))
        np.testing.assert_allclose(after[before > 1e-15], 10 ** (db / 20), rtol=1e-4)
        assert np.isfinite(after).all()
        np.testing.assert_array_equal(after[before == 0], 0)


@pytest.mark.parametrize("function", [dsp.rms, dsp.peak, dsp.normalize_rms, dsp.normalize_peak, dsp.amplitude_to_db])
def test_silence_has_finite_values_and_gradients(function):
    value, gradient = jax.value_and_grad(lambda x: jnp.sum(function(x)))(jnp.zeros(16))
    assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def test_integers_are_converted_and_float64_is_kept(x64):
    assert dsp.rms(jnp.array([3, -3], jnp.int16)).dtype == jnp.float32
    assert dsp.power_to_db(jnp.array([0.5], jnp.float64)).dtype == jnp.float64
    assert dsp.normalize_rms(jnp.array([0.5, 0.1], jnp.float64)).dtype == jnp.float64
