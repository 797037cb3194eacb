"""One-dimensional convolutions over (batch, time, channels), written as what runs fastest."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.nn import winograd
from jaxaudio.nn.direct import convolve1d

_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's default for convolutions


class Conv1d(nn.Module):
    """Convolution that keeps the length, of an odd width.

    Attributes:
      features: output channels.
      width: taps.
      dilation: steps between taps.
      fast: where that is faster, save multiplications at the cost of a digit of float32's precision.
      start: draws the kernel of `init`.
      bias: add one.
    """

    features: int
    width: int
    dilation: int = 1
    fast: bool = True
    start: Any = _INIT
    bias: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, channels) -> (batch, time, features)."""
        kernel = self.param("kernel", self.start, (self.width, x.shape[-1], self.features)).astype(x.dtype)
        y = _same(x, kernel, self.dilation, self.fast)
        return y + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype) if self.bias else y


class Strided1d(nn.Module):
    """Convolution with bias that keeps every so many-th output.

    Attributes:
      features: output channels.
      width: taps, a multiple of the stride.
      stride: inputs per output.
      pad: zeros at either end, torch's "padding".
      start: draws the kernel of `init`.
    """

    features: int
    width: int
    stride: int
    pad: int
    start: Any = _INIT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, channels) -> (batch, (time + 2 * pad - width) // stride + 1, features)."""
        batch, time, channels = x.shape
        kernel = self.param("kernel", self.start, (self.width, channels, self.features)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        # As many inputs as the stride, taken together, are one position with more channels; nothing has to move for it.
        taps = self.width // self.stride
        blocks = (time + 2 * self.pad - self.width) // self.stride + taps
        after = blocks * self.stride - self.pad - time  # what the last output does not reach is cut off
        x = jax.lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), (self.pad, after, 0), (0, 0, 0)))
        x = x.reshape(batch, blocks, self.stride * channels)
        return convolve1d(x, kernel.reshape(taps, self.stride * channels, self.features), (0, 0)) + bias


class Transpose1d(nn.Module):
    """Transposed convolution with bias: every input adds a kernel of `width` outputs, `stride` after the last one's.

    Attributes:
      features: output channels.
      width: taps; at least the stride.
      stride: outputs per input.
      crop: outputs cut off at either end, torch's "padding".
      more: outputs beyond those at the end, torch's "output_padding".
      start: draws the kernel of `init`.
    """

    features: int
    width: int
    stride: int
    crop: int
    more: int = 0
    start: Any = _INIT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, channels) -> (batch, (time - 1) * stride + width - 2 * crop + more, features)."""
        batch, time, channels = x.shape
        kernel = self.param("kernel", self.start, (self.width, channels, self.features)).astype(x.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        # Outputs with the same remainder modulo the stride come from one convolution; all of them together are one with
        # `stride` times the channels, and its output lies in memory as the result does.
        taps = -(-self.width // self.stride)
        kernel = jnp.pad(kernel, ((0, taps * self.stride - self.width), (0, 0), (0, 0)))
        kernel = kernel.reshape(taps, self.stride, channels, self.features)[::-1].transpose(0, 2, 1, 3)
        # Padded by hand: where XLA for CPUs pads, the kernel's gradient takes it up to seventy times as long.
        x = jnp.pad(x, ((0, 0), (taps - 1, taps - 1), (0, 0)))
        y = convolve1d(x, kernel.reshape(taps, channels, -1), (0, 0))
        y = y.reshape(batch, (time + taps - 1) * self.stride, self.features)
        return y[:, self.crop : (time - 1) * self.stride + self.width - self.crop + self.more] + bias


def _same(x: Array, kernel: Array, dilation: int, fast: bool) -> Array:
    """Convolution that keeps the length, zeros beyond the ends."""
    width, inputs, features = kernel.shape
    if not fast or min(inputs, features) < 96 or width < 7 or x.dtype == jnp.bfloat16:
        return _direct(x, kernel, dilation)
    return _saving(x, kernel, dilation)


def _direct(x: Array, kernel: Array, dilation: int) -> Array:
    reach = (kernel.shape[0] - 1) * dilation // 2
    return convolve1d(x, kernel, (reach, reach), dilation)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _saving(x: Array, kernel: Array, dilation: int) -> Array:
    def on_cpu(x: Array, kernel: Array) -> Array:
        # Positions that the dilation keeps apart become a second axis, without moving anything.
        batch, time, channels = x.shape
        x = jnp.pad(x, ((0, 0), (0, -time % dilation), (0, 0)))
        y = winograd.convolve(x.reshape(batch, -1, dilation, channels), kernel[:, None])
        return y.reshape(batch, -1, kernel.shape[2])[:, :time]

    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=lambda x, k: _direct(x, k, dilation))


@_saving.defjvp
def _differentiated(dilation: int, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """Where gradients are taken, nothing is saved: those of the transforms cost more than they do."""
    return jax.jvp(lambda x, kernel: _direct(x, kernel, dilation), primals, tangents)
