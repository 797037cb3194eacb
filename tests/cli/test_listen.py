"""`caption`, `tag` and `search`: what they print, the tables they write, and what they refuse."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from jaxaudio import io
from jaxaudio.data.audio_clips import write_dataset
from jaxaudio.metrics import captions
from tests.metrics.test_java import jars
from tests.models import tiny_captioner
from tests.train.test_captioning import clips

__all__ = ["jars"]


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return tiny_captioner.write(tmp_path_factory.mktemp("captioner") / "model")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(1)
    for i in range(3):
        io.write(tmp_path / "sounds" / f"{i}.wav", rng.normal(0, 0.1, 3000 + 100 * i).astype(np.float32), 8000)
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"no sound")
    return tmp_path / "sounds"


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_one_recording_gives_one_sentence(jaxaudio, captioner):
    status, said, told = jaxaudio("caption", "mix.wav", "--model", captioner)
    assert status == 0 and len(said.splitlines()) == 1
    assert set(said.split()) <= set(tiny_captioner.WORDS)
    assert "1 recording(s)" in told


def test_a_folder_gives_a_table_and_a_record(jaxaudio, captioner, folder):
    status, said, told = jaxaudio("caption", folder, "-o", "captions.csv", "--model", captioner)
    assert status == 0 and said == ""
    assert "broken.wav" in told and "left out" in told
    head, *body = rows("captions.csv")
    assert head == ["file", "caption", "score"] and [row[0] for row in body] == [
        str(folder / f"{i}.wav") for i in "012"
    ]
    record = json.loads(Path("captions.csv.json").read_text(encoding="utf-8"))
    assert record["decoding"] == {"beam": 3} and record["model"]["name"] == "tiny captioner"
    assert [one["captions"][0]["text"] for one in record["captions"]] == [row[1] for row in body]
    alone = jaxaudio("caption", folder / "1.wav", "--model", captioner)[1].strip()
    assert alone == body[1][1]


def test_samples_are_all_told(jaxaudio, captioner):
    words = ("caption", "mix.wav", "--samples", 6, "--temperature", 2, "--model", captioner)
    said = json.loads(jaxaudio(*words, "--json")[1])["captions"][0]["captions"]
    assert len(said) > 1
    assert jaxaudio(*words)[1].splitlines() == [one["text"] for one in said]


def test_tags_are_told_the_surest_first(jaxaudio, captioner, folder):
    status, said, _ = jaxaudio("tag", "mix.wav", "--top", 2, "--model", captioner)
    assert status == 0 and sum(name in said for name in tiny_captioner.TAGS) == 2
    assert jaxaudio("tag", folder, "-o", "tags.csv", "--model", captioner)[0] == 0
    head, *body = rows("tags.csv")
    assert head == ["file", "tag", "probability"] and len(body) == 9
    assert float(body[0][2]) >= float(body[1][2]) >= float(body[2][2])


def test_search_orders_a_folder(jaxaudio, captioner, folder):
    words = ("search", folder, "a dog barks", "--model", captioner)
    status, said, _ = jaxaudio(*words, "-o", "found.csv", "--json")
    found = json.loads(said)
    assert status == 0 and found["searched"] == 3 and found["query"] == "a dog barks"
    scores = [one["score"] for one in found["found"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 3
    assert [row[0] for row in rows("found.csv")[1:]] == [one["path"] for one in found["found"]]
    assert jaxaudio(*words, "--top", 1)[1].count(".wav") == 1


def test_eval_measures_a_captioner_on_a_list(jaxaudio, captioner, folder):
    with open(folder / "list.csv", "w", encoding="utf-8") as file:
        file.write("file_name,caption_1,caption_2\n0.wav,A dog barks!,a loud hum\n1.wav,Rain.,a dog\n2.wav,hum,hum\n")
    words = ("eval", "--model", captioner, "--data", folder / "list.csv", "--beam", 1)
    found = json.loads(jaxaudio(*words, "--json", "-o", "eval.json")[1])
    items = json.loads(Path("eval.json").read_text(encoding="utf-8"))["items"]
    said = [item["caption"] for item in items]
    assert said == [
        jaxaudio("caption", folder / f"{i}.wav", "--beam", 1, "--model", captioner)[1].strip() for i in "012"
    ]
    assert items[0]["references"] == ["a dog barks", "a loud hum"]
    wanted = captions.scores(said, [item["references"] for item in items])
    assert found["summary"]["bleu_1"] == pytest.approx(wanted.bleu[0])
    assert found["summary"]["cider_d"] == pytest.approx(wanted.cider_d)
    assert found["decoding"] == {"beam": 1} and found["summary"]["clips"] == 3
    assert "beam 1" in jaxaudio(*words)[1]


def test_eval_prints_scores_of_java_where_they_are(jaxaudio, captioner, folder, jars, monkeypatch):
    (folder / "list.csv").write_text("file_name,caption_1\n0.wav,a dog\n1.wav,rain\n2.wav,hum\n", encoding="utf-8")
    words = ("eval", "--model", captioner, "--data", folder / "list.csv", "--beam", 1)
    _, table, told = jaxaudio(*words, "--meteor", jars["meteor"])
    assert "meteor" in table and "spider" not in table
    assert told.count("not measured: SPICE") == 1 and "JAXAUDIO_SPICE_JAR" in told
    monkeypatch.setenv("JAXAUDIO_SPICE_JAR", str(jars["spice"]))
    found = json.loads(jaxaudio(*words, "--meteor", jars["meteor"], "--json")[1])
    assert "not_measured" not in found
    summary = found["summary"]
    assert summary["spider"] == pytest.approx((summary["cider_d"] + summary["spice"]) / 2)
    status, _, told = jaxaudio(*words, "--spice", "none.jar")
    assert status == 3 and "none.jar" in told and len(told.splitlines()) <= 2


def test_eval_asks_for_concepts_where_clips_have_labels(jaxaudio, captioner, tmp_path):
    write_dataset("made", {"test": [clip for clip in clips(2) if clip.labels != ("hiss",)]}, tmp_path / "data")
    words = ("eval", "--model", captioner, "--data", tmp_path / "data", "--seconds", 0.5, "--count", 8, "--json")
    found = json.loads(jaxaudio(*words)[1])["summary"]
    # Of its tags hum alone is there, and two hums are no mixture whose parts can be told apart.
    assert (found["clips"], found["mixtures"], found["concepts"]) == (8, 0, 1)
    assert 0 <= found["named"] <= 1 and 0 <= found["tagged"] <= 1 and "both_named" not in found


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("caption", "none.wav"), 3, "none.wav"),
        (("caption", "mix.wav", "--beam", 2, "--samples", 2), 2, "give one of them"),
        (("caption", "mix.wav", "--seed", 2), 2, "give --samples with it"),
        (("caption", "mix.wav", "-o", "captions.txt"), 2, "--out NAME.csv"),
        (("caption", "."), 0, ""),
        (("tag", "empty"), 2, "no audio in empty"),
        (("tag", "mix.wav", "--top", 0), 2, "at least 1"),
        (("eval", "--data", "none.csv"), 3, "no file none.csv"),
        (("eval", "--data", ".", "--set", "clotho"), 2, "for separators"),
        (("search", "mix.wav", "hum"), 2, "is no folder"),
        (("search", ".", " "), 2, "no words"),
        (("search", ".", "xylophone"), 2, "knows no word"),
    ],
)
def test_bad_words_end_in_one_line(jaxaudio, captioner, tmp_path, words, status, told):
    (tmp_path / "empty").mkdir()
    found, _, said = jaxaudio(*words, "--model", captioner)
    assert found == status and told in said and len(said.strip().splitlines()) <= 2


def test_a_model_that_cannot_is_told(jaxaudio, tiny_folder):
    status, _, told = jaxaudio("caption", "mix.wav", "--model", tiny_folder)
    assert status == 2 and "cannot caption" in told
