"""How a model reads its queries and prompts."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxaudio.errors import CheckpointError, MissingError, UsageError
from jaxaudio.models import folder as folders, systems
from jaxaudio.models.folder import Card
from jaxaudio.text.tokenizers import Tokenizer

Condition = dict[str, Any]

FILES = {
    "own": (("vocab.txt",),),
    "clap": (("vocab.json", "merges.txt"), ("tokenizer.json",)),
    "t5": (("tokenizer.json",),),
    "bart": (("vocab.json", "merges.txt"), ("tokenizer.json",)),
    "bert": (("vocab.txt",), ("tokenizer.json",)),
}
"""The files of a tokenizer, by the kind of text encoder that reads them; the first complete set is taken."""

_WANTED = {
    "own": ("vocab.txt", "bert-mini"),
    "clap": ("vocab.json and merges.txt, or tokenizer.json", "roberta-base"),
    "t5": ("tokenizer.json", "flan-t5"),
    "bart": ("vocab.json and merges.txt, or tokenizer.json", "bart-base"),
    "bert": ("vocab.txt, or tokenizer.json", "bert-base-uncased"),
}


class TextEncoder(NamedTuple):
    """A tokenizer and the network behind it.

    Attributes:
      tokenizer: what splits the queries.
      embed: (ids, mask), both (1, length) -> (1, width).
    """

    tokenizer: Tokenizer
    embed: Callable[[np.ndarray, np.ndarray], Any]

    def __call__(self, texts: Sequence[str], *, allow_empty: bool = False) -> np.ndarray:
        """(queries, width) float32; one at a time, so that their number compiles nothing new.

        Warns where a query is longer than the network can read.
        """
        rows = []
        for text in texts:
            ids, mask = self.tokenizer.encode(text, allow_empty=allow_empty)
            _warn_of_cut(text, mask, self.tokenizer.max_length)
            rows.append(np.asarray(self.embed(ids, mask), np.float32))
        return np.concatenate(rows)


class TokenEncoder(NamedTuple):
    """A tokenizer and a T5, every token of which the U-Net looks at.

    Attributes:
      tokenizer: what splits the prompts.
      embed: (ids, mask), both (1, length) -> (1, length, width).
      reads_padding: whether the padding of the empty prompt counts as read, as FlowSep was trained; that of other
        prompts never does.
    """

    tokenizer: Tokenizer
    embed: Callable[[np.ndarray, np.ndarray], Any]
    reads_padding: bool

    def __call__(self, texts: Sequence[str]) -> Condition:
        """Contexts (prompts, tokens, width) and masks of some prompts, all of them `tokenizer.max_length` tokens long.

        Warns where a prompt is longer than that.
        """
        limit = self.tokenizer.max_length
        contexts, masks = [], []
        for text in texts:
            ids, mask = self.tokenizer.encode(text, allow_empty=True)
            _warn_of_cut(text, mask, limit)
            rest = ((0, 0), (0, limit - mask.shape[1]))
            whole = self.reads_padding and not text
            if whole:
                ids, mask = np.pad(ids, rest, constant_values=self.tokenizer.pad_id), np.pad(mask, rest)
            hidden = np.asarray(self.embed(ids, mask), np.float32)
            contexts.append(np.pad(hidden, ((0, 0), (0, limit - hidden.shape[1]), (0, 0))))
            masks.append(np.ones((1, limit), np.int32) if whole else np.pad(mask, rest))
        return {"contexts": [np.concatenate(contexts)], "masks": [np.concatenate(masks)]}


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

            tokenizer, config = open_tokenizer(card), clap_config(card)
            parts = [f"query/params/{part}" for part in ("text_branch/", "text_projection/")]
            tree, embed = folders.read_weights(card, parts)["query"], clap.text_embedding
        case "bert":
            from jaxaudio.systems import ase

            tokenizer, config = open_tokenizer(card), card.config
            parts = [f"query/params/{part}" for part in ("text_encoder/", "text_proj/")]
            tree, embed = folders.read_weights(card, parts)["query"], ase.embed_text
        case "own":
            tokenizer, tree, config = open_tokenizer(card), params, card.config
            embed = systems.module(card.system).embed
        case kind:
            raise UsageError(f"{card.folder} asks for a text encoder {kind!r}; upgrade jaxaudio.")
    tree = jax.device_put(tree)
    run = jax.jit(embed, static_argnums=1)
    return TextEncoder(tokenizer, lambda ids, mask: run(tree, config, ids, mask))


def open_prompts(card: Card) -> Callable[[Sequence[str]], Condition]:
    """How a generator reads prompts: a function from sentences to what its U-Net is told; the weights are read now.

    The empty sentence is what the network was told where it was to learn to do without. Raises as `open_encoder`.
    """
    if card.text.get("kind") != "t5":
        encoder = open_encoder(card)
        return lambda texts: {"film": encoder(texts, allow_empty=True)}
    import jax

    from jaxaudio.text import t5

    config = systems.config_from_json("t5", card.text["config"])
    tokenizer, tree = open_tokenizer(card), jax.device_put(folders.read_weights(card, ("query/",))["query"])
    run = jax.jit(lambda tree, ids, mask: t5.encode(tree, config, ids, mask)["last_hidden_state"])
    return TokenEncoder(
        tokenizer, lambda ids, mask: run(tree, ids, mask), reads_padding=bool(card.text.get("reads_padding"))
    )


def clap_config(card: Card) -> Any:
    """The configuration of a CLAP model, or of the CLAP in another model."""
    return card.config if card.system == "clap" else systems.config_from_json("clap", card.text["config"])


def open_tokenizer(card: Card) -> Tokenizer:
    """The tokenizer whose files are in a model's folder, see `tokenizer_files`."""
    kind = card.text["kind"]
    files = tokenizer_files(card.folder, kind)
    if not files:
        wanted, whose = _WANTED[kind]
        raise MissingError(
            f"{card.folder} has no tokenizer, so it can neither read nor say words: it needs {wanted} of {whose}.\n"
            f"Give them when converting: jaxaudio models convert {card.system} CHECKPOINT OUT --tokenizer DIR"
        )
    return read_tokenizer(files, card.system, card.config, card.text)


