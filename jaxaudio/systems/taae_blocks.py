"""What a transformer autoencoder is made of (Parker et al., 2024, arXiv:2411.19842), under its published names.

Lists of the original keep their numbers: `layers.2.1` is `layers_2_1`.
"""

from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, conv1d, conv_transpose1d, linear, prefixed
from jaxaudio.nn import rotary
from jaxaudio.nn.attention import padding_bias
from jaxaudio.nn.conv1d import Conv1d, Strided1d, Transpose1d
from jaxaudio.nn.masked import kept
from jaxaudio.nn.receptive import Layer
from jaxaudio.nn.snake import SnakeBeta
from jaxaudio.nn.windowed_attention import windowed_attention
from jaxaudio.precision import wide

_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default
_EPS = 1e-2  # of the layer norms: large, so that near silence is not blown up (section 3.1)
_DILATIONS = (1, 3, 9)  # of the residual units of a level that has them


class Norm(nn.Module):
    """Layer normalisation with a scale; its shift is a buffer, which gradients do not reach."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., channels) -> the same."""
        gamma = self.param("gamma", nn.initializers.ones, (x.shape[-1],))
        beta = jax.lax.stop_gradient(self.param("beta", nn.initializers.zeros, (x.shape[-1],)))
        y = wide(x)
        y = y - jnp.mean(y, -1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.mean(jnp.square(y), -1, keepdims=True) + _EPS)
        return (y * gamma + beta).astype(x.dtype)


class Scale(nn.Module):
    """LayerScale: a small factor per channel (Touvron et al., 2021, arXiv:2103.17239).

    Attributes:
      start: what the factors are before training.
    """

    start: float = 1e-2

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(..., channels) -> the same."""
        return x * self.param("scale", nn.initializers.constant(self.start), (x.shape[-1],)).astype(x.dtype)


class Attention(nn.Module):
    """Self-attention within a window, of normalised queries and keys, half of whose numbers tell positions.

    Attributes:
      channels: width.
      head_dim: of each head; must divide the width.
      window: see `windowed_attention`.
    """

    channels: int
    head_dim: int
    window: tuple[int, int] | None

    def setup(self) -> None:
        """Names the parameters."""
        self.to_qkv = nn.Dense(3 * self.channels, use_bias=False, kernel_init=_INIT)
        self.q_norm = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False)
        self.k_norm = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False)
        self.to_out = nn.Dense(self.channels, use_bias=False, kernel_init=_INIT)

    def heads(self, x: Array) -> tuple[Array, Array, Array]:
        """(batch, length, channels) -> queries, keys, both turned, and values, (batch, length, heads, head_dim)."""
        query, key, value = (
            part.reshape(*x.shape[:2], -1, self.head_dim) for part in jnp.split(self.to_qkv(x), 3, axis=-1)
        )
        turns = rotary.angles(x.shape[1], min(self.head_dim, max(self.head_dim // 2, 32)))
        query, key = (rotary.rotate(n(y), turns) for n, y in ((self.q_norm, query), (self.k_norm, key)))
        return query.astype(x.dtype), key.astype(x.dtype), value

    def __call__(self, x: Array, real: Array | None = None) -> Array:
        """(batch, length, channels) -> the same; of each item the first `real` (batch,) positions are seen."""
        bias = None if real is None else padding_bias(jnp.arange(x.shape[1]) < real[:, None])
        return self.to_out(windowed_attention(*self.heads(x), self.window, bias).reshape(x.shape))


class _Gated(nn.Module):
    """Linear layer of twice the features, one half of which gates the other."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        value, gate = jnp.split(nn.Dense(2 * self.features, kernel_init=_INIT, name="proj")(x), 2, axis=-1)
        return value * nn.silu(gate)


class _FeedForward(nn.Module):
    multiple: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = _Gated(self.multiple * x.shape[-1], name="ff_0")(x)
        return nn.Dense(x.shape[-1], kernel_init=_INIT, name="ff_2")(y)


