"""Multi-head attention (Vaswani et al., 2017, section 3.2): the weights as a function, and the layer around them."""

import flax.linen as nn
import jax
import jax.numpy as jnp


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


def attention_weights(query: jax.Array, key: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    """Softmax over the keys of the scaled dot products, in at least float32.

    Args:
      query: (batch, queries, heads, dim).
      key: (batch, keys, heads, dim).
      bias: added to the logits; broadcastable to (batch, heads, queries, keys).

    Returns:
      (batch, heads, queries, keys), each row summing to 1.
    """
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    return jax.nn.softmax(logits if bias is None else logits + bias.astype(logits.dtype))


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
