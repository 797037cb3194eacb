"""Is this still the model that it was, and does it still compute what it did?"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.errors import MissingError, UsageError
from jaxaudio.models import folder as folders, systems
from jaxaudio.models.folder import Card
from jaxaudio.models.registry import load

TOLERANCE = 1e-4  # of the norm of the difference over the norm of the reference

_QUERY, _SECONDS, _STRIDE, _STEPS = "a dog barking", 1, 997, 2


class Check(NamedTuple):
    """One comparison: its name, the relative error, the largest absolute one, and whether it is small enough."""

    name: str
    relative: float
    largest: float
    passed: bool


def verify(name_or_path: str | os.PathLike, case: str | os.PathLike | None = None) -> list[Check]:
    """Checks the files of a model by their hashes, then what it computes.

    Args:
      name_or_path: as `jaxaudio.load` takes it.
      case: folder of a recorded case (case.json and io*.npz, named and laid out as the original code has them): its
        inputs are given to this model and its outputs compared. It must have been recorded with these very weights. By
        default the small record in `config.json`, if there is one, is compared.

    Returns:
      One check for each tensor; none when there is nothing to compare with beyond the hashes.

    Raises:
      CheckpointError: the files are not what they were.
      MissingError: no such model or case.
    """
    model = load(name_or_path)
    if case is not None:
        return _run_case(model, Path(case))
    if not model.card.parity:
        return []
    wanted = model.card.parity["output"]
    return [_compare("record", parity_output(model), np.asarray(wanted, np.float32))]


def parity_output(model: Any) -> np.ndarray:
    """A few samples of what the model makes of a fixed second of noise, a fixed prompt in two steps, or fixed codes.

    Of a captioner, a few numbers of its memory of the noise; of a sound language model, scores of fixed codes, too.

    It is the record that is kept in `config.json`.
    """
    noise = np.random.default_rng(0).standard_normal(_SECONDS * model.sample_rate).astype(np.float32) / 10
    if model.card.system in ("clap", "ase"):
        return model.embed_audio(noise, sample_rate=model.sample_rate)
    if model.card.system == "audioldm":
        return model.generate(_QUERY, seconds=_SECONDS, steps=_STEPS)[::_STRIDE]
    if model.card.system in systems.CAPTIONERS:
        home = systems.module(model.card.system)
        memory = home.encode(model.params, model.config, home.hear(model.config, jnp.asarray(noise)[None]))
        return np.asarray(memory[0]["memory"]).ravel()[::_STRIDE]
    if model.card.system == "soundlm":
        from jaxaudio.systems import soundlm

        # What is drawn would hang on rounding: scores of fixed codes, and the sound of them.
        prior = model.config.prior
        codes = np.random.default_rng(1).integers(0, prior.codes, prior.size, np.int32)
        told = soundlm.condition(model.config, jnp.asarray(model.condition(_QUERY)))
        scores = soundlm.transformer.logits(model.params["prior"], prior, jnp.asarray(codes)[None], told)
        return np.concatenate([np.ravel(scores)[:: 100 * _STRIDE], model.decode(codes)[::_STRIDE]])
    if model.card.system in systems.CODECS:
        # Not of the noise's own codes, which rounding decides where two are as near.
        codes = model.encode(noise, sample_rate=model.sample_rate)
        values = np.random.default_rng(1).integers(0, codes.sizes, codes.values.shape, np.int32)
        return model.decode(dataclasses.replace(codes, values=values))[::_STRIDE]
    if model.card.system == "flowsep":
        return model.separate(noise, _QUERY, sample_rate=model.sample_rate, steps=_STEPS)[::_STRIDE]
    return model.separate(noise, _QUERY, sample_rate=model.sample_rate)[::_STRIDE]


def add_record(folder: str | os.PathLike) -> Card:
    """Computes the record and writes it into the model's `config.json`, for later `verify`s."""
    model = load(folder)
    output, system = parity_output(model), model.card.system
    path = Path(folder) / "config.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    if system in systems.CAPTIONERS:
        return _recorded(path, fields, f"every {_STRIDE}th number of the memory of {_SECONDS} s of noise", output)
    if system == "soundlm":
        about = f"every {100 * _STRIDE}th score of random codes, every {_STRIDE}th sample of their sound"
        return _recorded(path, fields, about, output)
    what = f"'{_QUERY}' in {_SECONDS} s of {'sound' if system == 'audioldm' else 'noise'}"
    about = f"every {_STRIDE}th sample of {f'{_SECONDS} s of random codes' if system in systems.CODECS else what}"
    return _recorded(path, fields, about, output)


