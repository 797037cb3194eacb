"""Double precision for a while."""

import contextlib
import itertools
import math
from collections.abc import Iterator
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from jax import experimental

_convolve = jax.lax.conv_general_dilated


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """A context with 64-bit arrays, whose convolutions are matrix products.

    XLA's libraries for CPUs convolve no float64, and the loops that it writes itself take minutes instead of seconds.
    """
    # jax moved the function from `jax.experimental` to `jax` after 0.7.
    wide = jax.enable_x64 if hasattr(jax, "enable_x64") else experimental.enable_x64
    with wide(True), mock.patch.object(jax.lax, "conv_general_dilated", convolve):
        yield


def convolve(
    x, kernel, window_strides, padding, lhs_dilation=None, rhs_dilation=None, dimension_numbers=None, **options
):
    """`jax.lax.conv_general_dilated`, for float64 as matrix products.

    One for each tap of a small kernel, or one with all windows of the input side by side.
    """
    given = (x, kernel, window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers)
    groups = options.get("feature_group_count", 1)
    spread = set(lhs_dilation or (1,)) != {1} or options.get("batch_group_count", 1) != 1
    if x.dtype != jnp.float64 or spread:
        return _convolve(*given, **options)
    numbers = jax.lax.conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    (batch, channel, *places), (feature, depth, *taps), (*made,) = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    x, kernel = x.transpose(batch, *places, channel), kernel.transpose(*taps, depth, feature)
    widths, steps = kernel.shape[:-2], rhs_dilation or (1,) * len(taps)
    reach = [(width - 1) * step + 1 for width, step in zip(widths, steps, strict=True)]
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:-1], reach, window_strides, padding)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    if math.prod(widths) <= 25:
        y = _by_taps(x, kernel, window_strides, steps, groups)
        return y.transpose(*np.argsort([made[0], *made[2:], made[1]]))
    for axis in reversed(range(len(taps))):
        starts = np.arange(0, x.shape[1 + axis] - reach[axis] + 1, window_strides[axis])
        x = jnp.take(x, starts[:, None] + steps[axis] * np.arange(widths[axis]), axis=1 + axis)
    x = x.reshape(*x.shape[:-1], groups, -1)
    kernel = kernel.reshape(*kernel.shape[:-1], groups, -1)
    out, window = "ab"[: len(taps)], "uv"[: len(taps)]
    pairs = "".join(o + w for o, w in zip(out, window, strict=True))
    y = jnp.einsum(f"n{pairs}gc,{window}cgf->n{out}gf", x, kernel)
    return y.reshape(*y.shape[:-2], -1).transpose(*np.argsort([made[0], *made[2:], made[1]]))


def _by_taps(x, kernel, strides, steps, groups):
    """Channels last, padded already: the sum over the taps of a shifted input times that tap's matrix."""
    *widths, depth, features = kernel.shape
    sizes = [
        (size - (width - 1) * step - 1) // stride + 1
        for size, width, step, stride in zip(x.shape[1:-1], widths, steps, strides, strict=True)
    ]
    y = jnp.zeros(())
    for tap in itertools.product(*map(range, widths)):
        seen = tuple(
            slice(i * step, i * step + (size - 1) * stride + 1, stride)
            for i, step, size, stride in zip(tap, steps, sizes, strides, strict=True)
        )
        part = x[:, *seen].reshape(-1, groups, depth)
        y = y + jnp.einsum("ngc,cgf->ngf", part, kernel[tap].reshape(depth, groups, -1))
    return y.reshape(x.shape[0], *sizes, features)
