import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.metrics.separation import aggregate, energies_left, sdr, sdri, segmentwise_sdr, si_sdr
from tests.golden.cases.data import CASES

GOLDEN = Path(__file__).parents[1] / "golden" / "audiosep_metrics"


def pair(seed, shape=(64,)):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape), rng.standard_normal(shape)


def test_golden_metrics():
    stored = np.load(GOLDEN / "io_dev.npz")
    ours = CASES["audiosep_metrics"](json.loads((GOLDEN / "case.json").read_text()), {}, dict(stored))
    assert set(ours) == set(stored.files) - {"names", "ref", "est", "mix", "labels"}
    for name, value in ours.items():
        np.testing.assert_allclose(value, stored[name], rtol=1e-6, atol=1e-5, err_msg=name)  # dB


def test_jax_arrays_under_jit_agree():
    stored = np.load(GOLDEN / "io_dev.npz")
    ref, est, mix = (jnp.asarray(stored[name]) for name in ("ref", "est", "mix"))
    np.testing.assert_allclose(jax.jit(sdr)(ref, est), stored["sdr"], atol=1e-4)
    np.testing.assert_allclose(jax.jit(sdri)(ref, est, mix), stored["sdri"], atol=1e-4)
    np.testing.assert_allclose(jax.jit(si_sdr)(ref, est), stored["sisdr"], atol=1e-3)
    by_window = jax.jit(segmentwise_sdr, static_argnums=2)(ref, est, 1600)
    np.testing.assert_allclose(by_window, segmentwise_sdr(stored["ref"], stored["est"], 1600), atol=1e-4)


def test_float64_is_kept():
    ref, est = pair(0)
    assert sdr(ref, est).dtype == si_sdr(ref, est).dtype == np.float64
    assert sdr(ref.astype(np.float32), est.astype(np.float32)).dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-40, 40))
def test_meaning(seed, scale, level):
    ref, noise = pair(seed)
    noise *= np.linalg.norm(ref) / np.linalg.norm(noise) * 10 ** (-level / 20)
    assert sdr(ref, ref + noise) == pytest.approx(level, abs=1e-6)
    np.testing.assert_allclose(si_sdr(ref, scale * (ref + noise)), si_sdr(ref, ref + noise), atol=1e-6)
    orthogonal = noise - ref * np.dot(noise, ref) / np.dot(ref, ref)
    expected = 20 * np.log10(np.linalg.norm(ref) / np.linalg.norm(orthogonal))
    assert si_sdr(ref, ref + orthogonal) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(sdri(ref, ref + noise, ref + 2 * noise), 20 * np.log10(2), atol=1e-6)


def test_edges():
    ref, _ = pair(1)
    zeros = np.zeros_like(ref)
    assert sdr(ref, ref) == pytest.approx(10 * np.log10(np.mean(ref**2) / 1e-10))
    assert sdr(ref, zeros) == 0
    assert si_sdr(ref, zeros) == pytest.approx(0, abs=1e-6)
    assert np.isfinite([sdr(zeros, ref), si_sdr(zeros, ref), si_sdr(zeros, zeros)]).all()


def test_batched_is_row_by_row():
    ref, est = pair(2, (2, 3, 50))
    for metric in (sdr, si_sdr, lambda a, b: segmentwise_sdr(a, b, 20)):
        rows = [[metric(ref[i, j], est[i, j]) for j in range(3)] for i in range(2)]
        np.testing.assert_allclose(metric(ref, est), rows, rtol=1e-12)


def test_last_window_is_kept_unless_as_the_reference():
    ref, est = pair(3, (90,))
    windows = [sdr(ref[i : i + 30], est[i : i + 30]) for i in (0, 30, 60)]
    assert segmentwise_sdr(ref, est, 30) == pytest.approx(np.median(windows))
    assert segmentwise_sdr(ref, est, 30, keep_last=False) == pytest.approx(np.median(windows[:2]))
    with pytest.raises(ValueError, match="no window"):
        segmentwise_sdr(ref, est, 91)


def test_aggregate():
    values, labels = np.array([1.0, 2.0, 9.0, 5.0]), ["a", "a", "a", "b"]
    assert aggregate(values) == 4.25
    assert aggregate(values, labels, "median_then_mean") == 3.5
    assert aggregate(values, labels, "mean_then_mean") == 4.5
    assert np.isnan(aggregate([]))
    with pytest.raises(ValueError, match="one label"):
        aggregate(values, ["a"], "mean_then_mean")


def test_energies_left_by_hand():
    """Two tones far apart: what an estimate holds of each is read off whatever its phase."""
    t = np.arange(16000) / 16000
    target, other = np.sin(2 * np.pi * 500 * t), 0.5 * np.sin(2 * np.pi * 3000 * t)
    late = 0.5 * np.cos(2 * np.pi * 500 * t) + 0.1 * 0.5 * np.cos(2 * np.pi * 3000 * t)
    estimates = np.stack([target + other, late, np.zeros_like(t)]).astype(np.float32)
    left, kept = energies_left(np.tile(target, (3, 1)), np.tile(other, (3, 1)), estimates)
    np.testing.assert_allclose(left[:2], [0, -20], atol=0.1)
    np.testing.assert_allclose(kept[:2], [0, 20 * np.log10(0.5)], atol=0.1)
    assert left[2] < -100 and kept[2] < -100
    assert np.isnan(energies_left(target, 0 * target, late)[0])
