"""Windows and streams that say what the whole would."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import UsageError
from jaxaudio.nn import receptive
from jaxaudio.nn.receptive import Layer, Stream, Windows


def summed(hop):
    """Of each frame, the sums of every channel over it and the two frames before and the one after it."""

    def process(x):
        x = np.pad(x, ((0, 0), (0, -x.shape[1] % hop), (0, 0)))
        frames = x.reshape(len(x), -1, hop, x.shape[2]).sum(2)
        padded = np.pad(frames, ((0, 0), (2, 1), (0, 0)))
        return sum(padded[:, i : i + frames.shape[1]] for i in range(4))

    return process


@settings(deadline=None, max_examples=60)
@given(
    pieces=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    size=st.integers(4, 9),
    hop=st.integers(1, 4),
)
def test_a_stream_in_pieces_of_any_size_is_the_whole(pieces, size, hop):
    process = summed(hop)
    windows = Windows(process=process, size=size, context=(2, 1), inputs=hop, outputs=1)
    signal = np.random.default_rng(sum(pieces)).integers(-9, 9, (2, sum(pieces), 3))
    stream, said, at = Stream(), [], 0
    for count in pieces:
        made, stream = receptive.push(windows, stream, signal[:, at : at + count])
        said, at = said + made, at + count
        assert stream.rest.shape[1] <= (2 * size) * hop + max(pieces)
    said += receptive.flush(windows, stream)
    np.testing.assert_array_equal(np.concatenate(said, 1), process(signal))
    np.testing.assert_array_equal(np.concatenate(list(receptive.run(windows, signal)), 1), process(signal))


def test_outputs_come_as_soon_as_their_window_is_full():
    windows = Windows(process=summed(1), size=5, context=(2, 1), inputs=1, outputs=1)
    said, stream = receptive.push(windows, Stream(), np.ones((1, 4, 1)))
    assert said == []
    said, stream = receptive.push(windows, stream, np.ones((1, 1, 1)))
    assert [x[0, :, 0].tolist() for x in said] == [[2, 3, 4, 4]]
    assert [x[0, :, 0].tolist() for x in receptive.flush(windows, stream)] == [[3]]
    assert receptive.flush(windows, Stream()) == []


def test_windows_need_more_than_context():
    with pytest.raises(UsageError, match="give more than 3"):
        Windows(process=summed(1), size=3, context=(2, 1), inputs=1, outputs=1)


def test_spans_of_single_layers():
    assert receptive.span([Layer(7, dilation=3)], 0, 0) == (-9, 9)
    assert receptive.span([Layer(10, stride=5, pad=3)], 2, 2) == (7, 16)
    assert receptive.span([Layer(10, stride=5, pad=3, transposed=True)], 0, 4) == (-1, 1)
    assert receptive.valid_length([Layer(7, dilation=3), Layer(10, stride=5)], 40) == 3
    assert receptive.valid_length([Layer(10, stride=5, transposed=True)], 4) == 25
