"""Every golden case that is kept here: ours beside what the original code computed."""

from pathlib import Path

import pytest

from tests import parity
from tests.golden.cases.unet import BY_HAND

HERE = Path(__file__).parent
FILES = sorted(path for path in HERE.glob("*/io*.npz") if path.parent.name not in BY_HAND)

ROUNDED = {"flowsep_bigvgan": {"wav": 2.5e-4, "conv_post": 2.5e-4}}
"""Tensors that the original's own rounding keeps from the 1e-4 asked for, and what they are held to.

BigVGAN's periodic activations magnify rounding at every layer. The original run in float64 is 1.6e-4 from the waveform
stored, which is its float32; run again in float32 it is 1.2e-4 from it, and 1.8e-4 without oneDNN. Ours in float32 is
1.0e-4 from the original in float64, and by that 1.9e-4 from the stored. In float64 both are the same: io_float64.npz.
"""


def test_nothing_is_missing():
    assert {path.parent.name for path in FILES} >= {
        "audiosep_lr_schedule",
        "audiosep_metrics",
        "audiosep_resunet30",
        "audiosep_resunet30_g06",
        "audiosep_segment_mixer",
        "audiosep_train_step",
        "clap_htsat_base_roberta",
        "clap_text_with_projection",
        "hf_bert_base",
        "hf_bert_small",
        "lassnet",
        "lassnet_train_step",
    }


@pytest.mark.parametrize("io", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_case(io):
    rows, _ = parity.compare(io.parent, io)
    assert rows
    allowed = ROUNDED.get(io.parent.name, {})
    assert [row for row in rows if row[1] > max(row[3], allowed.get(row[0], 0.0))] == []


def test_a_changed_reference_is_noticed(tmp_path):
    import numpy as np

    with np.load(HERE / "audiosep_metrics" / "io_dev.npz") as file:
        stored = dict(file)
    stored["sdr"] = stored["sdr"] * 1.001
    np.savez(tmp_path / "io.npz", **stored)
    rows, _ = parity.compare(HERE / "audiosep_metrics", tmp_path / "io.npz")
    assert [row[0] for row in rows if row[1] > row[3]] == ["sdr"]
