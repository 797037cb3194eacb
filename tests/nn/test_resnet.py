"""Group normalisation and resampling beside numpy."""

import jax.numpy as jnp
import numpy as np

from jaxaudio.nn.conv1d import Conv1d, Transpose1d
from jaxaudio.nn.resnet import Downsample, GroupNorm, ResnetBlock
from tests.precision import double_precision

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def test_group_norm_is_torchs():
    x, scale, bias = draw(2, 5, 3, 8) * 3 + 10, draw(8), draw(8)
    y = GroupNorm(4, 1e-5).apply({"params": {"scale": scale, "bias": bias}}, jnp.asarray(x))
    groups = x.reshape(2, 15, 4, 2).astype(np.float64)
    mean, var = (f(groups, axis=(1, 3), keepdims=True) for f in (np.mean, np.var))
    expected = ((groups - mean) / np.sqrt(var + 1e-5)).reshape(x.shape) * scale + bias
    np.testing.assert_allclose(y, expected, atol=3e-6)


def test_group_norm_of_low_precision_has_good_statistics():
    x = jnp.asarray(draw(1, 64, 8) + 30, jnp.bfloat16)
    params = {"params": {"scale": np.ones(8, np.float32), "bias": np.zeros(8, np.float32)}}
    y = GroupNorm(2).apply(params, x)
    assert y.dtype == jnp.bfloat16
    wide = GroupNorm(2).apply(params, x.astype(jnp.float32))
    np.testing.assert_allclose(np.asarray(y, np.float32), wide, atol=0.4)  # its input is 30 +- 0.06


def test_group_norm_keeps_float64():
    with double_precision():
        params = {"params": {"scale": jnp.ones(4), "bias": jnp.zeros(4)}}
        assert GroupNorm(2).apply(params, jnp.asarray(draw(1, 3, 4), jnp.float64)).dtype == jnp.float64


def test_downsample_pads_where_it_says():
    x, kernel = draw(1, 6, 4, 1), draw(3, 3, 1, 1)
    for padding, (before, after) in {"both": (1, 1), "end": (0, 1)}.items():
        y = Downsample(1, padding).apply({"params": {"conv": {"kernel": kernel, "bias": np.ones(1)}}}, jnp.asarray(x))
        padded = np.pad(x[0, :, :, 0], (before, after))
        expected = [
            [np.sum(padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel[:, :, 0, 0]) + 1 for j in range(2)]
            for i in range(3)
        ]
        np.testing.assert_allclose(y[0, :, :, 0], expected, rtol=1e-5, atol=1e-6)


def test_a_block_of_zero_convolutions_is_its_shortcut():
    x = jnp.asarray(draw(1, 4, 4, 4))
    norm = {"scale": np.ones(4), "bias": np.zeros(4)}
    zero = {"kernel": np.zeros((3, 3, 4, 6)), "bias": np.zeros(6)}
    params = {
        "norm1": norm,
        "conv1": zero,
        "norm2": {"scale": np.ones(6), "bias": np.zeros(6)},
        "conv2": {"kernel": np.zeros((3, 3, 6, 6)), "bias": np.zeros(6)},
        "nin_shortcut": {"kernel": draw(1, 1, 4, 6), "bias": draw(6)},
    }
    y = ResnetBlock(6, groups=2).apply({"params": params}, x)
    shortcut = params["nin_shortcut"]
    np.testing.assert_allclose(y, x @ shortcut["kernel"][0, 0] + shortcut["bias"], rtol=1e-5, atol=1e-6)


def test_conv1d_with_dilation():
    x, kernel, bias = draw(1, 12, 2), draw(5, 2, 3), draw(3)
    y = Conv1d(3, 5, 2).apply({"params": {"kernel": kernel, "bias": bias}}, jnp.asarray(x))
    padded = np.pad(x[0], ((4, 4), (0, 0)))
    expected = sum(padded[2 * k : 2 * k + 12] @ kernel[k] for k in range(5)) + bias
    np.testing.assert_allclose(y[0], expected, rtol=1e-4, atol=1e-5)


def test_transpose1d_adds_a_kernel_for_every_input():
    for width, stride, crop in ((16, 5, 5), (8, 2, 3), (4, 2, 1), (7, 3, 0)):
        x, kernel, bias = draw(2, 6, 3), draw(width, 3, 4), draw(4)
        layer = Transpose1d(4, width, stride, crop)
        y = layer.apply({"params": {"kernel": kernel, "bias": bias}}, jnp.asarray(x))
        full = np.zeros((2, 5 * stride + width, 4))
        for t in range(6):
            full[:, t * stride : t * stride + width] += np.einsum("bc,kcd->bkd", x[:, t], kernel)
        np.testing.assert_allclose(y, full[:, crop : full.shape[1] - crop] + bias, rtol=1e-4, atol=1e-5)
