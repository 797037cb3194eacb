"""Published checkpoints of AudioLDM and FlowSep: which variant they are, and where its stages lie in them."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxaudio.convert.read import read_checkpoint
from jaxaudio.convert.rules import Rule, State, prefixed
from jaxaudio.errors import CheckpointError, MissingError, UsageError
from jaxaudio.nn import latent_model, unet
from jaxaudio.systems import audioldm, flowsep
from jaxaudio.text import clap, t5

VARIANTS: dict[str, dict[str, Any]] = {
    "audioldm": {
        "s": audioldm.AUDIOLDM_S,
        "m": audioldm.AUDIOLDM_M,
        "l": audioldm.AUDIOLDM_L,
        "48k": audioldm.AUDIOLDM_48K,
        "t5": audioldm.AUDIOLDM_T5,
    },
    "flowsep": {"v2": flowsep.FLOWSEP},
}
"""The published variants of each system, by the name that `--variant` takes."""

CLAPS = (clap.HTSAT_BASE_ROBERTA, clap.HTSAT_TINY_ROBERTA)
_T5S = (t5.FLAN_T5_SMALL, t5.FLAN_T5_BASE, t5.FLAN_T5_LARGE)

_TOKENS = {"audioldm": {"tokens": 128}, "flowsep": {"tokens": 50, "reads_padding": True}}  # as they were trained

_ORIGINAL = {
    "U-Net (model.diffusion_model)": "model.diffusion_model.",
    "autoencoder (first_stage_model)": "first_stage_model.encoder.",
    "vocoder (first_stage_model.vocoder)": "first_stage_model.vocoder.",
    "scale of the latents (scale_factor)": "scale_factor",
}
_TEXT = ("cond_stage_model.model.", "cond_stage_models.0.model.", "clap.model.")
_BESIDE = ("cond_stage_model.", "cond_stage_models.", "clap.")
_FOLDERS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "vocoder": "model"}


class Found(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      state: its tensors; those of the text encoder begin with "text.".
      config: of the system.
      text: how prompts are read, see `folder.Card`.
      rules: for the state.
      tokenizer: folders that may hold the tokenizer's files.
    """

    state: State
    config: Any
    text: dict[str, Any]
    rules: tuple[Rule, ...]
    tokenizer: tuple[Path, ...]


def find(
    system: str,
    checkpoint: str | os.PathLike,
    check: Callable[[State], None],
    *,
    variant: str | None = None,
    text: str | os.PathLike | None = None,
    diffusers_compat: bool = False,
) -> Found:
    """Looks into a checkpoint.

    Args:
      system: "audioldm" or "flowsep".
      checkpoint: the original file, whose averaged weights are taken where it has them, or a diffusers folder.
      check: raises for the tensors of a file that is of another system.
      variant: a key of `VARIANTS`; recognised by the shapes of the U-Net by default.
      text: folder with the text encoder, as Hugging Face has it, where the checkpoint lacks it; its config.json counts
        in any case.
      diffusers_compat: eight attention heads everywhere, see `UNetConfig`.

    Raises:
      CheckpointError: another variant, a stage that is missing, a noise schedule that is not AudioLDM's.
      MissingError: no such file or folder.
      UsageError: no such variant.
    """
    path, of_diffusers = Path(checkpoint), Path(checkpoint).is_dir()
    if of_diffusers and system != "audioldm":
        raise UsageError(f"{path} is a folder; {system} is published as one file: give that.")
    if of_diffusers:
        state = _read_folder(path)
    else:
        state = unet.with_ema(read_checkpoint(path))
        check(state)
    config = _variant(system, state, variant, of_diffusers)
    if of_diffusers:
        config = dataclasses.replace(config, betas=_betas(path))
        stages, rules = {f"{name} (folder {name})": f"{name}." for name in _FOLDERS}, latent_model.folder_weights
        own, beside = _below(state, "text."), ("text.",)
    else:
        stages, rules = _ORIGINAL, latent_model.weights
        own = next((found for prefix in _TEXT if (found := _below(state, prefix))), {})
        beside = _BESIDE
    lacking = [name for name, prefix in stages.items() if not any(key.startswith(prefix) for key in state)]
    if lacking:
        raise CheckpointError(f"{path} lacks the {' and the '.join(lacking)}; give the whole checkpoint.")
    folder = None if text is None else Path(text)
    if not own and folder is None:
        whose = "google/flan-t5-large" if config.unet.contexts else "its CLAP"
        raise CheckpointError(f"{path} lacks the text encoder; give --text DIR, a folder with {whose}.")
    state = {key: x for key, x in state.items() if not key.startswith(beside)}
    read = own or _read_part(_existing(folder))
    about, texts = _t5(system, read, folder) if config.unet.contexts else _clap(read)
    if diffusers_compat:
        config = dataclasses.replace(config, unet=dataclasses.replace(config.unet, diffusers_compat=True))
    places = (*((folder,) if folder else ()), *((path / "tokenizer",) if of_diffusers else ()))
    state |= {f"text.{key}": x for key, x in read.items()}
    placed = (*prefixed("", rules(config), "generator"), *prefixed(r"text\.", texts, "query"))
    return Found(state, config, about, placed, places)


