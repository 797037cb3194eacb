"""The best of several candidates."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxaudio.errors import UsageError
from jaxaudio.metrics import concepts
from jaxaudio.models.folder import Card
from jaxaudio.models.inputs import as_number, resampled

Judge = Callable[[np.ndarray, Sequence[str]], Any]
"""(audio (candidates, time) at the model's rate, a prompt for each) -> (candidates,) scores, higher where better."""

_MOST = 4096


def as_counts(count: Any, best_of: Any) -> tuple[int, int]:
    """How many results are given, and how many are made to choose from.

    Raises:
      UsageError: what cannot be a number of sounds, or fewer to choose from than are to be given.
    """
    count = int(as_number(count, "a count of", 1, _MOST, whole=True))
    best_of = int(as_number(best_of, "best of", 1, _MOST, whole=True))
    if 1 < best_of < count:
        raise UsageError(f"the {count} best of {best_of} cannot be; make at least as many as are to be given.")
    return count, max(count, best_of)


def open_judge(card: Card, ranker: Any, sample_rate: int) -> Judge:
    """What ranks candidates: the `ranker` given, or the CLAP that belongs to the model, or for our minis `hearing`.

    Args:
      card: the model.
      ranker: a `jaxaudio.models.Clap`, or a function as `Judge`.
      sample_rate: of the candidates.

    Raises:
      UsageError: there is neither, or it is no ranker.
    """
    from jaxaudio.models.clap import Clap, open_clap

    if ranker is None and card.text.get("kind") == "clap" and card.text.get("audio", True):
        ranker = open_clap(card)
    if ranker is None and card.text.get("kind") == "mini" and not card.text.get("folder"):
        ranker = hearing(card, sample_rate)
    if isinstance(ranker, Clap):
        clap = ranker

        def cosines(audio: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
            texts = {text: clap.embed(text)[0] for text in set(prompts)}
            return np.array([clap.embed_audio(x, sample_rate=sample_rate) @ texts[t] for x, t in zip(audio, prompts)])

        return cosines
    if ranker is None:
        raise UsageError(
            f"{card.name} has no CLAP that could choose the best of several; give one: ranker=jaxaudio.load(FOLDER), "
            "or on the command line --ranker FOLDER."
        )
    if not callable(ranker):
        raise UsageError(f"{ranker!r} cannot rank; give a CLAP model, or a function of audio and prompts.")
    return ranker


def hearing(card: Card, sample_rate: int) -> Judge:
    """How near what is heard is to what was asked for, by the networks of the package.

    concepts-mini says with which probability a sound is each of its concepts, text-mini how near their names are to
    the prompt; the score is the mean of the cosines, weighted by the probabilities. Of longer sounds than concepts-mini
    hears at once, it hears one part after another.

    Args:
      card: a model that reads with text-mini.
      sample_rate: of the candidates.
    """
    from jaxaudio.models.encoders import open_encoder

    encoder, (config, probabilities) = open_encoder(card), _ears()
    rate = config.mel.sample_rate

    def heard(sound: np.ndarray) -> np.ndarray:
        sound = resampled(sound, sample_rate, rate, round(len(sound) * rate / sample_rate))
        parts = -(-len(sound) // config.samples)
        sound = np.pad(sound, (0, parts * config.samples - len(sound))).reshape(parts, -1)
        return np.mean([probabilities(part) for part in sound], 0)

    def score(audio: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
        asked = sorted(set(prompts))
        near = encoder(asked, allow_empty=True) @ encoder(config.labels).T
        return np.array([heard(sound) @ near[asked.index(text)] for sound, text in zip(audio, prompts)])

    return score


@functools.cache
def _ears() -> tuple[concepts.Config, Callable[[Any], jax.Array]]:
    """concepts-mini: what it hears, and a function from that many samples to probabilities, compiled once."""
    from jaxaudio.models.registry import ASSETS

    params, config = concepts.load(ASSETS / "concepts-mini")
    return config, jax.jit(
        lambda sound: jax.nn.softmax(concepts.logits(params, config, concepts.log_mels(config, sound[None])))[0]
    )


def best(judge: Judge, audio: np.ndarray, prompts: Sequence[str], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which candidates to give.

    Args:
      judge: of `open_judge`.
      audio: (prompts, candidates, time).
      prompts: one for each row of audio.
      count: how many of each row.

    Returns:
      (prompts, count) numbers of the best candidates, the best first, and their scores.

    Raises:
      UsageError: the judge does not give one number for each candidate.
    """
    made = audio.shape[1]
    told = [text for text in prompts for _ in range(made)]
    scores = np.asarray(judge(audio.reshape(-1, audio.shape[-1]), told), np.float64)
    if scores.shape != (len(told),):
        raise UsageError(
            f"the ranker gave scores of shape {scores.shape} for {len(told)} sounds; it must give one each."
        )
    scores = np.nan_to_num(scores, nan=-np.inf, neginf=-np.inf).reshape(-1, made)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(scores, order, 1)
