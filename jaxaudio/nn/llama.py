"""A stack of Llama layers (Touvron et al., 2023, arXiv:2302.13971): RMS norms, rotary positions, SwiGLU.

Causal or not; with fewer keys than queries (grouped queries) where asked; with norms that a vector steers, as diffusion
networks have them. The layers lie in one array per parameter, along its first axis, and a loop runs over them: a deep
stack compiles as fast as one layer, and can keep the input of each layer alone for its gradient.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, linear, prefixed
from jaxaudio.errors import ConfigError
from jaxaudio.nn import cache as caches, rotary
from jaxaudio.nn.attention import attend, padding_bias
from jaxaudio.nn.cache import Cache
from jaxaudio.precision import computed, wide

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a stack.

    Attributes:
      width: channels.
      layers: how many.
      heads: attention heads; they divide the width.
      hidden: channels inside the perceptrons.
      kv_heads: heads of keys and values, which divide `heads`; 0 for as many.
      causal: whether a position sees those after it.
      norm: "scale" has a learnt factor per channel, "plain" none, and "adaptive" takes it from a vector (per item)
        that is given, by a linear map that begins as one.
      base: of the rotary positions.
      epsilon: added to the mean square in every norm.
      whole: attention all at once rather than by parts, see `attention.attend`; None for by parts on CPUs alone.
      remat: compute the inside of each layer again for its gradient, rather than keep it.
      dtype: compute dtype, "float32" or "bfloat16"; norms and softmax are float32.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    kv_heads: int = 0
    causal: bool = True
    norm: Literal["scale", "plain", "adaptive"] = "scale"
    base: float = 10000.0
    epsilon: float = 1e-6
    whole: bool | None = None
    remat: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ConfigError(f"{self.heads} heads do not divide a width of {self.width} evenly; a head needs pairs.")
        if self.kv_heads and self.heads % self.kv_heads:
            raise ConfigError(f"{self.kv_heads} heads of keys do not divide {self.heads} heads of queries.")
        if self.norm not in ("scale", "plain", "adaptive"):
            raise ConfigError(f"No norm {self.norm!r}; there are scale, plain and adaptive.")

    @property
    def dim(self) -> int:
        """Channels of a head."""
        return self.width // self.heads


class RMSNorm(nn.Module):
    """Divides by the root of the mean square over the channels (Zhang & Sennrich, 2019), then scales.

    Attributes:
      kind: as `Config.norm`.
      epsilon: added to the mean square.
    """

    kind: str = "scale"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Array, condition: Array | None = None) -> Array:
        """(batch, time, channels), and (batch, width) for an adaptive norm -> the same."""
        y = wide(x)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + self.epsilon)
        if self.kind == "adaptive":
            zeros, ones = nn.initializers.zeros, nn.initializers.ones
            scale = nn.Dense(x.shape[-1], kernel_init=zeros, bias_init=ones, name="to_weight")(condition)
            y = y * scale[:, None].astype(y.dtype)
        elif self.kind == "scale":
            y = y * self.param("scale", nn.initializers.ones, x.shape[-1:])
        return y.astype(x.dtype)


class _Attention(nn.Module):
    config: Config

    @nn.compact
    def __call__(
        self, x: Array, turns: Array, bias: Array | None, cached: tuple[Array, Array] | None, start: Array | int
    ) -> tuple[Array, tuple[Array, Array]]:
        c = self.config
        counts = {"q": c.heads, "k": c.kv_heads or c.heads, "v": c.kv_heads or c.heads}
        query, key, value = (
            _dense(count * c.dim, x, f"{name}_proj")(x).reshape(*x.shape[:2], count, c.dim)
            for name, count in counts.items()
        )
        query, key = rotary.rotate(query, turns), rotary.rotate(key, turns)
        if cached is not None:
            key, value = caches.write(cached, (key, value), start)
        whole = jax.default_backend() != "cpu" if c.whole is None else c.whole
        reach = (None, 0 if c.causal else None)
        y = attend(query, key, value, bias, reach=reach, start=start, whole=whole)
        return _dense(c.width, x, "o_proj")(y.reshape(*x.shape[:2], -1)), (key, value)


class _Perceptron(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c = self.config
        gate, up = (_dense(c.hidden, x, f"{name}_proj")(x) for name in ("gate", "up"))
        return _dense(c.width, x, "down_proj")(nn.silu(gate) * up)


class _Layer(nn.Module):
    config: Config

    @nn.compact
    def __call__(
        self,
        x: Array,
        turns: Array,
        bias: Array | None = None,
        condition: Array | None = None,
        cached: tuple[Array, Array] | None = None,
        start: Array | int = 0,
    ) -> tuple[Array, tuple[Array, Array]]:
        c = self.config
        y = RMSNorm(c.norm, c.epsilon, name="input_layernorm")(x, condition)
        y, kept = _Attention(c, name="self_attn")(y, turns, bias, cached, start)
        x = x + y
        y = RMSNorm(c.norm, c.epsilon, name="post_attention_layernorm")(x, condition)
        return x + _Perceptron(c, name="mlp")(y), kept


def _dense(features: int, x: Array, name: str) -> nn.Dense:
    return nn.Dense(features, use_bias=False, dtype=x.dtype, name=name)


def init(key: Array, config: Config) -> Params:
    """Random {"layers", "norm"}; every leaf of "layers" has the layers first. A plain norm has none."""
    x, condition = jnp.zeros((1, 1, config.width)), jnp.zeros((1, config.width))
    turns = rotary.angles(1, config.dim, config.base)

    def layer(key: Array) -> Params:
        return _Layer(config).init(key, x, turns, None, condition)["params"]

    norm = RMSNorm(config.norm, config.epsilon).init(key, x, condition).get("params")
    layers = jax.vmap(layer)(jax.random.split(key, config.layers))
    return {"layers": layers} | ({"norm": norm} if norm else {})


def apply(
    params: Params,
    config: Config,
    x: Array,
    *,
    mask: Array | None = None,
    condition: Array | None = None,
    start: Array | int = 0,
) -> Array:
    """Runs the stack and its last norm.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, time, width).
      mask: (batch, time), nonzero where a position is real; the others are seen by none, and hold anything.
      condition: (batch, width) for adaptive norms.
      start: number of the first position, () or (batch,) int.

    Returns:
      (batch, time, width).
    """
    return _run(params, config, x, mask, condition, start)[0]


def intermediates(
    params: Params,
    config: Config,
    x: Array,
    *,
    mask: Array | None = None,
    condition: Array | None = None,
    start: Array | int = 0,
) -> dict[str, Array]:
    """Like `apply`, but {"hidden": (layers, batch, time, width) after each layer, "out": after the norm}."""
    out, (hidden, _) = _run(params, config, x, mask, condition, start, keep=True)
    return {"hidden": hidden, "out": out}


def empty(config: Config, batch: int, capacity: int) -> Cache:
    """A cache for so many positions of each item."""
    return caches.empty(config.layers, batch, capacity, config.kv_heads or config.heads, config.dim, config.dtype)


def extend(
    params: Params,
    config: Config,
    x: Array,
    cache: Cache,
    *,
    mask: Array | None = None,
    condition: Array | None = None,
    start: Array | int | None = None,
) -> tuple[Array, Cache]:
    """Runs a causal stack on what follows the positions of a cache; the parts together equal `apply` on the whole.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, time, width); the cache must have room for them, which a traced program cannot check.
      cache: of `empty`, or of the call before.
      mask: (batch, capacity), as in `apply`, over all positions.
      condition: as in `apply`.
      start: number of x's first position; by default the cache's length.

    Returns:
      ((batch, time, width), cache).

    Raises:
      UsageError: the stack is not causal, or x is longer than the whole cache.
    """
    caches.check(cache, x.shape[1], causal=config.causal)
    at = cache.length
    turn = at if start is None else start
    y, (_, kept) = _run(params, config, x, mask, condition, turn, cached=(cache.key, cache.value), place=at)
    return y, Cache(*kept, at + x.shape[1])


def _run(
    params: Params,
    config: Config,
    x: Array,
    mask: Array | None,
    condition: Array | None,
    start: Array | int,
    *,
    keep: bool = False,
    cached: tuple[Array, Array] | None = None,
    place: Array | int = 0,
) -> tuple[Array, Any]:
    """(out, (hidden states, caches)), each () unless asked for."""
    bias = None if mask is None else padding_bias(mask)
    turns = rotary.angles(x.shape[1], config.dim, config.base, start)
    x = computed(x, config.dtype)

    def layer(x: Array, scanned: tuple[Params, tuple[Array, Array] | None]) -> tuple[Array, Any]:
        weights, cache = scanned
        x, kept = _Layer(config).apply({"params": weights}, x, turns, bias, condition, cache, place)
        return x, (x if keep else (), () if cached is None else kept)

    body = jax.checkpoint(layer) if config.remat else layer
    x, made = jax.lax.scan(body, x, (params["layers"], cached))
    out: Any = RMSNorm(config.norm, config.epsilon).apply({"params": params.get("norm", {})}, x, condition)
    return out, made


def project(params: Params, x: Array) -> Array:
    """The linear map of {"kernel", "bias"}, in float32 at least: what stands before and after stacks."""
    return wide(x) @ params["kernel"] + params["bias"]


def weights(prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names.

    Args:
      prefix: regular expression before the keys, e.g. r"model\\.".
      path: where the tree of `init` is.
    """
    layer, norms = r"layers\.(\d+)\.", r"(input_layernorm|post_attention_layernorm)"
    rules = (
        Rule(rf"{layer}(self_attn|mlp)\.(\w+_proj)\.weight", r"layers/\2/\3/kernel[\1]", linear),
        Rule(rf"{layer}{norms}\.weight", r"layers/\2/scale[\1]"),
        Rule(rf"{layer}{norms}\.to_weight\.weight", r"layers/\2/to_weight/kernel[\1]", linear),
        Rule(rf"{layer}{norms}\.to_weight\.bias", r"layers/\2/to_weight/bias[\1]"),
        Rule(r"norm\.weight", "norm/scale"),
        Rule(r"norm\.to_weight\.weight", "norm/to_weight/kernel", linear),
        Rule(r"norm\.to_weight\.bias", "norm/to_weight/bias"),
    )
    return prefixed(prefix, rules, path)
