import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio import dsp
from jaxaudio.errors import UsageError
from tests.dsp.make_references import MEL_BANKS, noise

log_mel = jax.jit(dsp.log_mel, static_argnames="config")
mel_spectrogram = jax.jit(dsp.mel_spectrogram, static_argnames="config")

SMALL = dsp.MelConfig(sample_rate=16000, n_fft=512, hop=128, n_mels=20)


@pytest.mark.parametrize("name", MEL_BANKS)
def test_filters_equal_librosa(references, name):
    rate, n_fft, n_mels, fmin, fmax, htk, norm = MEL_BANKS[name]
    ours = dsp.mel_filters(rate, n_fft, n_mels, fmin, fmax, scale="htk" if htk else "slaney", norm=norm)
    np.testing.assert_allclose(ours, references[f"bank/{name}"], atol=1e-6 * ours.max())


def test_decibels_equal_librosa(references):
    config = dataclasses.replace(SMALL, floor=1e-8, ref=0.5, top_db=30.0)
    np.testing.assert_allclose(log_mel(noise(0, 4000), config), references["mel/db"], atol=1e-4)


@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_scale_is_monotonic_and_inverts(scale):
    hz = np.linspace(0, 12000, 200)
    mel = dsp.hz_to_mel(hz, scale)
    assert (np.diff(mel) > 0).all()
    np.testing.assert_allclose(dsp.mel_to_hz(mel, scale), hz, atol=1e-8)
    np.testing.assert_allclose(dsp.hz_to_mel(1000, scale), 15 if scale == "slaney" else 999.9855, rtol=1e-6)


def test_magnitude_conventions_follow_from_the_definition():
    """The vocoders' front-ends, written out in numpy: padding, epsilon under the root, logarithm and clamp."""
    x = noise(10, 3000)
    config = dsp.MelConfig(
        sample_rate=22050,
        n_fft=256,
        hop=64,
        n_mels=10,
        fmax=8000,
        power=1,
        epsilon=1e-9,
        center=False,
        pad=96,
        log="ln",
        floor=1e-5,
    )
    padded = np.pad(x, 96, mode="reflect")
    frames = np.stack([padded[i : i + 256] for i in range(0, len(padded) - 255, 64)])
    magnitude = np.sqrt(np.abs(np.fft.rfft(frames * dsp.get_window("hann", 256))) ** 2 + 1e-9)
    mel = magnitude @ dsp.mel_filters(22050, 256, 10, 0.0, 8000)
    np.testing.assert_allclose(mel_spectrogram(x, config), mel, rtol=1e-4)
    np.testing.assert_allclose(log_mel(x, config), np.log(np.maximum(mel, 1e-5)), atol=1e-4)
    decibels = dataclasses.replace(config, log="db")
    np.testing.assert_allclose(log_mel(x, decibels), 20 * np.log10(np.maximum(mel, 1e-5)), atol=1e-3)
    tens = dataclasses.replace(config, log="log10")
    np.testing.assert_allclose(log_mel(x, tens), np.log10(np.maximum(mel, 1e-5)), atol=1e-4)
    linear = dataclasses.replace(config, log=None)
    np.testing.assert_allclose(log_mel(x, linear), mel, rtol=1e-4)


def test_silence_sits_on_the_floor():
    np.testing.assert_allclose(log_mel(np.zeros(2000, np.float32), SMALL), -100, atol=1e-4)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("log", ["db", "ln", "log10", None])
def test_gradients_are_finite_in_silence(power, log):
    config = dataclasses.replace(SMALL, power=power, log=log, floor=1e-5)
    x = jnp.concatenate([jnp.zeros(1000), jnp.asarray(noise(11, 1000))])
    gradient = np.asarray(jax.jit(jax.grad(lambda x: log_mel(x, config).sum()))(x))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[1200:]).max() > 0


def test_jit_and_batch_equal_eager_items(x64):
    x = noise(12, 2, 3, 1500).astype(np.float64)
    batch = log_mel(x, SMALL)
    assert batch.shape == (2, 3, 12, 20) and batch.dtype == jnp.float64
    np.testing.assert_allclose(batch[1, 2], dsp.log_mel(x[1, 2], SMALL), rtol=1e-9)


@pytest.mark.parametrize(
    "change", [{"fmax": 9000.0}, {"fmin": 8000.0}, {"scale": "bark"}, {"power": 3}, {"log": "log2"}]
)
def test_impossible_front_ends_are_refused(change):
    with pytest.raises(UsageError):
        log_mel(noise(13, 2000), dataclasses.replace(SMALL, **change))
