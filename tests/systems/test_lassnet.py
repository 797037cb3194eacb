"""LASS-Net on a configuration of a few hundred weights; the published size is compared in the golden cases."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert, count
from jaxaudio.dsp.stft import istft, stft
from jaxaudio.errors import CheckpointError, ConfigError
from jaxaudio.systems import lassnet
from jaxaudio.text import bert

TINY = lassnet.Config(
    sample_rate=8000,
    n_fft=64,
    hop=32,
    text=bert.Config(
        vocab_size=40,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
        pooler=False,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    ),
    condition_size=8,
    channels=(4,),
    bottleneck=6,
)
KEYS = json.loads((Path(__file__).parents[1] / "golden" / "lassnet" / "keys.json").read_text())
IDS = jnp.array([[1, 5, 9, 0], [1, 7, 3, 2]])
MASK = jnp.array([[1, 1, 1, 0], [1, 1, 1, 1]])


def filled(config=TINY, seed=0):
    """Random weights; scales and variances around one, everything else around zero."""
    rng = np.random.default_rng(seed)

    def fill(path, shape):
        positive = path[-1].key in ("scale", "var")
        return jnp.asarray(rng.uniform(0.5, 1.5, shape.shape) if positive else rng.normal(0, 0.3, shape.shape), "f4")

    return jax.tree.map_with_path(fill, jax.eval_shape(lambda: lassnet.init(jax.random.key(0), config)))


@pytest.fixture(scope="module")
def params():
    return filled()


def noise(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(0, 0.3, shape), jnp.float32)


@jax.jit
def intermediates(params, mixture, condition):
    return lassnet.intermediates(params, TINY, mixture, condition)


@jax.jit
def loss_and_slopes(params, extra, batch, key):
    return jax.value_and_grad(functools.partial(lassnet.loss, config=TINY), has_aux=True)(params, extra, batch, key)


def separate(params, mixture, condition):
    return intermediates(params, mixture, condition)["waveform"]


def all_pass(params):
    """Weights whose mask is 1 wherever the network sees the mixture."""
    last = {"kernel": jnp.zeros((1, 1, 4, 1)), "bias": jnp.full((1,), 40.0)}
    unet = {**params["params"]["UNet"], "after_conv2": last}
    return {**params, "params": {**params["params"], "UNet": unet}}


def test_upsampling_is_the_transposed_convolution():
    x, kernel = np.asarray(noise(2, 3, 4, 5)), np.asarray(noise(3, 3, 5, 6, seed=2))
    wanted = np.zeros((2, 7, 9, 6))
    for i in range(3):
        for j in range(3):
            wanted[:, i : i + 5 : 2, j : j + 7 : 2] += x @ kernel[i, j]
    found = lassnet._Upsample(6).apply({"params": {"kernel": kernel}}, x)
    np.testing.assert_allclose(found, wanted[:, :-1], atol=1e-6)


def test_conversion_takes_exactly_the_published_keys():
    target = jax.eval_shape(lambda: lassnet.init(jax.random.key(0), lassnet.LASSNET))
    assert round(count(target["params"]["UNet"]) / 1e6, 2) == 52.23
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in KEYS.items()}
    old = "module.text_embedder.bert_layer.embeddings.position_ids"
    convert({**state, old: np.arange(512)[None]}, lassnet.WEIGHTS, target)
    lost = "module.UNet.decoder_block3.conv1.weight"
    with pytest.raises(CheckpointError, match="nothing fills params/UNet/decoder_block3/conv1/kernel"):
        convert({key: value for key, value in state.items() if key != lost}, lassnet.WEIGHTS, target)
    with pytest.raises(CheckpointError, match=r"unknown key module\.UNet\.stranger"):
        convert({**state, "module.UNet.stranger": np.zeros(1)}, lassnet.WEIGHTS, target)


@pytest.mark.parametrize("length", [1, 33, 351])
def test_output_is_as_long_as_the_input(params, length):
    out = separate(params, noise(1, length), noise(1, 8))
    assert out.shape == (1, length) and np.isfinite(out).all()


def test_samples_are_those_of_the_frames_the_network_sees(params):
    mixture, condition = noise(1, 351), noise(1, 8)
    made = intermediates(params, mixture, condition)
    real, imag = stft(mixture, 64, 32)
    assert made["mask"].shape == real.shape == (1, 11, 33)
    wanted = istft(real * made["mask"], imag * made["mask"], 32)
    np.testing.assert_allclose(made["waveform"][:, :320], wanted, atol=1e-5)


def test_the_end_of_the_signal_is_free_of_clicks(params):
    mixture = noise(1, 351)  # one sample short of a hop: the last frame's window is nearly zero there
    out = separate(params, mixture, noise(1, 8))
    assert np.abs(out[:, 320:]).max() < 2 * np.abs(mixture).max()


def test_a_mask_of_one_returns_the_mixture(params):
    time, inside = jnp.arange(351), slice(64, 256)
    low = jnp.sin(2 * jnp.pi * 6 / 64 * time)[None]  # away from the edges, three bins hold all of it
    out = separate(all_pass(params), low, noise(1, 8))
    np.testing.assert_allclose(out[:, inside], low[:, inside], atol=1e-5)
    np.testing.assert_allclose(out, low, atol=2e-2)
    highest = jnp.cos(jnp.pi * time)[None]  # the two bins that the network does not see
    out = separate(all_pass(params), highest, noise(1, 8))
    np.testing.assert_allclose(out[:, inside], 0.5 * highest[:, inside], atol=1e-5)


def test_silence_stays_silent(params):
    assert not np.any(separate(params, jnp.zeros((1, 351)), noise(1, 8)))


def test_several_queries_share_a_mixture(params):
    mixture, condition = noise(1, 351), noise(1, 3, 8)
    together = jax.jit(lambda *x: lassnet.separate(params, TINY, *x))(mixture, condition)
    assert together.shape == (1, 3, 351)
    for query in range(3):
        np.testing.assert_allclose(together[:, query], separate(params, mixture, condition[:, query]), atol=1e-5)


def test_the_query_matters_and_padding_does_not(params):
    embed = jax.jit(lambda ids, mask: lassnet.embed(params, TINY, ids, mask))
    condition = embed(IDS, MASK)
    assert condition.shape == (2, 8) and condition.min() >= 0
    np.testing.assert_allclose(embed(IDS.at[0, 3].set(8), MASK)[0], condition[0], atol=1e-6)
    np.testing.assert_allclose(embed(IDS[:1, :3], MASK[:1, :3]), condition[:1], atol=1e-6)
    out = [separate(params, noise(1, 351), query[None]) for query in condition]
    assert np.abs(out[0] - out[1]).max() > 1e-3


def start(params):
    mixture, segment = noise(2, 320), noise(2, 320, seed=3)
    batch = {"mixture": mixture, "segment": segment, "input_ids": IDS, "attention_mask": MASK, "index": jnp.arange(2)}
    return params["params"], {"batch_stats": params["batch_stats"]}, batch


def test_the_loss_is_that_of_the_masked_magnitude(params):
    trained, extra, batch = start(params)
    (value, (metrics, new)), _ = loss_and_slopes(trained, extra, batch, jax.random.key(0))

    @jax.jit
    def expected(params):
        condition = lassnet.embed(params, TINY, IDS, MASK)
        made = lassnet.intermediates(params, TINY, batch["mixture"], condition, train=True)
        target = jnp.hypot(*stft(batch["segment"], 64, 32))
        return jnp.mean(jnp.abs(made["mask"] * made["mag"] - target)), made["mag"]

    wanted, mag = expected(params)
    np.testing.assert_allclose(value, wanted, rtol=1e-5)
    assert metrics["l1"] == value

    def first(extra):
        return extra["batch_stats"]["UNet"]["encoder_block1"]["conv_block1"]["bn1"]["mean"]

    seen = jnp.pad(mag, ((0, 0), (0, 1), (0, 0)))[:, :, :-2].mean()  # 11 frames, padded to 12
    np.testing.assert_allclose(first(new), 0.9 * first(extra) + 0.1 * seen, rtol=1e-5)


def test_training_reaches_every_weight_and_the_loss_falls(params):
    trained, extra, batch = start(params)
    values, still = [], set()
    for step in range(6):
        (value, (_, extra)), grads = loss_and_slopes(trained, extra, batch, jax.random.key(0))
        if step == 0:
            still = {jax.tree_util.keystr(path) for path, g in jax.tree.leaves_with_path(grads) if not np.any(g)}
        trained = jax.tree.map(lambda p, g: p - 0.05 * g, trained, grads)
        values.append(float(value))
    assert values[-1] < 0.99 * values[0]
    # A constant added to every key does not change a softmax; the bias of the keys is all that may stay.
    assert all("['key']['bias']" in name for name in still)


def test_dropout_does_not_depend_on_how_the_batch_is_split(params):
    key = jax.random.key(5)
    batch = {"input_ids": IDS, "attention_mask": MASK, "index": jnp.arange(2)}
    config = dataclasses.replace(TINY, text=dataclasses.replace(TINY.text, hidden_dropout_prob=0.3))
    embed = jax.jit(functools.partial(lassnet._embed_batch, params["params"], config))
    whole = embed(batch, key)
    parts = [embed({name: value[i : i + 1] for name, value in batch.items()}, key) for i in range(2)]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-6)
    assert np.abs(whole - embed(batch, None)).max() > 1e-3


def test_half_precision_is_close(params):
    half = dataclasses.replace(TINY, dtype="bfloat16")
    mixture, condition = noise(1, 351), noise(1, 8)
    made = jax.jit(lambda *x: lassnet.intermediates(params, half, *x))(mixture, condition)
    assert made["conv_block7"].dtype == jnp.bfloat16 and made["mask"].dtype == made["waveform"].dtype == jnp.float32
    error = made["mask"] - intermediates(params, mixture, condition)["mask"]
    assert np.abs(error).mean() < 0.01


def test_the_window_must_fit_the_poolings():
    with pytest.raises(ConfigError, match="multiple of 128, not 1000"):
        lassnet.Config(n_fft=1000)
