"""Which published codec a checkpoint is of."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxaudio.errors import CheckpointError, UsageError
from jaxaudio.models import publish
from jaxaudio.models.codec_checkpoints import find_config
from jaxaudio.systems import dac, sdcodec, taae

GOLDEN = Path(__file__).parents[1] / "golden"


def state(case):
    """Names and shapes as the original has them, without memory."""
    keys = json.loads((GOLDEN / case / "keys.json").read_text())
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in keys.items()}


@pytest.mark.parametrize(
    ("case", "system", "config"),
    [
        ("dac_44khz_8kbps", "dac", dac.DAC_44KHZ_8KBPS),
        ("dac_44khz_16kbps", "dac", dac.DAC_44KHZ_16KBPS),
        ("dac_24khz_8kbps", "dac", dac.DAC_24KHZ_8KBPS),
        ("dac_16khz_8kbps", "dac", dac.DAC_16KHZ_8KBPS),
        ("sdcodec_16k_full", "sdcodec", sdcodec.SDCODEC_16KHZ),
        ("taae_full_950M", "taae", taae.STABLE_CODEC),
    ],
)
def test_published_codecs_are_told_apart(case, system, config):
    found = state(case)
    assert find_config(system, found) == config
    publish._check_system(system, found)
    for other in {"dac", "sdcodec", "taae"} - {system}:
        with pytest.raises(CheckpointError, match=f"it looks like one of {system}"):
            publish._check_system(other, found)


@pytest.mark.parametrize("shared", [1, 4, 8])
def test_shared_levels_are_counted(shared):
    made = {}
    for key, x in state("sdcodec_16k_full").items():
        if ".quantizers." in key and int(key.split(".quantizers.")[1].split(".")[0]) >= 12 - shared:
            continue
        made[key] = x
    for level in range(shared):
        made[f"quantizer.shared_rvq.quantizers.{level}.codebook.weight"] = np.zeros((1024, 8))
    assert find_config("sdcodec", made) == sdcodec.Config(shared=shared)


@pytest.mark.parametrize(
    ("case", "system", "message"),
    [
        ("dac_small", "dac", "unlike those published"),
        ("sdcodec_small", "sdcodec", "unlike those published"),
        ("taae_small", "taae", "not \\(8, 20\\) as Stable Codec has"),
    ],
)
def test_others_are_refused(case, system, message):
    with pytest.raises(CheckpointError, match=message):
        find_config(system, state(case))


def test_a_codec_needs_no_tokenizer(tmp_path):
    with pytest.raises(UsageError, match="reads no words"):
        publish.convert_checkpoint("dac", tmp_path / "x.pth", tmp_path / "out", tokenizer=tmp_path)
