"""Two-dimensional convolutions, written as what runs fastest."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.nn import winograd
from jaxaudio.nn.direct import convolve1d, convolve2d, repeated, shares


class Pointwise(nn.Module):
    """1x1 convolution with bias: a matrix product over the channels, forwards and backwards.

    Attributes:
      features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, *parts: Array) -> Array:
        """Maps (..., channels) to (..., features).

        Several parts stand for their concatenation along the channels, which is then never written to memory.
        The kernel has a convolution's shape (1, 1, channels, features).
        """
        channels = sum(part.shape[-1] for part in parts)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (1, 1, channels, self.features))[0, 0]
        y = self.param("bias", nn.initializers.zeros, (self.features,)).astype(parts[0].dtype)
        for part, k in zip(parts, shares(kernel, parts, 0), strict=True):
            y = y + part @ k.astype(part.dtype)
        return y


class Conv3x3(nn.Module):
    """3x3 convolution that keeps the size of its maps.

    Attributes:
      features: output channels.
      bias: add one.
      repeat: of the input with every position repeated to two by two.
      fast: where that is faster, save multiplications at the cost of a digit of float32's precision.
    """

    features: int
    bias: bool = True
    repeat: bool = False
    fast: bool = True

    @nn.compact
    def __call__(self, *parts: Array) -> Array:
        """Maps (batch, time, frequency, channels) to (batch, time, frequency, features), twice the size if repeated.

        Several parts stand for their concatenation along the channels, which is then never written to memory.
        """
        channels = sum(part.shape[-1] for part in parts)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, channels, self.features))
        convolved = convolve_repeated if self.repeat else convolve
        kernels = shares(kernel, parts, 2)
        made = [convolved(x, k.astype(x.dtype), fast=self.fast) for x, k in zip(parts, kernels, strict=True)]
        y = sum(made[1:], made[0])
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(y.dtype) if self.bias else y


def convolve(x: Array, kernel: Array, *, fast: bool = True) -> Array:
    """3x3 convolution that keeps (time, frequency), zeros beyond the edges, by the fastest way.

    Args:
      x: (batch, time, frequency, channels).
      kernel: (3, 3, channels, features).
      fast: see `Conv3x3`.
    """
    if not fast or not _many_channels(x, kernel):
        return convolve2d(x, kernel)
    return _saving(x, kernel)


@jax.custom_jvp
def _saving(x: Array, kernel: Array) -> Array:
    # Transforming the kernel doubles it, which pays when many positions share it.
    on_cpu = winograd.convolve if math.prod(x.shape[:3]) >= 1024 else _by_columns
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=convolve2d)


@_saving.defjvp
def _differentiated(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """Where gradients are taken, too, nothing is saved: those of the transforms cost more than they do."""
    return jax.jvp(convolve2d, primals, tangents)


def convolve_repeated(x: Array, kernel: Array, *, fast: bool = True) -> Array:
    """`convolve` of x with every position repeated to two by two."""

    def plain(x: Array, kernel: Array) -> Array:
        return convolve2d(repeated(x), kernel)

    if not fast or not _many_channels(x, kernel):
        return plain(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=winograd.upsampled, default=plain)


def _many_channels(x: Array, kernel: Array) -> bool:
    return min(kernel.shape[2:]) >= 128 and x.dtype != jnp.bfloat16


def _by_columns(x: Array, kernel: Array) -> Array:
    """Frequency neighbours become channels, time a dilated axis: XLA's library for CPUs is slow at deep, small maps."""
    batch, time, freq, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    x = jnp.concatenate([padded[:, :, i : i + freq] for i in range(3)], -1).reshape(batch, time * freq, 3 * channels)
    y = convolve1d(x, kernel.reshape(3, 3 * channels, -1), (freq, freq), freq)
    return y.reshape(batch, time, freq, -1)


class TiledTranspose(nn.Module):
    """Transposed convolution without bias whose kernel equals its stride: a matrix product and a reordering.

    Attributes:
      features: output channels.
      stride: (time, frequency) factor of both the kernel and the step.
    """

    features: int
    stride: tuple[int, int]

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Maps (batch, time, frequency, channels) to (batch, time * u, frequency * v, features)."""
        u, v = self.stride
        batch, time, freq, inputs = x.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (u, v, inputs, self.features))
        kernel = kernel.transpose(2, 0, 1, 3).reshape(inputs, -1).astype(x.dtype)
        y = (x @ kernel).reshape(batch, time, freq, u, v, self.features)
        return y.transpose(0, 1, 3, 2, 4, 5).reshape(batch, time * u, freq * v, self.features)


def average_pool(x: Array, factor: tuple[int, int]) -> Array:
    """Mean over tiles of (time, frequency); what does not fill a tile at the end is left out."""
    u, v = factor
    if (u, v) == (1, 1):
        return x
    x = x[:, : x.shape[1] // u * u, : x.shape[2] // v * v]
    return jnp.mean(x.reshape(x.shape[0], x.shape[1] // u, u, x.shape[2] // v, v, x.shape[3]), axis=(2, 4))
