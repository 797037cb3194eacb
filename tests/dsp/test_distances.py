import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxaudio.dsp import distances
from jaxaudio.dsp.distances import Resolution
from jaxaudio.dsp.mel import MelConfig, mel_spectrogram
from jaxaudio.dsp.stft import magnitude, stft
from jaxaudio.errors import UsageError

SOUND = np.random.default_rng(0).standard_normal((2, 2400)).astype(np.float32)
SMALL = {"windows": (64, 256), "bands": (5, 20)}


def test_of_the_same_sound_there_is_none():
    assert not np.any(distances.stft_distance(SOUND, SOUND, windows=(64,)))
    assert not np.any(distances.mel_distance(SOUND, SOUND, 16000, **SMALL))
    assert not np.any(distances.resolution_distance(SOUND, SOUND, resolutions=[Resolution(128, 32, 128)]))


def test_half_the_level_is_a_known_step_of_logarithms():
    """Powers' log10 differs by log10(4) at each of two resolutions, and magnitudes by half of their mean."""
    both = distances.stft_distance(SOUND, SOUND / 2, windows=(256, 64))
    size = sum(np.mean(magnitude(*stft(jnp.asarray(SOUND), n, n // 4)), (-2, -1)) for n in (256, 64))
    np.testing.assert_allclose(both, 2 * np.log10(4) + size / 2, rtol=1e-5)
    mel = distances.mel_distance(SOUND, SOUND / 2, 16000, magnitude_weight=3.0, log_weight=2.0, **SMALL)
    configs = [
        MelConfig(sample_rate=16000, n_fft=n, hop=n // 4, n_mels=m, power=1)
        for n, m in zip(*SMALL.values(), strict=True)
    ]
    size = sum(np.mean(mel_spectrogram(SOUND, config), (-2, -1)) for config in configs)
    np.testing.assert_allclose(mel, 4 * np.log10(2) + 1.5 * size, rtol=1e-5)


def test_the_error_is_measured_against_the_reference():
    """Spectral convergence of twice the sound is 1, of half of it 1/2; logarithms differ by ln 2 either way."""
    options = {"resolutions": [Resolution(256, 64, 200), Resolution(128, 32, 128)]}
    np.testing.assert_allclose(distances.resolution_distance(SOUND, 2 * SOUND, **options), 1 + np.log(2), rtol=1e-4)
    np.testing.assert_allclose(distances.resolution_distance(2 * SOUND, SOUND, **options), 0.5 + np.log(2), rtol=1e-4)


def test_what_is_below_the_floor_counts_alike():
    options = {"windows": (64,), "floor": 1e-3, "log_weight": np.log(10), "magnitude_weight": 0.0}
    np.testing.assert_allclose(distances.stft_distance(SOUND, SOUND / 2, **options), np.log(2), rtol=1e-3)
    np.testing.assert_array_equal(distances.stft_distance(1e-9 * SOUND, 0 * SOUND, **options), 0)


def test_gradients_are_finite_in_silence():
    def total(x):
        near = distances.stft_distance(SOUND, x, windows=(64,)) + distances.mel_distance(SOUND, x, 16000, **SMALL)
        return jnp.sum(near + distances.resolution_distance(SOUND, x, resolutions=[Resolution(128, 32, 128)]))

    assert np.all(np.isfinite(jax.jit(jax.grad(total))(jnp.zeros(SOUND.shape))))


# IEC 61672-1, table 3, in dB.
@pytest.mark.parametrize(("hz", "db"), [(500, -3.2), (1000, 0.0), (2000, 1.2), (4000, 1.0)])
def test_the_a_weighting_is_that_of_the_standard(hz, db):
    taps = distances.a_weighting(44100)
    _, response = scipy.signal.freqz(taps, worN=[hz], fs=44100)
    assert 20 * np.log10(abs(response[0])) == pytest.approx(db, abs=0.35)
    np.testing.assert_allclose(taps, taps[::-1], atol=1e-12)


def test_weighting_passes_both_signals_through_the_filter():
    other = SOUND[::-1]
    taps = distances.a_weighting(16000)
    heard = [scipy.signal.fftconvolve(x, taps[None], "same", axes=1).astype(np.float32) for x in (SOUND, other)]
    options = {"resolutions": [Resolution(256, 64, 256)]}
    np.testing.assert_allclose(
        distances.resolution_distance(SOUND, other, sample_rate=16000, a_weighted=True, **options),
        distances.resolution_distance(*heard, **options),
        rtol=1e-4,
    )


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="cut or pad one"):
        distances.stft_distance(SOUND, SOUND[:, 1:])
    with pytest.raises(UsageError, match="pass sample_rate"):
        distances.resolution_distance(SOUND, SOUND, bands=20)
