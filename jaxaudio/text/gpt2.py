"""GPT-2 (Radford et al., 2019): a causal language model with norms before its parts and learnt positions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.convert.rules import Rule
from jaxaudio.errors import UsageError
from jaxaudio.nn import stack
from jaxaudio.nn.dropout import drop, split
from jaxaudio.precision import wide
from jaxaudio.text import causal
from jaxaudio.text.causal import Reading
from jaxaudio.text.decode import Decoder

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes, named as the published `config.json` names them.

    Attributes:
      vocab_size: rows of the word table, which also makes the logits.
      n_positions: rows of the position table: the longest sequence.
      n_embd: width.
      n_layer: layers.
      n_head: attention heads.
      layer_norm_epsilon: of every norm.
      embd_pdrop: dropout after the tables, in training.
      resid_pdrop: after each part.
      attn_pdrop: on the attention weights.
      dtype: compute dtype.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    layer_norm_epsilon: float = 1e-5
    embd_pdrop: float = 0.1
    resid_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    dtype: str = "float32"

    @property
    def stack(self) -> stack.Config:
        """Of the layers."""
        return stack.Config(
            width=self.n_embd,
            layers=self.n_layer,
            heads=self.n_head,
            hidden=4 * self.n_embd,
            norm="pre",
            last_norm=True,
            activation="gelu_tanh",
            epsilon=self.layer_norm_epsilon,
            dropout=self.resid_pdrop,
            attention_dropout=self.attn_pdrop,
            dtype=self.dtype,
        )


GPT2_SMALL = Config()


def init(key: Array, config: Config) -> Params:
    """Random {"wte", "wpe", "stack"}."""
    words, places, layers = jax.random.split(key, 3)
    return {
        "wte": 0.02 * jax.random.normal(words, (config.vocab_size, config.n_embd)),
        "wpe": 0.01 * jax.random.normal(places, (config.n_positions, config.n_embd)),
        "stack": stack.init(layers, config.stack),
    }


def embed(params: Params, x: Array, positions: Array) -> Array:
    """Token ids (batch, time), or vectors (batch, time, width) in their place, with the positions' vectors added."""
    words = params["wte"][x] if jnp.issubdtype(x.dtype, jnp.integer) else x
    # Padded positions count below 0; nothing sees what they hold.
    return words + params["wpe"][jnp.maximum(positions, 0)]


def intermediates(
    params: Params, config: Config, x: Array, mask: Array | None = None, *, key: Array | None = None
) -> dict[str, Array]:
    """Like `logits`, but {"hidden": (layers, batch, time, width) after each layer, "out": after the norm, "logits"}."""
    padded = 0 if mask is None else causal.padding(mask)[:, None]
    keys = split(key, 2)
    x = drop(embed(params, x, jnp.arange(x.shape[1]) - padded), config.embd_pdrop, keys[0])
    made = stack.intermediates(params["stack"], config.stack, x, mask=mask, key=keys[1])
    return made | {"logits": wide(made["out"]) @ params["wte"].T}


def logits(params: Params, config: Config, x: Array, mask: Array | None = None, *, key: Array | None = None) -> Array:
    """What follows each position of whole sequences.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, time) token ids, or (batch, time, width) vectors in their place.
      mask: (batch, time), 0 where a sequence is padded, on its left.
      key: draws dropout, in training.

    Returns:
      (batch, time, words) float32; anything at padded positions.
    """
    return intermediates(params, config, x, mask, key=key)["logits"]


def extend(params: Params, config: Config, x: Array, reading: Reading) -> tuple[Array, Reading]:
    """Reads what follows: ids (rows, time), or vectors -> (logits (rows, time, words), reading)."""
    positions = reading.start[:, None] + jnp.arange(x.shape[1])
    x = embed(params, x, positions)
    x, cache = stack.extend(params["stack"], config.stack, x, reading.cache, mask=reading.mask)
    return wide(x) @ params["wte"].T, reading._replace(cache=cache)


def read(params: Params, config: Config, x: Array, mask: Array, length: int) -> tuple[Array, Reading]:
    """Reads prompts, to be continued by `decode`.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, time) token ids, or (batch, time, width) vectors in their place, padded on the left.
      mask: (batch, time), 0 where padded.
      length: most tokens that are to follow.

    Returns:
      (logits (batch, words) of the next token, reading).

    Raises:
      UsageError: prompt and continuation are longer than the position table.
    """
    whole = x.shape[1] + length
    if whole > config.n_positions:
        raise UsageError(f"{x.shape[1]} tokens and {length} more do not fit into {config.n_positions} positions.")
    reading = causal.begin(stack.empty(config.stack, x.shape[0], whole), mask)
    made, reading = extend(params, config, x, reading)
    return made[:, -1], reading


def decoder(params: Params, config: Config) -> Decoder:
    """The model for `decode`; its state is the reading that `read` returns."""
    return causal.decoder(lambda x, reading: extend(params, config, x, reading))


def _thirds(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Query, key and value, side by side in the last axis."""
    return tuple(np.split(x, 3, axis=-1))


def weights(prefix: str = r"(?:transformer\.)?") -> tuple[Rule, ...]:
    """Conversion rules for the published names; their matrices are (in, out) already."""
    layer, at = rf"{prefix}h\.(\d+)\.", "stack/layers"
    projections = {r"attn\.c_proj": "self_attn/out_proj", r"mlp\.c_fc": "fc1", r"mlp\.c_proj": "fc2"}
    norms = {"ln_1": "self_attn_layer_norm", "ln_2": "final_layer_norm"}
    rules = [
        Rule(rf"{prefix}(wte|wpe)\.weight", r"\1"),
        Rule(r"lm_head\.weight", "wte"),
        Rule(rf"{layer}attn\.(bias|masked_bias)", None),  # the causal mask
        Rule(rf"{prefix}ln_f\.weight", "stack/norm/scale"),
        Rule(rf"{prefix}ln_f\.bias", "stack/norm/bias"),
    ]
    for kind, leaf in (("weight", "kernel"), ("bias", "bias")):
        paths = tuple(rf"{at}/self_attn/{n}_proj/{leaf}[\1]" for n in "qkv")
        rules.append(Rule(rf"{layer}attn\.c_attn\.{kind}", paths, _thirds))
        rules += [Rule(rf"{layer}{key}\.{kind}", rf"{at}/{path}/{leaf}[\1]") for key, path in projections.items()]
    for kind, leaf in (("weight", "scale"), ("bias", "bias")):
        rules += [Rule(rf"{layer}{key}\.{kind}", rf"{at}/{path}/{leaf}[\1]") for key, path in norms.items()]
    return tuple(rules)


WEIGHTS = weights()
