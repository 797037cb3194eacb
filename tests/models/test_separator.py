"""Audio of any shape in, the same shape out; windows, queries and channels do not change one another."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.dsp import chunk as chunks
from jaxaudio.errors import AudioError, UsageError
from jaxaudio.models import separator
from jaxaudio.models.systems import process
from tests.models import tiny

RATE = tiny.CONFIG.sample_rate
rng = np.random.default_rng(3)
LONG = (rng.standard_normal(11000) / 5).astype(np.float32)  # several windows of half a second
WINDOWED = {"sample_rate": RATE}


def difference(a, b):
    return np.linalg.norm(np.asarray(a, np.float64) - b) / np.linalg.norm(b)


@pytest.mark.parametrize("rate", [8000, 16000, 11025, 44100, 192000])
@pytest.mark.parametrize("shape", [(900,), (900, 2), (1, 8), (901, 1)])
def test_shape_and_rate_are_those_of_the_input(model, rate, shape):
    x = (rng.standard_normal(shape) / 5).astype(np.float32)
    before = x.copy()
    y = model.separate(x, "a dog barking", sample_rate=rate)
    assert (y.shape, y.dtype) == (shape, np.float32)
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(x, before)


def test_a_list_of_queries_gives_a_leading_axis_and_what_each_gives_alone(model):
    queries = ["a dog", "rain", "the violin playing", "piano", "cat"]
    together = model.separate(LONG, queries, **WINDOWED)
    assert together.shape == (5, len(LONG))
    for query, one in zip(queries[::2], together[::2]):
        assert difference(model.separate(LONG, query, **WINDOWED), one) < 1e-5
    assert difference(together[0], together[1]) > 0.01
    assert model.separate(LONG, ["a dog"], **WINDOWED).shape == (1, len(LONG))


def test_channels_are_separated_each_by_itself(model):
    x = np.stack([LONG, -LONG[::-1], 0 * LONG], 1)
    y = model.separate(x, "a dog", **WINDOWED)
    np.testing.assert_array_equal(y[:, 1], model.separate(x[:, 1], "a dog", **WINDOWED))
    assert not y[:, 2].any()


@pytest.mark.parametrize("options", [{}, {"negative": "rain"}, {"fade": 0.05}, {"chunk": "off"}])
@pytest.mark.parametrize("rate", [RATE, 11025])
def test_estimate_and_residual_add_up_to_the_input(model, options, rate):
    x = LONG[:, None] * [1, 0.5]
    estimate, residual = model.separate(x, ["a dog", "cat"], sample_rate=rate, residual=True, **options)
    assert estimate.shape == residual.shape == (2, *x.shape)
    np.testing.assert_allclose(estimate + residual, np.stack([x, x]), atol=1e-6)


def test_windows_are_the_references_but_for_the_last_which_is_a_whole_one(model):
    left, center, right = (round(seconds * RATE) for seconds in tiny.CONFIG.chunk)
    size = left + center + right
    y = model.separate(LONG, "a dog", **WINDOWED)
    condition, run = model.embed("a dog"), process("audiosep", tiny.CONFIG)
    windows = chunks.plan(len(LONG), left, center, right)
    assert len(windows) > 3
    for window in windows[:-1]:
        whole = np.asarray(run(model.params, LONG[None, window.start : window.stop], condition))[0, 0]
        kept = slice(window.keep_start, window.keep_stop)
        np.testing.assert_array_equal(y[kept], whole[window.keep_start - window.start :][: kept.stop - kept.start])
    whole = np.asarray(run(model.params, LONG[None, -size:], condition))[0, 0]
    kept = len(LONG) - windows[-1].keep_start
    np.testing.assert_array_equal(y[-kept:], whole[-kept:])


def test_one_pass_is_the_systems_own_at_the_length_of_the_audio(model):
    y = model.separate(LONG[:3001], "a dog", chunk="off", **WINDOWED)
    whole = process("audiosep", tiny.CONFIG)(model.params, LONG[None, :3001], model.embed("a dog"))
    np.testing.assert_array_equal(y, np.asarray(whole)[0, 0])


def test_seconds_give_windows_of_that_length():
    config = tiny.CONFIG
    assert separator.plan(config, 80000, 1.0).size == RATE
    assert separator.plan(config, 80000, "1.5").size == 1.5 * RATE
    assert separator.plan(config, 80000, "auto").size == RATE // 2
    assert separator.plan(config, 80000, "off").size == 80000


@pytest.mark.parametrize("length", [1, 100, 4000, 4001, 5000, 80001, 4000 * 7])
def test_every_window_has_one_size_and_every_sample_one_window(length):
    layout = separator.plan(dataclasses.replace(tiny.CONFIG, chunk=(0.5, 2.0, 0.5)), length, "auto")
    kept = np.zeros(layout.length, int)
    for window in layout.windows:
        assert window.stop - window.start == layout.size <= 3 * RATE
        assert window.start <= window.keep_start < window.keep_stop <= window.stop
        kept[window.keep_start : window.keep_stop] += 1
    assert (kept == 1).all()
    assert layout.length >= length
    assert len(layout.windows) > 1 or layout.size % RATE == 0  # few shapes for short audio


@pytest.mark.parametrize("chunk", [0, -1, "x", float("nan"), 0.2, None])
def test_chunks_that_cannot_be(model, chunk):
    with pytest.raises(UsageError, match="chunk"):
        model.separate(LONG, "a dog", chunk=chunk, **WINDOWED)


def test_fades_that_cannot_be(model):
    for fade in (-0.1, 0.3):
        with pytest.raises(UsageError, match="fade"):
            model.separate(LONG, "a dog", fade=fade, **WINDOWED)


def test_memory_bounds_the_windows_and_queries_of_a_call(model, monkeypatch):
    whole = model.separate(LONG, ["a dog", "cat", "rain"], **WINDOWED)
    monkeypatch.setattr(separator, "_WORKING_SET", 1)
    assert difference(model.separate(LONG, ["a dog", "cat", "rain"], **WINDOWED), whole) < 1e-5


def test_progress_counts_every_window(model):
    seen = []
    model.separate(LONG, "a dog", progress=lambda done, total: seen.append((done, total)), **WINDOWED)
    assert seen[0] == (0, len(seen) - 1)
    assert [done for done, _ in seen] == list(range(len(seen)))


def test_silence_is_silent_and_audio_shorter_than_the_window_is_filled_up(model):
    assert not model.separate(np.zeros(RATE), "a dog", **WINDOWED).any()
    assert model.separate(np.ones(1), "a dog", **WINDOWED).shape == (1,)


def test_integers_are_taken_by_their_full_scale(model):
    y = model.separate(LONG, "a dog", **WINDOWED)
    for kind, scale in ((np.int16, 2**15), (np.int32, 2**31)):
        x = np.round(np.asarray(LONG, np.float64) * scale).astype(kind)
        assert difference(model.separate(x, "a dog", **WINDOWED), y) < 1e-3
    samples, _ = separator.as_channels(np.array([0, 128, 255], np.uint8))
    np.testing.assert_allclose(samples[:, 0], [-1, 0, 127 / 128])


def test_jax_arrays_and_lists_are_audio_too(model):
    y = model.separate(LONG[:800], "a dog", **WINDOWED)
    np.testing.assert_array_equal(model.separate(jnp.asarray(LONG[:800]), "a dog", **WINDOWED), y)
    np.testing.assert_array_equal(model.separate(LONG[:800].tolist(), "a dog", **WINDOWED), y)


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.zeros(0), "empty"),
        (np.zeros((0, 2)), "empty"),
        (np.zeros((3, 4, 5)), r"\(3, 4, 5\)"),
        (np.zeros((2, 8000)), r"\(time, channels\), not the reverse"),
        (np.zeros(5, complex), "complex128"),
        (np.array(["a"]), "type"),
        (np.array([0, 1, np.nan, np.inf]), "sample 2 of channel 0 is nan"),
        (np.array([[0, 0], [0, -np.inf]]), "sample 1 of channel 1 is -inf"),
        (0.5, "shape"),
    ],
)
def test_what_is_no_audio(model, audio, message):
    with pytest.raises(AudioError, match=message):
        model.separate(audio, "a dog", **WINDOWED)


@pytest.mark.parametrize("rate", [0, -8000, 0.5, float("nan"), float("inf"), "8000", None, True])
def test_what_is_no_rate(model, rate):
    with pytest.raises(UsageError, match="sample rate"):
        model.separate(LONG, "a dog", sample_rate=rate)


@pytest.mark.parametrize("query", ["", "  ", [], ["a dog", ""], [3]])
def test_what_is_no_query(model, query):
    with pytest.raises(UsageError, match=r"query|describe"):
        model.separate(LONG, query, **WINDOWED)


def test_long_and_foreign_queries_are_read_as_far_as_possible(model):
    with pytest.warns(UserWarning, match="first 32 tokens"):
        long, shorter = model.embed(["dog " * 3000, "dog " * 40])
    np.testing.assert_array_equal(long, shorter)
    assert np.isfinite(model.embed("собака лает 犬が吠える")).all()


class Oracle:
    """Stands in for a network that finds what it is asked for, and a little of the rest: queries are the sounds."""

    def __call__(self, params, mixture, condition):
        basis = np.asarray(params)
        shares = mixture @ np.linalg.pinv(basis)
        leak = 0.8 * condition + 0.2
        return np.einsum("rk,qk,kt->rqt", shares, leak, basis)


def test_a_negative_query_reduces_the_sound_that_it_names(model, monkeypatch):
    sounds = rng.standard_normal((2, RATE)).astype(np.float32)
    monkeypatch.setattr(separator.systems, "process", lambda *_: Oracle())
    texts = {"dog": [1, 0], "rain": [0, 1]}
    # A frozen bundle keeps what it has computed: the stand-in for the encoder goes where that is kept.
    oracle = dataclasses.replace(model, params=sounds)
    oracle.__dict__["encoder"] = lambda queries: np.array([texts[q] for q in queries], np.float32)
    mixture = sounds.sum(0)

    def rain_in(**options):
        shares = oracle.separate(mixture, "dog", chunk="off", **WINDOWED, **options) @ np.linalg.pinv(sounds)
        return shares[1]

    assert rain_in() == pytest.approx(0.2, abs=1e-3)
    assert abs(rain_in(negative="rain")) < 1e-3


def test_a_negative_query_is_taken_out_first(model):
    removed = LONG - model.separate(LONG, "rain", chunk="off", **WINDOWED)
    wanted = model.separate(removed, "a dog", chunk="off", **WINDOWED)
    np.testing.assert_allclose(
        model.separate(LONG, "a dog", negative="rain", chunk="off", **WINDOWED), wanted, atol=1e-6
    )
