import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings, strategies as st

from jaxaudio import dsp
from jaxaudio.dsp.loudness import SILENCE, k_weighted, k_weighting, mixed
from jaxaudio.errors import AudioError, UsageError
from tests.dsp.make_references import LOUDNESS, noise, programme

# ITU-R BS.1770-4, tables 1 and 2.
TABLES = [
    [1.53512485958697, -2.69169618940638, 1.19839281085285, 1.0, -1.69065929318241, 0.73248077421585],
    [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621],
]
RATE = 16000

_STATIC = ("sample_rate", "channel_axis", "weights")
integrated_loudness = jax.jit(dsp.integrated_loudness, static_argnames=_STATIC)
normalize_loudness = jax.jit(dsp.normalize_loudness, static_argnames=_STATIC)


def tone(rate, *parts):
    """A 997 Hz sine in parts of (decibels, seconds)."""
    gains = np.concatenate([np.full(round(rate * seconds), 10 ** (db / 20)) for db, seconds in parts])
    return (gains * np.sin(2 * np.pi * 997 * np.arange(len(gains)) / rate)).astype(np.float32)


def test_coefficients_are_those_of_the_standard():
    np.testing.assert_allclose(k_weighting(48000), TABLES, atol=5e-9)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 96000])
def test_filter_equals_the_recursion(rate, x64):
    x = noise(18, 4000).astype(np.float64) + 0.3
    np.testing.assert_allclose(k_weighted(x, rate), scipy.signal.sosfilt(k_weighting(rate), x), atol=1e-10)
    other = scipy.signal.sosfilt(k_weighting(rate, "torchaudio"), x)
    np.testing.assert_allclose(k_weighted(x, rate, "torchaudio"), other, atol=1e-10)


def test_unknown_filters_are_refused():
    with pytest.raises(UsageError, match="'bs1770' or 'torchaudio'"):
        k_weighting(16000, "a")  # ty: ignore[invalid-argument-type]


@pytest.mark.parametrize("name", LOUDNESS)
def test_equals_pyloudnorm(references, name):
    rate, channels, seconds = LOUDNESS[name]
    x = programme(3, rate, channels, seconds).astype(np.float32)
    np.testing.assert_allclose(integrated_loudness(x, rate, channel_axis=-1), references[f"loudness/{name}"], atol=1e-4)


def test_calibration_of_the_standard():
    """A full-scale 997 Hz sine measures -3.01 LKFS in one front channel, 3.01 dB more in two."""
    x = tone(48000, (0, 2))
    np.testing.assert_allclose(integrated_loudness(x, 48000), -3.01, atol=0.01)
    np.testing.assert_allclose(integrated_loudness(np.stack([x, x]), 48000, channel_axis=0), 0.0, atol=0.01)
    surround = np.stack([0 * x, 0 * x, 0 * x, x, 0 * x])
    np.testing.assert_allclose(integrated_loudness(surround, 48000, channel_axis=0), -3.01 + 1.49, atol=0.01)
    np.testing.assert_array_equal(
        integrated_loudness(np.stack([x] * 2), 48000, channel_axis=0, weights=(0, 0)), SILENCE
    )


@pytest.mark.parametrize(
    "parts",
    [
        [(-23, 20)],
        [(-36, 10), (-23, 60), (-36, 10)],
        [(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)],
        [(-26, 20), (-20, 20.1), (-26, 20)],
    ],
)
def test_gating_cases_of_ebu_tech_3341(parts):
    """Test signals 1, 3, 4 and 5: stereo tones that must measure -23.0 +- 0.1 LUFS."""
    x = tone(RATE, *parts)
    np.testing.assert_allclose(integrated_loudness(np.stack([x, x]), RATE, channel_axis=0), -23.0, atol=0.1)


@settings(max_examples=25, deadline=None)
@given(db=st.floats(-30, 20), seed=st.integers(0, 1000))
def test_gain_shifts_loudness(db, seed):
    x = noise(seed, RATE)
    before, after = integrated_loudness(np.stack([x, x * np.float32(10 ** (db / 20))]), RATE)
    np.testing.assert_allclose(after - before, db, atol=1e-3)