class TransformerBlock(nn.Module):
    """Attention and a gated perceptron, each normalised before, scaled after, and added.

    Attributes:
      channels: width.
      head_dim: of the attention.
      window: of the attention.
      multiple: width of the perceptron over `channels`.
      scale: see `Scale`.
    """

    channels: int
    head_dim: int = 128
    window: tuple[int, int] | None = (63, 64)
    multiple: int = 4
    scale: float = 1e-2

    @nn.compact
    def __call__(self, x: Array, real: Array | None = None) -> Array:
        """(batch, length, channels) -> the same; see `Attention`."""
        y = Attention(self.channels, self.head_dim, self.window, name="self_attn")(Norm(name="pre_norm")(x), real)
        x = x + Scale(self.scale, name="self_attn_scale")(y)
        y = _FeedForward(self.multiple, name="ff")(Norm(name="ff_norm")(x))
        return x + Scale(self.scale, name="ff_scale")(y)


def convolution(
    x: Array,
    features: int,
    width: int,
    dilation: int = 1,
    *,
    causal: bool = False,
    bias: bool = True,
    name: str,
    real: Array | None = None,
) -> Array:
    """A `Conv1d` of that name, which keeps the length; a causal one has no tap ahead. See `kept` for `real`."""
    x = kept(x, real) if width > 1 else x
    ahead = (width - 1) * dilation // 2 if causal else 0  # zeros in place of what is ahead
    conv = Conv1d(features, width, dilation, fast=False, bias=bias, name=name)
    return conv(jnp.pad(x, ((0, 0), (ahead, 0), (0, 0))))[:, : x.shape[1]]


def reach(width: int, dilation: int = 1, *, causal: bool = False) -> Layer:
    """What `convolution` can see."""
    return Layer(width, dilation, pad=(width - 1) * dilation if causal else None)


def activation(snake: bool, name: str, otherwise: Callable[[Array], Array] = lambda x: x) -> Callable[[Array], Array]:
    """A SnakeBeta of that name, or what there is without one."""
    return (lambda x: SnakeBeta(name=name)(x)[0]) if snake else otherwise


class ResidualUnit(nn.Module):
    """Two convolutions, a dilated and a pointwise one, added to their input.

    Attributes:
      dilation: of the first.
      snake: activations are SnakeBeta, not ELU.
      causal: see `convolution`.
    """

    dilation: int
    snake: bool
    causal: bool = False

    @nn.compact
    def __call__(self, x: Array, real: Array | None = None) -> Array:
        """(batch, time, channels) -> the same."""
        y = activation(self.snake, "layers_0", nn.elu)(x)
        y = convolution(y, x.shape[-1], 7, self.dilation, causal=self.causal, name="layers_1", real=real)
        y = activation(self.snake, "layers_2", nn.elu)(y)
        return x + convolution(y, x.shape[-1], 1, name="layers_3")


