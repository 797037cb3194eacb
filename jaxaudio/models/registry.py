"""From a name or a path to a model."""

import dataclasses
import importlib
import os
from pathlib import Path
from typing import Any

from jaxaudio.errors import MissingError, UsageError
from jaxaudio.models import systems

DEFAULT = "separation-mini"

DEFAULT_GENERATOR = "audioldm-mini"

DEFAULT_FLOW = "flowsep-mini"

DEFAULT_CODEC = "speech-codec-mini"

DEFAULT_TRACKS = "tracks-codec-mini"

DEFAULT_CAPTIONER = "captioning-mini"

_OPENERS = {
    "audiosep": ("separator", "open_separator"),
    "lassnet": ("separator", "open_separator"),
    "clap": ("clap", "open_clap"),
    "ase": ("ase", "open_ase"),
    "audioldm": ("generator", "open_generator"),
    "flowsep": ("flow_separator", "open_flow_separator"),
    **dict.fromkeys(systems.CAPTIONERS, ("captioner", "open_captioner")),
    "soundlm": ("sound_lm", "open_sound_lm"),
    **dict.fromkeys(systems.CODECS, ("codec", "open_codec")),
}

ASSETS = Path(__file__).parents[1] / "assets"


def shipped() -> dict[str, Path]:
    """Models inside the package: {name: folder}."""
    return {file.parent.name: file.parent for file in sorted(ASSETS.glob("*/config.json")) if is_model(file)}


def find(name_or_path: str | os.PathLike) -> Path:
    """The folder of a shipped model, by its name, or of any other, by its path.

    Raises:
      UsageError: the path is a file, for example a checkpoint that is not converted yet.
      MissingError: neither a name nor a folder with a model in it.
    """
    if folder := shipped().get(os.fspath(name_or_path)):
        return folder
    path = Path(name_or_path)
    if path.is_file():
        raise UsageError(
            f"{path} is a file, and a model is a folder.\n"
            f"To make one from a published checkpoint: jaxaudio models convert SYSTEM {path} OUT"
        )
    if not (path / "config.json").is_file():
        names = ", ".join(shipped()) or "none in this installation"
        raise MissingError(f"there is no model {name_or_path}; give a model's folder, or a shipped one: {names}.")
    return path


def load(name_or_path: str | os.PathLike = DEFAULT, *, dtype: str | None = None) -> Any:
    """Loads a model, ready to use.

    Args:
      name_or_path: a shipped model ("separation-mini"), a folder that `jaxaudio models convert` made, or the `best` or
        `final` folder of a training run.
      dtype: what a system that samples latents (audioldm, flowsep) computes in, "float32" or "bfloat16", which is
        faster on accelerators; by default what its configuration says. Weights stay float32.

    Returns:
      By its system, a `jaxaudio.models.Separator` (audiosep, lassnet), `FlowSeparator` (flowsep), `Generator`
      (audioldm), `Codec` (dac, sdcodec, taae, sitok), `Captioner` (captioning, wavcaps), `SoundLM` (soundlm),
      `Clap` or `Ase`.

    Raises:
      MissingError: there is no such model.
      CheckpointError: it is truncated, altered, or does not fit its configuration.
      UsageError: a dtype that cannot be.
    """
    from jaxaudio.models.folder import read_card

    card = read_card(find(name_or_path))
    module, function = _OPENERS[card.system]
    model = getattr(importlib.import_module(f"jaxaudio.models.{module}"), function)(card)
    if dtype is None:
        return model
    if card.system not in systems.LATENT:
        raise UsageError(f"a model of {card.system} computes in float32; leave dtype out.")
    return dataclasses.replace(model, config=systems.in_dtype(card.config, dtype))


def is_model(file: Path) -> bool:
    """Whether a config.json is a model's; the encoders that models share have one of another kind."""
    return '"system"' in file.read_text(encoding="utf-8", errors="replace")
