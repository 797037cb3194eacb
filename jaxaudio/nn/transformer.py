"""The post-norm transformer layer of BERT and RoBERTa (Devlin et al., 2019), under its published names."""

from collections.abc import Callable

import flax.linen as nn
import jax

from jaxaudio.nn.attention import SelfAttention


class _AddNorm(nn.Module):
    """Project to the width of `residual`, drop out, add, normalise."""

    epsilon: float
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, residual: jax.Array, *, deterministic: bool) -> jax.Array:
        x = nn.Dense(residual.shape[-1], name="dense")(x)
        x = nn.Dropout(self.dropout, name="dropout")(x, deterministic=deterministic)
        return nn.LayerNorm(epsilon=self.epsilon, use_fast_variance=False, name="LayerNorm")(x + residual)


class _Attention(nn.Module):
    heads: int
    epsilon: float
    dropout: float
    attention_dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array | None, *, deterministic: bool) -> jax.Array:
        y = SelfAttention(self.heads, self.attention_dropout, name="self")(x, bias, deterministic=deterministic)
        return _AddNorm(self.epsilon, self.dropout, name="output")(y, x, deterministic=deterministic)


class _Intermediate(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.width, name="dense")(x)


class PostNormLayer(nn.Module):
    """Self-attention and a two-layer perceptron, each added to its input and then normalised.

    Attributes:
      heads: attention heads.
      intermediate: width of the perceptron.
      epsilon: of both layer norms.
      dropout: rate after each output projection, drawn only when `deterministic` is false.
      attention_dropout: rate on the attention weights, likewise.
      activation: of the perceptron; BERT uses the exact (erf) GELU.
    """

    heads: int
    intermediate: int
    epsilon: float = 1e-12
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation: Callable[[jax.Array], jax.Array] = lambda x: jax.nn.gelu(x, approximate=False)

    @nn.compact
    def __call__(self, x: jax.Array, bias: jax.Array | None = None, *, deterministic: bool = True) -> jax.Array:
        """(batch, length, width), bias as in `attention.attention_weights` -> (batch, length, width)."""
        attention = _Attention(self.heads, self.epsilon, self.dropout, self.attention_dropout, name="attention")
        x = attention(x, bias, deterministic=deterministic)
        y = self.activation(_Intermediate(self.intermediate, name="intermediate")(x))
        return _AddNorm(self.epsilon, self.dropout, name="output")(y, x, deterministic=deterministic)
