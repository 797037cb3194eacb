"""Attention within a window around each position, in time and memory that grow with the length and not its square."""

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.nn.attention import attend, attention_weights


def windowed_attention(
    query: Array, key: Array, value: Array, window: tuple[int, int] | None, bias: Array | None = None
) -> Array:
    """The mean of the values near each position, weighted by the softmax of scaled dot products.

    Args:
      query: (batch, length, heads, dim).
      key: the same shape.
      value: the same shape.
      window: (left, right), both at least 0: position i sees i - left ... i + right, where there are any; (n, 0) is
        causal. None sees everything.
      bias: (batch, 1, 1, length) of `attention.padding_bias`, where items of the batch are shorter.

    Returns:
      (batch, length, heads, dim).
    """
    if window is None:
        return attend(query, key, value, bias)
    left, right = window

    def by_parts(query: Array, key: Array, value: Array, *bias: Array) -> Array:
        return attend(query, key, value, *bias, reach=(left, right))

    def at_once(query: Array, key: Array, value: Array, *bias: Array) -> Array:
        if query.shape[1] <= 2 * (left + right + 1):
            return attend(query, key, value, *bias, reach=(left, right), whole=True)
        return in_blocks(query, key, value, left, right, *bias)

    given = (query, key, value) if bias is None else (query, key, value, bias)
    # One head's block after the other stays in the cache of a CPU core; accelerators want all of them together.
    return jax.lax.platform_dependent(*given, cpu=by_parts, default=at_once)


def in_blocks(query: Array, key: Array, value: Array, left: int, right: int, bias: Array | None = None) -> Array:
    """`windowed_attention`, all blocks of queries at once, each with the keys that its first to its last query sees."""
    batch, length, heads, dim = query.shape
    rows = min(length, max(64, left + right + 1))  # so that a block meets about twice the keys that it needs
    blocks = -(-length // rows)
    span = left + rows + right
    query = jnp.pad(query, ((0, 0), (0, blocks * rows - length), (0, 0), (0, 0)))
    query = query.reshape(batch * blocks, rows, heads, dim)

    def neighbours(x: Array) -> Array:
        x = jnp.pad(x, ((0, 0), (left, blocks * rows - length + right), (0, 0), (0, 0)))
        parts = [x[:, i * rows : i * rows + span] for i in range(blocks)]
        return jnp.stack(parts, 1).reshape(batch * blocks, span, *x.shape[2:])

    ahead = jnp.arange(span) - jnp.arange(rows)[:, None]  # place of a key among those of a query's block
    place = jnp.arange(blocks)[:, None] * rows + jnp.arange(span) - left
    seen = (ahead >= 0) & (ahead <= left + right) & ((place >= 0) & (place < length))[:, None]
    hidden = 0 if bias is None else neighbours(jnp.moveaxis(bias, -1, 1))[:, None, :, 0, 0]
    least = jnp.finfo(jnp.promote_types(query.dtype, jnp.float32)).min
    inside = jnp.where(jnp.tile(seen, (batch, 1, 1)), hidden, least)
    weights = attention_weights(query, neighbours(key), inside[:, None]).astype(value.dtype)
    mean = jnp.einsum("bhqk,bkhd->bqhd", weights, neighbours(value))
    return mean.reshape(batch, blocks * rows, heads, dim)[:, :length]
