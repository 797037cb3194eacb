import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from jaxaudio import dsp
from jaxaudio.dsp import resample_numpy
from jaxaudio.errors import UsageError
from tests.dsp.make_references import RESAMPLED, noise

resample = jax.jit(
    dsp.resample, static_argnames=("rate_in", "rate_out", "lowpass_filter_width", "rolloff", "window", "beta")
)


def sine(rate, seconds=0.2, hz=440.0):
    return np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


@pytest.mark.parametrize("name", RESAMPLED)
def test_equals_torchaudio(references, name):
    rate_in, rate_out, options = RESAMPLED[name]
    ours = {k: v for k, v in options.items() if k != "resampling_method"}
    window = "kaiser" if "resampling_method" in options else "hann"
    y = resample(noise(2, 2, 700), rate_in, rate_out, window=window, **ours)
    np.testing.assert_allclose(y, references[f"resample/{name}"], atol=1e-6)


@pytest.mark.parametrize("rate_in, rate_out", [(16000, 48000), (44100, 32000), (48000, 44100), (8000, 11025)])
def test_a_sine_keeps_its_pitch_and_level(rate_in, rate_out):
    y, expected = np.asarray(resample(sine(rate_in), rate_in, rate_out)), sine(rate_out)
    assert len(y) == len(expected)
    inside = slice(len(y) // 10, -len(y) // 10)
    np.testing.assert_allclose(y[inside], expected[inside], atol=2e-3)


def test_what_the_lower_rate_cannot_hold_is_removed():
    x = sine(48000, hz=10000.0)
    for zeros, level in ((6, 10 ** (-44 / 20)), (64, 1e-4)):  # -44 dB: the first side lobe of a Hann-windowed low-pass
        y = np.asarray(resample(x, 48000, 16000, lowpass_filter_width=zeros))
        assert np.abs(y[100:-100]).max() < level


@pytest.mark.parametrize("time", [0, 1, 7, 100])
def test_short_signals_have_the_promised_length(time):
    assert resample(np.ones((3, time), np.float32), 44100, 16000).shape == (3, -(-time * 160 // 441))


@settings(max_examples=20, deadline=None)
@given(x=hnp.arrays(np.float32, (2, 64), elements=st.floats(-1, 1, width=32)), a=st.floats(-2, 2), b=st.floats(-2, 2))
def test_resampling_is_linear(x, a, b):
    mixed = resample(np.float32(a) * x[0] + np.float32(b) * x[1], 32000, 48000)
    one, two = resample(x, 32000, 48000)
    np.testing.assert_allclose(mixed, a * one + b * two, atol=1e-5)


def test_equal_rates_change_nothing_and_jit_equals_eager():
    x = jnp.asarray(noise(15, 500))
    np.testing.assert_array_equal(resample(x, 48000, 48000), x)
    np.testing.assert_allclose(resample(x, 44100, 48000), dsp.resample(x, 44100, 48000), atol=1e-6)


def test_gradient_is_the_transpose(x64):
    x, y = noise(16, 90).astype(np.float64), noise(17, 60).astype(np.float64)
    out, transpose = jax.vjp(lambda x: resample(x, 48000, 32000), x)
    assert out.dtype == jnp.float64
    np.testing.assert_allclose(np.vdot(out, y), np.vdot(transpose(y)[0], x), rtol=1e-10)


@pytest.mark.parametrize("rates", [(0, 16000), (16000, -1), (44100.5, 16000), (1_000_003, 1_000_033)])
def test_impossible_rates_are_refused(rates):
    with pytest.raises(UsageError):
        resample(np.zeros(10, np.float32), *rates)


@pytest.mark.parametrize("rate_in, rate_out", [(44100, 32000), (22050, 48000), (192000, 32000)])
def test_on_the_host_a_sine_keeps_its_pitch_and_level(rate_in, rate_out):
    stereo = np.stack([sine(rate_in), 0.5 * sine(rate_in)], 1)
    y, expected = resample_numpy(stereo, rate_in, rate_out), sine(rate_out)
    assert y.shape == (len(expected), 2) and y.dtype == np.float32
    inside = slice(len(y) // 10, -len(y) // 10)
    np.testing.assert_allclose(y[inside, 0], expected[inside], atol=1e-3)
    np.testing.assert_allclose(y[:, 1], 0.5 * y[:, 0], atol=1e-6)
    np.testing.assert_array_equal(resample_numpy(stereo.T, rate_in, rate_out, axis=-1), y.T)


def test_on_the_host_types_and_edges():
    x = np.arange(8, dtype=np.int16)
    assert resample_numpy(x, 8000, 16000).dtype == np.float32
    assert resample_numpy(x.astype(np.float64), 8000, 16000).dtype == np.float64
    assert resample_numpy(np.zeros((0, 2), np.float32), 8000, 16000).shape == (0, 2)
    np.testing.assert_array_equal(resample_numpy(x, 8000, 8000), x)
    with pytest.raises(UsageError):
        resample_numpy(x, 8000, 0)
