"""Adaptive audio-visual attention: what the gate mixes, what is left without video, and cached decoding."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import panns, stack
from jaxaudio.systems import captioning
from jaxaudio.systems.captioning import critical, losses, objective, words
from jaxaudio.text.decode import Beam

WORDS = words.Config(vocab_size=12, width=8, layers=2, heads=2, hidden=16, dropout=0.1, start=0, end=1, adaptive=True)
SOUND = panns.Config(widths=(4,), head="frames", embedding=10, classes=0, dropout=0.0, augment=False)
CONFIG = captioning.Config(sound=SOUND, video=6, words=WORDS)
RNG = np.random.default_rng(0)
MADE = captioning.init(jax.random.key(0), CONFIG)
# Weights with which what is said depends on what is heard and seen.
TREE = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), MADE["params"])
PARAMS = {**MADE, "params": TREE}
IDS = jnp.asarray([[0, 4, 5, 1, 1], [0, 6, 7, 8, 1], [0, 9, 1, 1, 1]])
HEARD, SEEN = (jnp.asarray(RNG.normal(size=(3, n, 8)), jnp.float32) for n in (4, 5))
MASK = jnp.asarray([[1, 1, 1, 0, 0], [0] * 5, [1] * 5])  # the second has no video
BOTH = words.Pair(HEARD, SEEN, MASK)
ONE = dataclasses.replace(WORDS, adaptive=False)
tell = jax.jit(captioning.caption_logits, static_argnums=1)


def gated(value):
    layers = TREE["transformer_decoder"]["layers"]
    gate = {"kernel": jnp.zeros_like(layers["gate"]["kernel"]), "bias": jnp.full_like(layers["gate"]["bias"], value)}
    return {"params": TREE | {"transformer_decoder": {"layers": layers | {"gate": gate}}}}


def plain(name, memory, mask=None):
    """What a decoder with one memory says, that has the weights of one of the branches."""
    layers = TREE["transformer_decoder"]["layers"]
    params = TREE | {"transformer_decoder": {"layers": layers | {"encoder_attn": layers[name]}}}
    kept = words.memorise(params, ONE, memory, mask)
    return jax.jit(words.logits, static_argnums=1)(params, ONE, kept, IDS)


def test_a_gate_that_is_open_or_shut_leaves_one_branch():
    heard, seen = plain("encoder_attn", HEARD), plain("second_attn", SEEN, MASK)
    np.testing.assert_allclose(tell(gated(jnp.inf), CONFIG, BOTH, IDS), heard, rtol=1e-5, atol=1e-5)
    shut = tell(gated(-jnp.inf), CONFIG, BOTH, IDS)
    np.testing.assert_allclose(shut[::2], seen[::2], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(shut[1], heard[1], rtol=1e-5, atol=1e-5)  # it has nothing to see
    said = tell(PARAMS, CONFIG, BOTH, IDS)
    assert all(np.abs(said[i] - alone[i]).max() > 1e-2 for i in (0, 2) for alone in (heard, seen))


def test_without_video_only_the_sound_is_told():
    said = tell(PARAMS, CONFIG, BOTH, IDS)
    np.testing.assert_allclose(said[1], plain("encoder_attn", HEARD)[1], rtol=1e-5, atol=1e-5)
    # What stands in frames that are not there counts in nothing, nor do batch mates.
    other = words.Pair(HEARD[:2], jnp.where(MASK[:2, :, None] != 0, SEEN[:2], 9), MASK[:2])
    np.testing.assert_allclose(tell(PARAMS, CONFIG, other, IDS[:2]), said[:2], rtol=1e-5, atol=1e-5)

    mel = jnp.asarray(RNG.normal(size=(3, 16, 64)), jnp.float32)
    run = jax.jit(captioning.encode, static_argnums=1)
    missing = run(PARAMS, CONFIG, mel)[0]["memory"]
    masked = run(PARAMS, CONFIG, mel, video=jnp.full((3, 5, 6), jnp.nan), video_mask=jnp.zeros((3, 5)))[0]["memory"]
    assert masked.seen.shape == (3, 5, 8) and np.isfinite(masked.seen).all()
    np.testing.assert_allclose(*(tell(PARAMS, CONFIG, x, IDS) for x in (missing, masked)), rtol=1e-5, atol=1e-5)


def test_cached_decoding_is_the_whole_pass():
    p, whole = TREE, tell(PARAMS, CONFIG, BOTH, IDS)
    kept = words.memorise(p, WORDS, BOTH)
    logits, cache = words.read(p, WORDS, kept, 5)
    step = jax.jit(words.decoder(p, WORDS, kept).step)
    for i in range(5):
        np.testing.assert_allclose(logits, whole[:, i], rtol=1e-4, atol=1e-4)
        if i < 4:
            logits, cache = step(IDS[:, i + 1], cache)
    said = captioning.caption(PARAMS, CONFIG, BOTH, 5)
    given = jnp.concatenate([IDS[:, :1], said.tokens[:, :-1]], 1)
    for row, wanted, length in zip(said.tokens, tell(PARAMS, CONFIG, BOTH, given).argmax(-1), said.lengths):
        np.testing.assert_array_equal(row[:length], wanted[:length])
    # Rows of a beam share the memories of their item.
    beams = captioning.caption(PARAMS, CONFIG, BOTH, 5, beam=Beam(width=2, stop="full"))
    for place in range(2):
        row = beams.tokens[:, place]
        shares = jax.nn.log_softmax(tell(PARAMS, CONFIG, BOTH, jnp.concatenate([IDS[:, :1], row[:, :-1]], 1)))
        own = jnp.take_along_axis(shares, row[..., None], -1)[..., 0] * losses.until_end(row, 1)
        np.testing.assert_allclose(own.sum(1) / beams.lengths[:, place], beams.scores[:, place], rtol=1e-4)


def test_gradients_reach_the_gate_where_there_is_video():
    batch = {"mel": jnp.asarray(RNG.normal(size=(3, 16, 64)), jnp.float32), "ids": IDS, "mask": jnp.ones((3, 5))}
    batch |= {"video": jnp.asarray(RNG.normal(size=(3, 5, 6)), jnp.float32)}
    extra = {"batch_stats": PARAMS["batch_stats"]}

    @jax.jit
    def slopes(there):
        def value(layers):
            params = TREE | {"transformer_decoder": {"layers": layers}}
            return objective.loss(params, extra, batch | {"video_mask": there}, config=CONFIG)[0]

        return jax.grad(value)(TREE["transformer_decoder"]["layers"])

    found, none = slopes(MASK), slopes(0 * MASK)
    for leaf in (found["gate"]["kernel"], found["gate"]["bias"], found["second_attn"]["v_proj"]["kernel"]):
        assert all(np.abs(layer).max() > 1e-6 for layer in leaf)
    assert not any(np.any(x) for x in jax.tree.leaves((none["gate"], none["second_attn"])))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(none))
    said = jax.eval_shape(lambda: critical.rehearse(TREE, extra, batch, jax.random.key(0), config=CONFIG, length=4))
    assert said.drawn.shape == (3, 4)


def test_other_captioners_stay_as_they_are():
    before = captioning.init(jax.random.key(0), dataclasses.replace(CONFIG, words=ONE))["params"]
    layers = MADE["params"]["transformer_decoder"]["layers"]
    assert set(layers) - set(before["transformer_decoder"]["layers"]) == {"second_attn", "gate"}
    jax.tree.map(
        np.testing.assert_array_equal,
        {k: layers[k] for k in before["transformer_decoder"]["layers"]},
        before["transformer_decoder"]["layers"],
    )
    vectors = jnp.ones((3, 2))
    noisy = dataclasses.replace(CONFIG, noise=2)
    layer = {"params": {"noise_linear": {"kernel": jnp.ones((2, 8))}}}
    np.testing.assert_allclose(captioning.varied(layer, noisy, BOTH, vectors).heard, HEARD + 2, rtol=1e-6)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="sound and video"):
        captioning.Config(sound=SOUND, words=WORDS)
    with pytest.raises(ConfigError, match="beside a first"):
        stack.Config(width=8, layers=1, heads=2, hidden=8, second=8)
    joined = dataclasses.replace(CONFIG, words=ONE)
    with pytest.raises(UsageError, match="leave video_mask out"):
        captioning.encode(
            PARAMS, joined, jnp.zeros((1, 16, 64)), video=jnp.zeros((1, 2, 6)), video_mask=jnp.ones((1, 2))
        )
    with pytest.raises(UsageError, match="two memories"):
        words.hidden(TREE, WORDS, words.memorise(TREE, WORDS, HEARD), IDS)
