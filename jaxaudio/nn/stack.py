"""A stack of Transformer layers with biases (Vaswani et al., 2017): what captioners, BART and GPT-2 have in common.

Norms before or after each part; causal or not; with attention to a memory or without. The layers lie in one array per
parameter, along its first axis, and a loop runs over them, as in `llama`. Their names are BART's.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, linear, prefixed, split_qkv
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import cache as caches
from jaxaudio.nn.attention import attend, attention_weights, padding_bias
from jaxaudio.nn.cache import Cache
from jaxaudio.nn.dropout import drop, split
from jaxaudio.precision import computed, wide

Params = Any

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a stack.

    Attributes:
      width: channels.
      layers: how many.
      heads: attention heads; they divide the width.
      hidden: channels inside the perceptrons.
      causal: whether a position sees only itself and those before it.
      memory: channels of what each layer attends to beside the sequence itself; 0 for no such attention.
      second: channels of a second memory, attended to in parallel: a gate, which each position sets anew, mixes what is
        found in both (after Liu et al., 2022, arXiv:2210.16428); 0 for none.
      norm: where the norms stand: "post", after each part is added, or "pre", before it.
      last_norm: one more norm after the stack.
      activation: of the perceptrons, one of `ACTIVATIONS`; "gelu" is the exact one.
      epsilon: of the norms.
      dropout: rate on what each part adds; drawn in training only, like the next two.
      attention_dropout: rate on the attention weights.
      hidden_dropout: rate inside the perceptrons.
      dtype: compute dtype, "float32" or "bfloat16"; norms and softmax are float32.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    causal: bool = True
    memory: int = 0
    second: int = 0
    norm: Literal["post", "pre"] = "post"
    last_norm: bool = False
    activation: str = "gelu"
    epsilon: float = 1e-5
    dropout: float = 0.0
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"{self.heads} heads do not divide a width of {self.width}.")
        if self.norm not in ("post", "pre"):
            raise ConfigError(f"Norms stand before or after: 'pre' or 'post', not {self.norm!r}.")
        if self.second and not self.memory:
            raise ConfigError("A second memory stands beside a first one; give memory= as well.")
        if self.activation not in ACTIVATIONS:
            raise ConfigError(f"No activation {self.activation!r}; there are {', '.join(ACTIVATIONS)}.")

    @property
    def dim(self) -> int:
        """Channels of a head."""
        return self.width // self.heads


class Memory(NamedTuple):
    """Keys and values of what a stack attends to; see `memorise`.

    Attributes:
      key: (layers, batch, keys, heads, dim).
      value: the same.
      bias: (batch, 1, 1, keys) that hides the padded keys, or None.
      second: the same of a second memory, or None.
    """

    key: Array
    value: Array
    bias: Array | None
    second: "Memory | None" = None


def init(key: Array, config: Config) -> Params:
    """Random {"layers"}, every leaf of which has the layers first, and {"norm"} where one is last."""

    def layer(key: Array) -> Params:
        keys, more = iter(jax.random.split(key, 10)), iter(jax.random.split(jax.random.fold_in(key, 10), 5))

        def attention(source: int, keys: Iterator[Array] = keys) -> Params:
            sources = {"q_proj": config.width, "k_proj": source, "v_proj": source, "out_proj": config.width}
            return {name: dense_init(next(keys), size, config.width) for name, size in sources.items()}

        made = {"self_attn": attention(config.width), "self_attn_layer_norm": norm_init(config.width)}
        if config.memory:
            made |= {"encoder_attn": attention(config.memory), "encoder_attn_layer_norm": norm_init(config.width)}
        if config.second:
            made |= {"second_attn": attention(config.second, more), "gate": dense_init(next(more), config.width, 1)}
        perceptron = {
            "fc1": dense_init(next(keys), config.width, config.hidden),
            "fc2": dense_init(next(keys), config.hidden, config.width),
        }
        return made | perceptron | {"final_layer_norm": norm_init(config.width)}

    params = {"layers": jax.vmap(layer)(jax.random.split(key, config.layers))}
    return params | ({"norm": norm_init(config.width)} if config.last_norm else {})


def dense_init(key: Array, inputs: int, features: int) -> Params:
    """A random affine map for `dense`."""
    return {"kernel": jax.nn.initializers.xavier_uniform()(key, (inputs, features)), "bias": jnp.zeros(features)}


def norm_init(width: int) -> Params:
    """A norm for `layer_norm` that scales nothing yet."""
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


def dense(params: Params, x: Array) -> Array:
    """The affine map of {"kernel", "bias"} on the last axis, in the dtype of x."""
    return x @ params["kernel"].astype(x.dtype) + params["bias"].astype(x.dtype)


def layer_norm(params: Params, x: Array, epsilon: float = 1e-5) -> Array:
    """Normalises the last axis by its mean and biased variance, then {"scale", "bias"}; in the dtype of x."""
    y = wide(x)
    y = y - y.mean(-1, keepdims=True)
    y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + epsilon)
    return (y * params["scale"] + params["bias"]).astype(x.dtype)


def memorise(
    params: Params,
    config: Config,
    memory: Array,
    mask: Array | None = None,
    *,
    second: Array | None = None,
    second_mask: Array | None = None,
) -> Memory:
    """Keys and values of a memory, once for all positions that attend to it.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      memory: (batch, keys, config.memory).
      mask: (batch, keys), nonzero where a key is real.
      second: (batch, other keys, config.second) of a stack with two memories.
      second_mask: (batch, other keys); an item with no real key gets what is in the first memory alone.
    """

    def kept(name: str, memory: Array, mask: Array | None) -> Memory:
        memory = computed(memory, config.dtype)

        def of_layer(attention: Params) -> tuple[Array, Array]:
            key, value = (_heads(dense(attention[part], memory), config) for part in ("k_proj", "v_proj"))
            return key, value

        key, value = jax.lax.map(of_layer, params["layers"][name])
        return Memory(key, value, None if mask is None else padding_bias(mask))

    first = kept("encoder_attn", memory, mask)
    return first if second is None else first._replace(second=kept("second_attn", second, second_mask))


def apply(
    params: Params,
    config: Config,
    x: Array,
    *,
    mask: Array | None = None,
    memory: Memory | None = None,
    key: Array | None = None,
) -> Array:
    """Runs the stack.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, time, width).
      mask: (batch, time), nonzero where a position is real; the others are seen by none, and hold anything.
      memory: of `memorise`, where the stack attends to one.
      key: draws dropout, in training; () or (batch,).

    Returns:
      (batch, time, width).
    """
    return _run(params, config, x, mask, memory, key)[0]


def intermediates(
    params: Params,
    config: Config,
    x: Array,
    *,
    mask: Array | None = None,
    memory: Memory | None = None,
    key: Array | None = None,
) -> dict[str, Array]:
    """Like `apply`, but {"hidden": (layers, batch, time, width) after each layer, "out": at the end}."""
    out, (hidden, _) = _run(params, config, x, mask, memory, key, keep=True)
    return {"hidden": hidden, "out": out}


def empty(config: Config, batch: int, capacity: int) -> Cache:
    """A cache for so many positions of each item."""
    return caches.empty(config.layers, batch, capacity, config.heads, config.dim, config.dtype)


def extend(
    params: Params,
    config: Config,
    x: Array,
    cache: Cache,
    *,
    mask: Array | None = None,
    memory: Memory | None = None,
) -> tuple[Array, Cache]:
    """Runs a causal stack on what follows the positions of a cache; the parts together equal `apply` on the whole.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (rows, time, width); the cache must have room for them, which a traced program cannot check.
      cache: of `empty`, or of the call before.
      mask: (rows, capacity), as in `apply`, over all positions.
      memory: as in `apply`; of as many items as there are rows, or of a part, where neighbouring rows share one.

    Returns:
      ((rows, time, width), cache).

    Raises:
      UsageError: the stack is not causal, or x is longer than the whole cache.
    """
    caches.check(cache, x.shape[1], causal=config.causal)
    kept = (cache.key, cache.value)
    y, (_, (key, value)) = _run(params, config, x, mask, memory, None, cached=kept, place=cache.length)
    return y, Cache(key, value, cache.length + x.shape[1])


def _run(
    params: Params,
    config: Config,
    x: Array,
    mask: Array | None,
    memory: Memory | None,
    key: Array | None,
    *,
    keep: bool = False,
    cached: tuple[Array, Array] | None = None,
    place: Array | int = 0,
) -> tuple[Array, Any]:
    """(out, (hidden states, caches)), each () unless asked for."""
    if bool(config.memory) != (memory is not None):
        raise UsageError(
            "This stack attends to a memory; give it one." if config.memory else "This stack takes no memory."
        )
    if bool(config.second) != (memory is not None and memory.second is not None):
        raise UsageError(
            "This stack attends to two memories; give `memorise` both."
            if config.second
            else "It takes one memory only."
        )
    bias = None if mask is None else padding_bias(mask)
    x = computed(x, config.dtype)
    reach = (None, 0 if config.causal else None)
    memories = [] if memory is None else [one for one in (memory, memory.second) if one is not None]
    crossed = [(one.key, one.value) for one in memories]
    keys = None if key is None else jnp.stack(split(key, config.layers))

    def layer(x: Array, scanned: Any) -> tuple[Array, Any]:
        weights, cache, cross, key = scanned
        drawn = iter(split(key, 7 if config.second else 6))
        kept: Any = ()

        def part(x: Array, name: str, inner: Callable[[Array], Array]) -> Array:
            norm = weights[f"{name}_layer_norm"]
            if config.norm == "pre":
                return x + drop(inner(layer_norm(norm, x, config.epsilon)), config.dropout, next(drawn))
            return layer_norm(norm, x + drop(inner(x), config.dropout, next(drawn)), config.epsilon)

        def to_itself(x: Array) -> Array:
            nonlocal kept
            query, *own = (_heads(dense(weights["self_attn"][f"{n}_proj"], x), config) for n in "qkv")
            pair = (own[0], own[1]) if cache is None else caches.write(cache, (own[0], own[1]), place)
            kept = () if cache is None else pair
            y = _attend(query, *pair, bias, config.attention_dropout, next(drawn), reach, place)
            return dense(weights["self_attn"]["out_proj"], y)

        def to_memory(x: Array, name: str, which: int) -> Array:
            key, value = cross[which]
            query = _heads(dense(weights[name]["q_proj"], x), config)
            # Rows that share a memory stand beside each other as its queries.
            query = query.reshape(key.shape[0], -1, *query.shape[2:])
            y = _attend(query, key, value, memories[which].bias, config.attention_dropout, next(drawn))
            return dense(weights[name]["out_proj"], y.reshape(x.shape))

        def to_memories(x: Array) -> Array:
            y = to_memory(x, "encoder_attn", 0)
            if not config.second:
                return y
            share = jax.nn.sigmoid(wide(dense(weights["gate"], x)))
            mixed = (share * y + (1 - share) * to_memory(x, "second_attn", 1)).astype(y.dtype)
            if memories[1].bias is None:
                return mixed
            there = (memories[1].bias == 0).any(-1)
            return jnp.where(jnp.repeat(there, len(x) // len(there), 0), mixed, y)

        def perceptron(x: Array) -> Array:
            y = drop(ACTIVATIONS[config.activation](dense(weights["fc1"], x)), config.hidden_dropout, next(drawn))
            return dense(weights["fc2"], y)

        x = part(x, "self_attn", to_itself)
        if cross:
            x = part(x, "encoder_attn", to_memories)
        x = part(x, "final", perceptron)
        return x, (x if keep else (), kept)

    x, made = jax.lax.scan(layer, x, (params["layers"], cached, crossed, keys))
    return (layer_norm(params["norm"], x, config.epsilon) if config.last_norm else x), made


def _heads(x: Array, config: Config) -> Array:
    return x.reshape(*x.shape[:-1], config.heads, config.dim)


def _attend(
    query: Array,
    key: Array,
    value: Array,
    bias: Array | None,
    rate: float,
    drawn: Array | None,
    reach: tuple[int | None, int | None] = (None, None),
    start: Array | int = 0,
) -> Array:
    """The attention of queries (batch, queries, heads, dim), its heads side by side again: (batch, queries, width)."""
    if drawn is None or not rate:
        # Few queries make small products: all of them at once, where many are better off in parts.
        whole = jax.default_backend() != "cpu" or query.shape[1] <= 64
        y = attend(query, key, value, bias, reach=reach, start=start, whole=whole)
    else:
        if reach != (None, None):
            seen = jnp.tril(jnp.ones((query.shape[1], key.shape[1]), bool))
            bias = jnp.where(seen, 0 if bias is None else bias, jnp.finfo(jnp.float32).min)
        weights = drop(attention_weights(query, key, bias), rate, drawn).astype(value.dtype)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
    return y.reshape(*y.shape[:2], -1)


def positions(length: int, width: int, start: Array | int = 0) -> Array:
    """Sines and cosines of positions from `start`, in turns along the channels (section 3.5): (length, width)."""
    place = start + jnp.arange(length)[:, None]
    speed = jnp.exp(jnp.arange(0, width, 2) * (-math.log(10000.0) / width))
    return jnp.stack([jnp.sin(place * speed), jnp.cos(place * speed)], -1).reshape(length, width)


def weights(prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for BART's names.

    Args:
      prefix: regular expression before the keys, e.g. r"decoder\\.".
      path: where the tree of `init` is.
    """
    layer, norm = r"layers\.(\d+)\.", r"(self_attn_layer_norm|encoder_attn_layer_norm|final_layer_norm)"
    rules = (
        Rule(rf"{layer}(self_attn|encoder_attn)\.(\w+_proj)\.weight", r"layers/\2/\3/kernel[\1]", linear),
        Rule(rf"{layer}(self_attn|encoder_attn)\.(\w+_proj)\.bias", r"layers/\2/\3/bias[\1]"),
        Rule(rf"{layer}(fc1|fc2)\.weight", r"layers/\2/kernel[\1]", linear),
        Rule(rf"{layer}(fc1|fc2)\.bias", r"layers/\2/bias[\1]"),
        Rule(rf"{layer}{norm}\.weight", r"layers/\2/scale[\1]"),
        Rule(rf"{layer}{norm}\.bias", r"layers/\2/bias[\1]"),
    )
    return prefixed(prefix, rules, path)


