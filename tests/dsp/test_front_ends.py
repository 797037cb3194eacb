"""Levels and lengths of the generative systems' mel front-ends."""

import numpy as np

from jaxaudio.dsp import front_ends
from jaxaudio.dsp.mel import log_mel

WAVE = np.random.default_rng(0).standard_normal((2, 16000)).astype(np.float32) * 0.3 + 0.1


def test_level_removes_the_mean_and_halves_full_scale():
    y = np.asarray(front_ends.level(WAVE))
    np.testing.assert_allclose(np.abs(y).max(-1), 0.5, rtol=1e-6)
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-6)
    assert not np.any(front_ends.level(np.full((1, 100), 0.25)))


def test_frames_are_cut_or_padded_with_zero_logarithms():
    whole = np.asarray(log_mel(WAVE, front_ends.AUDIOLDM_16K))
    assert whole.shape == (2, 101, 64)
    np.testing.assert_array_equal(front_ends.fitted_log_mel(WAVE, front_ends.AUDIOLDM_16K, 90), whole[:, :90])
    padded = front_ends.fitted_log_mel(WAVE, front_ends.AUDIOLDM_16K, 128)
    np.testing.assert_array_equal(padded[:, :101], whole)
    assert padded.shape == (2, 128, 64) and not np.any(padded[:, 101:])


def test_a_tone_lights_the_band_it_lies_in():
    time = np.arange(48000) / 48000
    mel = log_mel(np.sin(2 * np.pi * 3000 * time), front_ends.AUDIOLDM_48K)
    low, high = (np.asarray(log_mel(np.sin(2 * np.pi * f * time), front_ends.AUDIOLDM_48K))[50] for f in (200, 15000))
    assert low.argmax() < np.asarray(mel)[50].argmax() < high.argmax()


def test_the_mel_of_the_vocoders_loss_has_a_frame_per_hop():
    assert log_mel(WAVE, front_ends.HIFIGAN_16K).shape == (2, 100, 64)
