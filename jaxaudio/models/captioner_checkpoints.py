"""What a published checkpoint of a captioner is, told by the names and shapes in it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from jaxaudio.convert.rules import Rule, State, numbered, prefixed
from jaxaudio.errors import CheckpointError, MissingError
from jaxaudio.text.vocabulary import END, START, UNKNOWN

_SPELLINGS = {"<ukn>": UNKNOWN}


def find(state: State, words: tuple[str, ...] = ()) -> tuple[Any, dict[str, Any], tuple[Rule, ...]]:
    """The configuration, the words and the rules for a state dict.

    Args:
      state: of the CNN-Transformer (Cnn10, Cnn14 or ResNet38, with or without keywords), CL4AC, ACT or V-ACT.
      words: what its ids stand for; without them, the start and end of the published list of that length.

    Raises:
      CheckpointError: none of these, or a list of words of another length.
    """
    from jaxaudio.systems.captioning import checkpoints

    if "word_emb.weight" not in state:
        raise CheckpointError("this captioner has no word_emb.weight; give a checkpoint of DCASE 2021, CL4AC or ACT.")
    cnn = any(key.startswith("feature_extractor.") for key in state)
    config, rules = (_cnn if cnn else _act)(state)
    size = state["word_emb.weight"].shape[0]
    spoken = {c.vocab_size: c for c in (checkpoints.CLOTHO, checkpoints.AUDIOCAPS, checkpoints.ACT_M.words)}
    if words:
        if len(words) != size:
            raise CheckpointError(
                f"the list has {len(words)} words and the captioner {size}; give the list that it had."
            )
        bounds = {"start": words.index(START), "end": words.index(END)}
    elif size in spoken:
        bounds = {"start": spoken[size].start, "end": spoken[size].end}
    else:
        raise CheckpointError(f"no published captioner has {size} words; give its list of words: --tokenizer FOLDER.")
    config = dataclasses.replace(config, words=dataclasses.replace(config.words, vocab_size=size, **bounds))
    return config, {"kind": "words", "words": list(words)}, prefixed("", rules, "captioner")


def _cnn(state: State) -> tuple[Any, tuple[Rule, ...]]:
    from jaxaudio.nn import panns
    from jaxaudio.systems.captioning import checkpoints

    if any(key.startswith("rs_fc.") for key in state):
        return checkpoints.CL4AC, checkpoints.cnn_weights(checkpoints.CL4AC)
    blocks = numbered(state, r"feature_extractor\.conv_block(\d+)\.") - 1  # they count from one
    residual = any(key.startswith("feature_extractor.resnet.") for key in state)
    layers = numbered(state, r"transformer_encoder\.layers\.(\d+)\.")
    named = {4: checkpoints.CNN10_CLOTHO, 6: checkpoints.CNN14_CLOTHO}
    if not residual and blocks not in named:
        raise CheckpointError(f"this captioner's CNN has {blocks} blocks; those that were published have 4 or 6.")
    config = checkpoints.RESNET38_CLOTHO if residual else named[blocks]
    if layers:
        config = dataclasses.replace(config, keywords=True, encoder_layers=layers)
    if state["word_emb.weight"].shape[0] == checkpoints.AUDIOCAPS.vocab_size:  # 32 kHz there, 44.1 in Clotho
        sound: Any = config.sound
        config = dataclasses.replace(config, sound=dataclasses.replace(sound, mel=panns.MEL_32K))
    return config, checkpoints.cnn_weights(config)


def _act(state: State) -> tuple[Any, tuple[Rule, ...]]:
    from jaxaudio.systems.captioning import checkpoints

    layers = numbered(state, r"(?:transformer_)?decoder\.layers\.(\d+)\.")
    known = {c.words.layers: c for c in (checkpoints.ACT_S, checkpoints.ACT_M, checkpoints.ACT_L)}
    if layers not in known:
        raise CheckpointError(
            f"this captioner's decoder has {layers} layers; those that were published have 2, 4 or 6."
        )
    config = known[layers]
    if any(key.startswith("video_encoder_linear.") for key in state):  # its released code runs for video alone
        config = checkpoints.VACT_VIDEO
    return config, checkpoints.act_weights(config)


def read_words(folder: Path) -> tuple[str, ...]:
    """The words of `words.json`, a JSON list in the order of their ids; the originals pickle such a list.

    Raises:
      MissingError: there is none.
      CheckpointError: it is something else, or lacks the start or the end.
    """
    file = folder / "words.json" if folder.is_dir() else folder
    if not file.is_file():
        raise MissingError(f"there is no words.json in {folder}; save the captioner's words there as a JSON list.")
    try:
        words = tuple(str(word) for word in json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{file} is no JSON list of words ({error}); save the captioner's words so.") from error
    words = tuple(_SPELLINGS.get(word, word) for word in words)
    if not {START, END} <= set(words):
        raise CheckpointError(f"{file} lacks {START} or {END}; save all of the captioner's words, in their order.")
    return words
