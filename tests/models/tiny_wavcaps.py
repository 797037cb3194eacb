"""WavCaps' captioners and ASE with random weights: checkpoints under the published names, and tokenizers' files."""

import dataclasses
import functools
import json
import re

import jax
import numpy as np
from safetensors.numpy import save_file

from jaxaudio.models import systems
from jaxaudio.nn import htsat
from jaxaudio.systems import ase
from jaxaudio.systems.captioning import wavcaps
from jaxaudio.text import bart
from tests.models import tiny
from tests.models.published import keys_of, narrow

PREFIX = {"wavcaps": "encoder.audio_enc.", "ase": "audio_encoder.audio_enc."}
STEMS = {"wavcaps": "captioner", "ase": "query"}

PIECES = ["<s>", "<pad>", "</s>", "<unk>", *"adogbrksiun", "Ġ", "do", "dog", "Ġb", "Ġdog"]
MERGES = ["d o", "do g", "Ġ b", "Ġ dog"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "glass", "breaking", "a", "dog", "rain", "##s", "can", "be", "heard"]

HTSAT = dataclasses.replace(htsat.WAVCAPS, embed_dim=8, depths=(1, 1), heads=(1, 2), repeat=8)
BART = bart.Config(
    vocab_size=len(PIECES),
    d_model=64,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=1,
    decoder_attention_heads=1,
    encoder_ffn_dim=32,
    decoder_ffn_dim=48,
)
BERT = dataclasses.replace(
    ase.BERT_BASE,
    vocab_size=len(WORDS),
    hidden_size=64,
    num_hidden_layers=1,
    num_attention_heads=1,
    intermediate_size=32,
    max_position_embeddings=40,
)


@functools.cache
def config_of(system, sound):
    """Few channels, one layer."""
    of_cnn = {"widths": (4, 6)} | ({"embedding": 10} if system == "wavcaps" else {})
    if system == "wavcaps":
        known = wavcaps.HTSAT_BART if sound == "htsat" else wavcaps.CNN14_BART
        return dataclasses.replace(known, words=BART, sound=_heard(known, sound, of_cnn))
    known = ase.HTSAT_BERT if sound == "htsat" else ase.CNN14_BERT
    return dataclasses.replace(known, text=BERT, features=12, sound=_heard(known, sound, of_cnn))


def _heard(known, sound, of_cnn):
    return HTSAT if sound == "htsat" else dataclasses.replace(known.sound, **of_cnn)


@functools.cache
def weights(system, sound):
    """Of any value, louder in BART, so that what is said depends on what is heard."""
    made = tiny.filled(systems.shapes(system, config_of(system, sound), {}))[STEMS[system]]
    bands = next(iter(made["batch_stats"].values()))["bn0"]
    bands["mean"], bands["var"] = bands["mean"] - 40, bands["var"] * 400  # of decibels
    if system == "wavcaps":
        made["params"]["decoder"] = jax.tree.map(lambda x: 2 * x, made["params"]["decoder"])
        made["params"]["enc_to_dec_proj"]["kernel"] *= 20  # more than the places of the frames
    return made


def keys(system, sound):
    """{key: published shape} of the first blocks and layers."""
    prefix = PREFIX[system]
    front = [("mel_trans.stft.conv_real.weight", (513, 1, 1024)), ("log_trans.melW", (513, 64))]
    found = {f"{prefix}audio_feats_extractor.{name}": shape for name, shape in front}
    if sound == "htsat":
        heard = keys_of("wavcaps_htsat", "encoder.audio_enc.", prefix)
        # The second stage of this one is its last.
        other = re.compile(r".*layers\.([23]\.|1\.downsample|\d\.blocks\.[1-9])")
        found |= {key: shape for key, shape in heard.items() if not other.match(key)}
    else:
        heard = keys_of("panns_cnn10", "", prefix)
        layer = r"|fc1\." if system == "wavcaps" else ""
        own = re.compile(rf"(bn0\.|conv_block[12]\.{layer})")
        found |= {key: shape for key, shape in heard.items() if own.match(key.removeprefix(prefix))}
    deeper = re.compile(r".*\blayers?\.[1-9]")
    if system == "wavcaps":
        said = {k: v for k, v in keys_of("wavcaps_bart_small").items() if k.startswith(("decoder.", "enc_to_dec"))}
    else:
        said = keys_of("hf_bert_small", "", "text_encoder.text_encoder.")
        said = {key: shape for key, shape in said.items() if ".pooler." not in key} | {"temp": ()}
        for side in ("audio_proj", "text_proj"):
            said |= {f"{side}.{i}.weight": (1024, 768) for i in (0, 2)} | {f"{side}.{i}.bias": (1024,) for i in (0, 2)}
    return found | {key: shape for key, shape in said.items() if not deeper.match(key)}


def state(system, sound):
    """The weights under the published names, with the constants that are not read."""
    home, named = systems.module(system), keys(system, sound)
    bias = named.pop("decoder.final_logits_bias", None)
    made = narrow(weights(system, sound), home.weights(config_of(system, sound)), named)
    made |= {key: np.zeros([min(n, 2) for n in shape], np.float32) for key, shape in named.items() if key not in made}
    if bias:
        made["decoder.final_logits_bias"] = weights(system, sound)["params"]["decoder"]["final_logits_bias"][None]
    return {key: np.array(x, order="C") for key, x in made.items()}


def checkpoint(path, system, sound):
    """A file of them."""
    save_file(state(system, sound), path)
    return path


def tokenizer(folder, system):
    """A folder with what bart-base or bert-base-uncased has."""
    folder.mkdir(parents=True, exist_ok=True)
    if system == "wavcaps":
        (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(PIECES)}))
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES]) + "\n")
    else:
        (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return folder
