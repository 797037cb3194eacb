"""Decoding of a small recurrent model, beside plain Python that does the same slowly."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.errors import UsageError
from jaxaudio.text.decode import Beam, Decoder, Rules, Sampling, beam_search, generate, guided
from jaxaudio.text.decode.beams import DCASE
from jaxaudio.text.decode.sequences import warped

WORDS, WIDTH, BATCH, END = 7, 5, 4, 3
RNG = np.random.default_rng(0)
EMBEDDING = jnp.asarray(RNG.normal(size=(WORDS, WIDTH)), jnp.float32)
OUT = jnp.asarray(2 * RNG.normal(size=(WIDTH, WORDS)), jnp.float32)
START = jnp.asarray(RNG.normal(size=(BATCH, WIDTH)), jnp.float32)


def step(tokens, state):
    state = jnp.tanh(0.7 * state + EMBEDDING[tokens])
    return state @ OUT, state


MODEL = Decoder(step)
FIRST = START @ OUT


def shares(item, said, start=START):
    """Log-probabilities of the next word, in plain numpy."""
    state = np.asarray(start[item])
    for word in said:
        state = np.tanh(0.7 * state + np.asarray(EMBEDDING)[word])
    logits = (state @ np.asarray(OUT)).astype(np.float64)
    return logits - np.log(np.exp(logits).sum())


def greedy(item, length, end=END):
    said = []
    while len(said) < length and (not said or said[-1] != end):
        said.append(int(shares(item, said).argmax()))
    return said


def searched(item, length, beam, end=END):
    """Beam search of one item as its papers' code writes it: lists that are sorted."""
    live, ended, size = [((), 0.0)], [], 2 * beam.width if beam.replace else beam.width

    def score(total, n):
        return total / n**beam.length_penalty

    for place in range(1, length + 1):
        longer = [((*said, w), total + shares(item, said)[w]) for said, total in live for w in range(WORDS)]
        longer = sorted(longer, key=lambda x: -x[1])[:size]
        for rank, (said, total) in enumerate(longer):
            if said[-1] == end and rank < beam.width:
                ended.append((said, score(total, place)))
        ended = sorted(ended, key=lambda x: -x[1])[: beam.width]
        live = [x for x in longer if x[0][-1] != end][: beam.width]
        if len(ended) == beam.width and (beam.stop == "full" or score(live[0][1], place) <= ended[-1][1]):
            return ended
    room = beam.width if beam.replace else beam.width - len(ended)
    ended += [(said, score(total, length)) for said, total in live[:room]]
    return sorted(ended, key=lambda x: -x[1])[: beam.width]


def test_greedy_says_the_likeliest_word_until_the_end():
    made = generate(MODEL, FIRST, START, Rules(length=6, end=END, pad=6), keep_logits=True)
    wanted = [greedy(i, 6) for i in range(BATCH)]
    assert len({len(x) for x in wanted}) > 1
    np.testing.assert_array_equal(made.lengths, [len(x) for x in wanted])
    for i, said in enumerate(wanted):
        assert made.tokens[i].tolist() == said + [6] * (6 - len(said))
        rows = [shares(i, said[:n]) for n in range(len(said))]
        np.testing.assert_allclose(
            made.log_probs[i, : len(said)], [r[w] for r, w in zip(rows, said, strict=True)], 1e-5
        )
        np.testing.assert_allclose(jax.nn.log_softmax(made.logits[i, : len(said)]), rows, rtol=1e-4, atol=1e-5)
        assert not made.log_probs[i, len(said) :].any()
        assert not made.logits[i, len(said) :].any()


def test_without_an_end_all_are_as_long():
    made = generate(MODEL, FIRST, START, Rules(length=5))
    assert made.lengths.tolist() == [5] * BATCH
    for i in range(BATCH):
        assert made.tokens[i].tolist() == greedy(i, 5, end=None)


@pytest.mark.parametrize(
    "beam", [Beam(width=3), Beam(width=2, length_penalty=0.0), Beam(width=3, stop="full"), DCASE], ids=str
)
@pytest.mark.parametrize("length", [3, 7])
def test_beams_are_those_of_the_plain_search(beam, length):
    found = jax.jit(functools.partial(beam_search, MODEL, rules=Rules(length=length, end=END), beam=beam))(
        logits=FIRST, state=START
    )
    for i in range(BATCH):
        wanted = searched(i, length, beam)
        np.testing.assert_allclose(found.scores[i, : len(wanted)], [score for _, score in wanted], rtol=1e-5)
        for said, tokens, size in zip((x[0] for x in wanted), found.tokens[i], found.lengths[i], strict=False):
            assert tuple(tokens[:size].tolist()) == said
            assert (tokens[size:] == END).all()


def test_a_beam_of_one_is_greedy():
    rules = Rules(length=6, end=END)
    found = beam_search(MODEL, FIRST, START, rules, beam=Beam(width=1, stop="full", replace=False))
    np.testing.assert_array_equal(found.tokens[:, 0], generate(MODEL, FIRST, START, rules).tokens)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(temperature=0.0)], ids=["drawn", "greedy"])
def test_an_item_does_not_depend_on_its_batch(sampling):
    rules, key = Rules(length=6, end=END), jax.random.key(3)
    whole = generate(MODEL, FIRST, START, rules, sampling=sampling, key=key)
    for size in (1, 3):
        part = generate(MODEL, FIRST[:size], START[:size], rules, sampling=sampling, key=key)
        np.testing.assert_array_equal(part.tokens, whole.tokens[:size])
        found = beam_search(MODEL, FIRST[:size], START[:size], rules)
        np.testing.assert_array_equal(found.tokens, beam_search(MODEL, FIRST, START, rules).tokens[:size])


