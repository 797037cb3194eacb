"""The models in the package: they are what was recorded, fit together, and do what their cards say."""

import json

import numpy as np
import pytest

import jaxaudio
from jaxaudio.metrics import concepts, named
from jaxaudio.models import ranking, verify
from jaxaudio.models.registry import ASSETS, DEFAULT, DEFAULT_GENERATOR, shipped

EASY = {
    "violin": "a violin",
    "typing": "typing on a keyboard",
    "siren": "a siren",
    "church bell": "a church bell",
    "frog croaking": "a frog croaking",
    "thunder": "thunder",
    "bubbles": "bubbles",
    "alarm beeping": "an alarm beeping",
}


def test_the_defaults_are_there():
    assert {DEFAULT, DEFAULT_GENERATOR} <= set(shipped())


@pytest.mark.parametrize("name", sorted(shipped()))
def test_it_computes_what_was_recorded_and_says_where_it_comes_from(name):
    (check,) = verify.verify(name)
    assert check.passed
    assert jaxaudio.load(name).licence in (ASSETS / name / "CARD.md").read_text(encoding="utf-8")


def test_the_text_to_audio_family_is_small():
    """Generator and text encoder take at most 16 MB."""
    folders = (ASSETS / DEFAULT_GENERATOR, ASSETS / "text-mini")
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir()) < 16 * 2**20


def test_a_classifier_of_real_sounds_knows_what_was_asked_for():
    model, judge = jaxaudio.load(DEFAULT_GENERATOR), concepts.load(ASSETS / "concepts-mini")
    waves = model.generate(list(EASY.values()), steps=12, seed=1, batch=len(EASY))
    assert waves.shape == (len(EASY), judge.config.samples)
    told = concepts.logits(judge.params, judge.config, concepts.log_mels(judge.config, waves))
    probability, right = named(np.asarray(told), concepts.named(judge.config, list(EASY)))
    assert right.mean() >= 0.75, dict(zip(EASY, probability.round(2)))


def test_it_gives_the_best_of_several_by_what_is_heard():
    model = jaxaudio.load(DEFAULT_GENERATOR)
    asked = {"steps": 4, "seed": 3}
    every = model.generate("a violin", count=3, **asked)
    judge = ranking.open_judge(model.card, None, model.sample_rate)
    order = np.argsort(-judge(every, ["a violin"] * 3))
    best = model.generate("a violin", count=2, best_of=3, **asked)
    np.testing.assert_array_equal(best, every[order[:2]])

    # A bell is nearer to "a bell ringing" than a violin is, and a long sound is heard to its end.
    bell, violin = (model.generate(text, steps=12, seed=1) for text in ("a church bell", "a violin"))
    scores = judge(np.stack([bell, violin]), ["a bell ringing"] * 2)
    assert scores[0] > scores[1]
    late = np.concatenate([np.zeros_like(bell), bell])
    assert judge(late[None], ["a church bell"])[0] > judge(np.zeros_like(late)[None], ["a church bell"])[0]


def test_the_judge_has_learnt_from_real_sounds_alone():
    about = json.loads((ASSETS / "concepts-mini" / "config.json").read_text())
    assert "concept_classifier" in about["source"]
