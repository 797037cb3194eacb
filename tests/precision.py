"""Double precision for a while."""

import contextlib
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
    """`jax.lax.conv_general_dilated`, for float64 as one product with all windows of the input side by side."""
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
    for axis in reversed(range(len(taps))):
        starts = np.arange(0, x.shape[1 + axis] - reach[axis] + 1, window_strides[axis])
        x = jnp.take(x, starts[:, None] + steps[axis] * np.arange(widths[axis]), axis=1 + axis)
    x = x.reshape(*x.shape[:-1], groups, -1)
    kernel = kernel.reshape(*kernel.shape[:-1], groups, -1)
    out, window = "ab"[: len(taps)], "uv"[: len(taps)]
    pairs = "".join(o + w for o, w in zip(out, window, strict=True))
    y = jnp.einsum(f"n{pairs}gc,{window}cgf->n{out}gf", x, kernel)
    return y.reshape(*y.shape[:-2], -1).transpose(*np.argsort([made[0], *made[2:], made[1]]))
