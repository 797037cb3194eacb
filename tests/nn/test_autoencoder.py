"""The autoencoder of spectrograms at a small size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert, flatten, to_torch
from jaxaudio.errors import CheckpointError, UsageError
from jaxaudio.nn import autoencoder

SMALL = autoencoder.Config(mels=16, channels=8, multipliers=(1, 2), blocks=1, latent=4, groups=4)


def filled(config, seed=0):
    rng = np.random.default_rng(seed)
    target = jax.eval_shape(lambda: autoencoder.init(jax.random.key(0), config))
    return jax.tree.map(
        lambda s: jnp.asarray(rng.standard_normal(s.shape) / max(1, np.prod(s.shape[:-1])) ** 0.5, s.dtype), target
    )


MEL = jnp.asarray(np.random.default_rng(1).standard_normal((2, 12, 16, 1)), jnp.float32)


def test_shapes_there_and_back():
    params = filled(SMALL)
    mean, logvar = jax.jit(autoencoder.encode, static_argnums=1)(params, SMALL, MEL)
    assert mean.shape == logvar.shape == (2, 6, 8, 4)
    mel = jax.jit(autoencoder.decode, static_argnums=1)(params, SMALL, mean)
    assert mel.shape == MEL.shape and np.all(np.isfinite(mel))


def test_published_shapes():
    for config, frames, latent in (
        (autoencoder.AUDIOLDM_16K, 1024, (256, 16, 8)),
        (autoencoder.AUDIOLDM_48K, 1024, (128, 32, 16)),
    ):
        params = jax.eval_shape(lambda config=config: autoencoder.init(jax.random.key(0), config))
        mel = jax.ShapeDtypeStruct((1, frames, config.mels, 1), jnp.float32)
        mean, _ = jax.eval_shape(lambda p, x, config=config: autoencoder.encode(p, config, x), params, mel)
        assert mean.shape == (1, *latent)
    count = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(filled_shapes(autoencoder.AUDIOLDM_16K)))
    assert round(count / 1e6, 2) == 55.38


def filled_shapes(config):
    return jax.eval_shape(lambda: autoencoder.init(jax.random.key(0), config))


def test_wrong_shapes_are_named():
    params = filled(SMALL)
    with pytest.raises(UsageError, match="multiple of 2 frames"):
        autoencoder.encode(params, SMALL, MEL[:, :11])
    with pytest.raises(UsageError, match="another variant"):
        autoencoder.decode(params, SMALL, jnp.zeros((1, 4, 8, 5)))


def test_bfloat16_stays_close_and_returns_float32():
    half = autoencoder.Config(**{**vars_of(SMALL), "dtype": "bfloat16"})
    params = filled(SMALL)
    z = jnp.asarray(np.random.default_rng(2).standard_normal((1, 4, 8, 4)), jnp.float32)
    exact, rough = (autoencoder.decode(params, config, z) for config in (SMALL, half))
    assert rough.dtype == jnp.float32
    assert np.linalg.norm(rough - exact) < 0.05 * np.linalg.norm(exact)


def vars_of(config):
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def test_an_items_draw_does_not_depend_on_its_batch():
    mean, logvar = jnp.zeros((3, 4, 2, 2)), jnp.full((3, 4, 2, 2), jnp.log(4.0))
    key = jax.random.key(5)
    whole = autoencoder.sample(mean, logvar, key)
    last = autoencoder.sample(mean[2:], logvar[2:], key, jnp.array([2]))
    np.testing.assert_array_equal(whole[2:], last)
    assert not np.allclose(whole[0], whole[1])
    many = autoencoder.sample(jnp.zeros((1, 100, 10, 10)), jnp.full((1, 100, 10, 10), jnp.log(4.0)), key)
    np.testing.assert_allclose(np.std(many), 2, rtol=0.02)


def test_divergence_is_the_mean_of_the_closed_form():
    rng = np.random.default_rng(0)
    mean, logvar = (rng.standard_normal((2, 3, 4, 5)) for _ in range(2))
    expected = 0.5 * (mean**2 + np.exp(logvar) - 1 - logvar)
    np.testing.assert_allclose(autoencoder.kl(mean, logvar), expected.mean((1, 2, 3)), rtol=1e-5)
    assert not np.any(autoencoder.kl(jnp.zeros((1, 2)), jnp.zeros((1, 2))))


def test_latents_get_unit_variance():
    z = 3 * np.random.default_rng(0).standard_normal((2, 8, 4, 4))
    np.testing.assert_allclose(np.std(z * autoencoder.latent_scale(z), ddof=1), 1, rtol=1e-5)


def original_keys():
    """Keys of the original with their shapes, for `SMALL`."""
    keys = {"quant_conv": (8, 8, 1, 1), "post_quant_conv": (4, 4, 1, 1)}
    for half, inputs, outputs in (("encoder", 1, 8), ("decoder", 4, 1)):
        top, last = (8, 16) if half == "encoder" else (16, 8)
        keys |= {f"{half}.conv_in": (top, inputs, 3, 3), f"{half}.conv_out": (outputs, last, 3, 3)}
        keys[f"{half}.norm_out"] = (last,)
        for block in ("mid.block_1", "mid.block_2"):
            keys |= block_keys(f"{half}.{block}", 16, 16)
        keys |= {f"{half}.mid.attn_1.{name}": (16, 16, 1, 1) for name in ("q", "k", "v", "proj_out")}
        keys[f"{half}.mid.attn_1.norm"] = (16,)
    keys |= block_keys("encoder.down.0.block.0", 8, 8) | block_keys("encoder.down.1.block.0", 8, 16)
    keys["encoder.down.0.downsample.conv"] = (8, 8, 3, 3)
    keys |= block_keys("decoder.up.1.block.0", 16, 16) | block_keys("decoder.up.1.block.1", 16, 16)
    keys |= block_keys("decoder.up.0.block.0", 16, 8) | block_keys("decoder.up.0.block.1", 8, 8)
    keys["decoder.up.1.upsample.conv"] = (16, 16, 3, 3)
    return {f"{key}.{leaf}": shape if leaf == "weight" else shape[:1] for key, shape in keys.items() for leaf in LEAVES}


LEAVES = ("weight", "bias")


def block_keys(key, inputs, outputs):
    made = {f"{key}.norm1": (inputs,), f"{key}.conv1": (outputs, inputs, 3, 3)}
    made |= {f"{key}.norm2": (outputs,), f"{key}.conv2": (outputs, outputs, 3, 3)}
    return made if inputs == outputs else {**made, f"{key}.nin_shortcut": (outputs, inputs, 1, 1)}


def older_diffusers(key):
    """The name that diffusers had for it in 2023, for two levels."""
    for old, new in (
        ("mid.block_1", "mid_block.resnets.0"),
        ("mid.block_2", "mid_block.resnets.1"),
        ("mid.attn_1.norm", "mid_block.attentions.0.group_norm"),
        ("mid.attn_1.q.", "mid_block.attentions.0.query."),
        ("mid.attn_1.k.", "mid_block.attentions.0.key."),
        ("mid.attn_1.v.", "mid_block.attentions.0.value."),
        ("mid.attn_1.proj_out", "mid_block.attentions.0.proj_attn"),
        ("norm_out", "conv_norm_out"),
        ("nin_shortcut", "conv_shortcut"),
        ("encoder.down.", "encoder.down_blocks."),
        ("decoder.up.0.", "decoder.up_blocks.1."),
        ("decoder.up.1.", "decoder.up_blocks.0."),
        (".block.", ".resnets."),
        ("downsample.", "downsamplers.0."),
        ("upsample.", "upsamplers.0."),
    ):
        key = key.replace(old, new)
    return key


def test_names_of_the_original_and_of_older_diffusers_give_the_same_tree():
    params, rules, keys = filled(SMALL), autoencoder.weights(SMALL), original_keys()
    state = to_torch(params, rules, keys)
    assert len(state) == len(keys) == len(flatten(params))
    back = convert(state, rules, params)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    renamed = {
        older_diffusers(key): x[:, :, 0, 0] if "attn_1" in key and x.ndim == 4 else x for key, x in state.items()
    }
    assert "decoder.up_blocks.0.upsamplers.0.conv.weight" in renamed
    jax.tree.map(np.testing.assert_array_equal, convert(renamed, rules, params), params)
    with pytest.raises(CheckpointError, match=r"nothing fills params/quant_conv/kernel"):
        convert({key: x for key, x in state.items() if key != "quant_conv.weight"}, rules, params)