def _variant(system: str, state: State, wanted: str | None, of_diffusers: bool) -> Any:
    known = VARIANTS[system]
    if wanted is not None and wanted not in known:
        raise UsageError(f"{system} has no variant {wanted!r}; give one of {', '.join(known)}.")
    prefix, film = ("unet.", "class_embedding") if of_diffusers else ("model.diffusion_model.", "film_emb")
    first = state.get(f"{prefix}{'conv_in' if of_diffusers else 'input_blocks.0.0'}.weight")
    if first is None:
        raise CheckpointError(f"this is no checkpoint of {system}: it has no U-Net; give the whole checkpoint.")
    vector = state.get(f"{prefix}{film}.weight")
    widths = [x.shape for key, x in state.items() if key.startswith(prefix) and key.endswith("attn2.to_k.weight")]
    found = (
        first.shape[1],
        first.shape[0],
        None if vector is None else vector.shape[1],
        tuple(sorted({inputs for outputs, inputs in widths if inputs != outputs})),
    )
    fitting = [
        name
        for name, c in known.items()
        if found == (c.unet.inputs, c.unet.channels[0], c.unet.film, tuple(sorted(set(c.unet.contexts))))
    ]
    if wanted in fitting:
        return known[wanted]
    if wanted is None and fitting:
        return known[fitting[0]]
    looks = f"it looks like {' or '.join(fitting)}" if fitting else f"known are {', '.join(known)}"
    what = f"{found[0]} inputs, {found[1]} channels, a vector of {found[2]}, contexts of {list(found[3])}"
    raise CheckpointError(f"this is no {system} {wanted or 'that is known'}: its U-Net has {what}; {looks}.")


def _clap(state: State) -> tuple[dict[str, Any], Sequence[Rule]]:
    width = next((x.shape[0] for key, x in state.items() if key.endswith("patch_embed.proj.weight")), None)
    config = next((one for one in CLAPS if one.audio.embed_dim == width), None)
    if config is None and width is not None:
        raise CheckpointError(f"the CLAP's audio branch is of width {width}, neither HTSAT-base nor -tiny.")
    about = {"kind": "clap", "config": dataclasses.asdict(config or CLAPS[-1]), "audio": width is not None}
    return about, clap.weights(config or CLAPS[-1])


def _t5(system: str, state: State, folder: Path | None) -> tuple[dict[str, Any], Sequence[Rule]]:
    file = None if folder is None else folder / "config.json"
    if file is not None and file.is_file():
        fields = _json(file)
        names = {field.name for field in dataclasses.fields(t5.Config)}
        config = t5.Config(**{name: value for name, value in fields.items() if name in names})
        if fields.get("feed_forward_proj", "gated-gelu") != "gated-gelu":
            raise CheckpointError(f"{file} is of a T5 without gates; give a FLAN-T5 or T5 1.1.")
    else:
        width = next(
            (x.shape[1] for key, x in state.items() if key.endswith(("shared.weight", "embed_tokens.weight"))), 0
        )
        config = next((one for one in _T5S if one.d_model == width), None)
        if config is None:
            raise CheckpointError(f"the T5 is of width {width}; give --text DIR with its config.json.")
    return {"kind": "t5", "config": dataclasses.asdict(config), **_TOKENS[system]}, t5.WEIGHTS


def _read_folder(folder: Path) -> dict[str, np.ndarray]:
    """The tensors of a diffusers folder, "unet.", "vae.", "vocoder." and "text." before their names."""
    state: dict[str, np.ndarray] = {}
    for name in (*_FOLDERS, "text_encoder"):
        if (folder / name).is_dir():
            prefix = "text" if name == "text_encoder" else name
            state |= {f"{prefix}.{key}": x for key, x in _read_part(folder / name).items()}
    if not state:
        raise MissingError(f"{folder} has no unet, vae and vocoder; give a diffusers folder, or the original file.")
    if (folder / "vae" / "config.json").is_file():
        scale = _json(folder / "vae" / "config.json").get("scaling_factor")
        if scale is None:
            raise CheckpointError(f"{folder}/vae/config.json says no scaling_factor; get the folder again.")
        state["scale_factor"] = np.asarray(scale, np.float32)
    return state


def _read_part(folder: Path) -> dict[str, np.ndarray]:
    names = [f"{stem}{end}" for stem in ("diffusion_pytorch_model", "model") for end in (".safetensors", ".bin")]
    for name in (*names, "pytorch_model.bin"):
        if (folder / name).is_file():
            return read_checkpoint(folder / name)
    raise MissingError(f"{folder} holds no weights; give a folder with model.safetensors or pytorch_model.bin.")


def _betas(folder: Path) -> tuple[float, float]:
    """First and last noise variance, of the scheduler's configuration."""
    file = folder / "scheduler" / "scheduler_config.json"
    if not file.is_file():
        return audioldm.Config().betas
    said = _json(file)
    for name, wanted in (
        ("beta_schedule", "scaled_linear"),
        ("num_train_timesteps", 1000),
        ("prediction_type", "epsilon"),
    ):
        if said.get(name, wanted) != wanted:
            raise CheckpointError(f"{file} says {name} {said[name]!r}, AudioLDM has {wanted!r}: it is another system.")
    return float(said.get("beta_start", 0.0015)), float(said.get("beta_end", 0.0195))


def _json(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); get it again.") from error


def _existing(folder: Path | None) -> Path:
    if folder is None or not folder.is_dir():
        raise MissingError(f"there is no folder {folder}; check the path after --text.")
    return folder


def _below(state: State, prefix: str) -> dict[str, np.ndarray]:
    return {key.removeprefix(prefix): x for key, x in state.items() if key.startswith(prefix)}