class Block(nn.Module):
    """One level of an autoencoder: a change of rate and a stack of transformers, in the encoder's or decoder's order.

    Attributes:
      kind: "encoder" or "decoder".
      features: output channels.
      stride: steps that become one, or that one becomes.
      depth: transformers.
      snake: a SnakeBeta before the change of rate, and in the dilated convolutions.
      dilated: three residual units of dilations 1, 3 and 9 at the higher rate.
      causal: convolutions see the past alone.
      head_dim: of the transformers.
      window: of the transformers.
      multiple: of the transformers.
      remat: compute the transformers again for gradients, instead of keeping what is inside them.
      scale: of the transformers.
    """

    kind: Literal["encoder", "decoder"]
    features: int
    stride: int
    depth: int
    snake: bool = False
    dilated: bool = False
    causal: bool = False
    head_dim: int = 128
    window: tuple[int, int] | None = (63, 64)
    multiple: int = 4
    remat: bool = False
    scale: float = 1e-2

    @nn.compact
    def __call__(self, x: Array, real: Array | None = None) -> Array:
        """(batch, time, channels) -> (batch, time / stride or time * stride, features).

        `real` (batch,) counts the positions of each item, before the change of rate, if they differ.
        """
        if self.kind == "encoder":
            first, after = (3 if self.dilated else 0), None if real is None else real // self.stride
            return self._transformers(self._change(self._units(x, 0, real), first, real), first + 2, after)
        after = None if real is None else real * self.stride
        return self._units(self._change(self._transformers(x, 0, real), 1, real), 3, after)

    def layers(self) -> list[Layer]:
        """What it can see; of a block with a window."""
        left, right = self.window or (0, 0)
        transformers = self.depth * [Layer(left + right + 1, pad=left)]
        units = [reach(7, dilation, causal=self.causal) for dilation in _DILATIONS if self.dilated]
        change = []
        if self.stride > 1:
            up = self.kind == "decoder"
            change = [Layer(2 * self.stride, stride=self.stride, pad=self._edge, transposed=up)]
        return [*units, *change, *transformers] if self.kind == "encoder" else [*transformers, *change, *units]

    @property
    def _edge(self) -> int:
        """Zeros before the first input of the change of rate, or outputs cut off before the first."""
        if self.causal:
            return self.stride if self.kind == "encoder" else 0
        return -(-self.stride // 2)

    def _units(self, x: Array, first: int, real: Array | None) -> Array:
        for i, dilation in enumerate(_DILATIONS if self.dilated else ()):
            x = ResidualUnit(dilation, self.snake, self.causal, name=f"layers_{first + i}")(x, real)
        return x

    def _change(self, x: Array, first: int, real: Array | None) -> Array:
        x = activation(self.snake, f"layers_{first}")(x)
        if self.stride == 1:
            return x
        x = kept(x, real)
        shape, name, length = (self.features, 2 * self.stride, self.stride), f"layers_{first + 1}", x.shape[1]
        if self.kind == "encoder":
            return Strided1d(*shape, self._edge, name=name)(x)[:, : length // self.stride]
        if self.causal:
            return Transpose1d(*shape, 0, name=name)(x)[:, : length * self.stride]
        # The published crop takes a step too many at the end if the stride is odd.
        return Transpose1d(*shape, self._edge, more=self.stride % 2, name=name)(x)

    def _transformers(self, x: Array, place: int, real: Array | None) -> Array:
        block = nn.remat(TransformerBlock) if self.remat else TransformerBlock
        for i in range(self.depth):
            name = f"layers_{place}_{i + 1}"  # the original's first and last are transpositions
            x = block(x.shape[-1], self.head_dim, self.window, self.multiple, self.scale, name=name)(x, real)
        return x


TRANSFORMER_WEIGHTS = (
    Rule(r"rope\.inv_freq", None),
    Rule(r"(?P<part>pre_norm|ff_norm)\.(?P<leaf>gamma|beta)", r"\g<part>/\g<leaf>"),
    Rule(r"(?P<part>self_attn_scale|ff_scale)\.scale", r"\g<part>/scale"),
    Rule(r"self_attn\.(?P<part>to_qkv|to_out)\.weight", r"self_attn/\g<part>/kernel", linear),
    Rule(r"self_attn\.(?P<part>[qk]_norm)\.weight", r"self_attn/\g<part>/scale"),
    Rule(r"self_attn\.(?P<part>[qk]_norm)\.bias", r"self_attn/\g<part>/bias"),
    Rule(r"ff\.ff\.0\.proj\.weight", "ff/ff_0/proj/kernel", linear),
    Rule(r"ff\.ff\.0\.proj\.bias", "ff/ff_0/proj/bias"),
    Rule(r"ff\.ff\.2\.weight", "ff/ff_2/kernel", linear),
    Rule(r"ff\.ff\.2\.bias", "ff/ff_2/bias"),
)
"""Conversion rules of a `TransformerBlock`; groups have names, so that a prefix may have groups of its own."""


def _layers(op: Callable, group: str = "layer") -> tuple[Rule, ...]:
    """A convolution or a SnakeBeta in a list."""
    key, path = rf"layers\.(?P<{group}>\d+)", rf"layers_\g<{group}>"
    return (
        Rule(rf"{key}\.weight", f"{path}/kernel", op),
        Rule(rf"{key}\.(?P<leaf>bias|alpha|beta)", rf"{path}/\g<leaf>"),
    )


LAYER_WEIGHTS = _layers(conv1d)
"""Conversion rules of an encoder or a decoder without its blocks, and of a `ResidualUnit`."""


def block_weights(kind: Literal["encoder", "decoder"]) -> tuple[Rule, ...]:
    """Conversion rules of a `Block`."""
    return (
        *prefixed(r"layers\.(?P<place>\d+)\.(?P<index>\d+)\.", TRANSFORMER_WEIGHTS, r"layers_\g<place>_\g<index>"),
        *_layers(conv1d if kind == "encoder" else conv_transpose1d),
        *prefixed(r"layers\.(?P<place>\d+)\.", _layers(conv1d, "inner"), r"layers_\g<place>"),
    )
