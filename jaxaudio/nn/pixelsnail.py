"""PixelSNAIL, an autoregressive network over a grid of codes (Chen et al., 2018, arXiv:1712.09763).

As Liu et al. (2021, arXiv:2107.09998) have it: gated residual blocks of causal convolutions, attention to all that came
before, and a class that is spread over the grid. The grid is read row by row, each row from its left. How a position
sees the others is a parameter of `network`: here the whole grid at once, in `pixelsnail_cache` code after code.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, linear, prefixed
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import weight_norm
from jaxaudio.nn.attention import attend, attention_weights
from jaxaudio.nn.dropout import drop, split
from jaxaudio.nn.stack import dense

Params = Any
Convolve = Callable[[Params, Array, int], Array]
"""(parameters, x (..., channels), number of the convolution) -> (..., features)."""
Attend = Callable[[Params, Array, Array, Any, int], Array]
"""(parameters, queries (..., channels), keys (..., channels), dropout's key, number of the block) -> (..., half)."""

_START = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a network; the defaults are the published ones.

    Attributes:
      height: rows of the grid.
      width: codes of a row.
      codes: different codes.
      classes: different classes.
      channels: of every position; half of them in attention.
      hidden: channels inside the gated blocks of convolutions.
      kernel: rows and columns of a causal convolution, odd: kernel - 1 rows above, kernel // 2 columns to either side.
      blocks: how many, each with one attention.
      layers: gated blocks of convolutions in each of them.
      heads: of the attention.
      embedding: channels of the linear layers that spread a class over the grid.
      dropout: inside gated blocks and on attention weights, in training.
    """

    height: int = 20
    width: int = 86
    codes: int = 512
    classes: int = 10
    channels: int = 256
    hidden: int = 256
    kernel: int = 5
    blocks: int = 4
    layers: int = 4
    heads: int = 8
    embedding: int = 2048
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0 or self.kernel < 3:
            raise ConfigError(f"A kernel of {self.kernel}; causal convolutions need an odd one of 3 or more.")
        if self.channels % (2 * self.heads):
            raise ConfigError(f"{self.heads} heads do not divide {self.channels} / 2 channels; change one of them.")
        if min(self.height, self.width, self.codes, self.classes, self.blocks, self.layers) < 1:
            raise ConfigError("A grid, its codes and classes, blocks and layers: give at least one of each.")

    @property
    def side(self) -> int:
        """Columns that a convolution sees to either side."""
        return self.kernel // 2

    @property
    def taps(self) -> int:
        """Positions that a causal convolution sees: the rows above, then those to the left in its own."""
        return self.kernel * (self.kernel - 1) + self.side

    @property
    def horizontal(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) from a position to those above it that the first convolutions see."""
        return tuple((y, x) for y in range(-self.side, 0) for x in range(-self.side, self.side + 1))

    @property
    def vertical(self) -> tuple[tuple[int, int], ...]:
        """The same for those to its left, from as many rows above down to its own."""
        return tuple((y, x) for y in range(-self.side, 1) for x in range(-self.side, 0))


def init(key: Array, config: Config) -> Params:
    """Random {"horizontal", "vertical", "blocks", "embedNet", "out"}, with plain kernels; see `normalized`.

    Kernels are (taps, inputs, features), the taps row by row and none for what a causal convolution must not see.
    """
    c = config
    keys = iter(jax.random.split(key, 10 + c.blocks * (14 + 3 * c.layers)))

    def layer(*shape: int, bias: bool = True) -> Params:
        made = {"kernel": _START(next(keys), shape)}
        return made | {"bias": jnp.zeros(shape[-1])} if bias else made

    def gated(channels: int, hidden: int, taps: tuple[int, ...] = ()) -> Params:
        return {"conv1": layer(*taps, channels, hidden), "conv2": layer(*taps, hidden, 2 * channels)}

    def block() -> Params:
        both, half = 2 * c.channels + 2, c.channels // 2
        residual = {
            str(i): gated(c.channels, c.hidden, (c.taps,)) | {"condition": layer(1, 2 * c.channels, bias=False)}
            for i in range(c.layers)
        }
        return {
            "resblocks": residual,
            "key_resblock": gated(both, c.channels),
            "query_resblock": gated(c.channels + 2, c.channels),
            "causal_attention": {
                "query": layer(c.channels + 2, half),
                "key": layer(both, half),
                "value": layer(both, half),
            },
            "out_resblock": gated(c.channels, c.channels) | {"aux_conv": layer(half, c.channels)},
        }

    sizes = (c.classes, c.embedding, c.embedding, c.embedding, c.height * c.width)
    return {
        "horizontal": layer(len(c.horizontal), c.codes, c.channels),
        "vertical": layer(len(c.vertical), c.codes, c.channels),
        "blocks": {str(i): block() for i in range(c.blocks)},
        "embedNet": {str(i): layer(sizes[i], sizes[i + 1]) for i in range(4)},
        "out": layer(c.channels, c.codes),
    }


def normalized(params: Params) -> Params:
    """The same parameters with weight normalisation, as the published training has them; see `nn.weight_norm`.

    Every function here takes either.
    """
    return {name: part if name == "embedNet" else weight_norm.split(part) for name, part in params.items()}


def logits(params: Params, config: Config, ids: Array, classes: Array, *, key: Array | None = None) -> Array:
    """What may stand at each position, by all that stand before it.

    Args:
      params: of `init`, `normalized` or a converted checkpoint.
      config: that they belong to.
      ids: (batch, rows, width) int in [0, codes), of the first rows of the grid or of all.
      classes: (batch,) int in [0, config.classes).
      key: () or (batch,), draws dropout, in training.

    Returns:
      (batch, rows, width, codes). Those at a position change with no code at it or after it. As published, the last
      code of a row is first seen in the next row, kernel // 2 columns before its end; all others to their right.

    Raises:
      UsageError: ids that are no rows of the grid.
    """
    if ids.ndim != 3 or ids.shape[1] > config.height or ids.shape[2] != config.width:
        raise UsageError(
            f"codes of shape {tuple(ids.shape)}; give (batch, rows, {config.width}), {config.height} rows at most."
        )
    params = weight_norm.fuse(params)
    rows = ids.shape[1]
    # Positions beyond the edges have a code of their own, whose rows in the kernels are zero.
    side = config.side
    padded = jnp.pad(ids, ((0, 0), (side, 0), (side, side)), constant_values=config.codes)
    x = biases(params, config)[:rows]
    for (dy, dx), table in zip(config.horizontal + config.vertical, tables(params), strict=True):
        y0, x0 = side + dy, side + dx
        x = x + table[padded[:, y0 : y0 + rows, x0 : x0 + config.width]]

    def convolve(p: Params, x: Array, number: int) -> Array:
        del number
        k = config.kernel
        kernel = jnp.pad(p["kernel"], ((0, k * k - config.taps), (0, 0), (0, 0))).reshape(k, k, *p["kernel"].shape[1:])
        # Padded by hand: where XLA for CPUs pads, the kernel's gradient takes it many times as long.
        x = jnp.pad(x, ((0, 0), (k - 1, 0), (side, side), (0, 0)))
        y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return y + p["bias"]

    def to_past(p: Params, query: Array, keyed: Array, drawn: Any, number: int) -> Array:
        del number
        parts = project(p, config, query, keyed)
        y = _attend(*(part.reshape(part.shape[0], -1, *part.shape[-2:]) for part in parts), config.dropout, drawn)
        return y.reshape(*query.shape[:-1], -1)

    condition = spread(params, config, classes)[:, :rows, :, None]
    return network(params, config, x, places(config)[:rows], condition, convolve, to_past, key=key)


def tables(params: Params) -> Array:
    """What each code adds to each position that sees it: (taps, codes + 1, channels), zero for the last."""
    both = jnp.concatenate([params["horizontal"]["kernel"], params["vertical"]["kernel"]])
    return jnp.pad(both, ((0, 0), (0, 1), (0, 0)))


def biases(params: Params, config: Config) -> Array:
    """Those of the first convolutions, (height, width, channels).

    As published, outputs are moved down or right with their biases: the first row has none of the one convolution, and
    the first column none of the other.
    """
    y, x = jnp.arange(config.height)[:, None, None] > 0, jnp.arange(config.width)[:, None] > 0
    return jnp.where(y, params["horizontal"]["bias"], 0) + jnp.where(x, params["vertical"]["bias"], 0)


def places(config: Config) -> Array:
    """Where each position is, (height, width, 2) in [-0.5, 0.5): its row and its column."""
    y = jnp.arange(config.height) / config.height - 0.5
    x = jnp.arange(config.width) / config.width - 0.5
    return jnp.stack(jnp.meshgrid(y, x, indexing="ij"), -1)


def spread(params: Params, config: Config, classes: Array) -> Array:
    """A number for each position, by classes (batch,): (batch, height, width). The layers are linear, as published."""
    layers = params["embedNet"]
    x = jnp.take(layers["0"]["kernel"], classes, axis=0, mode="clip") + layers["0"]["bias"]
    for i in range(1, 4):
        x = dense(layers[str(i)], x)
    return x.reshape(-1, config.height, config.width)


def project(p: Params, config: Config, query: Array, key: Array) -> tuple[Array, Array, Array]:
    """Queries, keys and values (..., heads, dim) of an attention."""
    sources = {"query": query, "key": key, "value": key}
    made = [dense(p[name], x) for name, x in sources.items()]
    q, k, v = (x.reshape(*x.shape[:-1], config.heads, -1) for x in made)
    return q, k, v


def _attend(query: Array, key: Array, value: Array, rate: float, drawn: Array | None) -> Array:
    """Attention (batch, time, heads, dim) to all positions before a query's own; zero for the first, which has none."""
    if drawn is None or not rate:
        y = attend(query, key, value, reach=(None, -1), whole=jax.default_backend() != "cpu")
    else:
        before = jnp.tril(jnp.ones((query.shape[1], key.shape[1]), bool), -1)
        bias = jnp.where(before, 0.0, jnp.finfo(jnp.float32).min)
        y = jnp.einsum("bhqk,bkhd->bqhd", drop(attention_weights(query, key, bias), rate, drawn), value)
    return y.at[:, 0].set(0)


def network(
    params: Params,
    config: Config,
    x: Array,
    place: Array,
    condition: Array,
    convolve: Convolve,
    to_past: Attend,
    *,
    key: Array | None = None,
) -> Array:
    """All but the first convolutions, for any shape of positions.

    Args:
      params: with plain kernels.
      config: that they belong to.
      x: (batch, ..., channels), of the first convolutions.
      place: (..., 2) of `places`.
      condition: (batch, ..., 1) of `spread`.
      convolve: runs a causal convolution; they are counted from 0 in the order in which they run.
      to_past: runs the attention of a block, likewise.
      key: draws dropout.

    Returns:
      (batch, ..., codes) logits.
    """
    place = jnp.broadcast_to(place, (*x.shape[:-1], 2))
    drawn = iter(split(key, config.blocks * (config.layers + 4)))

    def pointwise(p: Params, x: Array, number: int) -> Array:
        del number
        return dense(p, x)

    def gated(
        p: Params, x: Array, convolve: Convolve = pointwise, number: int = 0, *, aux: Array | None = None
    ) -> Array:
        y = convolve(p["conv1"], jax.nn.elu(x), number)
        if aux is not None:
            y = y + dense(p["aux_conv"], jax.nn.elu(aux))
        y = convolve(p["conv2"], drop(jax.nn.elu(y), config.dropout, next(drawn)), number + 1)
        if "condition" in p:
            y = y + condition * p["condition"]["kernel"][0]
        value, gate = jnp.split(y, 2, -1)
        return x + value * jax.nn.sigmoid(gate)

    for i in range(config.blocks):
        p, start = params["blocks"][str(i)], x
        for j in range(config.layers):
            x = gated(p["resblocks"][str(j)], x, convolve, 2 * (i * config.layers + j))
        keyed = gated(p["key_resblock"], jnp.concatenate([start, x, place], -1))
        query = gated(p["query_resblock"], jnp.concatenate([x, place], -1))
        x = gated(p["out_resblock"], x, aux=to_past(p["causal_attention"], query, keyed, next(drawn), i))
    return dense(params["out"], jax.nn.elu(x))


def weights(config: Config, prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names, into the tree of `normalized`; `weight_norm.fuse` gives plain kernels.

    Folding first would not do: weights that a causal convolution must not see are zeroed before its norm is taken, and
    checkpoints hold what the optimiser had just made of them.

    Args:
      config: of the network.
      prefix: regular expression before the keys.
      path: where the tree of `normalized` is.
    """

    def grid(x: Any) -> Any:
        """(out, in, rows, columns) -> (taps, in, out), of those that are seen."""
        return x.transpose(2, 3, 1, 0).reshape(-1, x.shape[1], x.shape[0])[: config.taps]

    def one(x: Any) -> Any:
        """(out, in, 1, 1) -> (in, out)."""
        return x[:, :, 0, 0].T

    residual = r"blocks\.(\d+)\.resblocks\.(\d+)\.(conv1|conv2)\.conv\.conv", r"blocks/\1/resblocks/\2/\3"
    condition = r"blocks\.(\d+)\.resblocks\.(\d+)\.condition\.conv", r"blocks/\1/resblocks/\2/condition"
    around = r"blocks\.(\d+)\.(\w+_resblock)\.(conv1|conv2|aux_conv)\.conv", r"blocks/\1/\2/\3"
    attention = r"blocks\.(\d+)\.causal_attention\.(\w+)", r"blocks/\1/causal_attention/\2"
    kinds = (
        ((r"(horizontal|vertical)\.conv\.conv", r"\1"), grid),
        (residual, grid),
        (condition, one),
        (around, one),
        (attention, linear),
        ((r"out\.1\.conv", "out"), one),
    )
    rules = [
        Rule("background", None),  # `places`
        Rule(r"cond_resnet\..*", None),  # which the published network has and does not use
        Rule(r"embedNet\.blocks\.(\d)\.weight", r"embedNet/\1/kernel", linear),
        Rule(r"embedNet\.blocks\.(\d)\.bias", r"embedNet/\1/bias"),
    ]
    for (key, target), op in kinds:
        rules += [
            Rule(rf"{key}\.(?:weight_{kind}|parametrizations\.weight\.original{n})", f"{target}/weight_{kind}", op)
            for n, kind in enumerate("gv")
        ]
        rules.append(Rule(rf"{key}\.bias", f"{target}/bias"))
    return prefixed(prefix, tuple(rules), path)
