"""CTC against the sum over every alignment, spelled out."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.errors import UsageError
from jaxaudio.text import ctc

FRAMES, SYMBOLS, BLANK = 4, 3, 1
_loss = jax.jit(ctc.ctc_loss, static_argnames=("blank", "zero_infinity"))


def collapse(path):
    merged = [symbol for symbol, _ in itertools.groupby(path)]
    return tuple(symbol for symbol in merged if symbol != BLANK)


def probabilities(logits):
    """Of every labelling: the alignments that collapse to it, added up."""
    logs = np.asarray(jax.nn.log_softmax(jnp.asarray(logits, jnp.float32)), np.float64)
    table = {}
    for path in itertools.product(range(SYMBOLS), repeat=len(logits)):
        said = collapse(path)
        table[said] = table.get(said, 0.0) + np.exp(sum(logs[t, symbol] for t, symbol in enumerate(path)))
    return table


def draw(seed):
    return np.random.default_rng(seed).standard_normal((FRAMES, SYMBOLS)).astype(np.float32) * 2


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), labels=st.lists(st.sampled_from([0, 2]), max_size=3), frames=st.integers(1, FRAMES))
def test_the_loss_sums_over_all_alignments(seed, labels, frames):
    logits = draw(seed)
    expected = probabilities(logits[:frames]).get(tuple(labels), 0.0)
    padded = np.array([labels + [7] * (3 - len(labels))])  # what lies past the end may be anything
    arguments = (logits[None], np.array([frames]), padded, np.array([len(labels)]))
    value = float(_loss(*arguments, blank=BLANK, zero_infinity=False)[0])
    assert value == pytest.approx(-np.log(expected) if expected else np.inf, rel=1e-4, abs=1e-5)


def test_impossible_items_have_neither_loss_nor_gradient():
    logits, labels = jnp.asarray(np.stack([draw(0), draw(1)])), np.array([[0, 0, 0], [0, 2, 0]])
    four, three = jnp.array([4, 4]), jnp.array([3, 3])
    both = jax.jit(jax.value_and_grad(lambda x: jnp.sum(ctc.ctc_loss(x, four, labels, three, BLANK))))
    value, slope = both(logits)
    assert np.all(slope[0] == 0) and np.any(slope[1] != 0)
    np.testing.assert_allclose(value, -np.log(probabilities(logits[1])[0, 2, 0]), rtol=1e-5)
    np.testing.assert_allclose(
        jax.jit(ctc.mean_ctc_loss, static_argnums=4)(logits, four, labels, three, BLANK), value / 3 / 2, rtol=1e-6
    )


def test_greedy_merges_before_it_leaves_out():
    best = np.array([[0, 0, 1, 0, 2, 2], [1, 2, 1, 1, 0, 0]])
    labels, counts = ctc.greedy(np.eye(SYMBOLS)[best], [6, 4], BLANK)
    np.testing.assert_array_equal(labels, [[0, 0, 2, -1, -1, -1], [2, -1, -1, -1, -1, -1]])
    np.testing.assert_array_equal(counts, [3, 1])


def test_a_wide_beam_finds_every_labelling():
    table = probabilities(draw(3))
    found = ctc.beam_search(jax.nn.log_softmax(draw(3)), blank=BLANK, width=1000)
    assert [tuple(labels) for labels, _ in found] == sorted(table, key=lambda labels: -table[labels])
    np.testing.assert_allclose([np.exp(score) for _, score in found], sorted(table.values(), reverse=True), rtol=1e-4)


def test_prefixes_add_up_what_begins_with_them():
    table, logs = probabilities(draw(4)), jax.nn.log_softmax(draw(4))
    prefix, said = ctc.empty_prefix(logs, BLANK), ()
    for symbol in (2, 2, 0):
        said = (*said, symbol)
        score, prefix = ctc.extend(logs, prefix, symbol, BLANK)
        begins = sum(p for labels, p in table.items() if labels[: len(said)] == said)
        assert np.exp(score) == pytest.approx(begins, rel=1e-4)
        ends = np.exp(np.logaddexp(prefix.said[-1], prefix.quiet[-1]))
        assert ends == pytest.approx(table.get(said, 0.0), rel=1e-4)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="one of the symbols"):
        ctc.ctc_loss(np.zeros((1, 4, 3)), [4], np.zeros((1, 2), int), [2], blank=3)
    with pytest.raises(UsageError, match="is the blank"):
        ctc.extend(np.zeros((4, 3)), ctc.empty_prefix(np.zeros((4, 3))), 0)
