"""Self-critical training: the reward is CIDEr-D of the words, and what is rewarded becomes likelier."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.metrics import captions
from jaxaudio.nn import panns
from jaxaudio.systems import captioning
from jaxaudio.systems.captioning import critical, losses, words
from jaxaudio.text.decode import Sampling

BATCH, REFERENCES, LENGTH = 3, 2, 9
CONFIG = captioning.Config(
    sound=panns.Config(widths=(4, 6), head="frames", embedding=10, classes=0, dropout=0.1),
    words=words.Config(vocab_size=8, width=8, layers=1, heads=2, hidden=16, dropout=0.1, start=0, end=1),
)
sentence = st.lists(st.integers(2, 5), min_size=1, max_size=LENGTH)
cider = jax.jit(critical.cider_d)


def padded(rows):
    ids, mask = np.zeros((len(rows), LENGTH), np.int32), np.zeros((len(rows), LENGTH), np.int32)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = row, 1
    return ids, mask


@settings(max_examples=60, deadline=None)
@given(st.lists(sentence, min_size=BATCH, max_size=BATCH), st.lists(sentence, min_size=6, max_size=6))
def test_the_reward_is_cider_d(said, told):
    ids, mask = padded(said)
    references, known = (x.reshape(BATCH, REFERENCES, LENGTH) for x in padded(told))
    texts = [" ".join(map(str, row)) for row in said]
    written = [[" ".join(map(str, row)) for row in told[i * 2 : i * 2 + 2]] for i in range(BATCH)]
    np.testing.assert_allclose(
        cider(ids, mask, references, known), captions.cider_d(texts, written), rtol=1e-4, atol=1e-5
    )


def batch():
    rng = np.random.default_rng(0)
    told = [[2, 3], [2, 3, 3], [4, 5], [4, 5, 5], [6, 2, 7], [6, 7]]
    ids, mask = padded([[0, *row, 1] for row in told])
    return {
        "mel": jnp.asarray(rng.normal(size=(BATCH, 16, 64)), jnp.float32),
        "references_ids": ids.reshape(BATCH, REFERENCES, LENGTH),
        "references_mask": mask.reshape(BATCH, REFERENCES, LENGTH),
    }


def test_rewards_rise_and_the_encoder_stays():
    made = captioning.init(jax.random.key(0), CONFIG)
    params, extra, tx = made["params"], {"batch_stats": made["batch_stats"]}, optax.adam(3e-3)
    repeated = {name: jnp.concatenate([x] * 4) for name, x in batch().items()}

    @jax.jit
    def step(params, opt, key):
        lossy = jax.value_and_grad(critical.loss, has_aux=True)
        (_, (metrics, after)), slopes = lossy(params, extra, repeated, key, config=CONFIG, length=6)
        updates, opt = tx.update(slopes, opt, params)
        return optax.apply_updates(params, updates), opt, metrics, after, slopes

    opt, rewards = tx.init(params), []
    for number in range(120):
        params, opt, metrics, after, slopes = step(params, opt, jax.random.key(number))
        rewards.append(float(metrics["reward"]))
    assert np.mean(rewards[-20:]) > 1.5 * np.mean(rewards[:20])
    assert all(not np.any(x) for x in jax.tree.leaves(slopes["encoder"]))
    assert any(np.any(x) for x in jax.tree.leaves(slopes["audio_linear"]))
    jax.tree.map(np.testing.assert_array_equal, after, extra)


def test_the_loss_is_that_of_what_was_drawn():
    made = captioning.init(jax.random.key(0), CONFIG)
    params, extra, given_ = made["params"], {"batch_stats": made["batch_stats"]}, batch()
    run = jax.jit(functools.partial(critical.loss, config=CONFIG, length=6))
    value, (metrics, _) = run(params, extra, given_, jax.random.key(3))
    variables = {"params": params, **extra}
    memory = jax.jit(captioning.encode, static_argnums=1)(variables, CONFIG, given_["mel"])[0]["memory"]
    how = captioning.caption(variables, CONFIG, memory, 6, Sampling(), None, jax.random.key(3))
    best = captioning.caption(variables, CONFIG, memory, 6)
    told = given_["references_ids"]
    words_alone = told, given_["references_mask"] * (told > 1)
    scores = [cider(x.tokens, losses.until_end(x.tokens, 1) & (x.tokens != 1), *words_alone) for x in (how, best)]
    wanted = -np.mean((scores[0] - scores[1]) * how.log_probs.sum(1))
    assert float(value) == pytest.approx(float(wanted), rel=1e-4, abs=1e-6)
    assert float(metrics["reward"]) == pytest.approx(float(scores[0].mean()), rel=1e-5)
    zero, (same, _) = run(params, extra, given_, None)
    assert float(zero) == 0 and float(same["reward"]) == float(same["baseline"])
