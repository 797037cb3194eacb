"""Models on disk, and in hand: folders of weights with all that belongs to them, and the bundles loaded from those."""

from typing import TYPE_CHECKING, Any

from jaxaudio.models.registry import find, load, shipped

if TYPE_CHECKING:
    from jaxaudio.models.ase import Ase
    from jaxaudio.models.captioner import Caption, Captioner, Tag
    from jaxaudio.models.clap import Clap
    from jaxaudio.models.codec import Codec
    from jaxaudio.models.codes import Codes
    from jaxaudio.models.flow_separator import FlowSeparator
    from jaxaudio.models.folder import Card, read_card, read_weights, write
    from jaxaudio.models.generator import Generator
    from jaxaudio.models.requests import Options
    from jaxaudio.models.separator import Separator
    from jaxaudio.models.sound_lm import SoundLM

__all__ = [
    "Ase",
    "Caption",
    "Captioner",
    "Card",
    "Clap",
    "Codec",
    "Codes",
    "FlowSeparator",
    "Generator",
    "Options",
    "Separator",
    "SoundLM",
    "Tag",
    "find",
    "load",
    "read_card",
    "read_weights",
    "shipped",
    "write",
]

_HOMES = {"Card": "folder", "read_card": "folder", "read_weights": "folder", "write": "folder"}
_HOMES |= {"Codec": "codec", "Codes": "codes"}
_HOMES |= {"Ase": "ase", "Clap": "clap", "FlowSeparator": "flow_separator", "Generator": "generator"}
_HOMES |= {"Caption": "captioner", "Captioner": "captioner", "Tag": "captioner"}
_HOMES |= {"Options": "requests", "Separator": "separator", "SoundLM": "sound_lm"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"jaxaudio.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'jaxaudio.models' has no attribute {name!r}")
