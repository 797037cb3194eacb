"""Adversarial captioning: what the critic learns, what captions are rewarded for, and that noise makes them differ."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxaudio.errors import UsageError
from jaxaudio.metrics import captions
from jaxaudio.nn import panns
from jaxaudio.systems import captioning
from jaxaudio.systems.captioning import adversarial, critical, objective, words
from jaxaudio.text.decode import Sampling
from jaxaudio.train import adversarial as gan
from jaxaudio.train.adversarial_captioning import caption_losses

LENGTH, COPIES = 6, 4
CONFIG = captioning.Config(
    sound=panns.Config(widths=(4,), head="frames", embedding=10, classes=0, dropout=0.0, augment=False),
    words=words.Config(vocab_size=9, width=16, layers=1, heads=2, hidden=32, dropout=0.0, start=0, end=1),
    noise=4,
)
CRITIC = adversarial.Critic(vocab_size=9, end=1, sound=10, width=16, heads=2, hidden=32)
WEIGHTS = adversarial.Weights(cider=0)
TOLD = [[[2, 3], [2, 3, 4], [3, 2, 4]], [[5, 6], [5, 6, 4], [6, 5, 4]], [[7, 8], [7, 8, 4], [8, 7, 4]]]


def padded(rows):
    ids = np.ones((len(rows), LENGTH), np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row) + 1] = [0, *row]
    return ids, (np.arange(LENGTH) < [[len(row) + 2] for row in rows]).astype(np.int32)


def batch():
    """Three sounds, each as often as it has captions, several times over."""
    noise = np.random.default_rng(0).normal(size=(16, 64))
    mel = np.stack([0 * noise, 8 * noise, 0 * noise - 8]).astype(np.float32)
    sound = np.repeat(np.arange(3), 3)
    ids, mask = padded([row for own in TOLD for row in own])
    told = np.stack([ids[sound == i] for i in sound]), np.stack([mask[sound == i] for i in sound])
    made = {"mel": mel[sound], "ids": ids, "mask": mask, "references_ids": told[0], "references_mask": told[1]}
    return {name: jnp.concatenate([jnp.asarray(x)] * COPIES) for name, x in made.items()}


BATCH = batch()
REAL = BATCH["ids"][:, 1:]
MADE = captioning.init(jax.random.key(0), CONFIG)
PARAMS, EXTRA = MADE["params"], {"batch_stats": MADE["batch_stats"]}


def learn(loss, params, steps, lr=1e-2):
    """Parameters after so many steps of Adam on `loss(params, key) -> (value, metrics)`, and what it said."""
    tx = optax.adam(lr)

    @jax.jit
    def step(params, opt, key):
        (value, metrics), slopes = jax.value_and_grad(loss, has_aux=True)(params, key)
        updates, opt = tx.update(slopes, opt, params)
        return optax.apply_updates(params, updates), opt, {**metrics, "loss": value}

    opt, said = tx.init(params), []
    for number in range(steps):
        params, opt, metrics = step(params, opt, jax.random.key(number))
        said.append({name: float(x) for name, x in metrics.items()})
    return params, said


def shuffled(ids):
    """The words of captions in another order, as people would not say them: backwards, the fourth word first."""
    count = (ids != 1).sum(1)
    return np.stack([[*row[:n][::-1], *row[n:]] if n > 2 else [*row[1::-1], *row[2:]] for row, n in zip(ids, count)])


@pytest.fixture(scope="module")
def judge():
    """A critic that has learnt to tell what people said from the same words in another order, and what it said."""
    heard = jax.jit(captioning.encode, static_argnums=1)(MADE, CONFIG, BATCH["mel"])[0]["embedding"]
    wrong = jnp.asarray(shuffled(np.asarray(REAL)))
    other = adversarial.others(BATCH, 1)
    first = adversarial.init(jax.random.key(1), CRITIC)
    made, said = learn(lambda p, _: adversarial.critic_loss(p, CRITIC, heard, REAL, wrong, other), first, 80)
    return made, said, heard, wrong


def test_the_critic_tells_real_from_shuffled(judge):
    params, said, heard, wrong = judge
    assert said[-1]["loss"] < 0.5 * said[0]["loss"]
    assert said[-1]["natural_real"] > said[-1]["natural_made"] + 0.3
    assert said[-1]["semantic_own"] > said[-1]["semantic_other"] + 0.5
    value = worth(params, heard, REAL)
    assert value.mean() > worth(params, heard, wrong).mean()
    assert value.mean() > worth(params, heard, jnp.roll(REAL, 3, 0)).mean() + 0.3  # captions of other sounds


@jax.jit
def worth(params, heard, ids):
    return adversarial.reward(params, CRITIC, heard)(ids)


def test_what_is_read_is_the_caption_alone(judge):
    params, _, heard, _ = judge
    whole = worth(params, heard, REAL)
    for i in range(3):
        longer = jnp.concatenate([REAL[i : i + 1], jnp.full((1, 4), 7)], 1)  # what follows the end is no word
        np.testing.assert_allclose(worth(params, heard[i : i + 1], longer)[0], whole[i], rtol=1e-5)
    cider = critical.told(BATCH, 1)
    both = jax.jit(lambda ids: (adversarial.reward(params, CRITIC, heard, cider=cider)(ids), cider(ids)))(REAL)
    np.testing.assert_allclose(both[0] - whole, both[1], rtol=1e-4, atol=1e-5)


def test_captions_of_the_same_sound_are_none_of_others():
    other = np.asarray(adversarial.others(BATCH, 1))[:9, :9]
    np.testing.assert_array_equal(other, np.kron(1 - np.eye(3), np.ones((3, 3))) > 0)
    tags = jnp.asarray([[1.0, 0], [1, 0], [0, 1]])
    short = {"ids": BATCH["ids"][2:9:3], "tags": tags}
    np.testing.assert_array_equal(adversarial.others(short, 1), [[0, 0, 1], [0, 0, 1], [1, 1, 0]])


@pytest.fixture(scope="module")
def step():
    """(state, the GAN's step) of untrained sides."""
    tx = gan.gan_optimizer(optax.adam(5e-3), optax.inject_hyperparams(optax.sgd)(0.05))
    sides = {gan.GENERATOR: PARAMS, gan.DISCRIMINATOR: adversarial.init(jax.random.key(2), CRITIC)}
    state = gan.create_gan(sides, {gan.GENERATOR: EXTRA, gan.DISCRIMINATOR: {}}, tx, jax.random.key(0))
    return state, jax.jit(gan.make_gan_step(caption_losses(CONFIG, CRITIC, WEIGHTS, length=LENGTH), tx))


def test_the_reward_rises_and_noise_varies_what_is_said(judge, step):
    state, run = step
    # A critic that learns no more, so that what rises is what is said.
    still = state.opt_state[gan.DISCRIMINATOR]
    still = still._replace(hyperparams={"learning_rate": jnp.zeros_like(still.hyperparams["learning_rate"])})
    params = state.params | {gan.DISCRIMINATOR: judge[0]}
    state, rewards = state.replace(params=params, opt_state=state.opt_state | {gan.DISCRIMINATOR: still}), []
    for _ in range(60):
        state, metrics = run(state, BATCH)
        rewards.append(float(metrics["reward"]))
    assert np.mean(rewards[-8:]) > np.mean(rewards[:8]) + 0.1
    params = state.params[gan.GENERATOR]

    variables = {"params": params, **EXTRA}
    memory = jnp.repeat(captioning.encode(variables, CONFIG, BATCH["mel"][:9:3])[0]["memory"], 6, 0)
    vectors = captioning.noise(jax.random.key(3), CONFIG, jnp.arange(18))
    other = captioning.varied(variables, CONFIG, memory, vectors)
    how = captioning.caption(variables, CONFIG, other, LENGTH, Sampling(), None, jax.random.key(4))
    drawn, sure = (texts(x) for x in (how.tokens, captioning.caption(variables, CONFIG, memory, LENGTH).tokens))
    # By noise alone, the likeliest words too differ from one time to the next.
    alone = texts(captioning.caption(variables, CONFIG, other, LENGTH).tokens)
    counts = [captions.diversity(x)["distinct"] for x in (sure, alone, drawn)]
    assert counts[0] < counts[1] and counts[0] < counts[2], counts
    several, same = (captions.variety([x[i : i + 6] for i in range(0, 18, 6)]) for x in (drawn, sure))
    assert several["div_2"] > same["div_2"] and several["mbleu_4"] < same["mbleu_4"]


def texts(tokens):
    return [" ".join(str(i) for i in row if i != 1) or "-" for row in np.asarray(tokens)]


def test_noise_is_of_its_item_and_zero_changes_nothing():
    made, memory = MADE, jnp.ones((3, 4, 16))
    np.testing.assert_array_equal(captioning.varied(made, CONFIG, memory, jnp.zeros((3, 4))), memory)
    vectors = captioning.noise(jax.random.key(0), CONFIG, jnp.arange(3))
    np.testing.assert_array_equal(captioning.noise(jax.random.key(0), CONFIG, jnp.asarray([2])), vectors[2:])
    assert not np.allclose(captioning.varied(made, CONFIG, memory, vectors), memory)
    plain = dataclasses.replace(CONFIG, noise=0)
    bare = captioning.init(jax.random.key(0), plain)["params"]
    jax.tree.map(np.testing.assert_array_equal, {k: v for k, v in made["params"].items() if k != "noise_linear"}, bare)
    with pytest.raises(UsageError, match="no layer for noise"):
        captioning.varied(made, plain, memory, vectors)


def test_cross_entropy_is_of_a_varied_memory():
    run = jax.jit(lambda key: objective.loss(PARAMS, EXTRA, BATCH, key, config=CONFIG)[0])
    assert float(run(jax.random.key(0))) != float(run(jax.random.key(1)))  # there is no dropout


def test_a_step_trains_both_sides(step):
    state, run = step
    fallen = []
    for _ in range(12):
        state, metrics = run(state, BATCH)
        fallen.append(float(metrics["discriminator_loss"]))
    assert fallen[-1] < fallen[0] and float(metrics["skipped"]) == 0
    assert float(metrics["natural_made"]) < float(metrics["natural_real"])
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params[gan.GENERATOR], PARAMS)
    assert moved["noise_linear"]["kernel"] > 0 and moved["word_emb"] > 0
    assert max(jax.tree.leaves(moved["encoder"])) == 0
