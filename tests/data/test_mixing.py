import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.data import mixing
from jaxaudio.errors import AudioError
from tests.golden.cases.data import CASES

from .sounds import noise

GOLDEN = Path(__file__).parents[1] / "golden" / "audiosep_segment_mixer"
SEEDS = st.integers(0, 2**32 - 1)


def batch(seed, rows=6, samples=512):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((rows, samples)) * 10.0 ** rng.uniform(-1.4, -0.2, (rows, 1))


def test_golden_segment_mixer():
    stored = np.load(GOLDEN / "io_dev.npz")
    ours = CASES["audiosep_segment_mixer"](json.loads((GOLDEN / "case.json").read_text()), {}, dict(stored))
    inputs = {name for name in stored.files if name.endswith(("waveforms", "seeds"))}
    assert set(ours) == set(stored.files) - inputs
    for name, value in ours.items():
        np.testing.assert_allclose(value, stored[name], atol=1e-6, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 4))
def test_mixture_is_target_plus_interference_and_never_clips(seed, max_mix_num):
    waveforms = batch(seed)
    mixture, segment = mixing.mix(waveforms, mixing.draw(np.random.default_rng(seed), 6, max_mix_num=max_mix_num))
    scale = np.sum(segment * waveforms, 1) / np.sum(waveforms**2, 1)
    np.testing.assert_allclose(segment, scale[:, None] * waveforms, atol=1e-12)
    peak = np.abs(mixture).max(1)
    untouched = scale == 1
    assert np.all(peak[untouched] <= 1)
    np.testing.assert_allclose(peak[~untouched], mixing.PEAK, rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(SEEDS)
def test_ratio_of_two_sources_is_the_drawn_one(seed):
    waveforms = batch(seed)  # levels within 24 dB, so that matching never hits its limits
    draws = mixing.draw(np.random.default_rng(seed), 6)
    mixture, segment = mixing.mix(waveforms, draws)
    ratio = 10 * np.log10(np.mean(segment**2, 1) / np.mean((mixture - segment) ** 2, 1))
    np.testing.assert_allclose(ratio, -draws.noise_db, atol=1e-9)
    interference = mixture - segment
    partner = waveforms[draws.partners[:, 0]]
    cosine = np.sum(interference * partner, 1) / np.linalg.norm(interference, axis=1) / np.linalg.norm(partner, axis=1)
    np.testing.assert_allclose(cosine, 1, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.lists(st.sets(st.sampled_from("abcdefg"), max_size=2), min_size=1, max_size=9), st.integers(2, 4))
def test_no_label_meets_itself(seed, labels, max_mix_num):
    draws = mixing.draw(np.random.default_rng(seed), len(labels), labels, max_mix_num=max_mix_num)
    for row, count in enumerate(draws.mix_num):
        rows = [row, *draws.partners[row, : count - 1]]
        names = [name for one in rows for name in labels[one]]
        assert len(set(rows)) == len(rows) and len(set(names)) == len(names)
        others = [other for other in range(len(labels)) if other != row and not labels[row] & labels[other]]
        assert count > 1 or not others  # left alone only where nothing fits


def test_every_clip_is_an_interferer_once_when_all_may_meet():
    draws = mixing.draw(np.random.default_rng(3), 16, max_mix_num=3)
    for slot in range(2):
        assert sorted(draws.partners[:, slot]) == list(range(16))
    assert set(draws.mix_num) == {2, 3}


def test_draws_cover_whole_decibels_of_the_range():
    draws = mixing.draw(np.random.default_rng(0), 300, low_db=-2, high_db=3)
    assert set(draws.noise_db) == set(draws.interferer_db.ravel()) == set(range(-2, 4))


def test_lone_clip_is_left_alone():
    waveforms = batch(0, rows=1)
    mixture, segment = mixing.mix(waveforms, mixing.draw(np.random.default_rng(0), 1))
    np.testing.assert_array_equal(mixture, segment)


def test_mix_rejects_draws_of_another_batch():
    with pytest.raises(AudioError, match="one draw per row"):
        mixing.mix(batch(0, rows=3), mixing.reference_draws(0, 2))
    with pytest.raises(AudioError, match="batch, time"):
        mixing.mix(np.zeros(8), mixing.reference_draws(0, 8))


def test_lassnet_mixture():
    target, other = 0.3 * noise(100, 1), 0.01 * noise(100, 2)
    mixture, scaled, interference = mixing.mix_lassnet(target, other, 6.0)
    np.testing.assert_allclose(mixture, scaled + interference, atol=1e-6)
    np.testing.assert_allclose(np.abs(scaled).max() / np.abs(interference).max(), 10 ** (6 / 20), rtol=1e-6)
    assert max(np.abs(x).max() for x in (mixture, scaled, interference)) == pytest.approx(1)
    for silent in mixing.mix_lassnet(np.zeros(4), np.zeros(4)):
        np.testing.assert_array_equal(silent, np.zeros(4))


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(-30, 30))
def test_mix_at_snr(seed, snr):
    target, other = batch(seed, rows=2)
    mixture, segment = mixing.mix_at_snr(target, other, snr)
    assert 10 * np.log10(np.mean(segment**2) / np.mean((mixture - segment) ** 2)) == pytest.approx(snr, abs=1e-6)
    assert np.abs(mixture).max() <= 1


def test_mix_at_snr_refuses_silence():
    with pytest.raises(AudioError, match="silen"):
        mixing.mix_at_snr(noise(10), np.zeros(10, np.float32), 0)


@given(SEEDS, st.integers(1, 40), st.sampled_from(["start", "random", "repeat"]))
def test_cut(seed, length, place):
    audio = np.arange(1.0, 21.0)
    out = mixing.cut(audio, length, np.random.default_rng(seed), place)
    assert len(out) == length
    if length <= 20:
        np.testing.assert_array_equal(np.diff(out), 1)
    elif place == "repeat":
        np.testing.assert_array_equal(np.diff(out) % 20, 1)
    else:
        start = int(np.flatnonzero(out)[0])
        np.testing.assert_array_equal(out[start : start + 20], audio)
        assert out.sum() == audio.sum() and (place == "random" or start == 0)


def test_cut_reaches_both_ends():
    starts = {mixing.cut(np.arange(6), 4, np.random.default_rng(seed))[0] for seed in range(40)}
    assert starts == {0, 1, 2}
    with pytest.raises(AudioError, match="empty"):
        mixing.cut(np.zeros(0), 4, np.random.default_rng(0))


def test_mono_and_rate():
    stereo = np.stack([noise(100, 1), noise(100, 2)], 1)
    np.testing.assert_allclose(mixing.to_mono(stereo), (stereo[:, 0] + stereo[:, 1]) / 2, atol=1e-7)
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
    slow = mixing.resample(tone, 16000, 8000)
    expected = np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert slow.shape == (8000,) and slow.dtype == np.float32
    np.testing.assert_allclose(slow[500:-500], expected[500:-500], atol=1e-3)
    assert mixing.resample(tone, 16000, 16000) is tone
    with pytest.raises(AudioError, match="time, channels"):
        mixing.to_mono(np.zeros((2, 2, 2)))
