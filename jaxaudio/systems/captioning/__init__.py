"""Audio captioning: one model of which the papers' captioners are configurations, and what they are trained on."""

from jaxaudio.systems.captioning.checkpoints import (
    ACT_L,
    ACT_M,
    ACT_S,
    CL4AC,
    CNN10_AUDIOCAPS,
    CNN10_CLOTHO,
    CNN10_KEYWORDS_CLOTHO,
    CNN14_CLOTHO,
    MINI,
    RESNET38_CLOTHO,
    VACT_AUDIO,
    VACT_AUDIO_VISUAL,
    VACT_VIDEO,
    act_weights,
    cnn_weights,
)
from jaxaudio.systems.captioning.model import Config, caption, caption_logits, encode, hear, init

__all__ = [
    "ACT_L",
    "ACT_M",
    "ACT_S",
    "CL4AC",
    "CNN10_AUDIOCAPS",
    "CNN10_CLOTHO",
    "CNN10_KEYWORDS_CLOTHO",
    "CNN14_CLOTHO",
    "MINI",
    "RESNET38_CLOTHO",
    "VACT_AUDIO",
    "VACT_AUDIO_VISUAL",
    "VACT_VIDEO",
    "Config",
    "act_weights",
    "caption",
    "caption_logits",
    "cnn_weights",
    "encode",
    "hear",
    "init",
]
