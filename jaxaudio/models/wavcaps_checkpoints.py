"""What a published checkpoint of WavCaps is: the sizes of its captioner or of ASE, told by the shapes in it."""

import dataclasses
from typing import Any

from jaxaudio.convert.rules import Rule, State, numbered, prefixed
from jaxaudio.errors import CheckpointError
from jaxaudio.nn import htsat
from jaxaudio.systems import ase
from jaxaudio.systems.captioning import wavcaps
from jaxaudio.text import bart, bert

TOKENS = 30
"""Tokens of a sentence that were read in training, the first and the last among them."""

_HEAD = 64  # channels of a head in every published BART and BERT; shapes do not tell


def find(system: str, state: State) -> tuple[Any, dict[str, Any], tuple[Rule, ...]]:
    """The configuration, how the model hears and reads, and the rules for a state dict.

    Args:
      system: "wavcaps", a captioner of HTS-AT or Cnn14 and BART; or "ase", HTS-AT or Cnn14 and BERT.
      state: of it.

    Raises:
      CheckpointError: another encoder of sound, or a part that is missing.
    """
    captions = system == "wavcaps"
    prefix = "encoder.audio_enc." if captions else "audio_encoder.audio_enc."
    heard = {key.removeprefix(prefix): x for key, x in state.items() if key.startswith(prefix)}
    of_htsat = any(key.startswith("patch_embed.") for key in heard)
    seconds = {"seconds": 10.0} if of_htsat or not captions else {}  # filled up, as its authors do
    text = {"tokens": TOKENS, "longest": 10.0 if of_htsat else 30.0, **seconds}
    if captions:
        of = wavcaps.HTSAT_BART if of_htsat else wavcaps.CNN14_BART
        config: Any = dataclasses.replace(of, sound=_sound(of.sound, heard, prefix), words=_bart(state))
        return config, {"kind": "bart", **text}, prefixed("", wavcaps.weights(config), "captioner")
    known = ase.HTSAT_BERT if of_htsat else ase.CNN14_BERT
    sound = _sound(known.sound, heard, prefix)
    config = dataclasses.replace(known, sound=sound, text=_bert(state), features=_size(state, "audio_proj.2.bias"))
    return config, {"kind": "bert", **text}, prefixed("", ase.weights(config), "query")


def _sound(known: Any, state: State, prefix: str) -> Any:
    """The published encoder, in the sizes of the state."""
    if isinstance(known, htsat.Config):
        stages = range(numbered(state, r"layers\.(\d+)\."))
        table = "layers.{}.blocks.0.attn.relative_position_bias_table"
        return dataclasses.replace(
            known,
            embed_dim=_size(state, "patch_embed.proj.bias", prefix=prefix),
            depths=tuple(numbered(state, rf"layers\.{i}\.blocks\.(\d+)\.") for i in stages),
            heads=tuple(_size(state, table.format(i), 1, prefix) for i in stages),
            repeat=known.patch_size << max(len(stages) - 1, 0),  # a vector for each frame of the spectrogram
        )
    blocks = numbered(state, r"conv_block(\d+)\.") - 1  # they count from one
    if blocks < 1 or any(key.startswith("resnet.") for key in state):
        raise CheckpointError("its encoder of sound is neither HTS-AT nor Cnn14; give a checkpoint that has one.")
    widths = tuple(_size(state, f"conv_block{i}.bn2.weight", prefix=prefix) for i in range(1, blocks + 1))
    layer = {"embedding": _size(state, "fc1.bias", prefix=prefix)} if known.head == "frames" else {}
    return dataclasses.replace(known, widths=widths, **layer)


def _bart(state: State) -> bart.Config:
    at = "decoder.model."
    width = _size(state, f"{at}shared.weight", 1)
    sizes: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sizes[f"{side}_layers"] = numbered(state, rf"decoder\.model\.{side}\.layers\.(\d+)\.")
        sizes[f"{side}_attention_heads"] = _heads(width, "BART")
        sizes[f"{side}_ffn_dim"] = _size(state, f"{at}{side}.layers.0.fc1.bias")
    return dataclasses.replace(
        bart.BART_BASE,
        vocab_size=_size(state, f"{at}shared.weight"),
        d_model=width,
        max_position_embeddings=_size(state, f"{at}decoder.embed_positions.weight") - bart.OFFSET,
        **sizes,
    )


def _bert(state: State) -> bert.Config:
    at = "text_encoder.text_encoder."
    width = _size(state, f"{at}embeddings.word_embeddings.weight", 1)
    return dataclasses.replace(
        ase.BERT_BASE,
        vocab_size=_size(state, f"{at}embeddings.word_embeddings.weight"),
        hidden_size=width,
        num_hidden_layers=numbered(state, r"text_encoder\.text_encoder\.encoder\.layer\.(\d+)\."),
        num_attention_heads=_heads(width, "BERT"),
        intermediate_size=_size(state, f"{at}encoder.layer.0.intermediate.dense.bias"),
        max_position_embeddings=_size(state, f"{at}embeddings.position_embeddings.weight"),
    )


def _heads(width: int, whose: str) -> int:
    if width % _HEAD:
        raise CheckpointError(
            f"this {whose} is {width} wide, which are no heads of {_HEAD} channels; give a published checkpoint."
        )
    return width // _HEAD


def _size(state: State, key: str, axis: int = 0, prefix: str = "") -> int:
    """The size of a tensor along an axis; CheckpointError where there is no such tensor."""
    if key not in state or state[key].ndim <= axis:
        raise CheckpointError(f"{prefix}{key} is missing, so that no sizes are told; get the published checkpoint.")
    return state[key].shape[axis]
