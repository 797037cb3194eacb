"""Published captioners: their shapes, and the rules for their keys."""

import dataclasses

from jaxaudio.convert.rules import Rule, linear
from jaxaudio.nn import panns, patches, stack
from jaxaudio.systems.captioning import words
from jaxaudio.systems.captioning.model import Config

CLOTHO = words.Config(vocab_size=4367, start=4365, end=4366)
"""The decoder for Clotho's words, of the captioning code of DCASE 2021."""

AUDIOCAPS = words.Config(vocab_size=5039, start=5036, end=5037)

_FRAMES = {"mel": panns.MEL_CLOTHO, "head": "frames", "embedding": 1024, "classes": 0, "last_pool": True}

_CNN10 = dataclasses.replace(panns.CNN10, **_FRAMES)

CNN10_CLOTHO = Config(sound=_CNN10, words=CLOTHO)
"""CNN-Transformer (Mei et al., 2021, arXiv:2108.02752), for the 44.1 kHz of Clotho."""

CNN14_CLOTHO = dataclasses.replace(CNN10_CLOTHO, sound=dataclasses.replace(panns.CNN14, **_FRAMES))
RESNET38_CLOTHO = dataclasses.replace(CNN10_CLOTHO, sound=dataclasses.replace(panns.RESNET38, **_FRAMES))
CNN10_KEYWORDS_CLOTHO = dataclasses.replace(CNN10_CLOTHO, keywords=True, encoder_layers=6)
CNN10_AUDIOCAPS = Config(sound=dataclasses.replace(_CNN10, mel=panns.MEL_32K), words=AUDIOCAPS)

CL4AC = Config(
    sound=dataclasses.replace(panns.CNN10, mel=panns.MEL_CLOTHO, head="frames", embedding=512, classes=0),
    words=dataclasses.replace(CLOTHO, activation="relu"),
    selection=True,
)
"""CL4AC (Liu et al., 2021, arXiv:2107.09990)."""

_ACT_WORDS = words.Config(vocab_size=4978, width=512, layers=4, heads=8, start=0, end=8)

ACT_M = Config(sound=patches.Config(), words=_ACT_WORDS)
"""The Audio Captioning Transformer (Mei et al., 2021, arXiv:2107.09817); S and L differ in the decoder's layers."""

ACT_S = dataclasses.replace(ACT_M, words=dataclasses.replace(_ACT_WORDS, layers=2))
ACT_L = dataclasses.replace(ACT_M, words=dataclasses.replace(_ACT_WORDS, layers=6))

VACT_VIDEO = Config(sound=None, video=1024, words=_ACT_WORDS)
"""Visually-aware captioning (Liu et al., 2022, arXiv:2210.16428) as released, which runs for video alone.

The two others have the layer widths mended that keep the released code from running.
"""

VACT_AUDIO = Config(sound=patches.Config(token=False, classes=0), bridge=1024, words=_ACT_WORDS)
VACT_AUDIO_VISUAL = Config(sound=patches.Config(token=False, classes=0), video=1024, words=_ACT_WORDS)

VACT_ADAPTIVE = dataclasses.replace(VACT_AUDIO_VISUAL, words=dataclasses.replace(_ACT_WORDS, adaptive=True))
"""With the paper's adaptive audio-visual attention, of which there is no code and no checkpoint."""


MINI = Config(
    sound=panns.Config(
        widths=(32, 64, 128, 192),
        mel=dataclasses.replace(panns.MEL_32K, hop=640),
        head="frames",
        embedding=192,
        classes=0,
        dropout=0.1,
    ),
    words=words.Config(vocab_size=600, width=128, layers=2, heads=4, hidden=512, dropout=0.1),
    tags=204,
    guides=3,
)
"""What is shipped; its vocabulary and its tags come from what it is trained on."""


def _layer(key: str, path: str) -> tuple[Rule, Rule]:
    return Rule(rf"{key}\.weight", f"params/{path}/kernel", linear), Rule(rf"{key}\.bias", f"params/{path}/bias")


def cnn_weights(config: Config) -> tuple[Rule, ...]:
    """Rules for the CNN-Transformer's and CL4AC's keys."""
    encoder = stack.torch_weights(r"transformer_encoder\.", "params/transformer_encoder", memory=False)
    return (
        *(_layer(r"feature_extractor\.fc2", "audio_linear") if config.selection else ()),
        *panns.weights(r"feature_extractor\.", "encoder"),
        *_layer("audio_linear", "audio_linear"),
        *_layer("rs_fc", "rs_fc"),
        *encoder,
        *words.weights(path="params"),
    )


def act_weights(config: Config) -> tuple[Rule, ...]:
    """Rules for ACT's and V-ACT's keys; what a variant of the latter does not use is dropped."""
    sound = config.sound
    heard: tuple[Rule, ...] = (Rule(r"(?:encoder|encoder_linear|Linear1)\..*", None),)
    if isinstance(sound, patches.Config):
        bridge = (
            *_layer(r"Linear1\.1", "bridge"),
            Rule(r"Linear1\.0\.weight", "params/bridge_norm/scale"),
            Rule(r"Linear1\.0\.bias", "params/bridge_norm/bias"),
        )
        heard = (
            *patches.weights(sound, r"encoder\.", "encoder"),
            *_layer("encoder_linear", "audio_linear"),
            *(bridge if config.bridge else (Rule(r"Linear1\..*", None),)),
        )
    seen = _layer("video_encoder_linear", "video_linear")
    return (
        *heard,
        *(seen if config.video else (Rule(r"video_encoder_linear\..*", None),)),
        *words.weights(path="params"),
    )
