"""Which published captioner a checkpoint is of, and that all of it is used."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxaudio.convert.rules import convert
from jaxaudio.errors import CheckpointError, MissingError
from jaxaudio.models import captioner_checkpoints, publish, systems
from jaxaudio.systems.captioning import checkpoints

GOLDEN = Path(__file__).parents[1] / "golden"


def state(case):
    """Names and shapes as the original has them, without memory."""
    keys = json.loads((GOLDEN / case / "keys.json").read_text())
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in keys.items()}


@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("dcase2021_cnn10_keywords_encdec", checkpoints.CNN10_KEYWORDS_CLOTHO),
        ("cl4ac_full", checkpoints.CL4AC),
        ("act_m", checkpoints.ACT_M),
        ("vact_video", checkpoints.VACT_VIDEO),
    ],
)
def test_published_captioners_are_told_apart_and_nothing_is_left_over(case, config):
    found = state(case)
    publish._check_system("captioning", found)
    told, text, rules = captioner_checkpoints.find(found)
    assert told == config and text == {"kind": "words", "words": []}
    made = convert(found, rules, systems.shapes("captioning", told, text))
    assert made["captioner"]["params"]["word_emb"].shape == (config.words.vocab_size, config.words.width)


def test_the_words_say_where_captions_begin_and_end(tmp_path):
    words = [f"word{i}" for i in range(4364)] + ["<eos>", "<ukn>", "<sos>"]
    (tmp_path / "words.json").write_text(json.dumps(words))
    read = captioner_checkpoints.read_words(tmp_path)
    assert read[4365] == "<unk>" and read[:4364] == tuple(words[:4364])
    config, text, _ = captioner_checkpoints.find(state("cl4ac_full"), read)
    assert (config.words.start, config.words.end, text["words"]) == (4366, 4364, list(read))


def test_a_list_or_a_checkpoint_that_does_not_fit(tmp_path):
    with pytest.raises(MissingError, match=r"no words\.json"):
        captioner_checkpoints.read_words(tmp_path)
    for content, told in (("{", "no JSON list"), ("3", "no JSON list"), ('["a", "<eos>"]', "lacks <sos>")):
        (tmp_path / "words.json").write_text(content)
        with pytest.raises(CheckpointError, match=told):
            captioner_checkpoints.read_words(tmp_path)
    found = state("cl4ac_full")
    with pytest.raises(CheckpointError, match="has 2 words and the captioner 4367"):
        captioner_checkpoints.find(found, ("<sos>", "<eos>"))
    with pytest.raises(CheckpointError, match="no published captioner has 7 words"):
        captioner_checkpoints.find(found | {"word_emb.weight": np.zeros((7, 128))})
    with pytest.raises(CheckpointError, match="has 1 layers"):
        captioner_checkpoints.find({"word_emb.weight": np.zeros((7, 512)), "decoder.layers.0.x": np.zeros(1)})
    with pytest.raises(CheckpointError, match="has 3 blocks"):
        captioner_checkpoints.find(
            {"word_emb.weight": np.zeros((7, 1)), "feature_extractor.conv_block3.x": np.zeros(1)}
        )
    with pytest.raises(CheckpointError, match="looks like one of captioning"):
        publish._check_system("dac", found)
