"""Normalisation layers with torch's conventions."""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.nn.direct import shares
from jaxaudio.precision import wide


class BatchNorm(nn.Module):
    """Batch normalisation over every axis but the last, as torch's BatchNorm1d/2d.

    Batch statistics use the biased variance; the running variance is updated with the unbiased one. Under
    `jax.pmap` or `shard_map`, `axis_name` makes the statistics those of the whole batch (SyncBN); under `jit` over a
    mesh they are so by themselves.

    Attributes:
      momentum: weight of the NEW statistics in the running ones (torch's convention).
      epsilon: added to the variance.
      axis_name: mapped axis to average over, or None.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    axis_name: str | None = None

    def __call__(self, x: Array, train: bool = False, *, beta: Array | None = None) -> Array:
        """Normalises x (batch, ..., channels).

        Args:
          x: the input.
          train: use the statistics of this batch, and update the running ones.
          beta: (batch, channels) added to the result, e.g. by FiLM; folded into the shift, so that it costs nothing.
        """
        return self.parts((x,), train, beta=beta)[0]

    @nn.compact
    def parts(self, xs: Sequence[Array], train: bool = False, *, beta: Array | None = None) -> list[Array]:
        """Normalises each of `xs`, which stand for their concatenation along the channels; that is never written."""
        channels = sum(x.shape[-1] for x in xs)
        weight = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if train:
            mean, var = map(jnp.concatenate, zip(*map(self._moments, xs), strict=True))
            if not self.is_initializing():
                count = math.prod(xs[0].shape[:-1]) * (jax.lax.psum(1, self.axis_name) if self.axis_name else 1)
                unbiased = var * (count / max(count - 1, 1))
                running_mean.value += self.momentum * (mean - running_mean.value)
                running_var.value += self.momentum * (unbiased - running_var.value)
        else:
            mean, var = running_mean.value, running_var.value
        scale = weight * jax.lax.rsqrt(var + self.epsilon)
        shift = bias - mean * scale
        if beta is not None:
            shift = (shift + beta).reshape(beta.shape[0], *[1] * (xs[0].ndim - 2), channels)
        affine = zip(xs, shares(scale, xs), shares(shift, xs), strict=True)
        return [x * a.astype(x.dtype) + b.astype(x.dtype) for x, a, b in affine]

    def _moments(self, x: Array) -> tuple[Array, Array]:
        axes = tuple(range(x.ndim - 1))
        x = wide(x)
        mean = jnp.mean(x, axes)
        if self.axis_name:
            mean = jax.lax.pmean(mean, self.axis_name)
        # Two passes: E[x^2] - E[x]^2 loses the digits that parity asks for.
        var = jnp.mean(jnp.square(x - mean), axes)
        if self.axis_name:
            var = jax.lax.pmean(var, self.axis_name)
        return mean, var
