"""How well a separator follows its query: mixtures with known sources, and the report over them.

The measures and the aggregation are AudioSep's (section 4 of arXiv:2308.05037); the mixtures are made here.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxaudio.data.clips import Clip
from jaxaudio.data.mixing import Place, cut, mix_at_snr, resample, to_mono
from jaxaudio.errors import UsageError
from jaxaudio.metrics.separation import aggregate, sdr, si_sdr


class Trial(NamedTuple):
    """One question put to a separator.

    Attributes:
      mixture: (time,).
      target: (time,), the part of the mixture that the caption names.
      caption: the right query.
      label: class of the target, for the aggregation.
      other: a query that names the rest of the mixture; "" if unknown.
    """

    mixture: np.ndarray
    target: np.ndarray
    caption: str
    label: str
    other: str = ""


Separator = Callable[[np.ndarray, Sequence[str]], np.ndarray]
"""(mixtures (batch, time), one caption each) -> estimates (batch, time)."""


def pair_trials(
    targets: Sequence[Clip],
    others: Sequence[Clip],
    *,
    count: int,
    seconds: float,
    sample_rate: int,
    snr_db: float = 0.0,
    place: Place = "repeat",
    seed: int = 0,
) -> list[Trial]:
    """Mixtures of two clips that share no label and no source recording, the same for the same arguments.

    Targets are balanced over their first labels: every label has its turn before any has a second.

    Args:
      targets: clips to be asked for.
      others: clips to mix them with.
      count: number of trials.
      seconds: length of a mixture.
      sample_rate: of the mixtures, in Hz.
      snr_db: level of the target over the other clip.
      place: where clips shorter than a mixture go, see `jaxaudio.data.mixing.cut`.
      seed: of every choice.

    Raises:
      UsageError: a target that no other clip can be mixed with.
    """
    rng = np.random.default_rng(seed)
    by_label: dict[str, list[int]] = {}
    for i, clip in enumerate(targets):
        by_label.setdefault((clip.labels or (clip.id,))[0], []).append(i)
    labels = sorted(by_label)
    turns: list[str] = []
    while len(turns) < count:
        turns += [labels[i] for i in rng.permutation(len(labels))]

    def segment(clip: Clip) -> np.ndarray:
        audio = resample(to_mono(clip.audio), clip.sample_rate, sample_rate)
        parts = (cut(audio, round(seconds * sample_rate), rng, place) for _ in range(8))
        return next((part for part in parts if np.any(part)), audio[: round(seconds * sample_rate)])

    trials = []
    for label in turns[:count]:
        target = targets[by_label[label][rng.integers(len(by_label[label]))]]
        order = rng.permutation(len(others))
        other = next((clip for i in order if not _related(target, clip := others[i])), None)
        if other is None:
            raise UsageError(f"every other clip shares a label with {target.id}; give more clips to mix with.")
        mixture, reference = mix_at_snr(segment(target), segment(other), snr_db)
        trials.append(Trial(mixture, reference, _caption(target, rng), label, _caption(other, rng)))
    return trials


def evaluate(separator: Separator, trials: Iterable[Trial], *, batch: int = 8, wrong: bool = False) -> dict[str, float]:
    """Runs a separator over the trials.

    Args:
      separator: see `Separator`; called with full batches only, the last one is filled up by repetition.
      trials: mixtures of one length.
      batch: mixtures per call.
      wrong: also ask for the other source and report how much worse that answer fits the target.

    Returns:
      Means over the trials in dB: "sdri", "si_sdr", "sdr"; "sdri_class_median", the median within each label averaged
      over the labels; with `wrong`, "wrong_gap", the mean SDR of the right query minus that of the other one.
    """
    trials = list(trials)
    right = _ask(separator, trials, [trial.caption for trial in trials], batch)
    mixed = np.array([sdr(trial.target, trial.mixture) for trial in trials])
    scores = np.array([sdr(trial.target, estimate) for trial, estimate in zip(trials, right)])
    report = {
        "sdri": float(np.mean(scores - mixed)),
        "sdri_class_median": float(aggregate(scores - mixed, [trial.label for trial in trials], "median_then_mean")),
        "sdr": float(np.mean(scores)),
        "si_sdr": float(np.mean([si_sdr(trial.target, estimate) for trial, estimate in zip(trials, right)])),
    }
    if wrong:
        answers = _ask(separator, trials, [trial.other for trial in trials], batch)
        report["wrong_gap"] = float(
            np.mean(scores - np.array([sdr(trial.target, answer) for trial, answer in zip(trials, answers)]))
        )
    return report


def evaluate_splits(
    separator: Separator, splits: Mapping[str, Sequence[Trial]], *, batch: int = 8, wrong: bool = False
) -> dict[str, float]:
    """`evaluate` for several sets of trials: {"split/sdri": ...}."""
    reports = {split: evaluate(separator, trials, batch=batch, wrong=wrong) for split, trials in splits.items()}
    return {f"{split}/{name}": value for split, report in reports.items() for name, value in report.items()}


def _ask(separator: Separator, trials: Sequence[Trial], captions: Sequence[str], batch: int) -> list[np.ndarray]:
    answers: list[np.ndarray] = []
    for start in range(0, len(trials), batch):
        chosen = [min(i, len(trials) - 1) for i in range(start, start + batch)]
        mixtures = np.stack([trials[i].mixture for i in chosen])
        answers += list(np.asarray(separator(mixtures, [captions[i] for i in chosen])))
    return answers[: len(trials)]


def _related(a: Clip, b: Clip) -> bool:
    return a.id == b.id or bool(a.source and a.source == b.source) or bool(set(a.labels) & set(b.labels))


def _caption(clip: Clip, rng: np.random.Generator) -> str:
    if not clip.captions:
        raise UsageError(f"clip {clip.id} has no caption; evaluation asks for sounds by their captions.")
    return clip.captions[rng.integers(len(clip.captions))]
