import math

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.quantize import fsq
from tests.precision import double_precision

QUANTISERS = {
    "even and odd": fsq.FSQ(levels=(6, 4, 5)),
    "with an offset": fsq.FSQ(levels=(8, 5, 2), offset=True),
    "in stages": fsq.FSQ(levels=(3, 3, 3), scales=(1.0, 0.5, 0.25, 0.125)),
    "in stages of one width": fsq.residual((4, 5, 3), 2),
}
RNG = np.random.default_rng(0)
encode, decode, quantize = (jax.jit(f, static_argnums=1) for f in (fsq.encode, fsq.decode, fsq.quantize))
dither = jax.jit(fsq.dither, static_argnums=2)
VALUES = hnp.arrays(np.float32, (7, 3), elements=st.floats(-50, 50, width=32))


def normal(*shape):
    return np.asarray(RNG.standard_normal(shape), np.float32)


@pytest.fixture(params=QUANTISERS.values(), ids=QUANTISERS.keys())
def quantiser(request):
    return request.param


def in_double_precision(x, q):
    """Levels (..., stages, channels) of float32 values by the original's formulae in float64."""
    counts, x = np.asarray(q.levels), x.astype(np.float64)
    if q.offset:
        half, offset = (counts - 1) * 1.001 / 2, np.where(counts % 2, 0, 0.5)
        return (np.round(np.tanh(x + np.arctanh(offset / half)) * half - offset) + counts // 2)[..., None, :]
    rest, levels = q.reach * np.tanh(x / q.reach), []
    for scale in q.scales:
        step = 2 * np.asarray(scale) / (counts - 1)
        levels.append(np.clip(np.round((rest + scale) / step), 0, counts - 1))
        rest = rest - (levels[-1] * step - scale)
    return np.stack(levels, -2)


@settings(max_examples=60, deadline=None)
@given(VALUES)
@pytest.mark.parametrize("name", QUANTISERS)
def test_tokens_are_those_of_double_precision(name, x):
    q = QUANTISERS[name]
    np.testing.assert_array_equal(fsq.to_levels(encode(x, q), q), in_double_precision(x, q))


@pytest.mark.parametrize("preset", fsq.PRESETS)
def test_next_to_a_step_single_precision_decides_as_double_would(preset):
    q = fsq.PRESETS[preset]
    stages = [np.float64(s) for s in q.scales]
    grid = sum(np.linspace(-s, s, 2 * q.levels[0] - 1).reshape(-1, *[1] * i) for i, s in enumerate(reversed(stages)))
    edges = np.arctanh(np.clip(grid.ravel(), -0.9999, 0.9999)).astype(np.float32)
    x = np.concatenate(
        [edges, np.nextafter(edges, np.float32(9)), np.nextafter(edges, np.float32(-9)), [0, -0.0, 1e-30]]
    )
    x = np.repeat(x.astype(np.float32)[:, None], 6, axis=1)
    np.testing.assert_array_equal(fsq.to_levels(encode(x, q), q), in_double_precision(x, q))


@settings(max_examples=30, deadline=None)
@given(VALUES)
@pytest.mark.parametrize("name", QUANTISERS)
def test_tokens_say_what_the_values_are(name, x):
    q = QUANTISERS[name]
    values, tokens = quantize(x, q)
    np.testing.assert_array_equal(decode(tokens, q), values)
    assert tokens.dtype == jnp.int32 and tokens.shape == (7, q.stages)
    assert np.asarray(tokens).min() >= 0 and np.asarray(tokens).max() < q.size
    if not q.offset:  # no further away than half of the narrowest levels' distance
        bounded = np.asarray(q.reach) * np.tanh(x / np.asarray(q.reach))
        assert np.all(np.abs(values - bounded) <= np.asarray(q.scales[-1]) / (np.asarray(q.levels) - 1) + 1e-6)


def test_every_token_stands_for_another_vector(quantiser):
    tokens = jnp.arange(quantiser.size)[:, None]
    one = fsq.FSQ(levels=quantiser.levels, offset=quantiser.offset)
    assert len(np.unique(np.asarray(fsq.decode(tokens, one)), axis=0)) == one.size == math.prod(one.levels)
    np.testing.assert_array_equal(fsq.from_levels(fsq.to_levels(tokens, one), one), tokens)


def test_the_outer_levels_are_reached(quantiser):
    levels = fsq.to_levels(fsq.encode(jnp.asarray([[-50.0] * 3, [50.0] * 3]), quantiser), quantiser)
    np.testing.assert_array_equal(levels[0, 0], 0)
    np.testing.assert_array_equal(levels[1, 0], np.asarray(quantiser.levels) - 1)


def test_indices_beyond_what_float32_counts_are_exact():
    q = fsq.STABLE_CODEC
    levels = jnp.asarray([[[16, 16, 16, 16, 16, 16]], [[15, 16, 16, 16, 16, 16]], [[1, 0, 2, 0, 0, 16]]])
    last = 17**6 - 1
    np.testing.assert_array_equal(fsq.from_levels(levels, q)[:, 0], [last, last - 1, 1 + 2 * 17**2 + 16 * 17**5])
    np.testing.assert_array_equal(fsq.to_levels(jnp.asarray([[last - 1]]), q), levels[1:2])


def test_bit_rates_are_exact():
    rates = {name: fsq.bits_per_second(q, 25) for name, q in fsq.PRESETS.items()}
    expected = {"1x46656": 150 * math.log2(6), "2x15625": 300 * math.log2(5), "4x729": 600 * math.log2(3)}
    assert rates == pytest.approx(expected, rel=1e-12)
    assert fsq.bits_per_second(fsq.STABLE_CODEC, 25) == pytest.approx(613.1, abs=0.05)


@pytest.mark.parametrize("preset", ["2x15625", "4x729"])
def test_stages_that_nest_end_on_the_grid_that_was_trained(preset):
    x = normal(500, 6)
    values, _ = quantize(x, fsq.PRESETS[preset])
    np.testing.assert_array_equal(np.asarray(values) * 8 % 1, 0)
    trained, _ = quantize(x, fsq.STABLE_CODEC)
    assert np.mean(np.asarray(values) == np.asarray(trained)) > 0.99


def test_the_gradient_is_that_of_the_bound(quantiser):
    x = normal(4, 3)
    weights = normal(4, 3)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(weights * fsq.quantize(x, quantiser)[0])))(x)
    if quantiser.offset:
        half, offset, shift = (np.asarray(v) for v in ([3.5035, 2.002, 0.5005], [0.5, 0, 0.5], 0))
        shift = np.arctanh(offset / half)
        expected = weights * half / np.asarray([4, 2, 1]) * (1 - np.tanh(x + shift) ** 2)
    else:
        expected = weights * (1 - np.tanh(x / np.asarray(quantiser.reach, np.float32)) ** 2)
    np.testing.assert_allclose(slope, expected, rtol=2e-5, atol=1e-7)


