"""Fast convolutions beside direct ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.nn import conv, conv1d, winograd
from jaxaudio.nn.direct import convolve1d
from tests.precision import double_precision

RNG = np.random.default_rng(0)


def direct(x, kernel):
    padding = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def draw(*shape):
    return jnp.asarray(RNG.standard_normal(shape), jnp.float32)


def assert_close(a, b, relative=3e-6):
    a, b = np.asarray(a), np.asarray(b)
    assert np.linalg.norm(a - b) <= relative * np.linalg.norm(b)


@pytest.mark.parametrize("height, width", [(3, 3), (3, 1), (7, 1), (11, 1), (7, 3)])
def test_the_result_is_that_of_the_direct_sum(height, width):
    x, kernel = draw(2, 13, 5, 6), draw(height, width, 6, 7)
    assert_close(winograd.convolve(x, kernel), direct(x, kernel))


def test_it_is_exact_up_to_rounding():
    with double_precision():
        x, kernel = (jnp.asarray(RNG.standard_normal(s)) for s in ((1, 18, 2, 4), (11, 1, 4, 3)))
        assert_close(winograd.convolve(x, kernel), direct(x, kernel), 1e-14)


def test_gradients_too():
    x, kernel, slope = draw(1, 9, 3, 4), draw(3, 3, 4, 5), draw(1, 9, 3, 5)
    fast, slow = (jax.vjp(f, x, kernel)[1](slope) for f in (winograd.convolve, direct))
    for a, b in zip(fast, slow, strict=True):
        assert_close(a, b)


def test_long_inputs_are_cut_into_pieces(monkeypatch):
    x, kernel = draw(2, 41, 3, 4), draw(7, 1, 4, 4)
    monkeypatch.setattr(winograd, "_LARGE", 300)
    assert_close(winograd.convolve(x, kernel), direct(x, kernel))


def test_upsampled_is_the_convolution_of_what_is_repeated():
    x, kernel = draw(2, 5, 4, 6), draw(3, 3, 6, 7)
    repeated = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
    assert_close(winograd.upsampled(x, kernel), direct(repeated, kernel))


def test_waiting_changes_nothing_not_even_beside_infinities():
    x = draw(3, 2)
    for first in (jnp.zeros(()), jnp.full((2, 2), jnp.inf), jnp.full((2,), jnp.nan)):
        np.testing.assert_array_equal(winograd.after(x, first), x)


@pytest.mark.parametrize("repeat", [False, True])
def test_layers_with_many_channels_take_the_fast_way_and_agree(repeat):
    x = draw(1, 48, 24, 128)
    layer = conv.Conv3x3(128, repeat=repeat)
    params = {"params": {"kernel": draw(3, 3, 128, 128) / 34, "bias": draw(128)}}
    wide = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2) if repeat else x
    expected = direct(wide, params["params"]["kernel"]) + params["params"]["bias"]
    assert_close(layer.apply(params, x), expected)


@pytest.mark.parametrize("dilation", [1, 3])
def test_one_dimensional_layers_with_many_channels_agree(dilation):
    x = draw(2, 50, 256)
    params = {"params": {"kernel": draw(7, 256, 256) / 42, "bias": draw(256)}}
    reach = 3 * dilation
    expected = convolve1d(x, params["params"]["kernel"], (reach, reach), dilation) + params["params"]["bias"]
    assert_close(conv1d.Conv1d(256, 7, dilation).apply(params, x), expected)


@pytest.mark.parametrize("few", [0, 1024], ids=["many positions", "few"])
@pytest.mark.parametrize(("width", "dilation", "padding"), [(1, 1, (0, 0)), (2, 1, (0, 1)), (3, 2, (2, 2))])
def test_products_in_the_place_of_convolutions(monkeypatch, few, width, dilation, padding):
    """Where features are a multiple of 512."""
    monkeypatch.setattr("jaxaudio.nn.direct._FEW", few)
    rng = np.random.default_rng(width)
    x, kernel = (
        rng.standard_normal((2, 9, 5)).astype(np.float32),
        rng.standard_normal((width, 5, 512)).astype(np.float32),
    )
    made = jax.jit(lambda x, kernel: convolve1d(x, kernel, padding, dilation))(x, kernel)
    padded = np.pad(x, ((0, 0), padding, (0, 0)))
    length = padded.shape[1] - (width - 1) * dilation
    expected = sum(padded[:, i * dilation : i * dilation + length] @ kernel[i] for i in range(width))
    np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)
