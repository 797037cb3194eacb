"""From published checkpoints, and from runs of our own, to model folders."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxaudio.convert.read import read_checkpoint
from jaxaudio.convert.rules import Rule, State, convert, prefixed
from jaxaudio.errors import CheckpointError, UsageError
from jaxaudio.models import captioner_checkpoints, folder as folders, latent_checkpoints, systems, wavcaps_checkpoints
from jaxaudio.models.captioner_checkpoints import read_words
from jaxaudio.models.codec_checkpoints import find_config
from jaxaudio.models.encoders import given_tokenizer, read_tokenizer, tokenizer_files
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
    "audioldm": Published(
        "https://github.com/haoheliu/AudioLDM, or its diffusers folders", "non-commercial; see the source"
    ),
    "flowsep": Published("https://zenodo.org/records/13869712 (v2_100k.ckpt)", "see the source"),
    "dac": Published("https://github.com/descriptinc/descript-audio-codec (weights_*.pth)", "MIT, as its repository"),
    "sdcodec": Published("https://github.com/XiaoyuBIE1994/SDCodec (ckpt_model_final.pth)", "see the source"),
    "captioning": Published(
        "https://github.com/XinhaoMei (DCASE2021_task6_v2, ACT) or https://github.com/liuxubo717 (CL4AC, V-ACT)",
        "see the source",
    ),
    "wavcaps": Published("https://github.com/XinhaoMei/WavCaps (captioning: HTSAT-BART, Cnn14-BART)", "see the source"),
    "ase": Published("https://github.com/XinhaoMei/WavCaps (retrieval: HTSAT-BERT, Cnn14-BERT)", "see the source"),
    "taae": Published("Stable Codec by Stability AI, on Hugging Face", "see the source"),
}

_KINDS = {"audiosep": "clap", "lassnet": "own", "clap": "clap", "wavcaps": "bart", "ase": "bert"}

_SIGNS = {
    "captioning": "word_emb.weight",
    "wavcaps": "enc_to_dec_proj.",
    "ase": "audio_encoder.audio_enc.",
    "audiosep": "ss_model.",
    "lassnet": "UNet.",
    "flowsep": "vocoder.activation_post.",
    "audioldm": "diffusion_model.",
    "clap": "patch_embed.proj.weight",
    "dac": "quantizer.quantizers.",
    "sdcodec": "quantizer.rvq_dict.",
    "taae": "self_attn.to_qkv.",
}
"""What only keys of that system have in them; those which may hold CLAP, or HTS-AT as it does, come before it."""


def convert_checkpoint(
    system: str,
    checkpoint: str | os.PathLike,
    out: str | os.PathLike,
    *,
    tokenizer: str | os.PathLike | None = None,
    variant: str | None = None,
    text: str | os.PathLike | None = None,
    diffusers_compat: bool = False,
    licence: str | None = None,
    dtype: Any = np.float32,
) -> Card:
    """Writes a model folder from a published checkpoint.

    Every tensor of the checkpoint is used or left out by name, and every weight of the model is filled.

    Args:
      system: "audiosep" (separator and CLAP are in the one file), "lassnet", "clap", "audioldm", "flowsep", "dac",
        "sdcodec", "taae", "captioning", "wavcaps" or "ase".
      checkpoint: the published file, see `read_checkpoint`; for audioldm, a diffusers folder too.
      out: the folder to make.
      tokenizer: folder with the vocabulary of roberta-base (vocab.json and merges.txt, or tokenizer.json), for lassnet
        of bert-mini (vocab.txt), where there is a T5 that of flan-t5 (tokenizer.json), for wavcaps of bart-base (as of
        roberta-base), for ase of bert-base-uncased (vocab.txt, or tokenizer.json), of other captioners their words as a
        JSON list (words.json). It may also be in `text`, or be a part of a diffusers folder. Without it the model
        cannot be asked in words, nor say any.
      variant: of audioldm or flowsep, see `latent_checkpoints.find`.
      text: of audioldm or flowsep, see `latent_checkpoints.find`.
      diffusers_compat: of audioldm: compute what the published diffusers folders do, see `UNetConfig`.
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
    latent = system in systems.LATENT
    words = system == "captioning"
    if system in systems.CODECS and tokenizer:
        raise UsageError(f"{system} reads no words; leave the tokenizer out.")
    if not latent and (variant or text or diffusers_compat):
        raise UsageError(f"{system} has no variants and needs no text encoder from elsewhere; leave these options out.")
    if diffusers_compat and system != "audioldm":
        raise UsageError(f"there is no diffusers folder of {system} to agree with; leave --diffusers-compat out.")
    files = given_tokenizer(Path(tokenizer), _KINDS[system]) if tokenizer and not latent and not words else {}
    if latent:
        check = functools.partial(_check_system, system)
        found = latent_checkpoints.find(
            system, checkpoint, check, variant=variant, text=text, diffusers_compat=diffusers_compat
        )
        state, config, about, rules = found[:4]
        if tokenizer:
            files = given_tokenizer(Path(tokenizer), about["kind"])
        else:
            places = (tokenizer_files(place, about["kind"]) for place in found.tokenizer)
            files = next(filter(None, places), {})
    elif words:
        state = read_checkpoint(checkpoint)
        _check_system(system, state)
        config, about, rules = captioner_checkpoints.find(state, read_words(Path(tokenizer)) if tokenizer else ())
    else:
        state = read_checkpoint(checkpoint)
        config, about, rules = _plan(system, state)
    if files:
        read_tokenizer(files, system, config, about)  # so that a wrong vocabulary is noticed now
    weights = convert(state, rules, systems.shapes(system, config, about))
    known, path = PUBLISHED[system], Path(checkpoint)
    return folders.write(
        out,
        name=Path(out).name,
        system=system,
        config=config,
        weights=weights,
        text=about,
        licence=licence or known.licence,
        source=known.source,
        files=files,
        dtype=dtype,
        about={"checkpoint": path.name}
        | ({"checkpoint_sha256": folders.sha256(path)} if path.is_file() else {})
        | ({"variant": variant} if variant else {}),
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
    change: Callable[[Any, dict[str, Any]], tuple[Any, dict[str, Any]]] = lambda config, weights: (config, weights),
) -> Card:
    """Writes a model folder from the `best` or `final` folder of a training run; raises as `convert_checkpoint`.

    `change` makes the stored configuration and weights of the run's, e.g. to add a vocoder that was trained apart.
    """
    card = folders.read_card(run)
    if not card.of_training:
        raise UsageError(f"{run} is not the best or final folder of a training run; give one, such as runs/NAME/best.")
    config, weights = change(card.config, folders.read_weights(card))
    return folders.write(
        out,
        name=name or Path(out).name,
        system=card.system,
        config=config,
        weights=weights,
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
    _check_system(system, state)
    if system in ("wavcaps", "ase"):
        return wavcaps_checkpoints.find(system, state)
    if system == "lassnet":
        return home.LASSNET, {"kind": "own"}, prefixed("", home.WEIGHTS, "separator")
    if system in systems.CODECS:
        return find_config(system, state), {"kind": "none"}, prefixed("", home.WEIGHTS, "codec")
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


def _check_system(system: str, state: State) -> None:
    like = next((name for name, sign in _SIGNS.items() if any(sign in key for key in state)), None)
    if like != system:
        guess = f"; it looks like one of {like}" if like else ""
        raise CheckpointError(f"this is no checkpoint of {system}{guess}. Give one of {PUBLISHED[system].source}.")
