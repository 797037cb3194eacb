"""Captioners in hand: what they hear, say and find, and what they refuse."""

import math

import numpy as np
import pytest

from jaxaudio import load
from jaxaudio.errors import AudioError, CheckpointError, UsageError
from tests.models import tiny_captioner

RATE = tiny_captioner.RATE
RNG = np.random.default_rng(5)
NOISE = RNG.normal(0, 0.1, 3000).astype(np.float32)
TONE = (0.3 * np.sin(np.arange(6000) * 0.3)).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(tiny_captioner.write(tmp_path_factory.mktemp("captioner") / "model"))


def test_it_hears_steps_of_its_card_at_its_level_and_rate(model):
    heard = model.hear(NOISE, sample_rate=RATE)
    assert heard.shape == (4000,) and not heard[3000:].any()
    assert np.sqrt(np.mean(heard[:3000] ** 2)) == pytest.approx(0.05, rel=1e-5)
    stereo = np.stack([NOISE, NOISE], 1) * 3
    np.testing.assert_allclose(model.hear(stereo, sample_rate=RATE), heard, atol=1e-6)
    assert model.hear(NOISE, sample_rate=2 * RATE).shape == (4000,)  # half as long
    assert model.hear(np.zeros(1), sample_rate=RATE).shape == (4000,)
    assert model.hear(np.tile(TONE, 60), sample_rate=RATE).shape == (30 * RATE,)


def test_captions_are_the_best_first_and_of_known_words(model):
    found = model.captions(NOISE, sample_rate=RATE, beam=3)
    assert 1 <= len(found) <= 3
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True) and all(-20 < score <= 0 for score in scores)
    assert set(" ".join(one.text for one in found).split()) <= set(tiny_captioner.WORDS)
    assert model.caption(NOISE, sample_rate=RATE) == found[0].text


def test_a_batch_says_what_each_says_alone(model):
    heard = [model.hear(x, sample_rate=RATE) for x in (NOISE, TONE, -NOISE[:2000], NOISE[500:])]
    told = []
    together = model.describe(heard, beam=2, progress=lambda done, total: told.append((done, total)))
    assert told[0] == (0, 4) and told[-1] == (4, 4)
    for own, sound in zip(together, heard, strict=True):
        (alone,) = model.describe([sound], beam=2)
        assert [one.text for one in alone] == [one.text for one in own]
        np.testing.assert_allclose([one.score for one in alone], [one.score for one in own], atol=1e-5)
    sure = model.tag_probabilities(heard)
    np.testing.assert_allclose(sure[1:2], model.tag_probabilities(heard[1:2]), atol=1e-5)


def test_draws_differ_by_their_seed_and_are_repeated_by_it(model):
    how = {"sample_rate": RATE, "samples": 6, "temperature": 2.0}
    one, same, other = (model.captions(NOISE, seed=seed, **how) for seed in (1, 1, 2))
    assert one == same != other
    assert len({said.text for said in one}) == len(one) > 1


def test_tags_are_those_of_the_card(model):
    tags = model.tag(TONE, sample_rate=RATE, top=2)
    sure = model.tag_probabilities([model.hear(TONE, sample_rate=RATE)])[0]
    assert [tag.name for tag in tags] == [tiny_captioner.TAGS[i] for i in np.argsort(-sure)[:2]]
    assert tags[0].probability == pytest.approx(sure.max()) and 0 < sure.min() < sure.max() < 1


def test_a_sentence_matches_silence_by_nothing(model):
    heard = [np.zeros(4000, np.float32), model.hear(NOISE, sample_rate=RATE)]
    scores = model.match(["a dog barks", "hum"], heard)
    np.testing.assert_allclose(scores[0], 0, atol=1e-6)
    assert np.abs(scores[1]).min() > 1e-3 and not math.isclose(*scores[1], rel_tol=1e-2)
    alone = model.match("hum", heard[1:])  # by itself, and without what fills the longer sentence up
    np.testing.assert_allclose(alone[0, 0], scores[1, 1], atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda m: m.caption(NOISE, sample_rate=0), UsageError, "sample rate"),
        (lambda m: m.caption(NOISE * np.nan, sample_rate=RATE), AudioError, "sample 0"),
        (lambda m: m.caption(NOISE[:0], sample_rate=RATE), AudioError, "empty"),
        (lambda m: m.captions(NOISE, sample_rate=RATE, beam=0), UsageError, "a beam of"),
        (lambda m: m.captions(NOISE, sample_rate=RATE, samples=3, temperature=0), UsageError, "temperature"),
        (lambda m: m.match("xylophone", [NOISE]), UsageError, "knows no word of 'xylophone'"),
        (lambda m: m.match("", [NOISE]), UsageError, "no words"),
        (lambda m: m.tag(NOISE, sample_rate=RATE, top=0), UsageError, "top"),
    ],
)
def test_what_is_refused(model, call, error, told):
    with pytest.raises(error, match=told):
        call(model)


def test_a_model_without_words_or_tags_says_so(tmp_path):
    bare = load(tiny_captioner.write(tmp_path / "bare", words=[], tags=[]))
    with pytest.raises(UsageError, match="has no words"):
        bare.caption(NOISE, sample_rate=RATE)
    with pytest.raises(UsageError, match="has no tags"):
        bare.tag(NOISE, sample_rate=RATE)
    short = load(tiny_captioner.write(tmp_path / "short", words=list(tiny_captioner.WORDS[:5])))
    with pytest.raises(CheckpointError, match="5 words for 8 places"):
        short.caption(NOISE, sample_rate=RATE)
