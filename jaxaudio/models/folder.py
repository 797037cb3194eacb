"""A model on disk: `config.json`, `model.safetensors` and the tokenizer's files, in one folder.

`config.json` holds the system and its configuration, the kind of text encoder, licence and source, the SHA-256 of every
other file, and a record to check the results by. The weights are named by their path in the parameter tree, as
"separator/params/base/pre_conv/kernel", and may be stored as float16; in memory they are float32.

The weights of a training run (`<run>/best`, `<run>/final`) are read where they are.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxaudio.convert.rules import flatten, unflatten
from jaxaudio.errors import CheckpointError, UsageError
from jaxaudio.models import systems

FORMAT = 1
WEIGHTS = "model.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Card:
    """What `config.json` says.

    Attributes:
      folder: where the model is.
      name: for people.
      system: a key of `systems.HOMES`.
      config: the system's `Config`.
      text: how queries become vectors: {"kind": "mini"}, the encoder in the package, or with "folder" one inside the
        model; {"kind": "clap", "config": ...}, weights under "query", with "audio": False where it can only read;
        {"kind": "t5", "config": ..., "tokens": 50, "reads_padding": True}, weights under "query" too, see
        `encoders.TokenEncoder`; {"kind": "own"}, a part of the system; {"kind": "none"}, a codec;
        {"kind": "words", "words": [...], "tags": [...], "seconds": 4.0, "rms": 0.05}, a captioner's words and concepts
        by their ids, the step of what it hears, and the level of it, if any; {"kind": "bart", "tokens": 30,
        "seconds": 10.0, "longest": 10.0}, a captioner of WavCaps, the tokens of a sentence that it reads, the step and
        the most of what it hears; {"kind": "bert", ...}, ASE, with the same.
      licence: of the weights.
      source: where they come from.
      sha256: of each file, by its name.
      fits: `_fingerprint` of the weights, written when their shapes had been compared with the system's.
      parity: what `jaxaudio.models.verify` compares with; None without one.
      about: anything else for the model card.
    """

    folder: Path
    name: str
    system: str
    config: Any
    text: Mapping[str, Any]
    licence: str
    source: str
    sha256: Mapping[str, str]
    fits: str = ""
    parity: Mapping[str, Any] | None = None
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        heard = self.system in ("clap", "ase", *systems.CAPTIONERS)
        return self.config.mel.sample_rate if heard else self.config.sample_rate

    @property
    def of_training(self) -> bool:
        """Whether this is the `best` or `final` folder of a training run."""
        return (self.folder / "params").is_dir()


def read_card(folder: str | os.PathLike) -> Card:
    """Reads `config.json`; the weights are looked at by `read_weights`.

    Raises:
      CheckpointError: it is missing or damaged, or of a system that this version does not know.
    """
    folder = Path(folder)
    try:
        fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        system = fields["system"]
        if system not in systems.HOMES:
            systems.unknown(system)
        if fields.get("format", FORMAT) > FORMAT:
            raise CheckpointError(f"{folder} was written by a newer jaxaudio; upgrade jaxaudio.")
        return Card(
            folder=folder,
            name=str(fields.get("name", folder.name)),
            system=system,
            config=systems.config_from_json(system, fields["config"]),
            text=fields.get("text", {"kind": systems.reads(system)}),
            licence=str(fields.get("licence", "unknown")),
            source=str(fields.get("source", "unknown")),
            sha256=fields.get("sha256", {}),
            fits=str(fields.get("fits", "")),
            parity=fields.get("parity"),
            about=fields.get("about", {}),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder}/config.json is not that of a model ({error}); get the model again.") from error


def check_hashes(card: Card) -> None:
    """Compares every file with the SHA-256 that `config.json` gives.

    Raises:
      CheckpointError: a file is missing or is not what it was.
    """
    for name, wanted in card.sha256.items():
        path = card.folder / name
        try:
            found = sha256(path)
        except OSError as error:
            raise CheckpointError(f"{path} is missing ({error.strerror}); get the model again.") from error
        if found != wanted:
            raise CheckpointError(
                f"{path} is truncated or altered: its SHA-256 is {found[:12]}..., not {str(wanted)[:12]}...; "
                "get the model again."
            )


def read_weights(card: Card, prefixes: Sequence[str] = ("",)) -> dict[str, Any]:
    """The weights whose names start with one of `prefixes`, as a tree of float32 numpy arrays.

    Nothing else is read into memory; the names and shapes of all are checked.

    Raises:
      CheckpointError: files that are truncated, altered, or of another system or configuration.
    """
    if card.of_training:
        return _read_training(card, prefixes)
    if WEIGHTS not in card.sha256:
        raise CheckpointError(f"{card.folder}/config.json names no {WEIGHTS}; get the model again.")
    check_hashes(card)
    import safetensors

    try:
        with safetensors.safe_open(card.folder / WEIGHTS, "np") as file:
            names = list(file.keys())
            found = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            if _fingerprint(card, found) != card.fits:
                check_fit(card, found)
            chosen = [name for name in found if name.startswith(tuple(prefixes))]
            return unflatten({name: _float32(file.get_tensor(name)) for name in chosen})
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{card.folder / WEIGHTS} cannot be read ({error}); get the model again.") from error


def in_hand(card: Card) -> dict[str, Any]:
    """The fields of a model in hand: what its card says, and its system's own weights on the default device.

    Raises:
      CheckpointError: as `read_weights`.
    """
    import jax

    own = systems.stem(card.system)
    return {
        "name": card.name,
        "system": card.system,
        "config": card.config,
        "params": jax.device_put(read_weights(card, (f"{own}/",))[own]),
        "sample_rate": card.sample_rate,
        "licence": card.licence,
        "source": card.source,
        "card": card,
    }


def check_fit(card: Card, found: Mapping[str, tuple[int, ...]]) -> None:
    """Compares names and shapes with those that the configuration makes; CheckpointError lists what differs."""
    wanted = {name: tuple(x.shape) for name, x in flatten(systems.shapes(card.system, card.config, card.text)).items()}
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"{name} is not known" for name in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{name} is {list(found[name])}, not {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(
            f"the weights in {card.folder} do not fit their configuration of {card.system}: "
            f"{'; '.join(problems[:3])}{more}.\nIs it a model of another system? Get or convert it again."
        )


def write(
    folder: str | os.PathLike,
    *,
    name: str,
    system: str,
    config: Any,
    weights: Mapping[str, Any],
    text: Mapping[str, Any],
    licence: str,
    source: str,
    files: Mapping[str, Path] | None = None,
    dtype: Any = np.float32,
    about: Mapping[str, Any] | None = None,
) -> Card:
    """Writes a model folder, all or nothing.

    Args:
      folder: must not exist.
      name: for people.
      system: a key of `systems.HOMES`.
      config: the system's configuration.
      weights: tree as `systems.shapes` describes it, of numpy or JAX arrays.
      text: see `Card`.
      licence: of the weights.
      source: where they come from.
      files: tokenizer files to copy, by their name in the folder (which may have a "/").
      dtype: of the stored matrices, float32 or float16.
      about: anything else for the model card.

    Raises:
      CheckpointError: the weights do not fit the configuration.
      UsageError: the folder exists or cannot be written.
    """
    from safetensors.numpy import save_file

    stored = {path: _stored(path, x, dtype) for path, x in flatten(weights).items()}
    with _fresh_folder(Path(folder)) as beside:
        card = Card(
            folder=beside, name=name, system=system, config=config, text=text, licence=licence, source=source, sha256={}
        )
        found = {path: x.shape for path, x in stored.items()}
        check_fit(card, found)
        save_file(stored, beside / WEIGHTS)
        for target, origin in (files or {}).items():
            (beside / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin, beside / target)
        names = sorted(str(path.relative_to(beside)) for path in beside.rglob("*") if path.is_file())
        fields = {
            "format": FORMAT,
            "name": name,
            "system": system,
            "sample_rate": card.sample_rate,
            "licence": licence,
            "source": source,
            "parameters": sum(x.size for x in stored.values()),
            "about": dict(about or {}),
            "config": dataclasses.asdict(config),
            "text": dict(text),
            "sha256": {name: sha256(beside / name) for name in names},
            "fits": _fingerprint(card, found),
        }
        write_config(beside, fields)
        shutil.copymode(beside / "config.json", beside / WEIGHTS)  # safetensors lets nobody else read
    return read_card(folder)


def write_config(folder: Path, fields: Mapping[str, Any]) -> None:
    """Replaces `config.json` at once."""
    from jaxaudio.io import Outputs

    with Outputs() as outputs:
        outputs.write_json(folder / "config.json", fields)


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fingerprint(card: Card, found: Mapping[str, tuple[int, ...]]) -> str:
    """Digest of the configuration and all names and shapes.

    A model whose fit was checked when it was written need not be checked at every start: building the shapes anew costs
    as much as compiling.
    """
    layout = [card.system, dataclasses.asdict(card.config), dict(card.text), sorted(found.items())]
    return hashlib.sha256(json.dumps(layout, sort_keys=True).encode()).hexdigest()[:16]


def _read_training(card: Card, prefixes: Sequence[str]) -> dict[str, Any]:
    from jaxaudio.train.checkpoint import load_params

    params, _ = load_params(card.folder)
    stem = systems.stem(card.system)
    flat = flatten(params if set(params) == {stem} else {stem: params})
    check_fit(card, {name: x.shape for name, x in flat.items()})
    return unflatten({name: _float32(x) for name, x in flat.items() if name.startswith(tuple(prefixes))})


def _stored(path: str, x: Any, dtype: Any) -> np.ndarray:
    """Matrices in `dtype`; vectors stay float32: they are small, and running variances outgrow float16."""
    x = np.asarray(x, np.float32, order="C")
    if x.ndim > 1 and np.max(np.abs(x), initial=0) > np.finfo(dtype).max:
        raise CheckpointError(f"{path} holds numbers too large for {np.dtype(dtype).name}; store the model as float32.")
    return x.astype(dtype, copy=False) if x.ndim > 1 else x


def _float32(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32, copy=False) if x.dtype.kind == "f" else x


@contextlib.contextmanager
def _fresh_folder(folder: Path) -> Generator[Path, None, None]:
    """A folder that gets its name when it is complete."""
    if folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} already exists; choose another folder.")
    beside = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        beside.mkdir(parents=True)
        yield beside
        os.rename(beside, folder)
    except OSError as error:
        raise UsageError(
            f"cannot write {folder}: {error.strerror or error}; choose a path you can write to."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
