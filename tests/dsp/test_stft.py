import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from jaxaudio import dsp
from jaxaudio.dsp import frame, get_window, overlap_add
from jaxaudio.errors import UsageError
from tests.dsp.make_references import noise

stft = jax.jit(dsp.stft, static_argnames=("n_fft", "hop", "win_length"))
istft = jax.jit(dsp.istft, static_argnames=("hop", "length", "win_length"))


def numpy_stft(x, n_fft, hop, window):
    """The definition, one frame at a time."""
    x = np.pad(x, n_fft // 2, mode="reflect")
    return np.array([np.fft.rfft(x[i : i + n_fft] * window) for i in range(0, len(x) - n_fft + 1, hop)])


@pytest.mark.parametrize("name", ["hann", "hamming", "blackman"])
@pytest.mark.parametrize("periodic", [True, False])
def test_windows_equal_scipy(name, periodic):
    np.testing.assert_allclose(
        get_window(name, 30, periodic=periodic), scipy.signal.get_window(name, 30, fftbins=periodic), atol=1e-15
    )


def test_window_samples_pass_through_and_bad_ones_are_refused():
    np.testing.assert_array_equal(get_window(np.arange(4.0), 4), [0, 1, 2, 3])
    with pytest.raises(UsageError, match="shape"):
        get_window(np.ones(3), 4)
    with pytest.raises(UsageError, match="choose one of"):
        get_window("haan", 4)


@pytest.mark.parametrize("n_fft, hop", [(64, 16), (60, 25), (63, 20), (32, 32)])
def test_stft_is_the_definition(n_fft, hop):
    x = noise(4, 500)
    real, imag = stft(jnp.asarray(x), n_fft, hop)
    expected = numpy_stft(x, n_fft, hop, scipy.signal.get_window("hann", n_fft))
    np.testing.assert_allclose(np.asarray(real) + 1j * np.asarray(imag), expected, atol=2e-6)


def test_short_window_sits_in_the_middle_of_the_frame():
    x = jnp.asarray(noise(5, 400))
    padded = np.pad(get_window("hann", 40), (12, 12))
    np.testing.assert_array_equal(dsp.stft(x, 64, 16, win_length=40)[0], dsp.stft(x, 64, 16, window=padded)[0])


@pytest.mark.parametrize("n_fft, hop, win_length, length", [(64, 16, 64, 400), (64, 10, 50, 391), (128, 48, None, 500)])
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_istft_undoes_stft(n_fft, hop, win_length, length, data):
    samples = data.draw(hnp.arrays(np.float32, (2, length), elements=st.floats(-1, 1, width=32)))
    spectrum = stft(jnp.asarray(samples), n_fft, hop, win_length=win_length)
    # The last incomplete hop is covered by no later frame; what the window's flank leaves of it is still exact.
    whole = (length // hop) * hop
    back = istft(*spectrum, hop, length=whole, win_length=win_length)
    np.testing.assert_allclose(back, samples[:, :whole], atol=5e-5)


def test_float64_reconstructs_to_rounding(x64):
    x = jnp.asarray(noise(6, 1000).astype(np.float64))
    real, imag = stft(x, 128, 32)
    assert real.dtype == jnp.float64
    np.testing.assert_allclose(istft(real, imag, 32, length=992), x[:992], atol=1e-14)


def test_overlap_add_is_the_transpose_of_framing():
    x, frames = jnp.asarray(noise(7, 100)), jnp.asarray(noise(8, 9, 20))
    left = np.vdot(frame(x, 20, 10), frames)
    np.testing.assert_allclose(left, np.vdot(x, overlap_add(frames, 10)), rtol=1e-5)


def test_frames_cover_the_signal_in_order():
    np.testing.assert_array_equal(frame(jnp.arange(10), 4, 3), [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]])
    with pytest.raises(UsageError, match="pad it"):
        frame(jnp.zeros(3), 4, 1)


def test_jit_equals_eager_and_silence_has_a_finite_gradient():
    x = jnp.asarray(noise(9, 300))
    for eager, jitted in zip(dsp.stft(x, 64, 16), stft(x, 64, 16)):
        np.testing.assert_allclose(eager, jitted, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda x: dsp.magnitude(*stft(x, 64, 16)).sum()))(jnp.zeros(300))
    assert np.isfinite(gradient).all()


def test_too_short_for_reflection():
    with pytest.raises(UsageError, match="Reflection"):
        stft(jnp.zeros(32), 64, 16)
