"""Scores of captions, beside what the COCO evaluation and aac-metrics gave."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxaudio.errors import UsageError
from jaxaudio.metrics import captions

CASE = json.loads((Path(__file__).parents[1] / "golden" / "caption_metrics" / "io.json").read_text())
OUT = CASE["outputs"]


def test_scores_are_those_of_the_published_code():
    made = captions.scores(CASE["preds"], CASE["refs"])
    for n in range(1, 5):
        assert made.bleu[n - 1] == pytest.approx(OUT["bleu_corpus"][f"bleu_{n}"], rel=1e-9)
        coco = OUT["coco_bleu_sent_split"][n - 1]
        np.testing.assert_allclose(made.each[f"bleu_{n}"], coco, rtol=1e-9)
    assert made.rouge_l == pytest.approx(OUT["coco_rouge_split"], rel=1e-9)
    np.testing.assert_allclose(made.each["rouge_l"], OUT["coco_rouge_sent_split"], rtol=1e-9)
    assert made.cider_d == pytest.approx(OUT["coco_cider_split"], rel=1e-9)
    np.testing.assert_allclose(made.each["cider_d"], OUT["coco_cider_sent_split"], rtol=1e-9)


def test_the_reward_of_self_critical_training_has_one_reference():
    ours = captions.cider_d(CASE["preds"], [refs[:1] for refs in CASE["refs"]])
    np.testing.assert_allclose(ours, OUT["scst_cider_single_ref"], rtol=1e-9)


def test_a_perfect_caption_and_one_that_shares_nothing():
    refs = [["a dog barks at the old gate"], ["rain falls on a roof of tin"], ["someone plays the piano in a hall"]]
    made = captions.scores([ref[0] for ref in refs], refs)
    assert made.bleu == pytest.approx((1, 1, 1, 1), rel=1e-6)
    assert made.rouge_l == 1
    assert made.cider_d == pytest.approx(10)
    worst = captions.scores(["xyz"] * 3, refs)
    assert max(worst.bleu) < 1e-6
    assert worst.rouge_l == worst.cider_d == 0


def test_diversity_counts_words_and_captions():
    assert captions.diversity(["a dog", "a dog", "a loud cat", "rain"]) == {
        "vocabulary": 5.0,
        "distinct": 0.75,
        "words": 2.0,
    }


def test_variety_is_of_the_captions_of_a_clip():
    same = captions.variety([["a dog barks at a cat", "a dog barks at a cat"]])
    assert same == pytest.approx({"div_1": 5 / 12, "div_2": 5 / 12, "mbleu_4": 1}, rel=1e-6)
    other = captions.variety([["a dog barks at a cat", "rain falls on tin roofs"]])
    assert other["div_1"] == pytest.approx(10 / 11) and other["mbleu_4"] < 1e-3
    with pytest.raises(UsageError, match="two captions"):
        captions.variety([["a dog"]])


def test_lists_are_asked_for():
    with pytest.raises(UsageError, match="are lists"):
        captions.scores("a dog", [["a dog"]])
    with pytest.raises(UsageError, match="give each its own"):
        captions.scores(["a dog"], [[]])
    with pytest.raises(UsageError, match="0 captions"):
        captions.scores([], [])
