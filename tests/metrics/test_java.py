"""METEOR and SPICE by Java: what is asked and read, and what is told where something is missing or fails.

A stand-in speaks for Java; where JAXAUDIO_METEOR_JAR names the real jar, it is compared with what pycocoevalcap gave.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxaudio.errors import JaxAudioError, MissingError, UsageError
from jaxaudio.metrics import java

SAID, TOLD = ["a dog", "rain ||| falls\n", "un été"], [["a dog barks", "a dog"], ["rain falls hard"], ["été", "un été"]]
WANTED = [1, 2 / 3, 1]


@pytest.fixture
def jars(tmp_path, monkeypatch):
    """Empty jars, and a `java` that is a script."""
    script = (Path(__file__).parent / "stand_in_java.py").read_text(encoding="utf-8")
    for path in ("bin/java", "meteor-1.5.jar", "spice-1.0.jar", "lib/stanford-corenlp-3.6.0-models.jar"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(f"#!{sys.executable} -S\n{script}" if path == "bin/java" else "", encoding="utf-8")
    (tmp_path / "bin/java").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in java.JARS.values():
        monkeypatch.delenv(name, raising=False)
    return {"meteor": tmp_path / "meteor-1.5.jar", "spice": tmp_path / "spice-1.0.jar"}


@pytest.mark.parametrize(("name", "score"), [("meteor", java.meteor), ("spice", java.spice)])
def test_scores_are_of_their_captions(jars, name, score, monkeypatch):
    monkeypatch.setenv(java.JARS[name], str(jars[name]))
    whole, each = score(SAID, TOLD)
    np.testing.assert_allclose(each, WANTED)
    assert whole == pytest.approx(np.mean(WANTED))
    with pytest.raises(UsageError, match="give each its own"):
        score(SAID, TOLD[:2])


@pytest.mark.parametrize(
    ("how", "name", "told"),
    [
        ("crash", "meteor", "METEOR failed: .*NoClassDefFoundError: edu/something; check"),
        ("crash", "spice", "SPICE failed: .*NoClassDefFoundError: edu/something; check"),
        ("sleep", "meteor", "METEOR took more than 1 s"),
        ("sleep", "spice", "SPICE took more than 1 s"),
        ("ends", "meteor", "METEOR failed: it ended too early"),
        ("ends", "spice", "SPICE failed: .*No such file"),
        ("chatters", "meteor", "METEOR failed: .*could not convert"),
        ("chatters", "spice", "SPICE failed: 'image_id'"),
        ("nan", "meteor", "no number"),
    ],
)
def test_a_program_that_fails_is_told_of_in_a_line(jars, how, name, told, monkeypatch):
    monkeypatch.setenv("STAND_IN", how)
    with pytest.raises(JaxAudioError, match=told) as error:
        getattr(java, name)(SAID, TOLD, jar=jars[name], timeout=0.6 if how == "sleep" else 30)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_what_is_missing_is_told(jars, monkeypatch, tmp_path):
    with pytest.raises(MissingError, match="JAXAUDIO_METEOR_JAR"):
        java.meteor(SAID, TOLD)
    with pytest.raises(MissingError, match=r"there is no .*none\.jar"):
        java.meteor(SAID, TOLD, jar=tmp_path / "none.jar")
    (tmp_path / "lib/stanford-corenlp-3.6.0-models.jar").unlink()
    with pytest.raises(MissingError, match="lacks Stanford CoreNLP"):
        java.spice(SAID, TOLD, jar=jars["spice"])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="no java on the PATH"):
        java.find("meteor", jars["meteor"])


def test_spider_is_there_where_spice_is(jars):
    cider = np.asarray([3.0, 0.0, 1.0])
    made = java.measure(SAID, TOLD, cider, jars=jars)
    np.testing.assert_allclose(made.each["spider"], (cider + WANTED) / 2)
    assert made.scores["spider"] == pytest.approx(np.mean((cider + WANTED) / 2)) and made.missing == ""
    some = java.measure(SAID, TOLD, cider, jars={"meteor": jars["meteor"]})
    assert set(some.scores) == {"meteor"} and "\n" not in some.missing
    assert "SPICE (no jar" in some.missing and "SPIDEr (it needs SPICE)" in some.missing


@pytest.mark.skipif(not os.environ.get("JAXAUDIO_METEOR_JAR"), reason="JAXAUDIO_METEOR_JAR names no jar")
def test_meteor_is_that_of_the_published_code():
    case = json.loads((Path(__file__).parents[1] / "golden" / "caption_metrics" / "io.json").read_text())
    whole, each = java.meteor(case["preds"], case["refs"])
    assert whole == pytest.approx(case["outputs"]["meteor_ptb"], rel=1e-9)
    np.testing.assert_allclose(each, case["outputs"]["meteor_sent_ptb"], rtol=1e-9)
