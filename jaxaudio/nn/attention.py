"""Multi-head attention (Vaswani et al., 2017, section 3.2): the weights as a function, and the layer around them."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxaudio.precision import wide


def padding_bias(mask: jax.Array, dtype=jnp.float32) -> jax.Array:
    """Additive attention bias that hides padded keys.

    Args:
      mask: (batch, keys); nonzero where a key is real.
      dtype: type of the bias; its most negative finite value stands for "hidden", so that a row without any real key
        becomes uniform instead of NaN.

    Returns:
      (batch, 1, 1, keys): 0 where real, the most negative finite number where padded.
    """
    return jnp.where(mask[:, None, None, :] != 0, 0, jnp.finfo(dtype).min).astype(dtype)


def attention_weights(
    query: jax.Array, key: jax.Array, bias: jax.Array | None = None, *, scale: float | None = None
) -> jax.Array:
    """Softmax over the keys of the scaled dot products, in at least float32.

    Args:
      query: (batch, queries, heads, dim).
      key: (batch, keys, heads, dim).
      bias: added to the logits; broadcastable to (batch, heads, queries, keys).
      scale: factor on the dot products; 1 / sqrt(dim) when left out.

    Returns:
      (batch, heads, queries, keys), each row summing to 1.
    """
    logits = wide(jnp.einsum("bqhd,bkhd->bhqk", query, key) * (query.shape[-1] ** -0.5 if scale is None else scale))
    return jax.nn.softmax(logits if bias is None else logits + bias.astype(logits.dtype))


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None = None,
    *,
    reach: tuple[int | None, int | None] = (None, None),
    start: jax.Array | int = 0,
    whole: bool = False,
) -> jax.Array:
    """The mean of the values weighted by `attention_weights`, by parts, so that the weights are never all there.

    One part is one head of up to 256 queries: its logits stay in the cache of a CPU core, and it is divided by the sum
    of its weights only after the values are added up. Over a thousand positions that is up to five times as fast. With
    a reach on both sides, a part meets no keys but those within it.

    Args:
      query: (batch, queries, heads, dim).
      key: (batch, keys, heads, dim); or of fewer heads, each for as many neighbouring heads of the queries
        (Ainslie et al., 2023, arXiv:2305.13245).
      value: like the keys.
      bias: (batch, 1, 1, keys), as `padding_bias` gives it.
      reach: how many keys before and after its own position a query sees, None for all: (None, 0) is causal.
      start: position of the first query among the keys, () int; past the first where keys were kept from before.
      whole: all weights at once instead, which takes memory, but suits accelerators and arrays sharded over devices.

    Returns:
      (batch, queries, heads, dim).
    """
    if whole:
        return _attend_whole(query, key, value, bias, reach, start)
    batch, queries, heads, dim = query.shape
    keys, groups = key.shape[1], key.shape[2]
    rows = min(queries, 256)
    parts = -(-queries // rows)
    query = jnp.pad(query * dim**-0.5, ((0, 0), (0, parts * rows - queries), (0, 0), (0, 0)))
    # Heads that share their keys stand side by side: one pass over (batch, groups), in it one over their parts.
    query = jnp.moveaxis(query, 2, 1).reshape(batch, groups, heads // groups * parts, rows, dim)
    begins = start + rows * jnp.tile(jnp.arange(parts), heads // groups)
    before, after = reach
    span = keys if before is None or after is None else min(keys, rows + before + after)

    def of_part(
        query: jax.Array, begin: jax.Array, key: jax.Array, value: jax.Array, hidden: jax.Array | None
    ) -> jax.Array:
        first: jax.Array | int = 0
        if span < keys:
            first = jnp.clip(begin - (before or 0), 0, keys - span)
            key, value = (jax.lax.dynamic_slice_in_dim(x, first, span) for x in (key, value))
            hidden = None if hidden is None else jax.lax.dynamic_slice_in_dim(hidden, first, span, -1)
        logits = wide(query @ key.T)
        logits = logits if hidden is None else logits + hidden
        if reach != (None, None):
            logits = jnp.where(_within(begin, rows, first, span, reach), logits, jnp.finfo(logits.dtype).min)
        weights = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
        return ((weights.astype(value.dtype) @ value) / weights.sum(-1, keepdims=True)).astype(value.dtype)

    def of_group(group: tuple[jax.Array, ...]) -> jax.Array:
        query, key, value, *hidden = group
        return jax.lax.map(lambda part: of_part(*part, key, value, hidden[0] if hidden else None), (query, begins))

    heads_first = [query, *(jnp.moveaxis(x, 2, 1) for x in (key, value))]
    if bias is not None:
        heads_first.append(jnp.broadcast_to(bias, (batch, groups, *bias.shape[2:])))
    mean = jax.lax.map(of_group, tuple(x.reshape(-1, *x.shape[2:]) for x in heads_first))
    mean = mean.reshape(batch, heads, parts * rows, dim)[:, :, :queries]
    return jnp.moveaxis(mean, 1, 2)


def _attend_whole(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    bias: jax.Array | None,
    reach: tuple[int | None, int | None],
    start: jax.Array | int,
) -> jax.Array:
    key, value = (jnp.repeat(x, query.shape[2] // x.shape[2], axis=2) for x in (key, value))
    if reach != (None, None):
        seen = _within(start, query.shape[1], 0, key.shape[1], reach)
        least = jnp.finfo(jnp.promote_types(query.dtype, jnp.float32)).min
        bias = jnp.where(seen, 0 if bias is None else bias, least)
    weights = attention_weights(query, key, bias).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def _within(
    begin: jax.Array | int, queries: int, first: jax.Array | int, keys: int, reach: tuple[int | None, int | None]
) -> jax.Array:
    """(queries, keys) whether a key is within a query's reach, where both are counted from the places given."""
    ahead = first + jnp.arange(keys) - (begin + jnp.arange(queries))[:, None]
    before, after = reach
    seen = jnp.ones((queries, keys), bool) if before is None else ahead >= -before
    return seen if after is None else seen & (ahead <= after)


class SelfAttention(nn.Module):
    """Query, key and value projections and the weighted mean of the values, without an output projection.

    Attributes:
      heads: number of heads; must divide the width.
      dropout: rate on the attention weights, drawn only when `deterministic` is false.
    """

    heads: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array | None = None, *, deterministic: bool = True) -> jax.Array:
        """(batch, length, width), bias as in `attention_weights` -> (batch, length, width)."""
        heads = (*x.shape[:-1], self.heads, x.shape[-1] // self.heads)
        query, key, value = (nn.Dense(x.shape[-1], name=name)(x).reshape(heads) for name in ("query", "key", "value"))
        weights = attention_weights(query, key, bias).astype(value.dtype)
        weights = nn.Dropout(self.dropout, name="dropout")(weights, deterministic=deterministic)
        return jnp.einsum("bhqk,bkhd->bqhd", weights, value).reshape(x.shape)
