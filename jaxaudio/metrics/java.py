"""METEOR and SPICE of captions by their authors' own programs, where Java and their jars are at hand.

Both are Java programs with large models: the package pycocoevalcap has `meteor/meteor-1.5.jar` with its data and
`spice/spice-1.0.jar`, whose `lib` folder also needs the two jars of Stanford CoreNLP 3.6.0. They are named by an
argument or by an environment variable; nothing is fetched. Scores are in [0, 1], but SPIDEr, which is in [0, 5.5].
"""

import json
import math
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from jaxaudio.errors import JaxAudioError, MissingError, UsageError

JARS = {"meteor": "JAXAUDIO_METEOR_JAR", "spice": "JAXAUDIO_SPICE_JAR"}
"""The environment variables that name the jars."""

_UTF8 = "-Dfile.encoding=UTF-8"  # Java before 18 reads in the locale's


class Measured(NamedTuple):
    """What `measure` found.

    Attributes:
      scores: of the set: some of "meteor", "spice" and "spider".
      each: the same of each caption, (captions,) float64.
      missing: one line on what was not measured, and why; empty where all was.
    """

    scores: dict[str, float]
    each: dict[str, np.ndarray]
    missing: str


def find(name: str, jar: str | Path | None = None) -> tuple[str, Path]:
    """The `java` on the path, and the jar of a score.

    Args:
      name: "meteor" or "spice".
      jar: its path; what the environment variable says by default.

    Raises:
      MissingError: there is no Java, no such jar, or CoreNLP is not in the `lib` folder beside SPICE's.
    """
    given = jar or os.environ.get(JARS[name])
    if not given:
        raise MissingError(f"no jar; give its path (--{name} of jaxaudio eval), or set {JARS[name]}")
    path = Path(given).expanduser().resolve()
    if not path.is_file():
        raise MissingError(f"there is no {path}; give the path of {name}'s jar, by --{name} or {JARS[name]}")
    if name == "spice" and not list((path.parent / "lib").glob("stanford-corenlp*models*.jar")):
        raise MissingError(f"{path.parent / 'lib'} lacks Stanford CoreNLP; put stanford-corenlp-3.6.0*.jar there")
    java = shutil.which("java")
    if java is None:
        raise MissingError("there is no java on the PATH; install a Java runtime, version 8 or later")
    return java, path


def meteor(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    jar: str | Path | None = None,
    timeout: float = 600,
) -> tuple[float, np.ndarray]:
    """METEOR 1.5 for English (Denkowski and Lavie, 2014), with its own normalisation.

    Args:
      candidates: one caption per clip.
      references: one or more of each clip.
      jar: see `find`.
      timeout: seconds that the program may take.

    Returns:
      (of the whole set, from counts that are added up, (captions,) of each).

    Raises:
      MissingError: see `find`.
      UsageError: there are no captions, or the numbers differ.
      JaxAudioError: the program fails, takes too long, or answers something else.
    """
    _check(candidates, references)
    java, path = find("meteor", jar)
    words = [java, "-Xmx2G", _UTF8, "-jar", str(path), "-", "-", "-stdio", "-l", "en", "-norm"]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as told:
        pipe = subprocess.PIPE
        try:
            process = subprocess.Popen(words, cwd=path.parent, stdin=pipe, stdout=pipe, stderr=told, encoding="utf-8")
        except OSError as error:
            raise _failure("METEOR", None, told, error) from error
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        watch = threading.Timer(timeout, stop)
        watch.start()
        try:
            ask = _asker(process)
            # One answer is read before the next question is written: neither side waits with a full pipe.
            counts = [
                ask(" ||| ".join(["SCORE", *map(_clean, refs), _clean(own)]))
                for own, refs in zip(candidates, references, strict=True)
            ]
            first = ask(" ||| ".join(["EVAL", *counts]))
            values = _numbers([first, *(ask() for _ in candidates)])
        except (OSError, ValueError, EOFError) as error:
            process.kill()
            process.wait()
            raise _failure("METEOR", timeout if late.is_set() else None, told, error) from error
        finally:
            watch.cancel()
            process.kill()
            process.communicate()
    return float(values[-1]), values[:-1]


def _asker(process: "subprocess.Popen[str]") -> Callable[..., str]:
    """A function that writes a line, if it is given one, and reads the next."""
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise OSError("no pipes")

    def ask(line: str | None = None) -> str:
        if line is not None:
            stdin.write(line + "\n")
            stdin.flush()
        answer = stdout.readline()
        if not answer:
            raise EOFError("it ended too early")
        return answer.strip()

    return ask


