"""`jaxaudio models`."""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxaudio.cli import show
from jaxaudio.cli.parse import choose, parse
from jaxaudio.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class List:
    """Lists the models in the package, and those in a folder."""

    folder: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder whose model folders are listed too."""

    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """Shows what is known about a model."""

    model: tyro.conf.Positional[str]
    """Name of a shipped model, or path of a model's folder."""

    json: bool = False
    """Print JSON."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert:
    """Makes a model folder from a published checkpoint, or from a run of your own.

    jaxaudio models convert audiosep audiosep_base_4M_steps.ckpt models/audiosep --tokenizer roberta-base

    jaxaudio models convert audioldm audioldm-s-full-v2 models/audioldm-s

    jaxaudio models convert flowsep v2_100k.ckpt models/flowsep --text flan-t5-large

    jaxaudio models convert wavcaps CHECKPOINT.pt models/wavcaps --tokenizer bart-base

    jaxaudio models convert dac weights_16khz_8kbps_0.0.5.pth models/dac-16khz

    Every tensor of the checkpoint must find its place; otherwise the error lists what is left.
    """

    system: tyro.conf.Positional[
        Literal[
            "audiosep",
            "lassnet",
            "clap",
            "audioldm",
            "flowsep",
            "dac",
            "sdcodec",
            "taae",
            "captioning",
            "wavcaps",
            "ase",
            "run",
        ]
    ]
    """What the checkpoint is of; "run" for the best or final folder of a training run."""

    checkpoint: tyro.conf.Positional[Path]
    """The published file (.ckpt, .pt, .pth, .bin or .safetensors), a diffusers folder, or the folder of the run."""

    out: tyro.conf.Positional[Path]
    """Folder to make."""

    tokenizer: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder with roberta-base's vocab.json and merges.txt, or tokenizer.json; lassnet: bert-mini's vocab.txt;
    with a T5: its tokenizer.json; wavcaps: bart-base's files, named as roberta-base's; ase: bert-base-uncased's
    vocab.txt, or tokenizer.json; captioning: words.json, a list of its words."""

    variant: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Of audioldm: s, m, l, 48k or t5; recognised by itself, and an error where it is another."""

    text: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Of audioldm and flowsep: folder with the text encoder as Hugging Face has it, where the checkpoint has none."""

    diffusers_compat: bool = False
    """Of audioldm: eight attention heads everywhere, as diffusers has it; the network was trained with others."""

    licence: str | None = None
    """Licence of the weights, for the record."""

    half: bool = False
    """Store as float16: half the size, about three digits."""

    quiet: bool = False
    """Say nothing but errors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verify:
    """Checks that a model is what it was: its files by their hashes, its results by a record."""

    model: tyro.conf.Positional[str]
    """Name of a shipped model, or path of a model's folder."""

    case: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Recorded case (case.json, io*.npz) of the original code with these weights, to compare with."""

    json: bool = False
    """Print JSON."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    actions = {"list": _list, "info": _info, "convert": _convert, "verify": _verify}
    return choose(actions, words, "models", "Models in the package and in folders of your own.")


def _list(words: list[str]) -> int:
    options = parse(List, words, "models list")
    from jaxaudio.models import read_card, shipped
    from jaxaudio.models.registry import is_model

    folders = list(shipped().values())
    if options.folder is not None:
        if not options.folder.is_dir():
            raise UsageError(f"there is no folder {options.folder}; check the path.")
        folders += [file.parent for file in sorted(options.folder.glob("*/config.json")) if is_model(file)]
    cards = [read_card(folder) for folder in folders]
    if options.json:
        print(json.dumps([_facts(card) for card in cards], indent=2))
    else:
        rows = [(card.name, card.system, card.sample_rate, card.licence, card.folder) for card in cards]
        show.table("models", ("name", "system", "Hz", "licence", "folder"), rows)
    return 0


def _info(words: list[str]) -> int:
    options = parse(Info, words, "models info")
    from jaxaudio.models import find, read_card

    facts = _facts(read_card(find(options.model)))
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        rows = [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in facts.items()]
        show.table(facts["name"], ("", ""), rows)
    return 0


def _convert(words: list[str]) -> int:
    options = parse(Convert, words, "models convert")
    import numpy as np

    from jaxaudio.models import publish

    dtype = np.float16 if options.half else np.float32
    if options.system == "run":
        if options.tokenizer or options.text or options.variant or options.diffusers_compat:
            raise UsageError("a run has its own text encoder and variant; give no option but --licence and --half.")
        card = publish.export_training(
            options.checkpoint, options.out, licence=options.licence or "unknown", dtype=dtype
        )
    else:
        card = publish.convert_checkpoint(
            options.system,
            options.checkpoint,
            options.out,
            tokenizer=options.tokenizer,
            variant=options.variant,
            text=options.text,
            diffusers_compat=options.diffusers_compat,
            licence=options.licence,
            dtype=dtype,
        )
    show.say(f"{card.folder}: {card.system}, {card.sample_rate} Hz, every tensor placed", options.quiet)
    reads = card.text.get("kind") != "none" and not card.text.get("words")
    if options.system != "run" and reads and not any(name.startswith(("vocab", "tokenizer")) for name in card.sha256):
        show.say("note: without --tokenizer DIR it can neither read nor say words", options.quiet)
    return 0


def _verify(words: list[str]) -> int:
    options = parse(Verify, words, "models verify")
    from jaxaudio.compile_cache import enable_compile_cache

    enable_compile_cache()
    from jaxaudio.models import verify

    checks = verify.verify(options.model, options.case)
    if options.json:
        values = [
            check._asdict() | {"relative": _finite(check.relative), "largest": _finite(check.largest)}
            for check in checks
        ]
        print(json.dumps({"hashes": True, "checks": values}, indent=2))
    else:
        print(f"{options.model}: every file has the SHA-256 that its config.json gives")
        if checks:
            rows = [(c.name, f"{c.relative:.1e}", f"{c.largest:.1e}", "yes" if c.passed else "NO") for c in checks]
            columns = ("tensor", "relative error", "largest error", f"within {verify.TOLERANCE:g}")
            show.table("results", columns, rows)
        else:
            print("no record of results to compare with")
    return 0 if all(check.passed for check in checks) else 1


def _finite(x: float) -> float | None:
    return x if math.isfinite(x) else None


def _facts(card: Any) -> dict[str, Any]:
    return {
        "name": card.name,
        "system": card.system,
        "folder": str(card.folder),
        "sample_rate": card.sample_rate,
        "licence": card.licence,
        "source": card.source,
        "text": card.text.get("kind"),
        **card.about,
        "sha256": dict(card.sha256),
        "verified": card.parity is not None,
        "config": dataclasses.asdict(card.config),
    }