def test_words_are_drawn_by_their_probabilities():
    count = 20_000
    first = jnp.broadcast_to(FIRST[0], (count, WORDS))
    state = jnp.broadcast_to(START[0], (count, WIDTH))
    for temperature in (1.0, 0.5):
        made = generate(
            MODEL, first, state, Rules(length=2), sampling=Sampling(temperature=temperature), key=jax.random.key(0)
        )
        wanted = np.exp(shares(0, []) / temperature)
        got = np.bincount(made.tokens[:, 0], minlength=WORDS) / count
        # Five standard errors of a share of 20,000 draws are at most 0.018.
        np.testing.assert_allclose(got, wanted / wanted.sum(), atol=0.018)
        assert len(np.unique(made.tokens[:, 1])) > 2


def test_top_k_and_top_p_keep_the_likeliest():
    scores = jnp.log(jnp.asarray([[0.1, 0.4, 0.05, 0.25, 0.2]]))
    kept = lambda **how: jnp.isfinite(warped(scores, Sampling(**how)))[0].tolist()  # noqa: E731
    assert kept(top_k=2) == [False, True, False, True, False]
    assert kept(top_k=9) == [True] * 5
    assert kept(top_p=0.6) == [False, True, False, True, False]
    assert kept(top_p=0.66) == [False, True, False, True, True]
    assert kept(top_p=1e-6) == [False, True, False, False, False]
    # The temperature comes first: what is sharper needs fewer words.
    assert kept(top_p=0.6, temperature=0.25) == [False, True, False, False, False]


def test_rules_hold_while_words_are_drawn():
    rules = Rules(length=8, end=END, least=2, first=5, close=True, no_repeat=2)
    allowed = jnp.arange(WORDS) != 1
    first, state = jnp.tile(FIRST, (50, 1)), jnp.tile(START, (50, 1))
    made = generate(MODEL, first, state, rules, sampling=Sampling(), key=jax.random.key(1), allowed=allowed)
    for said, length in zip(made.tokens.tolist(), made.lengths.tolist(), strict=True):
        said = said[:length]
        assert said[0] == 5
        assert said[-1] == END
        assert length > 2
        assert 1 not in said
        pairs = list(itertools.pairwise(said))
        assert len(pairs) == len(set(pairs))
    free = generate(MODEL, first, state, Rules(length=8, end=END), sampling=Sampling(), key=jax.random.key(1))
    assert (free.tokens == 1).any()
    assert any(
        len(p) != len(set(p))
        for p in ([*itertools.pairwise(x[:n])] for x, n in zip(*map(np.asarray, free[:2]), strict=True))
    )


def test_the_vocabulary_may_change_from_place_to_place():
    made = generate(MODEL, FIRST, START, Rules(length=6), allowed=lambda place: jnp.arange(WORDS) % 2 == place % 2)
    assert (made.tokens % 2 == jnp.arange(6) % 2).all()


def test_the_repetition_penalty_counts_the_prompt():
    logits = jnp.asarray([[3.0, 2.9, -1.0], [3.0, 1.0, -1.0]])
    stay = Decoder(lambda tokens, state: (state, state))
    rules = Rules(length=2, repetition_penalty=1.5)
    assert generate(stay, logits, logits, rules).tokens.tolist() == [[0, 1], [0, 0]]
    seen = jnp.asarray([[True, False, False], [False, False, False]])
    assert generate(stay, logits, logits, rules, seen=seen).tokens.tolist() == [[1, 0], [0, 0]]


def test_guidance_mixes_what_is_said_with_and_without_the_condition():
    other = START[::-1]
    both = jnp.concatenate([START, other])
    for width, scale in itertools.product((0, 3), (1.0, 2.5)):
        decoder, logits, state = guided(MODEL, both @ OUT, both, scale)
        np.testing.assert_allclose(logits, other @ OUT + scale * ((START - other) @ OUT), rtol=2e-5, atol=1e-5)
        rules = Rules(length=5, end=END)
        if width:
            found = beam_search(decoder, logits, state, rules, beam=Beam(width=width)).tokens[:, 0]
            alone = beam_search(MODEL, FIRST, START, rules, beam=Beam(width=width)).tokens[:, 0]
        else:
            found = generate(decoder, logits, state, rules).tokens
            alone = generate(MODEL, FIRST, START, rules).tokens
        if scale == 1:
            np.testing.assert_array_equal(found, alone)
        elif not width:
            for i in range(BATCH):
                said = []
                while len(said) < 5 and (not said or said[-1] != END):
                    free = shares(i, said, other)
                    said.append(int((free + scale * (shares(i, said) - free)).argmax()))
                assert found[i, : len(said)].tolist() == said


def test_tokens_are_told_as_they_come():
    told = []
    made = jax.jit(lambda x, s: generate(MODEL, x, s, Rules(length=6, end=END), on_token=lambda *x: told.append(x)))(
        FIRST, START
    )
    jax.block_until_ready(made)
    assert [int(place) for place, _ in told] == list(range(int(made.lengths.max())))
    np.testing.assert_array_equal(np.stack([words for _, words in told], 1), made.tokens[:, : len(told)])


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UsageError, match="give a key"):
        generate(MODEL, FIRST, START, Rules(length=3), sampling=Sampling())
    with pytest.raises(UsageError, match="length > least"):
        Rules(length=3, least=3)
    with pytest.raises(UsageError, match=r"top_p in \(0, 1\]"):
        Sampling(top_p=0.0)
    with pytest.raises(UsageError, match="at most 3"):
        beam_search(MODEL, FIRST, START, Rules(length=3), beam=Beam(width=4))
    with pytest.raises(UsageError, match="penalty"):
        Rules(length=3, repetition_penalty=0)
    with pytest.raises(UsageError, match="at least 1"):
        Beam(width=0)
