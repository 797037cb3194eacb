"""The small sentence encoder that is shipped with the package: a BERT distilled from all-MiniLM-L6-v2."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from jaxaudio.convert.rules import flatten, unflatten
from jaxaudio.errors import CheckpointError, MissingError
from jaxaudio.text import bert
from jaxaudio.text.tokenizers import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A small BERT without pooler, and the width of the embedding it imitates."""

    encoder: bert.Config
    width: int = 384

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Config":
        """Inverse of `dataclasses.asdict`."""
        return cls(encoder=bert.Config(**fields["encoder"]), width=fields["width"])


class TextMini(NamedTuple):
    """What `load_mini` returns: parameters (float32), their sizes, and the tokenizer that feeds them."""

    params: dict[str, Any]
    config: Config
    tokenizer: Tokenizer


def init(key: jax.Array, config: Config) -> dict[str, Any]:
    """Random parameters: {"params": {"encoder": BERT, "projection": linear}}."""
    first, second = jax.random.split(key)
    hidden = jnp.zeros((1, config.encoder.hidden_size))
    projection = nn.Dense(config.width).init(second, hidden)["params"]
    return {"params": {"encoder": bert.init(first, config.encoder)["params"], "projection": projection}}


def embed(params: dict[str, Any], config: Config, input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
    """Unit-length sentence embeddings: (batch, length) ids and mask -> (batch, width).

    The mean of the last hidden states over the real tokens, projected to the teacher's width. Dot products of two
    results are cosine similarities, comparable with the teacher's.
    """
    tree = params["params"]
    hidden = bert.encode({"params": tree["encoder"]}, config.encoder, input_ids, attention_mask)["last_hidden_state"]
    pooled = bert.masked_mean(hidden, attention_mask)
    return bert.unit(pooled @ tree["projection"]["kernel"] + tree["projection"]["bias"])


def load(folder: str | Path) -> TextMini:
    """Read `config.json`, `model.safetensors` and `vocab.txt` from a folder."""
    folder = Path(folder)
    try:
        config = Config.from_json(json.loads((folder / "config.json").read_text()))
        flat = {path: x.astype(np.float32) for path, x in load_file(folder / "model.safetensors").items()}
    except OSError as error:
        raise MissingError(f"The text encoder in {folder} lacks a file ({error}). Install jaxaudio again.") from error
    except Exception as error:  # safetensors has its own exception, config.json may hold anything
        raise CheckpointError(f"The text encoder in {folder} is damaged ({error}). Install jaxaudio again.") from error
    wanted = flatten(jax.eval_shape(lambda: init(jax.random.key(0), config)))
    if {path: x.shape for path, x in flat.items()} != {path: x.shape for path, x in wanted.items()}:
        raise CheckpointError(f"The weights in {folder} do not fit their config.json. Install jaxaudio again.")
    tokenizer = Tokenizer.wordpiece(folder / "vocab.txt", max_length=config.encoder.max_position_embeddings)
    return TextMini(unflatten(flat), config, tokenizer)


@functools.cache
def load_mini() -> TextMini:
    """The encoder shipped with the package (`jaxaudio/assets/text-mini`): no download, loaded once per process."""
    with resources.as_file(resources.files("jaxaudio") / "assets" / "text-mini") as folder:
        return load(folder)
