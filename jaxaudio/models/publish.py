"""From published checkpoints, and from runs of our own, to model folders."""

import dataclasses
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxaudio.convert.read import read_checkpoint
from jaxaudio.convert.rules import Rule, State, convert, prefixed
from jaxaudio.errors import CheckpointError, MissingError, UsageError
from jaxaudio.models import folder as folders
from jaxaudio.models import systems
from jaxaudio.models.encoders import read_tokenizer, tokenizer_files
from jaxaudio.models.folder import Card


class Published(NamedTuple):
    """What is known of a published checkpoint before it is opened.

    Attributes:
      source: where its authors put it.
      licence: what they say of it.
    """

    source: str
    licence: str


PUBLISHED = {
    "audiosep": Published(
        "https://github.com/Audio-AGI/AudioSep (audiosep_base_4M_steps.ckpt)", "MIT, as its repository"
    ),
    "lassnet": Published("https://github.com/liuxubo717/LASS (LASSNet.pt)", "none given; ask its authors"),
    "clap": Published("https://github.com/LAION-AI/CLAP, or a ClapModel of Hugging Face", "see the source"),
}


_SIGNS = {"audiosep": "ss_model.", "lassnet": "UNet.", "clap": "patch_embed.proj.weight"}
"""What only keys of that system have in them; AudioSep, which holds CLAP, comes first."""


def convert_checkpoint(
    system: str,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    *,
    tokenizer: str | os.PathLike | None = None,
    licence: str | None = None,
    dtype: Any = np.float32,
) -> Card:
    """Writes a model folder from a published checkpoint.

    Every tensor of the checkpoint is used or left out by name, and every weight of the model is filled.

    Args:
      system: "audiosep" (separator and CLAP are in the one file), "lassnet" or "clap".
      checkpoint: the published file, see `read_checkpoint`.
      out: the folder to make.
      tokenizer: folder with the vocabulary of roberta-base (vocab.json and merges.txt, or tokenizer.json) or, for
        lassnet, of bert-mini (vocab.txt). Without it the model cannot be asked in words.
      licence: of the weights, for the model card.
      dtype: of the stored weights, float32 or float16.

    Raises:
      CheckpointError: damaged, of another system, or not fully understood: the message lists what is left.
      MissingError: no such file, or no vocabulary in `tokenizer`.
      UsageError: an unknown system, or `out` exists or cannot be written.
    """
    if system not in PUBLISHED:
        raise UsageError(f"no published system {system!r}; give one of {', '.join(PUBLISHED)}.")
    if Path(out).exists():
        raise UsageError(f"{out} already exists; choose another folder.")
    files = _tokenizer(system, tokenizer) if tokenizer else {}
    state = read_checkpoint(checkpoint)
    config, text, rules = _plan(system, state)
    if files:
        read_tokenizer(files, system, config)  # so that a wrong vocabulary is noticed now
    weights = convert(state, rules, systems.shapes(system, config, text))
    known = PUBLISHED[system]
    return folders.write(
        out,
        name=Path(out).name,
        system=system,
        config=config,
        weights=weights,
        text=text,
        licence=licence or known.licence,
        source=known.source,
        files=files,
        dtype=dtype,
        about={"checkpoint": Path(checkpoint).name, "checkpoint_sha256": folders.sha256(checkpoint)},
    )


def export_training(
    run: str | os.PathLike,
    out: str | os.PathLike,
    *,
    name: str | None = None,
    licence: str = "unknown",
    source: str = "trained with jaxaudio",
    dtype: Any = np.float32,
    files: dict[str, Path] | None = None,
    about: dict[str, Any] | None = None,
) -> Card:
    """Writes a model folder from the `best` or `final` folder of a training run; raises as `convert_checkpoint`."""
    card = folders.read_card(run)
    if not card.of_training:
        raise UsageError(f"{run} is not the best or final folder of a training run; give one, such as runs/NAME/best.")
    return folders.write(
        out,
        name=name or Path(out).name,
        system=card.system,
        config=card.config,
        weights=folders.read_weights(card),
        text=card.text,
        licence=licence,
        source=source,
        files=files,
        dtype=dtype,
        about=about,
    )


def _plan(system: str, state: State) -> tuple[Any, dict[str, Any], tuple[Rule, ...]]:
    """The configuration, the kind of text encoder and the rules for a state dict, told by the shapes in it."""
    home = systems.module(system)
    like = next((name for name, sign in _SIGNS.items() if any(sign in key for key in state)), None)
    if like != system:
        guess = f"; it looks like one of {like}" if like else ""
        raise CheckpointError(f"this is no checkpoint of {system}{guess}. Give one of {PUBLISHED[system].source}.")
    if system == "lassnet":
        return home.LASSNET, {"kind": "own"}, prefixed("", home.WEIGHTS, "separator")
    if system == "clap":
        config = _clap_config(state)
        return config, {"kind": "clap"}, prefixed("", home.weights(config), "query")
    bins = next((x.shape[0] for key, x in state.items() if key.endswith("base.bn0.weight")), None)
    known = {c.n_fft // 2 + 1: c for c in (home.AUDIOSEP_BASE, home.AUDIOSEP_16K)}
    if bins not in known:
        raise CheckpointError(
            "this AudioSep is neither of 32 kHz nor of 16 kHz: its ss_model.base.bn0 has other than 1025 or 513 bins; "
            "give a published checkpoint."
        )
    branch = {k.removeprefix("query_encoder.model."): x for k, x in state.items() if k.startswith("query_encoder.")}
    clap = _clap_config(branch)
    queries = prefixed(r"query_encoder\.model\.", systems.module("clap").weights(clap), "query")
    rules = (*prefixed("", home.WEIGHTS, "separator"), *queries)
    return known[bins], {"kind": "clap", "config": dataclasses.asdict(clap)}, rules


def _clap_config(state: State) -> Any:
    """HTSAT-base or HTSAT-tiny, by its width."""
    clap = systems.module("clap")
    width = next((x.shape[0] for key, x in state.items() if _SIGNS["clap"] in key), None)
    for config in (clap.HTSAT_BASE_ROBERTA, clap.HTSAT_TINY_ROBERTA):
        if config.audio.embed_dim == width:
            return config
    raise CheckpointError(
        f"the audio branch of CLAP is {f'of width {width}' if width else 'missing'}, neither HTSAT-base nor -tiny; "
        "give a checkpoint that holds one of these."
    )


def _tokenizer(system: str, folder: str | os.PathLike) -> dict[str, Path]:
    files = tokenizer_files(Path(folder), system)
    if not files:
        wanted = "vocab.txt" if system == "lassnet" else "vocab.json and merges.txt, or tokenizer.json"
        raise MissingError(f"{folder} does not hold {wanted}; give a folder that does.")
    return files
