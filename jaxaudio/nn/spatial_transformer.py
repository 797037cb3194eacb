"""Transformers over the positions of a feature map (Rombach et al., 2022, section 3.3), under diffusers' names."""

import flax.linen as nn
import jax
from jax import Array

from jaxaudio.convert.rules import Rule, linear
from jaxaudio.nn.attention import attend, padding_bias
from jaxaudio.nn.resnet import GroupNorm


class Attention(nn.Module):
    """Attention of a sequence to itself or to a context, with output projection.

    Attributes:
      heads: must divide the width.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None, bias: Array | None = None) -> Array:
        """(batch, length, width), context (batch, keys, size), bias as in `attend` -> (batch, length, width)."""
        width = x.shape[-1]
        context = x if context is None else context.astype(x.dtype)
        query, key, value = (
            nn.Dense(width, use_bias=False, dtype=x.dtype, name=name)(source).reshape(
                *source.shape[:2], self.heads, width // self.heads
            )
            for name, source in (("to_q", x), ("to_k", context), ("to_v", context))
        )
        y = attend(query, key, value, bias).reshape(x.shape)
        return nn.Dense(width, dtype=x.dtype, name="to_out_0")(y)


class _GatedProjection(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y, gate = jax.numpy.split(nn.Dense(2 * self.width, dtype=x.dtype, name="proj")(x), 2, axis=-1)
        return y * jax.nn.gelu(gate, approximate=False)


class _FeedForward(nn.Module):
    """Gated perceptron (Shazeer, 2020: GEGLU) of four times the width."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = _GatedProjection(4 * x.shape[-1], name="net_0")(x)
        return nn.Dense(x.shape[-1], dtype=x.dtype, name="net_2")(y)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the context (to itself again without one), gated perceptron; each pre-normalised.

    Attributes:
      heads: of both attentions.
    """

    heads: int

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None, bias: Array | None = None) -> Array:
        """(batch, length, width), context (batch, keys, size), bias as in `attend` -> (batch, length, width)."""

        def norm(name: str) -> Array:
            return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=x.dtype, name=name)(x)

        x = x + Attention(self.heads, name="attn1")(norm("norm1"))
        x = x + Attention(self.heads, name="attn2")(norm("norm2"), context, bias)
        return x + _FeedForward(name="ff")(norm("norm3"))


class SpatialTransformer(nn.Module):
    """Transformer blocks over all positions of a map, added to the map.

    Attributes:
      heads: attention heads.
      depth: number of blocks.
    """

    heads: int
    depth: int = 1

    @nn.compact
    def __call__(self, x: Array, context: Array | None = None, mask: Array | None = None) -> Array:
        """Transforms a map.

        Args:
          x: (batch, time, frequency, channels).
          context: (batch, keys, size) that the second attention of each block looks at; None makes it look at the map.
          mask: (batch, keys), nonzero where the context is real; None where all of it is.

        Returns:
          Like x.
        """
        batch, time, freq, width = x.shape
        bias = None if mask is None else padding_bias(mask)
        y = GroupNorm(epsilon=1e-6, name="norm")(x).reshape(batch, time * freq, width)
        y = nn.Dense(width, dtype=x.dtype, name="proj_in")(y)
        for i in range(self.depth):
            y = TransformerBlock(self.heads, name=f"transformer_blocks_{i}")(y, context, bias)
        return x + nn.Dense(width, dtype=x.dtype, name="proj_out")(y).reshape(x.shape)


def _pointwise(x):
    """1x1 Conv2d weight (out, in, 1, 1), or Linear weight (out, in) -> kernel (in, out)."""
    return linear(x.reshape(x.shape[:2]))


_BLOCK, _AT = r"transformer_blocks\.(?P<block>\d+)\.", r"transformer_blocks_\g<block>"

WEIGHTS = (
    Rule(r"norm\.weight", "norm/scale"),
    Rule(r"norm\.bias", "norm/bias"),
    Rule(r"(?P<name>proj_in|proj_out)\.weight", r"\g<name>/kernel", _pointwise),
    Rule(r"(?P<name>proj_in|proj_out)\.bias", r"\g<name>/bias"),
    Rule(_BLOCK + r"(?P<name>norm\d)\.weight", _AT + r"/\g<name>/scale"),
    Rule(_BLOCK + r"(?P<name>norm\d)\.bias", _AT + r"/\g<name>/bias"),
    *(
        Rule(_BLOCK + rf"(?P<name>attn\d)\.(?:{new}|{old})\.weight", _AT + rf"/\g<name>/{new}/kernel", linear)
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"))
    ),
    Rule(_BLOCK + r"(?P<name>attn\d)\.(?:to_out\.0|proj_attn)\.weight", _AT + r"/\g<name>/to_out_0/kernel", linear),
    Rule(_BLOCK + r"(?P<name>attn\d)\.(?:to_out\.0|proj_attn)\.bias", _AT + r"/\g<name>/to_out_0/bias"),
    Rule(_BLOCK + r"ff\.net\.0\.proj\.weight", _AT + "/ff/net_0/proj/kernel", linear),
    Rule(_BLOCK + r"ff\.net\.0\.proj\.bias", _AT + "/ff/net_0/proj/bias"),
    Rule(_BLOCK + r"ff\.net\.2\.weight", _AT + "/ff/net_2/kernel", linear),
    Rule(_BLOCK + r"ff\.net\.2\.bias", _AT + "/ff/net_2/bias"),
)
"""Conversion rules of one spatial transformer. The original and diffusers name its parts alike; early files of
diffusers say query, key, value and proj_attn."""
