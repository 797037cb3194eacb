"""How a model reads its queries."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxaudio.errors import MissingError, UsageError
from jaxaudio.models import folder as folders
from jaxaudio.models import systems
from jaxaudio.models.folder import Card
from jaxaudio.text.tokenizers import Tokenizer


class TextEncoder(NamedTuple):
    """A tokenizer and the network behind it.

    Attributes:
      tokenizer: what splits the queries.
      embed: (ids, mask), both (1, length) -> (1, width).
    """

    tokenizer: Tokenizer
    embed: Callable[[np.ndarray, np.ndarray], Any]

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """(queries, width) float32; one at a time, so that their number compiles nothing new.

        Warns where a query is longer than the network can read.
        """
        rows = []
        for text in texts:
            ids, mask = self.tokenizer.encode(text)
            if mask.all() and mask.size == self.tokenizer.max_length:
                warnings.warn(
                    f"the query '{text[:30]}...' is too long: its first {mask.size} tokens are read", stacklevel=2
                )
            rows.append(np.asarray(self.embed(ids, mask), np.float32))
        return np.concatenate(rows)


def open_encoder(card: Card, params: Any = None) -> TextEncoder:
    """The text encoder of a model; its weights are read now.

    Args:
      card: the model.
      params: the separator's parameters, in which LASS-Net has its own encoder.

    Raises:
      MissingError: the model was converted without tokenizer files.
      CheckpointError: damaged files.
    """
    import jax

    match card.text.get("kind"):
        case "mini":
            from jaxaudio.text import mini

            made = mini.load(card.folder / card.text["folder"]) if card.text.get("folder") else mini.load_mini()
            tokenizer, tree, config, embed = made.tokenizer, made.params, made.config, mini.embed
        case "clap":
            from jaxaudio.text import clap

            tokenizer = open_tokenizer(card)
            config = card.config if card.system == "clap" else systems.config_from_json("clap", card.text["config"])
            parts = [f"query/params/{part}" for part in ("text_branch/", "text_projection/")]
            tree, embed = folders.read_weights(card, parts)["query"], clap.text_embedding
        case "own":
            tokenizer, tree, config, embed = (
                open_tokenizer(card),
                params,
                card.config,
                systems.module(card.system).embed,
            )
        case kind:
            raise UsageError(f"{card.folder} asks for a text encoder {kind!r}; upgrade jaxaudio.")
    tree = jax.device_put(tree)
    run = jax.jit(embed, static_argnums=1)
    return TextEncoder(tokenizer, lambda ids, mask: run(tree, config, ids, mask))


def open_tokenizer(card: Card) -> Tokenizer:
    """The tokenizer whose files are in a model's folder, see `tokenizer_files`."""
    files = tokenizer_files(card.folder, card.system)
    if not files:
        wanted = "vocab.txt" if card.system == "lassnet" else "vocab.json and merges.txt, or tokenizer.json"
        raise MissingError(
            f"{card.folder} has no tokenizer, so it cannot read queries: it needs {wanted} of "
            f"{'bert-mini' if card.system == 'lassnet' else 'roberta-base'}.\n"
            f"Give them when converting: jaxaudio models convert {card.system} CHECKPOINT OUT --tokenizer DIR"
        )
    return read_tokenizer(files, card.system, card.config)


def read_tokenizer(files: dict[str, Path], system: str, config: Any) -> Tokenizer:
    """A tokenizer from the files that `tokenizer_files` found, with the conventions of the system."""
    if system == "lassnet":
        limit = config.text.max_position_embeddings
        return Tokenizer.wordpiece(files["vocab.txt"], end_token=False, max_length=limit)
    if "tokenizer.json" in files:
        return Tokenizer.from_file(files["tokenizer.json"])
    return Tokenizer.byte_bpe(files["vocab.json"], files["merges.txt"])


def tokenizer_files(folder: Path, system: str) -> dict[str, Path]:
    """The files in a folder that make the system's tokenizer, by name; {} where they are not there."""
    sets = (("vocab.txt",),) if system == "lassnet" else (("vocab.json", "merges.txt"), ("tokenizer.json",))
    for names in sets:
        if all((folder / name).is_file() for name in names):
            return {name: folder / name for name in names}
    return {}
