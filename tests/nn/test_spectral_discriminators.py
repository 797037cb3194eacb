"""Discriminators of codecs at small sizes; the golden cases hold the published ones to the original's values."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal

from jaxaudio.convert.rules import count
from jaxaudio.nn import spectral_discriminators as critics
from jaxaudio.nn.spectral_discriminators import BandConfig, SpectrumConfig

SOUND = jnp.asarray(np.random.default_rng(0).standard_normal((2, 700)), jnp.float32)
BANDS = BandConfig(periods=(2, 3), period_channels=(4, 6), windows=(128,), bands=((0, 0.5), (0.5, 1)), channels=4)
SPECTRA = SpectrumConfig(channels=4, windows=(100, 64), hops=(25, 16), stride=2)


def filled(config):
    rng = np.random.default_rng(0)
    target = jax.eval_shape(lambda: critics.init(jax.random.key(0), config))
    return jax.tree.map(lambda s: jnp.asarray(0.1 + 0.3 * rng.standard_normal(s.shape), s.dtype), target)


def test_published_sizes():
    keys = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "disc_dac_16k" / "keys.json").read_text())
    shapes = {
        name: jax.eval_shape(lambda c=config: critics.init(jax.random.key(0), c))
        for name, config in {"dac": critics.DAC, "bands": critics.MINI_BANDS, "spectra": critics.MINI_SPECTRUM}.items()
    }
    assert count(shapes["dac"]) == sum(int(np.prod(shape)) for shape in keys.values())
    assert 0.05e6 < count(shapes["bands"]) < 0.3e6 and 0.01e6 < count(shapes["spectra"]) < 0.05e6


def test_every_band_has_layers_and_the_score_reads_them_all():
    scores, features = jax.eval_shape(lambda v, x: critics.judge(v, BANDS, x), filled(BANDS), SOUND)
    assert [len(maps) for maps in features] == [3, 3, 11]
    # 700 samples fold evenly by 2, and still get a further row: 351 rows, by 3, then as many.
    assert features[0][0].shape == (2, 117, 2, 4) and scores[0].shape == (2, 234)
    # 22 frames of 65 bins: 32 and 33 of them, halved three times.
    assert [maps.shape[2] for maps in features[2]] == [32, 16, 8, 4, 4, 33, 17, 9, 5, 5, 9]
    assert features[2][-1].shape == (2, 22, 9, 1) and scores[2].shape == (2, 198)


def test_level_and_offset_are_not_judged():
    judge = jax.jit(lambda x: critics.judge(filled(BANDS), BANDS, x)[0])
    for a, b in zip(judge(SOUND), judge(3 * SOUND + 0.5), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("samples", [640, 700])
def test_strided_frames_lie_as_convolutions_do(samples):
    """As many as hops, each centred half a hop after its beginning; centred ones begin at the first sample."""
    x = np.zeros((1, samples), np.float32)
    x[0, 336] = 1.0
    strided, centred = (np.asarray(critics.complex_frames(x, 128, how)) for how in ("strided", "centred"))
    assert strided.shape == (1, -(-samples // 32), 65, 2) and centred.shape == (1, 1 + samples // 32, 65, 2)
    # Frame 10 of the first kind has its middle at 10 * 32 + 16 = 336, where the window is 1.
    sizes = np.sqrt(np.square(strided).sum(-1))[0]
    np.testing.assert_allclose(sizes[10], 1, atol=1e-5)
    np.testing.assert_allclose(sizes[[9, 11]], 0.5, atol=1e-5)
    np.testing.assert_allclose(
        np.sqrt(np.square(centred).sum(-1))[0, [10, 11]], np.cos(np.pi * 16 / 128) ** 2, atol=1e-5
    )


def test_scaled_frames_are_the_spectrum_over_the_windows_norm():
    x = np.asarray(SOUND[0])
    window = scipy.signal.get_window("hann", 100)
    frames = np.stack([x[i : i + 100] for i in range(0, 601, 25)]) * window
    expected = np.fft.rfft(frames) / np.sqrt(np.square(window).sum())
    made = np.asarray(critics.scaled_frames(SOUND[:1], 100, 25))[0]
    np.testing.assert_allclose(made[..., 0] + 1j * made[..., 1], expected, atol=1e-5)
    compressed = np.asarray(critics.scaled_frames(SOUND[:1], 100, 25, -0.5))[0]
    strong = np.abs(expected) > 1e-2
    np.testing.assert_allclose(
        np.hypot(*np.moveaxis(compressed, -1, 0))[strong], np.sqrt(np.abs(expected))[strong], rtol=1e-3
    )


def test_spectra_of_every_resolution_are_scored():
    scores, features = jax.eval_shape(lambda v, x: critics.judge(v, SPECTRA, x), filled(SPECTRA), SOUND)
    assert [maps[0].shape for maps in features] == [(2, 25, 51, 4), (2, 40, 33, 4)]
    assert [maps[-1].shape for maps in features] == [(2, 25, 7, 4), (2, 40, 5, 4)]
    assert [score.shape for score in scores] == [(2, 175), (2, 200)]


def test_later_layers_see_farther_in_time():
    """Dilations 1, 2, 4 between layers of width 3: 1 + 1 + 2 + 4 + 1 + 1 frames to either side."""
    variables = filled(SPECTRA)
    judge = jax.jit(lambda x: critics.judge(variables, SPECTRA, x)[0][1].reshape(2, 40, 5))
    changed = np.asarray(judge(SOUND) != judge(SOUND.at[:, :16].add(1.0))).any((0, 2))
    assert changed[:11].all() and not changed[11:].any()
