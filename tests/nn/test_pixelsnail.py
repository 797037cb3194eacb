"""PixelSNAIL: what each position sees, and that code by code gives what the whole grid gives."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert
from jaxaudio.errors import CheckpointError, ConfigError, UsageError
from jaxaudio.nn import pixelsnail, pixelsnail_cache, weight_norm
from jaxaudio.text.decode import GREEDY, Sampling
from jaxaudio.text.decode.sequences import warped
from tests.systems.tiny import filled

SMALL = pixelsnail.Config(
    height=4, width=5, codes=9, classes=3, channels=8, hidden=6, kernel=3, blocks=1, layers=2, heads=2, embedding=4
)
WIDE = dataclasses.replace(SMALL, height=6, width=3, kernel=5, blocks=2, layers=1)
LENGTH = SMALL.height * SMALL.width
RNG = np.random.default_rng(0)
CLASSES = jnp.asarray([0, 2, 1])
KEYS = jax.random.split(jax.random.key(7), 3)


def parameters(config):
    return filled(lambda key: pixelsnail.init(key, config))


def grids(config, batch):
    return jnp.asarray(RNG.integers(0, config.codes, (batch, config.height, config.width)), jnp.int32)


PARAMS, IDS = parameters(SMALL), grids(SMALL, 3)
logits = jax.jit(pixelsnail.logits, static_argnums=1)
sample = functools.partial(pixelsnail_cache.sample, PARAMS, SMALL)
SAMPLING = Sampling(temperature=0.8, top_k=6, top_p=0.9)
drawn = functools.partial(sample, sampling=SAMPLING)


def test_a_code_changes_all_that_follow_and_nothing_else():
    before = np.asarray(logits(PARAMS, SMALL, IDS, CLASSES)).reshape(3, LENGTH, -1)
    for i in range(LENGTH):
        other = (IDS.reshape(3, LENGTH).at[:, i].add(1) % SMALL.codes).reshape(IDS.shape)
        after = np.asarray(logits(PARAMS, SMALL, other, CLASSES)).reshape(3, LENGTH, -1)
        # The last code of a row is first seen from below.
        first = i + 1 if (i + 1) % SMALL.width else i + SMALL.width - SMALL.side
        np.testing.assert_array_equal(before[:, :first], after[:, :first])
        assert (np.abs(before[:, first:] - after[:, first:]).max(-1) > 1e-6).all()


def test_the_class_is_everywhere():
    whole = logits(PARAMS, SMALL, IDS, CLASSES)
    assert np.abs(logits(PARAMS, SMALL, IDS, (CLASSES + 1) % 3) - whole).max(-1).min() > 1e-4


@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["small", "wide"])
def test_code_by_code_is_what_the_whole_grid_says(config):
    params, ids = parameters(config), grids(config, 3)
    made = pixelsnail_cache.sample(
        params, config, CLASSES, sampling=GREEDY, prefix=ids.reshape(3, -1), keep_logits=True
    )
    whole = logits(params, config, ids, CLASSES)
    assert float(whole.std()) > 0.2
    np.testing.assert_array_equal(made.ids, ids)
    np.testing.assert_allclose(made.logits, whole, atol=1e-5)
    shares = jnp.take_along_axis(jax.nn.log_softmax(whole), ids[..., None], -1)[..., 0]
    np.testing.assert_allclose(made.log_probs, shares, atol=1e-5)


def test_the_codes_are_those_of_full_recomputation():
    ids = jnp.zeros((3, LENGTH), jnp.int32)

    @jax.jit
    def following(ids, i):
        here = pixelsnail.logits(PARAMS, SMALL, ids.reshape(IDS.shape), CLASSES).reshape(3, LENGTH, -1)[:, i]
        keys = jax.vmap(jax.random.fold_in, (0, None))(KEYS, i)
        return ids.at[:, i].set(jax.vmap(jax.random.categorical)(keys, warped(here, SAMPLING)))

    for i in range(LENGTH):
        ids = following(ids, i)
    made = drawn(CLASSES, KEYS)
    np.testing.assert_array_equal(made.ids.reshape(3, -1), ids)
    # An item does not depend on the others, and given its beginning it goes on in the same way.
    mates = drawn(CLASSES.at[0].set(1), KEYS.at[0].set(KEYS[2]), prefix=ids[:, :7])
    np.testing.assert_array_equal(mates.ids[1:], made.ids[1:])
    assert not np.array_equal(mates.ids[0], made.ids[0])
    # Given another beginning it keeps that one.
    other = (ids[:, :7] + 1) % SMALL.codes
    on = drawn(CLASSES, KEYS, prefix=other).ids.reshape(3, -1)
    np.testing.assert_array_equal(on[:, :7], other)
    assert not np.array_equal(on[:, 7:], ids[:, 7:])


def test_one_key_is_one_for_each_item():
    key = jax.random.key(3)
    each = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(3))
    np.testing.assert_array_equal(drawn(CLASSES, key).ids, drawn(CLASSES, each).ids)


def test_the_likeliest():
    greedy = sample(CLASSES, sampling=GREEDY, keep_logits=True)
    np.testing.assert_array_equal(greedy.ids, logits(PARAMS, SMALL, greedy.ids, CLASSES).argmax(-1))


def test_dropout_is_of_each_item():
    dropped = jax.jit(lambda keys: pixelsnail.logits(PARAMS, SMALL, IDS, CLASSES, key=keys))
    made, other = dropped(KEYS), dropped(KEYS.at[0].set(KEYS[2]))
    np.testing.assert_array_equal(other[1:], made[1:])
    assert np.abs(other[0] - made[0]).max() > 0.1


def test_weight_normalisation_and_the_first_rows_alone_change_nothing():
    part = logits(jax.jit(pixelsnail.normalized)(PARAMS), SMALL, IDS[:, :2], CLASSES)
    np.testing.assert_allclose(part, logits(PARAMS, SMALL, IDS, CLASSES)[:, :2], atol=1e-5)


def published(config):
    """A state dict under the original's names, with numbers where its convolutions must not look."""
    c = config
    shapes = {"background": (1, 2, c.height, c.width), "cond_resnet.blocks.0.conv.bias": (5,)}

    def conv(name, out, inputs, *size, bias=True):
        shapes.update({f"{name}.weight_g": (out, *[1] * (1 + len(size))), f"{name}.weight_v": (out, inputs, *size)})
        shapes.update({f"{name}.bias": (out,)} if bias else {})

    half, both, k = c.channels // 2, 2 * c.channels + 2, c.kernel
    conv("horizontal.conv.conv", c.channels, c.codes, k // 2, k)
    conv("vertical.conv.conv", c.channels, c.codes, (k + 1) // 2, k // 2)
    conv("out.1.conv", c.codes, c.channels, 1, 1)
    sizes = (c.classes, c.embedding, c.embedding, c.embedding, c.height * c.width)
    for i in range(4):
        shapes |= {
            f"embedNet.blocks.{i}.weight": (sizes[i + 1], sizes[i]),
            f"embedNet.blocks.{i}.bias": (sizes[i + 1],),
        }
    for i in range(c.blocks):
        at = f"blocks.{i}"
        for j in range(c.layers):
            conv(f"{at}.resblocks.{j}.conv1.conv.conv", c.hidden, c.channels, k, k)
            conv(f"{at}.resblocks.{j}.conv2.conv.conv", 2 * c.channels, c.hidden, k, k)
            conv(f"{at}.resblocks.{j}.condition.conv", 2 * c.channels, 1, 1, 1, bias=False)
        for name, size in (("key", both), ("query", c.channels + 2), ("out", c.channels)):
            conv(f"{at}.{name}_resblock.conv1.conv", c.channels, size, 1, 1)
            conv(f"{at}.{name}_resblock.conv2.conv", 2 * size, c.channels, 1, 1)
        conv(f"{at}.out_resblock.aux_conv.conv", c.channels, half, 1, 1)
        for name, size in (("query", c.channels + 2), ("key", both), ("value", both)):
            conv(f"{at}.causal_attention.{name}", half, size)
    return {name: RNG.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_a_checkpoint_fits_and_its_norms_are_of_what_is_seen():
    state = published(SMALL)
    target = jax.eval_shape(lambda: pixelsnail.normalized(pixelsnail.init(jax.random.key(0), SMALL)))
    rules = pixelsnail.weights(SMALL)
    params = jax.jit(weight_norm.fuse)(convert(state, rules, target))
    name = "blocks.0.resblocks.1.conv1.conv.conv"
    v = state[f"{name}.weight_v"].copy()
    v[:, :, -1, SMALL.side :] = 0
    kernel = v * state[f"{name}.weight_g"] / np.linalg.norm(v.reshape(len(v), -1), axis=1)[:, None, None, None]
    seen = kernel.transpose(2, 3, 1, 0).reshape(9, SMALL.channels, SMALL.hidden)
    np.testing.assert_allclose(
        params["blocks"]["0"]["resblocks"]["1"]["conv1"]["kernel"], seen[: SMALL.taps], rtol=1e-5
    )
    del state["out.1.conv.bias"]
    with pytest.raises(CheckpointError, match="nothing fills out/bias"):
        convert(state, rules, target)


def test_what_is_refused():
    with pytest.raises(ConfigError, match="odd one"):
        pixelsnail.Config(kernel=4)
    with pytest.raises(ConfigError, match="do not divide"):
        pixelsnail.Config(channels=24)
    with pytest.raises(ConfigError, match="at least one"):
        pixelsnail.Config(blocks=0)
    with pytest.raises(UsageError, match="4 rows at most"):
        pixelsnail.logits(PARAMS, SMALL, IDS.swapaxes(1, 2), CLASSES)
    with pytest.raises(UsageError, match="give a key"):
        sample(CLASSES)
    with pytest.raises(UsageError, match="a batch of 3, n at most 20"):
        sample(CLASSES, KEYS, prefix=jnp.zeros((2, 4), int))
