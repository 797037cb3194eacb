"""The picture is one, whatever the length of the audio."""

import struct

import numpy as np
import pytest

from jaxaudio.picture import draw_spectrograms


@pytest.mark.parametrize("shape", [(1,), (4000,), (4000, 2), (900_000,)])
def test_a_png_with_a_panel_each(tmp_path, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    panels = [("the mixture", x), ("a $dog$ barking " * 20, 0 * x)]
    draw_spectrograms(tmp_path / "a.png", panels, 8000)
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1080, 552)