def torch_weights(prefix: str = "", path: str = "", *, memory: bool = True) -> tuple[Rule, ...]:
    """Conversion rules for the names of `torch.nn.TransformerDecoder`, or of its `TransformerEncoder` without a memory.

    Args:
      prefix: regular expression before the keys, e.g. r"transformer_decoder\\.".
      path: where the tree of `init` is.
      memory: whether the layers attend to one.
    """
    layer = r"layers\.(\d+)\."
    attentions = {"self_attn": "self_attn", "multihead_attn": "encoder_attn"} if memory else {"self_attn": "self_attn"}
    norms = ("self_attn", "encoder_attn", "final") if memory else ("self_attn", "final")
    rules: list[Rule] = []
    for theirs, ours in attentions.items():
        for kind, leaf in (("weight", "kernel"), ("bias", "bias")):
            paths = tuple(rf"layers/{ours}/{n}_proj/{leaf}[\1]" for n in "qkv")
            rules.append(Rule(rf"{layer}{theirs}\.in_proj_{kind}", paths, split_qkv))
        rules.append(Rule(rf"{layer}{theirs}\.out_proj\.weight", rf"layers/{ours}/out_proj/kernel[\1]", linear))
        rules.append(Rule(rf"{layer}{theirs}\.out_proj\.bias", rf"layers/{ours}/out_proj/bias[\1]"))
    for number, name in enumerate(norms, 1):
        rules.append(Rule(rf"{layer}norm{number}\.weight", rf"layers/{name}_layer_norm/scale[\1]"))
        rules.append(Rule(rf"{layer}norm{number}\.bias", rf"layers/{name}_layer_norm/bias[\1]"))
    rules.append(Rule(rf"{layer}linear([12])\.weight", r"layers/fc\2/kernel[\1]", linear))
    rules.append(Rule(rf"{layer}linear([12])\.bias", r"layers/fc\2/bias[\1]"))
    return prefixed(prefix, rules, path)
