"""DAC's encoder and decoder, and the layers that they are made of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import receptive, snake, wave_autoencoder
from jaxaudio.nn.conv1d import Strided1d, Transpose1d
from tests.codec_weights import lively

UP = wave_autoencoder.Config(channels=4, rates=(3, 2), latent=5, decoder_channels=8)
DOWN = dataclasses.replace(UP, crop="down")


def filled(config):
    return lively(jax.eval_shape(lambda: wave_autoencoder.init(jax.random.key(0), config)))


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.mark.parametrize("stride, time", [(2, 11), (3, 12), (5, 20), (5, 21)])
def test_strided_convolution_is_every_so_many_th_output(stride, time):
    layer, x = Strided1d(3, 2 * stride, stride, (stride + 1) // 2), normal(0, 2, time, 4)
    params = {"params": {"kernel": normal(1, 2 * stride, 4, 3), "bias": normal(2, 3)}}
    padded = np.pad(x, ((0, 0), ((stride + 1) // 2,) * 2, (0, 0)))
    starts = range(0, padded.shape[1] - 2 * stride + 1, stride)
    kernel, bias = params["params"]["kernel"], params["params"]["bias"]
    expected = [np.einsum("bkc,kcf->bf", padded[:, i : i + 2 * stride], kernel) + bias for i in starts]
    np.testing.assert_allclose(layer.apply(params, x), np.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_more_outputs_of_a_transposed_convolution_are_the_ones_cut_off():
    params, x = {"params": {"kernel": normal(1, 10, 4, 3), "bias": normal(2, 3)}}, normal(0, 2, 6, 4)
    whole = Transpose1d(3, 10, 5, 0).apply(params, x)
    np.testing.assert_array_equal(Transpose1d(3, 10, 5, 3, 1).apply(params, x), whole[:, 3:-2])


def test_snake_is_as_exact_as_the_sine():
    x = np.linspace(-3000, 3000, 200_001).astype(np.float32)
    np.testing.assert_allclose(snake.sine_squared(x), np.sin(x.astype(np.float64)) ** 2, atol=2e-7)
    slopes = jax.vmap(jax.grad(snake.sine_squared))(x[::50])
    np.testing.assert_allclose(slopes, np.sin(2 * x[::50].astype(np.float64)), atol=2e-6)
    assert np.all(np.abs(np.asarray(snake.sine_squared(jnp.array([1e6, -1e9, 3e30]))) - 0.5) <= 0.5000001)


@pytest.mark.parametrize("config, frames", [(UP, 1), (UP, 6), (DOWN, 6)])
def test_decoders_make_what_is_said_and_no_more_or_less(config, frames):
    params, z = filled(config), normal(3, 2, frames, 5)
    raw = wave_autoencoder.decode_raw(params, config, z)
    assert raw.shape == (2, wave_autoencoder.raw_length(config, frames)) and (raw.shape[1] < 6 * frames) == (
        config is UP
    )
    for length in (6 * frames, 6 * frames - 5):
        audio = wave_autoencoder.decode(params, config, z, length)
        assert audio.shape == (2, length) and np.all(np.abs(audio) <= 1)
        shared = min(length, raw.shape[1])
        np.testing.assert_allclose(audio[:, :shared], raw[:, :shared], atol=1e-6)
    if config is UP:  # what the original lacks comes from strides that cut off less
        longer = wave_autoencoder._Decoder(config, exact=True).apply({"params": params["decoder"]}, z)
        np.testing.assert_allclose(wave_autoencoder.decode(params, config, z)[:, -1], longer[:, -1], atol=1e-6)


@pytest.mark.parametrize("config", [UP, DOWN])
def test_receptive_fields_are_those_of_the_networks(config):
    params, frames, hop = filled(config), 80, config.hop
    encoder = wave_autoencoder.encoder_layers(config)
    middle = frames // 2
    audio = normal(0, 1, frames * hop)
    slopes = jax.grad(lambda x: jnp.sum(wave_autoencoder.encode(params, config, x)[0, middle]))(audio)[0]
    reached = np.flatnonzero(np.asarray(slopes))
    assert (reached[0], reached[-1]) == tuple(middle * hop + i for i in receptive.span(encoder, 0, 0))
    before, after = receptive.context_in_frames(encoder, hop)
    assert reached[0] // hop == middle - before and reached[-1] // hop == middle + after

    def heard(z):
        return jnp.sum(wave_autoencoder.decode_raw(params, config, z)[0, middle * hop : (middle + 1) * hop])

    slopes = jax.grad(heard)(normal(1, 1, frames, 5))[0]
    reached = np.flatnonzero(np.any(np.asarray(slopes) != 0, -1))
    before, after = receptive.context_of_samples(wave_autoencoder.decoder_layers(config), hop)
    assert (reached[0], reached[-1]) == (middle - before, middle + after)


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="2 or more"):
        wave_autoencoder.Config(rates=(1, 2))
    with pytest.raises(ConfigError, match="halved"):
        wave_autoencoder.Config(rates=(2, 2), decoder_channels=6)
    with pytest.raises(ConfigError, match="'up' or 'down'"):
        dataclasses.replace(UP, crop="none")
    params = jax.eval_shape(lambda: wave_autoencoder.init(jax.random.key(0), UP))
    with pytest.raises(UsageError, match="waveforms"):
        wave_autoencoder.encode(params, UP, jnp.zeros((1, 0)))
    with pytest.raises(UsageError, match="1 to 12 samples"):
        wave_autoencoder.decode(params, UP, jnp.zeros((1, 2, 5)), 13)
