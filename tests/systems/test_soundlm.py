"""The language model of sound: published sizes, what codes are, losses, continuation in time, and what is refused."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import count
from jaxaudio.dsp.mel import log_mel
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import pixelsnail
from jaxaudio.quantize import vq
from jaxaudio.systems.soundlm import prior, vqvae
from tests.systems.tiny import AUDIO, filled

CODER = vqvae.Config(mel=AUDIO.front_end, channels=8, kernels=(4, 2, 8), layers=2, hidden=6, codes=16, dim=4)
PRIOR = prior.Config(
    network=pixelsnail.Config(
        height=2, width=6, codes=16, classes=2, channels=8, hidden=6, kernel=3, blocks=1, layers=2, heads=2, embedding=4
    ),
    names=("bark", "horn"),
)
RNG = np.random.default_rng(0)
MEL = jnp.asarray(RNG.normal(size=(3, 24, 8)), jnp.float32)
CODED = filled(lambda key: vqvae.init(key, CODER))
PARAMS = filled(lambda key: pixelsnail.init(key, PRIOR.network))
CODES = jnp.asarray(RNG.integers(0, 16, (3, 2, 6)), jnp.int32)
CLASSES = jnp.asarray([0, 1, 1])
forward = jax.jit(vqvae.forward, static_argnums=1, static_argnames="train")
encode, decode, logits = (jax.jit(f, static_argnums=1) for f in (vqvae.encode, vqvae.decode, prior.logits))


@pytest.mark.parametrize(
    ("module", "config", "millions"),
    [
        (vqvae, vqvae.URBANSOUND8K, 2.207),  # without the codebook, which no gradient trains
        # 103.3 in the checkpoint, without what is not used or not seen; and the lengths of normalised weights.
        (prior, prior.URBANSOUND8K, 87.39),
    ],
)
def test_sizes(module, config, millions):
    tree = jax.eval_shape(lambda: module.init(jax.random.key(0), config))
    assert count(tree.get("params", tree)) / 1e6 == pytest.approx(millions, abs=0.01)


def test_four_seconds_are_the_grid_of_the_prior():
    frames = jax.eval_shape(lambda x: log_mel(x, vqvae.MEL), jax.ShapeDtypeStruct((1, 4 * 22050), jnp.float32)).shape
    assert frames == (1, 344, 80)
    tree = jax.eval_shape(lambda: vqvae.init(jax.random.key(0), vqvae.URBANSOUND8K))
    mel = jax.ShapeDtypeStruct(frames, jnp.float32)
    codes = jax.eval_shape(lambda p, x: vqvae.encode(p, vqvae.URBANSOUND8K, x), tree, mel)
    assert codes.shape == (1, *prior.URBANSOUND8K.grid) == (1, 20, 86)


def test_codes_and_back():
    made = forward(CODED, CODER, MEL)
    codes = encode(CODED, CODER, MEL)
    assert codes.shape == (3, CODER.bands, 6)
    np.testing.assert_array_equal(codes, made.codes)
    assert len(np.unique(codes)) > 3
    np.testing.assert_allclose(decode(CODED, CODER, codes), made.mel, atol=1e-5)
    assert made.mel.shape == MEL.shape
    distances = ((made.vectors[..., None, :] - CODED["batch_stats"]["quantize_b"]["embed"]) ** 2).sum(-1)
    np.testing.assert_array_equal(codes, distances.argmin(-1))
    np.testing.assert_array_equal(encode(CODED, CODER, MEL.at[0].set(0))[1:], codes[1:])


def test_the_loss_of_the_vqvae_and_its_codebook():
    extra = {"batch_stats": CODED["batch_stats"]}

    def loss(params, key):
        return vqvae.loss(params, extra, {"mel": MEL}, key, config=CODER)

    (value, (metrics, after)), slopes = jax.jit(jax.value_and_grad(loss, has_aux=True))(
        CODED["params"], jax.random.key(0)
    )
    made = forward(CODED, CODER, MEL)
    distance = jnp.mean((made.vectors - vq.lookup(extra["batch_stats"]["quantize_b"]["embed"], made.codes)) ** 2)
    error = jnp.mean((made.mel - MEL) ** 2)
    assert float(value) == pytest.approx(float(error + 0.25 * distance), rel=1e-5)
    assert float(metrics["error"]) == pytest.approx(float(error), rel=1e-5)
    # Gradients pass the codes: the encoder learns.
    assert all(float(jnp.abs(x).max()) > 0 for x in jax.tree.leaves(slopes))
    before, book = extra["batch_stats"]["quantize_b"], after["batch_stats"]["quantize_b"]
    chosen = np.bincount(np.ravel(made.codes), minlength=16)
    np.testing.assert_allclose(book["cluster_size"], 0.99 * before["cluster_size"] + 0.01 * chosen, rtol=1e-5)
    np.testing.assert_array_equal(made.codebook["embed"], before["embed"])


def test_rows_that_nothing_chooses_are_revived():
    vectors = jnp.asarray(RNG.normal(size=(3, 10, 4)), jnp.float32)
    book = {**CODED["batch_stats"]["quantize_b"], "cluster_size": jnp.zeros(16)}
    made, after = vqvae.quantize(book, vectors, revive_below=0.05, train=True, key=jax.random.key(0))
    dead = np.bincount(np.ravel(made.codes), minlength=16) * 0.01 < 0.05
    apart = np.abs(np.asarray(after["embed"])[:, None] - np.asarray(vectors).reshape(-1, 4)).max(-1).min(-1)
    assert dead.any() and (apart[dead] < 1e-6).all()
    with pytest.raises(UsageError, match="give a key"):
        vqvae.forward(CODED, dataclasses.replace(CODER, revive_below=0.05), MEL, train=True)


def test_the_loss_of_the_prior():
    batch = {"codes": CODES, "class": CLASSES}
    loss = jax.jit(functools.partial(prior.loss, config=PRIOR))
    value, (metrics, extra) = loss(PARAMS, {}, batch)
    shares = np.asarray(jax.nn.log_softmax(logits(PARAMS, PRIOR, CODES, CLASSES)))
    b, y, x = np.indices(CODES.shape)
    assert float(value) == pytest.approx(-shares[b, y, x, CODES].mean(), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx((shares.argmax(-1) == CODES).mean())
    assert extra == {}
    silent = {**PARAMS, "out": jax.tree.map(jnp.zeros_like, PARAMS["out"])}
    assert float(loss(silent, {}, batch)[0]) == pytest.approx(math.log(16), rel=1e-6)


def test_a_sound_goes_on_in_time():
    # The grid is turned: six frames are the rows, two bands their codes.
    network = dataclasses.replace(PRIOR.network, height=6, width=2)
    config = prior.Config(network=network, names=PRIOR.names, order="time")
    params = filled(lambda key: pixelsnail.init(key, network))
    assert config.grid == PRIOR.grid == (2, 6)
    scores = logits(params, config, CODES, CLASSES)
    other = logits(params, config, CODES.at[:, :, 4:].set(0), CLASSES)
    np.testing.assert_array_equal(other[:, :, :4], scores[:, :, :4])
    key = jax.random.key(1)
    made = prior.sample(params, config, CLASSES, key, prefix=CODES[:, :, :3], keep_logits=True)
    assert made.ids.shape == made.log_probs.shape == (3, 2, 6)
    np.testing.assert_array_equal(made.ids[:, :, :3], CODES[:, :, :3])
    np.testing.assert_allclose(made.logits, logits(params, config, made.ids, CLASSES), atol=1e-5)
    with pytest.raises(UsageError, match="give all 2 bands"):
        prior.sample(params, config, CLASSES, key, prefix=CODES[:, :1, :3])


def test_classes_by_name():
    np.testing.assert_array_equal(prior.class_ids(prior.URBANSOUND8K, ["dog_bark", "siren"]), [3, 8])
    with pytest.raises(UsageError, match="no class 'cat'; there are bark, horn"):
        prior.class_ids(PRIOR, ["cat"])


def test_what_is_refused():
    with pytest.raises(ConfigError, match="even ones"):
        vqvae.Config(kernels=(4, 3))
    with pytest.raises(ConfigError, match="multiple of 4"):
        dataclasses.replace(CODER, mel=dataclasses.replace(AUDIO.front_end, n_mels=6))
    with pytest.raises(ConfigError, match="2 names for 10 classes"):
        prior.Config(network=pixelsnail.Config(), names=("a", "b"))
    with pytest.raises(ConfigError, match="'frequency' or 'time'"):
        prior.Config(network=pixelsnail.Config(), order="raster")
    with pytest.raises(UsageError, match="pad or cut"):
        vqvae.encode(CODED, CODER, MEL[:, :22])
    with pytest.raises(UsageError, match="2 bands, frames"):
        vqvae.decode(CODED, CODER, CODES.swapaxes(1, 2))
    with pytest.raises(UsageError, match=r"give \(batch, 2, 6\)"):
        prior.logits(PARAMS, PRIOR, CODES[:, :, :4], CLASSES)