def read_tokenizer(files: dict[str, Path], system: str, config: Any, text: Mapping[str, Any]) -> Tokenizer:
    """A tokenizer from the files that `tokenizer_files` found, with the conventions of the model.

    Raises:
      CheckpointError: they are none, or of another model than BART or BERT was trained with.
    """
    if text["kind"] == "own":
        limit = config.text.max_position_embeddings
        return Tokenizer.wordpiece(files["vocab.txt"], end_token=False, max_length=limit)
    if text["kind"] == "t5":
        return Tokenizer.from_file(files["tokenizer.json"], max_length=text["tokens"])
    if text["kind"] in ("bart", "bert"):
        return _of_wavcaps(files, text, config)
    roberta = (config if system == "clap" else systems.config_from_json("clap", text["config"])).text
    limit = roberta.max_position_embeddings - roberta.pad_token_id - 1  # its positions begin behind the padding's
    if "tokenizer.json" in files:
        return Tokenizer.from_file(files["tokenizer.json"], max_length=limit)
    return Tokenizer.byte_bpe(files["vocab.json"], files["merges.txt"], max_length=limit)


def _of_wavcaps(files: dict[str, Path], text: Mapping[str, Any], config: Any) -> Tokenizer:
    """BART's or BERT's, which must be the very one that the model has rows and marks for."""
    limit, captions = int(text.get("tokens", 30)), text["kind"] == "bart"
    if "tokenizer.json" in files:
        made = Tokenizer.from_file(files["tokenizer.json"], max_length=limit)
    elif captions:
        made = Tokenizer.byte_bpe(files["vocab.json"], files["merges.txt"], max_length=limit)
    else:
        made = Tokenizer.wordpiece(files["vocab.txt"], max_length=limit)
    sizes = config.words if captions else config.text
    whose = _WANTED[text["kind"]][1]
    if made.vocab_size != sizes.vocab_size:
        raise CheckpointError(
            f"the tokenizer has {made.vocab_size} tokens and the model {sizes.vocab_size}; give that of {whose}."
        )
    if captions and (made.end, made.pad_id) != ((sizes.eos_token_id,), sizes.pad_token_id):
        raise CheckpointError(f"the tokenizer's </s> and <pad> are not those of the model; give that of {whose}.")
    return made


def tokenizer_files(folder: Path, kind: str) -> dict[str, Path]:
    """The files in a folder that make the tokenizer of a kind of text encoder, by name; {} where they are not there."""
    for names in FILES[kind]:
        if all((folder / name).is_file() for name in names):
            return {name: folder / name for name in names}
    return {}


def given_tokenizer(folder: Path, kind: str) -> dict[str, Path]:
    """The same of a folder that a person gave; MissingError where they are not there."""
    files = tokenizer_files(folder, kind)
    if not files:
        raise MissingError(f"{folder} does not hold {_WANTED[kind][0]}; give a folder that does.")
    return files


def _warn_of_cut(text: str, mask: np.ndarray, limit: int) -> None:
    if mask.all() and mask.size == limit:
        warnings.warn(f"the query '{text[:30]}...' is too long: its first {mask.size} tokens are read", stacklevel=3)