def _recorded(path: Path, fields: dict[str, Any], about: str, output: np.ndarray) -> Card:
    fields["parity"] = {"about": about, "tolerance": TOLERANCE, "output": [float(f"{x:.6g}") for x in output]}
    folders.write_config(path.parent, fields)
    return folders.read_card(path.parent)


def _run_case(model: Any, case: Path) -> list[Check]:
    if not (case / "case.json").is_file():
        raise MissingError(f"{case} holds no case.json; give the folder of a recorded case.")
    files = sorted(case.glob("io*.npz"))
    if not files:
        raise MissingError(f"{case} holds no io*.npz; give the folder of a recorded case.")
    if model.card.system not in _CASES:
        raise UsageError(f"no recorded cases of {model.card.system} are known; leave the case out.")
    checks = []
    for file in files:
        with np.load(file) as stored:
            arrays = {name.split("/", 1)[-1]: stored[name] for name in stored.files}
        made = _CASES[model.card.system](model, arrays)
        known = {name: x for name, x in made.items() if name in arrays}
        checks += [_compare(f"{file.stem}/{name}", x, arrays[name]) for name, x in known.items()]
    if not checks:
        raise UsageError(f"{case} is no case of {model.card.system}: it has none of the tensors that this model makes.")
    return checks


def _audiosep(model: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not {"mixture", "condition", "waveform"} <= arrays.keys():
        return {}
    from jaxaudio.systems import audiosep

    run = jax.jit(audiosep.separate, static_argnums=1)
    made = run(model.params, model.config, arrays["mixture"][:, 0], arrays["condition"])
    return {"waveform": np.asarray(made)[:, None]}


def _lassnet(model: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not {"wav", "input_ids", "est_wav"} <= arrays.keys():
        return {}
    from jaxaudio.systems import lassnet

    ids = np.atleast_2d(arrays["input_ids"]).astype(np.int32)
    embed, run = (jax.jit(function, static_argnums=1) for function in (lassnet.embed, lassnet.separate))
    condition = embed(model.params, model.config, ids, np.ones_like(ids))
    made = np.asarray(run(model.params, model.config, np.atleast_2d(arrays["wav"]), condition))
    wanted = arrays["est_wav"]
    return {"est_wav": made[..., : wanted.shape[-1]].reshape(wanted.shape)}


def _clap(model: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    from jaxaudio.text import clap

    read, hear = (jax.jit(function, static_argnums=1) for function in (clap.text_embedding, clap.audio_embedding))
    made = {}
    if {"input_ids", "text_embed"} <= arrays.keys():
        ids = np.atleast_2d(arrays["input_ids"]).astype(np.int32)
        mask = np.asarray(arrays.get("attention_mask", ids != model.config.text.pad_token_id), np.int32)
        made["text_embed"] = np.asarray(read(model.params, model.config, ids, mask))
    if {"audio_raw", "audio_embed"} <= arrays.keys():
        sound = clap.pad_or_crop(jnp.atleast_2d(arrays["audio_raw"]), length=model.config.clip_samples)
        made["audio_embed"] = np.asarray(hear(model.params, model.config, sound))
    return made


_CASES: dict[str, Callable[[Any, Mapping[str, np.ndarray]], dict[str, np.ndarray]]] = {
    "audiosep": _audiosep,
    "lassnet": _lassnet,
    "clap": _clap,
}


def _compare(name: str, ours: np.ndarray, wanted: np.ndarray) -> Check:
    if ours.shape != wanted.shape:
        return Check(name, float("inf"), float("inf"), False)
    difference = ours.astype(np.float64) - wanted
    relative = float(np.linalg.norm(difference) / max(np.linalg.norm(wanted), 1e-12))
    return Check(name, relative, float(np.abs(difference).max(initial=0)), relative <= TOLERANCE)
