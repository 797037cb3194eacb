"""Queries in words -> embeddings, for training and for use."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from jaxaudio.text import mini

Embed = Callable[[Sequence[str]], np.ndarray]


def sentence_encoder(folder: str | Path = "", *, allow_empty: bool = False) -> Embed:
    """The small sentence encoder as a function: sentences -> (batch, 384) unit-length embeddings.

    Args:
      folder: as `jaxaudio.text.mini.load` reads it; "" for the encoder in the package.
      allow_empty: whether a sentence may be empty, as the prompt of unconditional generation is.
    """
    params, config, tokenizer = mini.load(folder) if folder else mini.load_mini()
    embed = jax.jit(mini.embed, static_argnums=1)

    def encode(sentences: Sequence[str]) -> np.ndarray:
        ids, mask = tokenizer.encode(list(sentences), allow_empty=allow_empty)
        return np.asarray(embed(params, config, ids, mask))

    return encode


def cached(embed: Embed) -> Embed:
    """The same function with a memory: every distinct sentence is embedded once."""
    known: dict[str, np.ndarray] = {}

    def encode(sentences: Sequence[str]) -> np.ndarray:
        new = sorted({sentence for sentence in sentences if sentence not in known})
        if new:
            known.update(zip(new, embed(new)))
        return np.stack([known[sentence] for sentence in sentences])

    return encode
