import itertools

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.dsp.chunk import Window, chunked, plan
from jaxaudio.errors import UsageError


def test_the_windows_of_the_original():
    """AudioSep: 5 s windows every 3 s; the first keeps [0, 4), the others [1, 4), the last [1, end)."""
    assert plan(12, 1, 3, 1) == [Window(0, 5, 0, 4), Window(3, 8, 4, 7), Window(6, 11, 7, 10), Window(9, 12, 10, 12)]


def test_up_to_one_window_there_is_one_pass():
    assert plan(5, 1, 3, 1) == [Window(0, 5, 0, 5)]
    assert plan(1, 1, 3, 1) == [Window(0, 1, 0, 1)]


@settings(max_examples=200, deadline=None)
@given(
    length=st.integers(1, 400),
    left=st.integers(0, 9),
    center=st.integers(1, 30),
    right=st.integers(0, 9),
    batch=st.integers(1, 4),
    half=st.integers(0, 9),
)
def test_kept_parts_tile_the_signal_and_a_pointwise_process_is_exact(length, left, center, right, batch, half):
    windows = plan(length, left, center, right)
    assert windows[0].keep_start == 0 and windows[-1].keep_stop == length
    assert all(a.keep_stop == b.keep_start for a, b in itertools.pairwise(windows))
    assert all(w.start <= w.keep_start < w.keep_stop <= w.stop for w in windows)
    signal = np.random.default_rng(0).standard_normal((2, length))
    fade = 2 * min(half, left, right, center // 2)
    out = chunked(lambda x: 3 * x + 1, signal, windows, batch=batch, fade=fade, out=np.full((2, length), np.nan))
    np.testing.assert_allclose(out, 3 * signal + 1, atol=1e-12)


def test_a_cross_fade_joins_without_a_step():
    windows = plan(40, 4, 8, 4)
    offsets = iter(range(10))
    out = chunked(lambda x: x * 0 + next(offsets), np.zeros((1, 40)), windows, fade=8, out=np.zeros((1, 40)))
    assert np.abs(np.diff(out[0])).max() < 0.13  # steps of one, spread over eight samples


def test_nonsense_is_refused():
    with pytest.raises(UsageError):
        plan(10, -1, 3, 1)
    with pytest.raises(UsageError):
        plan(10, 1, 0, 1)