def spice(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    jar: str | Path | None = None,
    timeout: float = 3600,
) -> tuple[float, np.ndarray]:
    """SPICE (Anderson et al., 2016, arXiv:1607.08822): how well captions' scene graphs agree, as an F-score.

    Args:
      candidates: one caption per clip.
      references: one or more of each clip.
      jar: see `find`.
      timeout: seconds that the program may take; it parses every sentence.

    Returns:
      (mean, (captions,) of each).

    Raises:
      MissingError: see `find`.
      UsageError: there are no captions, or the numbers differ.
      JaxAudioError: the program fails, takes too long, or answers something else.
    """
    _check(candidates, references)
    java, path = find("spice", jar)
    asked = [
        {"image_id": i, "test": _clean(own), "refs": [_clean(ref) for ref in refs]}
        for i, (own, refs) in enumerate(zip(candidates, references, strict=True))
    ]
    with tempfile.TemporaryDirectory() as folder, open(Path(folder) / "told", "w+", encoding="utf-8") as told:
        question, answer = Path(folder) / "captions.json", Path(folder) / "scores.json"
        question.write_text(json.dumps(asked), encoding="utf-8")
        words = [java, "-Xmx8G", _UTF8, "-jar", str(path), str(question), "-out", str(answer), "-subset", "-silent"]
        try:
            subprocess.run(
                words, cwd=path.parent, stdin=subprocess.DEVNULL, stdout=told, stderr=told, timeout=timeout, check=True
            )
            rows = {row["image_id"]: row["scores"]["All"]["f"] for row in json.loads(answer.read_text("utf-8"))}
            values = _numbers([rows[i] for i in range(len(candidates))])
        except subprocess.TimeoutExpired as error:
            raise _failure("SPICE", timeout, told, error) from error
        except (OSError, ValueError, KeyError, TypeError, subprocess.CalledProcessError) as error:
            raise _failure("SPICE", None, told, error) from error
    return float(values.mean()), values


def measure(
    candidates: Sequence[str],
    references: Sequence[Sequence[str]],
    cider_d: np.ndarray,
    *,
    jars: Mapping[str, str | Path | None] | None = None,
) -> Measured:
    """METEOR, SPICE, and SPIDEr (Liu et al., 2017, arXiv:1612.00370), the mean of CIDEr-D and SPICE: what can be had.

    Args:
      candidates: one caption per clip.
      references: one or more of each clip.
      cider_d: (captions,) of each, see `captions.cider_d`.
      jars: {"meteor", "spice"}: paths that go before the environment's.
    """
    scores: dict[str, float] = {}
    each: dict[str, np.ndarray] = {}
    missing: list[str] = []
    for name, score in (("meteor", meteor), ("spice", spice)):
        try:
            scores[name], each[name] = score(candidates, references, jar=(jars or {}).get(name))
        except JaxAudioError as error:
            missing.append(f"{name.upper()} ({error})")
    if "spice" in each:
        each["spider"] = (np.asarray(cider_d) + each["spice"]) / 2
        scores["spider"] = float(each["spider"].mean())
    else:
        missing.append("SPIDEr (it needs SPICE)")
    return Measured(scores, each, f"not measured: {', '.join(missing)}" if missing else "")


def _check(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if not candidates or len(candidates) != len(references) or not all(references):
        raise UsageError(f"{len(candidates)} captions, {len(references)} lists of references; give each its own.")


def _numbers(answers: Sequence[Any]) -> np.ndarray:
    values = np.asarray([float(x) for x in answers])
    if not np.isfinite(values).all():
        raise ValueError("it gave a score that is no number")
    return values


def _clean(text: str) -> str:
    """One line, without what divides METEOR's."""
    return " ".join(text.replace("|||", " ").split())


def _failure(name: str, timeout: float | None, told: IO[str], error: Any) -> JaxAudioError:
    """What went wrong, with the last that the program said."""
    if timeout is not None:
        return JaxAudioError(f"{name} took more than {math.ceil(timeout)} s; measure fewer captions, --count")
    told.seek(0)
    lines = [line.strip() for line in told if line.strip()]
    # Java's traces begin with what happened, and go on with where.
    said = next((line for line in lines if "Exception" in line or "Error" in line), lines[-1] if lines else str(error))
    return JaxAudioError(f"{name} failed: {said[:200]}; check that its jar lies with its data, and Java's version")
