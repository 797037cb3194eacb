"""The generative separator: the shape of the audio, spans, queries and guidance."""

import jax.numpy as jnp
import numpy as np
import pytest

import jaxaudio
from jaxaudio.errors import AudioError, UsageError
from jaxaudio.models import flow_separator, verify
from jaxaudio.systems import flowsep
from tests.models import tiny_latent
from tests.models.tiny_latent import RATE

rng = np.random.default_rng(5)
STEREO = (rng.standard_normal((250, 2)) / 5).astype(np.float32)  # 0.3125 s: one window


@pytest.fixture(scope="module")
def separator(tmp_path_factory):
    root = tmp_path_factory.mktemp("flow")
    tiny_latent.write(root / "tiny", root, "flowsep")
    return jaxaudio.load(root / "tiny")


def test_shape_channels_and_residual(separator):
    assert isinstance(separator, flow_separator.FlowSeparator)
    twin = np.stack([STEREO[:, 0], STEREO[:, 0], 0 * STEREO[:, 0]], 1)
    estimate, rest = separator.separate(twin, "a dog", sample_rate=1000, residual=True)
    assert (estimate.shape, estimate.dtype) == (twin.shape, np.float32)
    np.testing.assert_allclose(estimate + rest, twin, atol=1e-6)
    np.testing.assert_allclose(estimate[:, 0], estimate[:, 1], atol=1e-6)
    assert not estimate[:, 2].any() and np.std(estimate[:, 0]) > 0
    half = separator.separate(twin[:, 0] / 2, "a dog", sample_rate=1000)
    np.testing.assert_allclose(half, estimate[:, 0] / 2, atol=1e-4)


def test_queries_candidates_and_seeds(separator):
    mono = STEREO[:, 0]
    dog, cat = separator.separate(mono, ["a dog", "cat"], sample_rate=RATE)
    np.testing.assert_array_equal(separator.separate(mono, "cat", sample_rate=RATE), cat)
    assert np.abs(dog - cat).max() > 1e-4
    assert np.abs(separator.separate(mono, "cat", sample_rate=RATE, seed=1) - cat).max() > 1e-4
    every = separator.separate(mono, "cat", sample_rate=RATE, count=3)
    np.testing.assert_array_equal(every[0], cat)
    loudest = np.argsort(-np.abs(every).mean(1))[:1]
    best = separator.separate(
        mono, "cat", sample_rate=RATE, best_of=3, ranker=lambda audio, prompts: np.abs(audio).mean(1)
    )
    np.testing.assert_array_equal(best, every[loudest[0]])
    assert np.abs(separator.separate(mono, "cat", sample_rate=RATE, drawn=True) - cat).max() > 1e-4


def test_silence_outside_of_the_spans(separator):
    made, rest = separator.separate(STEREO, "cat", sample_rate=1000, spans=[(0.05, 0.1)], residual=True)
    assert not made[:50].any() and not made[100:].any()
    assert np.mean(made[50:100] != 0) > 0.95
    np.testing.assert_array_equal(rest[:50], STEREO[:50])


def test_the_latent_of_long_silence_is_drawn_out(separator):
    params, config = separator.params, separator.config
    short = flowsep._silence(params, config, 16)
    np.testing.assert_array_equal(short, flowsep.encode(params, config, jnp.zeros((1, 256))))
    long = np.asarray(flowsep._silence(params, config, 40))
    assert long.shape == (1, 40, 4, 2)
    np.testing.assert_array_equal(long[:, :8], short[:, :8])
    np.testing.assert_array_equal(long[:, -7:], short[:, -7:])
    np.testing.assert_array_equal(long[:, 9:30], np.broadcast_to(short[:, 8:9], (1, 21, 4, 2)))


def test_long_audio_and_guidance(separator):
    long = np.tile(STEREO[:, 0], 3)
    made = separator.separate(long, "cat", sample_rate=RATE, guidance=2, negative="the rain")
    assert made.shape == long.shape and np.isfinite(made).all()
    assert np.abs(made - separator.separate(long, "cat", sample_rate=RATE, guidance=2)).max() > 1e-5


def test_the_record_tells_this_model_from_another(tmp_path):
    tiny_latent.write(tmp_path / "a", tmp_path, "flowsep")
    verify.add_record(tmp_path / "a")
    [check] = verify.verify(tmp_path / "a")
    assert check.passed
    with pytest.raises(UsageError, match="no recorded cases of flowsep"):
        (tmp_path / "case.json").write_text("{}")
        np.savez(tmp_path / "io.npz", x=np.zeros(1))
        verify.verify(tmp_path / "a", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": " "}, "has no words"),
        ({"audio": np.array([0, np.nan])}, "sample 1 of channel 0 is nan"),
        ({"spans": [(5, 6)]}, "the span 5 to 6 s cannot be"),
        ({"negative": "the rain"}, "a negative query counts with a guidance other than 1"),
        ({"solver": "ddim-x"}, "No solver 'ddim-x'"),
        ({"solver": "heun"}, "'heun' is not defined for 'flow' schedules"),
        ({"steps": 0}, "steps of 0"),
        ({"steps": 10000}, "from 1 to 1000"),
        ({"spacing": "log-snr"}, "is a model of flowsep, which has no spacing"),
        ({"chunk": 5.0}, "has windows of its own"),
        ({"best_of": 2}, "has no CLAP that could choose"),
        ({"sample_rate": "8000"}, "sample rate"),
    ],
)
def test_what_cannot_be_separated(separator, options, message):
    given = {"audio": STEREO, "query": "a dog", "sample_rate": RATE} | options
    with pytest.raises(AudioError if "audio" in options else UsageError, match=message):
        separator.separate(**given)
