"""The U-Net: conditions, masks, odd sizes, precision, sizes as published, and both name spaces of its checkpoints."""

import dataclasses
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert, count, flatten, prefixed
from jaxaudio.errors import ConfigError
from jaxaudio.nn import conv, unet
from jaxaudio.nn.unet import UNetConfig
from tests.precision import double_precision

GOLDEN = Path(__file__).parents[1] / "golden"
TINY = UNetConfig(
    inputs=4,
    outputs=3,
    channels=(32, 64),
    blocks=1,
    attention=(False, True),
    transformers=(None, 12),
    head_dim=16,
    film=6,
)
predict = jax.jit(unet.predict, static_argnums=1)


def _filled(config):
    """Every parameter at work: norms near one, matrices of unit gain, small biases."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: unet.init(jax.random.key(0), config))

    def fill(path, s):
        x = rng.standard_normal(s.shape)
        if path[-1].key == "scale":
            return jnp.asarray(1 + 0.1 * x, jnp.float32)
        return jnp.asarray(x / np.sqrt(np.prod(s.shape[:-1])) if len(s.shape) > 1 else 0.05 * x, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.fixture(scope="module")
def tiny():
    return _filled(TINY)


def _inputs(batch=2, time=8, seed=0):
    rng = np.random.default_rng(seed)
    x, film, context = (
        jnp.asarray(rng.standard_normal(shape), jnp.float32)
        for shape in ((batch, time, 4, 4), (batch, 6), (batch, 5, 12))
    )
    return x, jnp.arange(batch) * 300 + 7, film, [context]


def test_sinusoids_are_cosines_then_sines_from_frequency_one_down():
    t = jnp.array([0.0, 0.5, 999.0])
    waves = unet.sinusoids(t, 6)
    angles = np.asarray(t)[:, None] * np.array([1, 1e4 ** (-1 / 3), 1e4 ** (-2 / 3)])
    np.testing.assert_allclose(waves, np.concatenate([np.cos(angles), np.sin(angles)], 1), atol=2e-4)


def test_an_item_depends_on_nothing_else_in_the_batch(tiny):
    x, t, film, contexts = _inputs()
    both = predict(tiny, TINY, x, t, film, contexts)
    alone = predict(tiny, TINY, x[1:], t[1], film[1:], [contexts[0][1:]])  # a scalar time is everybody's
    assert both.shape == (2, 8, 4, 3)
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)


def test_every_condition_is_heard(tiny):
    x, t, film, contexts = _inputs()
    plain = predict(tiny, TINY, x, t, film, contexts)
    for other in (
        predict(tiny, TINY, x, t + 100, film, contexts),
        predict(tiny, TINY, x, t, -film, contexts),
        predict(tiny, TINY, x, t, film, [-contexts[0]]),
    ):
        assert np.abs(other - plain).max() > 1e-3


def test_masked_context_is_not_heard(tiny):
    x, t, film, [context] = _inputs()
    mask = jnp.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    a = predict(tiny, TINY, x, t, film, [context], [mask])
    b = predict(tiny, TINY, x, t, film, [context.at[0, 3:].set(9.0)], [mask])
    short = predict(tiny, TINY, x[:1], t[:1], film[:1], [context[:1, :3]])
    np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(a[:1], short, atol=1e-5)
    np.testing.assert_allclose(a[1], predict(tiny, TINY, x, t, film, [context])[1], atol=1e-5)
    assert np.isfinite(predict(tiny, TINY, x, t, film, [context], [0 * mask])).all()


def test_repeating_to_an_odd_size_is_nearest_resizing():
    """PyTorch takes input position floor(i * before / after) for output position i."""
    x = jnp.asarray(np.random.default_rng(1).standard_normal((1, 4, 2, 8)), jnp.float32)
    layer = unet._Upsample(8)
    params = layer.init(jax.random.key(0), x, (7, 4))
    rows, columns = np.arange(7) * 4 // 7, np.arange(4) * 2 // 4
    resized = x[:, rows][:, :, columns]
    expected = conv.Conv3x3(8).apply({"params": params["params"]["conv"]}, resized)
    np.testing.assert_allclose(layer.apply(params, x, (7, 4)), expected, atol=1e-5)


@pytest.mark.parametrize("time", [1, 5, 7])
def test_any_length_keeps_its_length(tiny, time):
    x, t, film, contexts = _inputs(time=time)
    y = predict(tiny, TINY, x, t, film, contexts)
    assert y.shape == (2, time, 4, 3)
    assert np.isfinite(y).all()


def test_small_deep_maps_are_convolved_exactly():
    rng = np.random.default_rng(2)
    x, kernel = rng.standard_normal((2, 6, 3, 128)), rng.standard_normal((3, 3, 128, 130)) / 34
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = sum(padded[:, i : i + 6, j : j + 3] @ kernel[i, j] for i in range(3) for j in range(3))
    y = jax.jit(conv.convolve)(jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_a_new_network_predicts_nothing():
    x, t, film, contexts = _inputs()
    params = jax.jit(lambda key: unet.init(key, TINY))(jax.random.key(0))
    np.testing.assert_array_equal(predict(params, TINY, x, t, film, contexts), 0)
    assert np.abs(params["params"]["conv_in"]["kernel"]).max() > 0


def test_heads_as_trained_and_as_diffusers_counts_them(tiny):
    assert [unet.AUDIOLDM_S_UNET.heads(c) for c in (128, 256, 384, 640)] == [4, 8, 12, 20]
    assert [unet.AUDIOLDM_L_UNET.heads(c) for c in (256, 1280)] == [4, 20]
    compat = dataclasses.replace(TINY, diffusers_compat=True)
    assert compat.heads(64) == 8
    x, t, film, contexts = _inputs()
    a, b = (predict(tiny, config, x, t, film, contexts) for config in (TINY, compat))
    assert np.abs(a - b).max() > 1e-3


def test_bfloat16_is_close_and_float64_is_kept(tiny):
    x, t, film, contexts = _inputs()
    whole = predict(tiny, TINY, x, t, film, contexts)
    half = predict(tiny, dataclasses.replace(TINY, dtype="bfloat16"), x, t, film, contexts)
    assert half.dtype == jnp.float32
    assert np.linalg.norm(half - whole) < 0.03 * np.linalg.norm(whole)
    with double_precision():
        wide = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), jnp.float64), (tiny, x, film, contexts))
        y = predict(wide[0], TINY, wide[1], t, *wide[2:])
        assert y.dtype == jnp.float64
    np.testing.assert_allclose(whole, y, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": jnp.zeros((2, 8, 4, 5))}, "4 input channels"),
        ({"film": None}, "film of width 6"),
        ({"film": jnp.zeros((2, 7))}, "film of width 6"),
        ({"contexts": []}, r"widths \(12,\)"),
        ({"contexts": [jnp.zeros((2, 5, 13))]}, r"widths \(12,\)"),
        ({"masks": [None, None]}, "2 masks for 1 contexts"),
    ],
)
def test_conditions_that_do_not_fit_are_named(tiny, change, message):
    x, t, film, contexts = _inputs()
    given = {"x": x, "t": t, "film": film, "contexts": contexts, "masks": ()} | change
    with pytest.raises(ConfigError, match=message):
        unet.predict(tiny, TINY, **given)


def test_levels_and_attention_must_match():
    with pytest.raises(ConfigError, match="give one each"):
        unet.init(jax.random.key(0), dataclasses.replace(TINY, attention=(True,)))


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (unet.AUDIOLDM_S_UNET, 185.04),
        (unet.AUDIOLDM_M_UNET, 415.95),
        (unet.AUDIOLDM_L_UNET, 739.14),
        (unet.AUDIOLDM_48K_UNET, 262.70),
        (unet.AUDIOLDM_CROSSATTN_T5_UNET, 265.53),
        (unet.AUDIOLDM2_BASE_UNET, 346.94),
    ],
)
def test_published_sizes(config, millions):
    shapes = jax.eval_shape(lambda: unet.init(jax.random.key(0), config))
    assert round(count(shapes) / 1e6, 2) == millions


def _paths(config, keys):
    """Where the rules send each key."""
    compiled = [(re.compile(rule.pattern), rule.path) for rule in unet.weights(config)]
    found = {}
    for key in keys:
        path, match = next((path, m) for pattern, path in compiled if (m := pattern.fullmatch(key)))
        found[key] = match.expand(path)
    return found


@pytest.mark.parametrize(
    ("case", "config"),
    [
        ("audioldm_s_unet_original", unet.AUDIOLDM_S_UNET),
        ("audioldm2_unet_base_original", unet.AUDIOLDM2_BASE_UNET),
    ],
)
def test_original_and_diffusers_names_meet_in_the_same_leaf(case, config):
    names = json.loads((GOLDEN / case / "map_diffusers_to_original.json").read_text())
    names = {theirs: key.removeprefix("model.diffusion_model.") for theirs, key in names.items()}
    diffusers, original = _paths(config, names), _paths(config, names.values())
    assert all(diffusers[theirs] == original[key] for theirs, key in names.items())
    leaves = flatten(jax.eval_shape(lambda: unet.init(jax.random.key(0), config)))
    assert sorted(diffusers.values()) == sorted(leaves)


def test_early_diffusers_names_of_attention():
    at = "down_blocks.1.attentions.0.transformer_blocks.0.attn1"
    new, old = ("to_q", "to_k", "to_v", "to_out.0"), ("query", "key", "value", "proj_attn")
    found = [list(_paths(TINY, [f"{at}.{name}.weight" for name in names]).values()) for names in (new, old)]
    assert found[0] == found[1]
    assert found[0][3] == "params/down_blocks_1/attentions_0/transformer_blocks_0/attn1/to_out_0/kernel"


def test_averaged_weights_replace_those_they_average():
    keys = json.loads((GOLDEN / "flowsep_full_ckpt_keys.json").read_text())
    names = unet.ema_names(keys)
    network = [key for key in keys if key.startswith("model.diffusion_model.")]
    assert sorted(names.values()) == sorted(network)
    assert names["model_ema.diffusion_modelout0weight"] == "model.diffusion_model.out.0.weight"
    state = {
        "model.diffusion_model.out.0.weight": 1,
        "model_ema.diffusion_modelout0weight": 2,
        "model.diffusion_model.out.0.bias": 3,
        "model_ema.decay": 4,
        "scale_factor": 5,
    }
    assert unet.with_ema(state) == {
        "model.diffusion_model.out.0.weight": 2,
        "model.diffusion_model.out.0.bias": 3,
        "scale_factor": 5,
    }


def test_rules_compose_behind_a_prefix(tiny):
    rules = prefixed(r"model\.", unet.weights(TINY), "unet")
    shapes = jax.eval_shape(lambda: unet.init(jax.random.key(0), TINY))
    names = {"down_blocks_": "down_blocks.", "up_blocks_": "up_blocks."}
    state = {}
    for path, leaf in flatten(tiny["params"]).items():
        key = re.sub(r"_(?=\d+/)", ".", path).replace("linear.", "linear_")
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)
        key = key.replace("/", ".").replace(".kernel", ".weight").replace(".scale", ".weight")
        value = np.asarray(leaf)
        state["model." + key] = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T
    tree = convert(state, rules, {"unet": shapes})["unet"]
    jax.tree.map(np.testing.assert_array_equal, tree, jax.tree.map(np.asarray, tiny))