def test_double_precision_stays():
    with double_precision():
        x = jnp.asarray([[0.1, -0.2, 0.3]], jnp.float64)
        values, tokens = fsq.quantize(x, QUANTISERS["even and odd"])
        assert values.dtype == jnp.float64 and tokens.dtype == jnp.int32
        np.testing.assert_allclose(values, [[0.2, -1 / 3, 0.5]], rtol=1e-15)


def test_half_precision_is_widened():
    x = jnp.asarray([[0.1, -0.2, 0.3]], jnp.bfloat16)
    assert fsq.quantize(x, QUANTISERS["even and odd"])[0].dtype == jnp.float32


def test_dither_is_one_of_three_per_item():
    q, keep, count = fsq.FSQ(levels=(5, 5, 5)), 0.5, 400
    x = normal(count, 8, 3)
    made = np.asarray(dither(jax.random.key(1), x, q, keep=keep))
    bounded, rounded = np.tanh(np.asarray(x)), np.asarray(fsq.quantize(x, q)[0])
    same, round_ = (np.abs(made - y).max((1, 2)) < 1e-6 for y in (bounded, rounded))
    noise = (made - bounded)[~same & ~round_] / 0.5  # of a level's width
    assert 0.15 < same.mean() < 0.35 and 0.15 < round_.mean() < 0.35  # 1/4 each; 1/2 noise
    assert np.abs(noise).max() <= 0.5 and abs(noise.mean()) < 0.01 and abs(noise.std() - 12**-0.5) < 0.01
    assert len(np.unique(noise)) > 0.99 * noise.size


def test_an_item_draws_the_same_in_any_batch():
    q, x, key = fsq.STABLE_CODEC, normal(6, 4, 6), jax.random.key(2)
    whole = dither(key, x, q)
    np.testing.assert_array_equal(dither(key, x[4:], q, items=jnp.asarray([4, 5])), whole[4:])
    assert not np.array_equal(whole, dither(jax.random.key(3), x, q))


def test_dither_has_the_gradient_of_the_bound():
    x = normal(8, 4, 6)
    slope = jax.jit(jax.grad(lambda x: jnp.sum(fsq.dither(jax.random.key(0), x, fsq.STABLE_CODEC))))(x)
    np.testing.assert_allclose(slope, 1 - np.tanh(x) ** 2, rtol=1e-5, atol=1e-7)


def test_noisy_values_have_tokens_in_range():
    q = fsq.FSQ(levels=(3, 3))
    values = jnp.asarray([[1.49, -1.49], [0.49, 0.51], [-0.51, 0.0]])
    np.testing.assert_array_equal(fsq.nearest(values, q), [[2], [1 + 3 * 2], [0 + 3 * 1]])


@pytest.mark.parametrize(
    "wrong",
    [
        {"levels": ()},
        {"levels": (1, 4)},
        {"levels": (17,) * 8},
        {"levels": (3, 3), "scales": ((1.0,),)},
        {"levels": (3, 3), "offset": True, "reach": 2.0},
        {"levels": (32, 2), "scales": (1.0,) * 4},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError):
        fsq.FSQ(**wrong)


def test_wrong_channels_and_noise_in_stages_are_refused():
    with pytest.raises(UsageError, match="3 channels, not 4"):
        fsq.encode(jnp.zeros((2, 4)), QUANTISERS["even and odd"])
    with pytest.raises(UsageError):
        fsq.dither(jax.random.key(0), jnp.zeros((2, 3, 6)), fsq.PRESETS["4x729"])
    with pytest.raises(UsageError):
        fsq.nearest(jnp.zeros((2, 3)), QUANTISERS["with an offset"])
