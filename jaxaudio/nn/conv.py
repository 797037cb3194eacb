"""Two-dimensional convolutions, written as what runs fastest."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array


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
        start = 0
        for part in parts:
            y = y + part @ kernel[start : start + part.shape[-1]].astype(part.dtype)
            start += part.shape[-1]
        return y


class Conv3x3(nn.Module):
    """3x3 convolution without bias that keeps the size of its maps.

    Attributes:
      features: output channels.
    """

    features: int

    @nn.compact
    def __call__(self, *parts: Array) -> Array:
        """Maps (batch, time, frequency, channels) to (batch, time, frequency, features).

        Several parts stand for their concatenation along the channels, which is then never written to memory.
        """
        channels = sum(part.shape[-1] for part in parts)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (3, 3, channels, self.features))
        layout = ("NHWC", "HWIO", "NHWC")
        ends = np.cumsum([part.shape[-1] for part in parts])[:-1]
        made = [
            jax.lax.conv_general_dilated(part, k.astype(part.dtype), (1, 1), "SAME", dimension_numbers=layout)
            for part, k in zip(parts, jnp.split(kernel, ends, 2), strict=True)
        ]
        return sum(made[1:], made[0])


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
