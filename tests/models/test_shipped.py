"""The models in the package: they are what was recorded, fit together, and do what their cards say."""

import json

import numpy as np
import pytest

import jaxaudio
from jaxaudio.data.open_sounds.procedural import RATE
from jaxaudio.data.open_sounds.procedural_catalogue import GENERATORS
from jaxaudio.metrics import concepts, named
from jaxaudio.models import ranking, verify
from jaxaudio.models.registry import ASSETS, DEFAULT, DEFAULT_CAPTIONER, DEFAULT_GENERATOR, shipped

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
    assert {DEFAULT, DEFAULT_CAPTIONER, DEFAULT_GENERATOR} <= set(shipped())


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


def test_the_captioner_is_small_and_names_what_it_hears():
    folder = ASSETS / DEFAULT_CAPTIONER
    assert sum(path.stat().st_size for path in folder.iterdir()) < 8 * 2**20
    model, rng = jaxaudio.load(DEFAULT_CAPTIONER), np.random.default_rng(2024)
    asked = {
        "rain": "rain",
        "siren": "siren",
        "owl": "owl",
        "crickets": "crickets",
        "dial_tone": "dial tone",
        "heartbeat": "heartbeat",
        "clock": "clock ticking",
        "sonar": "sonar",
        "helicopter": "helicopter",
        "fire": "fire",
    }
    heard = [model.hear(GENERATORS[name](rng, 4.0), sample_rate=RATE) for name in asked]
    names = list(asked.values())
    tagged = [model.tags[i] for i in model.tag_probabilities(heard).argmax(1)]
    assert sum(a == b for a, b in zip(tagged, names, strict=True)) >= 8, tagged
    said = [own[0].text for own in model.describe(heard)]
    words = [name.split()[0].rstrip("s") for name in names]
    assert sum(word in text for word, text in zip(words, said, strict=True)) >= 6, said
    first = [names[i] for i in model.match(names, heard).argmax(0)]
    assert sum(a == b for a, b in zip(first, names, strict=True)) >= 7, first
