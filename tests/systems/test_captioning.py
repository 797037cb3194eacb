"""Captioners: sizes that are published, what a caption depends on, losses, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import count
from jaxaudio.dsp.augment import drop_stripes, spec_augment
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import panns, patches
from jaxaudio.systems import captioning
from jaxaudio.systems.captioning import losses, words
from jaxaudio.systems.captioning.model import selection_scores, tag_logits
from jaxaudio.systems.captioning.objective import loss
from jaxaudio.text.decode import Beam, Sampling

SMALL = captioning.Config(
    sound=panns.Config(widths=(4, 6), head="frames", embedding=10, classes=0, dropout=0.1),
    words=words.Config(vocab_size=12, width=8, layers=2, heads=2, hidden=16, dropout=0.1, start=0, end=1),
    selection=True,
    tags=5,
)
RNG = np.random.default_rng(0)


def random_like(tree):
    """Weights with which a caption depends on what is heard."""
    return jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), tree)


MADE = captioning.init(jax.random.key(0), SMALL)
PARAMS = {**MADE, "params": random_like(MADE["params"])}
MEL = jnp.asarray(RNG.normal(size=(3, 40, 64)), jnp.float32)
IDS = jnp.asarray([[0, 4, 5, 1, 1], [0, 6, 7, 8, 1], [0, 9, 1, 1, 1]])
MASK = jnp.asarray([[1, 1, 1, 1, 0], [1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("module", "config", "millions"),
    [
        # The published modules, without the constants of their front-ends; BatchNorm's counters are no parameters.
        (panns, panns.CNN10, 5.22),
        (panns, panns.CNN14, 80.75),
        (captioning, captioning.ACT_M, 107.95),
        (captioning, captioning.ACT_S, 99.54),
        (captioning, captioning.ACT_L, 116.36),
    ],
)
def test_sizes(module, config, millions):
    tree = jax.eval_shape(lambda: module.init(jax.random.key(0), config))
    assert count(tree["params"]) / 1e6 == pytest.approx(millions, abs=0.01)


def test_a_caption_is_of_its_own_sound():
    made, _ = captioning.encode(PARAMS, SMALL, MEL)
    assert made["memory"].shape == (3, 40 // SMALL.sound.stride, 8)
    whole = captioning.caption(PARAMS, SMALL, made["memory"], 8)
    for i in range(3):
        alone, _ = captioning.encode(PARAMS, SMALL, MEL[i : i + 1])
        np.testing.assert_array_equal(captioning.caption(PARAMS, SMALL, alone["memory"], 8).tokens[0], whole.tokens[i])
    best = captioning.caption(PARAMS, SMALL, made["memory"], 8, beam=Beam(width=1, stop="full"))
    np.testing.assert_array_equal(best.tokens[:, 0], whole.tokens)
    drawn = captioning.caption(PARAMS, SMALL, made["memory"], 8, Sampling(), key=jax.random.key(1))
    assert not np.array_equal(drawn.tokens, whole.tokens)


def test_greedy_words_are_the_likeliest_of_the_whole_caption():
    memory = captioning.encode(PARAMS, SMALL, MEL)[0]["memory"]
    said = captioning.caption(PARAMS, SMALL, memory, 6)
    given = jnp.concatenate([jnp.zeros((3, 1), int), said.tokens[:, :-1]], 1)
    likeliest = captioning.caption_logits(PARAMS, SMALL, memory, given).argmax(-1)
    for row, wanted, length in zip(said.tokens, likeliest, said.lengths, strict=True):
        np.testing.assert_array_equal(row[:length], wanted[:length])


def test_the_loss_leaves_padding_out_unless_it_is_asked_to():
    batch = {"mel": MEL, "ids": IDS, "mask": MASK}
    extra = {"batch_stats": PARAMS["batch_stats"]}
    value, (metrics, _) = loss(PARAMS["params"], extra, batch, config=SMALL)
    memory = captioning.encode(PARAMS, SMALL, MEL)[0]["memory"]
    logits = captioning.caption_logits(PARAMS, SMALL, memory, IDS[:, :-1], MASK[:, :-1])
    shares, targets = jax.nn.log_softmax(logits), IDS[:, 1:]
    own = jnp.take_along_axis(shares, targets[..., None], -1)[..., 0]
    each = -0.9 * own - 0.1 / 11 * (shares.sum(-1) - own)
    np.testing.assert_allclose(value, each[MASK[:, 1:] == 1].mean(), rtol=1e-5)
    right = (logits.argmax(-1) == targets)[MASK[:, 1:] == 1].mean()
    np.testing.assert_allclose(metrics["accuracy"], right, rtol=1e-6)
    padded = loss(PARAMS["params"], extra, batch, config=SMALL, padding=True)[0]
    np.testing.assert_allclose(padded, each.mean(), rtol=1e-5)


def test_tags_are_counted_where_they_are_told():
    tags = jnp.asarray([[1.0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]])
    batch, extra = {"mel": MEL, "ids": IDS, "mask": MASK}, {"batch_stats": PARAMS["batch_stats"]}
    plain = loss(PARAMS["params"], extra, batch, config=SMALL)[0]
    value, (metrics, _) = loss(PARAMS["params"], extra, {**batch, "tags": tags}, config=SMALL, tag_weight=0.5)
    x = tag_logits(PARAMS, SMALL, captioning.encode(PARAMS, SMALL, MEL)[0]["embedding"])
    missed = -(tags * jax.nn.log_sigmoid(x) + (1 - tags) * jax.nn.log_sigmoid(-x)).sum(-1).mean()
    np.testing.assert_allclose(metrics["tag_loss"], missed, rtol=1e-4)
    np.testing.assert_allclose(value, plain + 0.5 * missed, rtol=1e-5)


def test_training_lowers_the_loss_and_moves_the_statistics():
    batch = {"mel": MEL, "ids": IDS, "mask": MASK, "index": jnp.arange(3)}

    @jax.jit
    def step(params, extra, key):
        (value, (_, extra)), slopes = jax.value_and_grad(loss, has_aux=True)(params, extra, batch, key, config=SMALL)
        return jax.tree.map(lambda p, g: p - 0.05 * g, params, slopes), extra, value

    params, extra = MADE["params"], {"batch_stats": MADE["batch_stats"]}
    values = []
    for key in jax.random.split(jax.random.key(0), 40):
        params, extra, value = step(params, extra, key)
        values.append(float(value))
    assert np.mean(values[-5:]) < 0.9 * np.mean(values[:5])
    moved = extra["batch_stats"]["encoder"]["bn0"]["mean"]
    assert float(jnp.abs(moved - MADE["batch_stats"]["encoder"]["bn0"]["mean"]).max()) > 0


def test_what_is_drawn_for_an_item_is_its_own():
    keys = jax.random.split(jax.random.key(5), 3)
    both = captioning.encode(PARAMS, SMALL, MEL, key=keys)[0]["memory"]
    alone = captioning.encode(PARAMS, SMALL, MEL[2:], key=keys[2:])[0]["memory"]
    np.testing.assert_allclose(alone[0], both[2], rtol=1e-5, atol=1e-5)
    assert not np.allclose(both, captioning.encode(PARAMS, SMALL, MEL)[0]["memory"])


def test_stripes_are_narrow_and_of_their_item():
    x = jnp.ones((40, 100, 16))
    y = drop_stripes(jax.random.key(0), x, axis=1, count=2, width=10)
    gone = np.asarray(y[:, :, 0] == 0)
    assert ((y == 0) | (y == 1)).all()
    assert (np.asarray(y) == np.asarray(y)[:, :, :1]).all()
    assert gone.sum(1).max() <= 18
    assert len({tuple(row) for row in gone}) > 30
    z = spec_augment(jax.random.key(0), x, time=(1, 50), frequency=(2, 4))
    assert 0 < float((z == 0).mean()) < 0.7


def test_self_critical_training_prefers_what_was_better():
    ids = jnp.asarray([[3, 4, 1, 1], [5, 6, 7, 8]])
    mask = losses.until_end(ids, 1)
    assert mask.tolist() == [[True, True, True, False], [True] * 4]
    slope = jax.grad(lambda x: losses.self_critical(x, jnp.asarray([2.0, -1.0]), mask))(jnp.zeros((2, 4)))
    np.testing.assert_allclose(slope, [[-1, -1, -1, 0], [0.5] * 4])


def test_selection_needs_the_last_word():
    memory = captioning.encode(PARAMS, SMALL, MEL)[0]["memory"]
    scores = selection_scores(PARAMS, SMALL, memory, IDS, jnp.asarray([2, 3, 1]))
    other = selection_scores(PARAMS, SMALL, memory, IDS.at[:, 4].set(7), jnp.asarray([2, 3, 1]))
    np.testing.assert_array_equal(scores, other)
    perfect = losses.selection(jnp.asarray([[-50.0, 50]]), jnp.asarray([[50.0, -50]]))
    assert float(perfect) == pytest.approx(0, abs=1e-6)


def test_video_and_keywords_stand_in_the_memory():
    config = dataclasses.replace(SMALL, video=6, keywords=True, selection=False, tags=0)
    params = captioning.init(jax.random.key(0), config)
    video, keywords = jnp.ones((3, 7, 6)), jnp.asarray([[4, 5]] * 3)
    memory = captioning.encode(params, config, MEL, video=video, keywords=keywords)[0]["memory"]
    assert memory.shape == (3, 7 + 10 + 2, 8)
    np.testing.assert_array_equal(memory[:, -2:], params["params"]["word_emb"][keywords])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ConfigError, match="something to describe"):
        captioning.Config(sound=None, words=SMALL.words)
    with pytest.raises(UsageError, match="give it a spectrogram"):
        captioning.encode(PARAMS, SMALL)
    with pytest.raises(UsageError, match="give it video features"):
        captioning.encode(PARAMS, dataclasses.replace(SMALL, video=6), MEL)
    with pytest.raises(UsageError, match="no layer for tags"):
        tag_logits(PARAMS, dataclasses.replace(SMALL, tags=0), MEL)
    with pytest.raises(ConfigError, match="Tags are of sound"):
        captioning.init(jax.random.key(0), captioning.Config(sound=None, video=4, words=SMALL.words, tags=3))
    long = dataclasses.replace(patches.Config(), width=16, layers=1, heads=2, hidden=16, classes=0)
    params = patches.init(jax.random.key(0), long)
    with pytest.raises(UsageError, match="cut or pad"):
        patches.apply(params, long, jnp.zeros((1, 504, 64)))


def test_captioners_speak_together():
    made, _ = captioning.encode(PARAMS, SMALL, MEL)
    other = {**PARAMS, "params": random_like(PARAMS["params"])}
    away, _ = captioning.encode(other, SMALL, MEL)
    one, two = (PARAMS, SMALL, made["memory"]), (other, SMALL, away["memory"])
    beam = Beam(width=2)
    alone = captioning.caption(*one, 6, beam=beam)
    for members, weights in (([one, one], None), ([one, two], (1.0, 0.0))):
        both = captioning.caption_together(members, 6, beam=beam, weights=weights)
        np.testing.assert_array_equal(both.tokens, alone.tokens)
        np.testing.assert_allclose(both.scores, alone.scores, rtol=1e-5)
    both = captioning.caption_together([one, two], 6)
    told = [
        jax.nn.log_softmax(captioning.caption_logits(p, c, m, jnp.full((3, 1), SMALL.words.start))[:, 0])
        for p, c, m in (one, two)
    ]
    np.testing.assert_array_equal(both.tokens[:, 0], ((told[0] + told[1]) / 2).argmax(-1))
    fewer = dataclasses.replace(SMALL, words=dataclasses.replace(SMALL.words, vocab_size=11))
    with pytest.raises(UsageError, match="lists of words that differ"):
        captioning.caption_together([one, (PARAMS, fewer, made["memory"])], 6)
    with pytest.raises(UsageError, match="give one for each"):
        captioning.caption_together([one, two], 6, weights=(1.0,))


def test_a_student_is_as_far_as_the_divergence_says():
    own, wanted = RNG.normal(size=(2, 3, 5)), RNG.normal(size=(2, 3, 5))
    mask = np.array([[1, 1, 0], [1, 0, 0]])
    shares = [np.exp(x / 2) / np.exp(x / 2).sum(-1, keepdims=True) for x in (own, wanted)]
    each = (shares[1] * np.log(shares[1] / shares[0])).sum(-1)
    found = losses.distilled(jnp.asarray(own), jnp.asarray(wanted), mask, temperature=2.0)
    assert float(found) == pytest.approx(4 * each[mask == 1].mean(), rel=1e-5)
    assert float(losses.distilled(jnp.asarray(own), jnp.asarray(own))) == pytest.approx(0, abs=1e-6)


def test_a_teacher_adds_what_it_would_say():
    batch = {"mel": MEL, "ids": IDS, "mask": MASK}
    params, extra = PARAMS["params"], {"batch_stats": PARAMS["batch_stats"]}
    alone, _ = loss(params, extra, batch, config=SMALL)
    same, (metrics, _) = loss(params, extra, batch, frozen=PARAMS, config=SMALL, teacher=SMALL, teacher_weight=2.0)
    assert float(same) == pytest.approx(float(alone), rel=1e-5)  # a student like its teacher has nothing to learn
    other = {**PARAMS, "params": random_like(params)}
    more, (metrics, _) = loss(params, extra, batch, frozen=other, config=SMALL, teacher=SMALL, teacher_weight=2.0)
    assert float(more) == pytest.approx(float(alone) + 2 * float(metrics["teacher_loss"]), rel=1e-5)
    assert float(metrics["teacher_loss"]) > 0.01