@pytest.mark.parametrize("seconds", [0.02, 0.3, 0.39])
def test_below_a_block_it_is_the_loudness_of_the_whole(seconds):
    x = noise(19, int(RATE * seconds))
    energy = np.mean(scipy.signal.sosfilt(k_weighting(RATE), x.astype(np.float64)) ** 2)
    np.testing.assert_allclose(integrated_loudness(x, RATE), -0.691 + 10 * np.log10(energy), atol=1e-3)


@pytest.mark.parametrize("time", [1, 1000, 2 * RATE])
def test_silence_is_minus_seventy_with_zero_gradient(time):
    value, gradient = jax.jit(jax.value_and_grad(lambda x: integrated_loudness(x, RATE)))(jnp.zeros(time))
    assert value == SILENCE
    np.testing.assert_array_equal(gradient, 0)
    np.testing.assert_array_equal(normalize_loudness(jnp.zeros(time), RATE), 0)
    assert np.isfinite(jax.jit(jax.grad(lambda x: normalize_loudness(x, RATE).sum()))(jnp.zeros(time))).all()


def test_gradient_points_up_and_jit_equals_eager(x64):
    x = noise(20, RATE).astype(np.float64)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: integrated_loudness(x, RATE)))(x)
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, dsp.integrated_loudness(x, RATE), rtol=1e-12)
    # d loudness / d log gain is 20 / ln 10 dB, whatever the signal.
    np.testing.assert_allclose(np.vdot(gradient, x), 20 / np.log(10), rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(target=st.floats(-40, -10), seed=st.integers(0, 1000))
def test_normalising_reaches_the_target(target, seed):
    x = noise(seed, 2, RATE)
    np.testing.assert_allclose(integrated_loudness(normalize_loudness(x, RATE, target), RATE), target, atol=1e-3)


def test_normalising_channels_together_and_under_a_peak():
    x = noise(21, RATE, 2) * np.array([1, 0.1], np.float32)
    y = np.asarray(normalize_loudness(x, RATE, -10.0, channel_axis=1))
    np.testing.assert_allclose(integrated_loudness(y, RATE, channel_axis=1), -10, atol=1e-3)
    np.testing.assert_allclose(y[:, 1] / y[:, 0], x[:, 1] / x[:, 0], rtol=1e-4)
    limited = normalize_loudness(x, RATE, -10.0, channel_axis=1, max_peak=0.5)
    np.testing.assert_allclose(np.abs(limited).max(), 0.5, rtol=1e-5)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(AudioError, match="empty"):
        integrated_loudness(np.zeros(0, np.float32), RATE)
    with pytest.raises(UsageError, match="8000"):
        integrated_loudness(np.zeros(100, np.float32), 4000)
    with pytest.raises(UsageError, match="weights"):
        integrated_loudness(np.zeros((2, 100), np.float32), RATE, channel_axis=0, weights=(1,))


def test_sources_are_mixed_at_their_levels():
    rng = np.random.default_rng(3)
    sources = rng.standard_normal((2, 2, RATE)).astype(np.float32) * np.float32([[[0.01], [0.1]], [[0.2], [0.02]]])
    valid = np.float32([[1, 1], [0, 1]])
    levels = np.float32([[-17, -24], [-17, -24]])
    parts = mixed(jnp.asarray(sources), valid, levels, np.float32([-27, -20]), RATE)
    found = np.asarray(integrated_loudness(parts, RATE))
    assert found[0, 0] - found[0, 1] == pytest.approx(7, abs=0.01)
    np.testing.assert_allclose(integrated_loudness(parts.sum(1), RATE), [-27, -20], atol=0.01)
    assert not np.asarray(parts[1, 0]).any()
    loud = mixed(jnp.asarray(sources), valid, levels, np.float32([20, 20]), RATE)
    assert float(jnp.max(jnp.abs(loud))) <= 10 ** (-0.5 / 20) + 1e-6
    assert float(jnp.max(jnp.abs(loud.sum(1)))) == pytest.approx(10 ** (-0.5 / 20), rel=1e-4)
