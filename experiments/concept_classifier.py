"""The judge of generated sounds: a small classifier, trained on real clips of fifty concepts of `open_sounds`.

    jaxaudio data build open_sounds --out data/open_sounds
    jaxaudio train experiments/concept_classifier.py --data.root data/open_sounds

What it knows, and by which rule, says `concepts_50.txt`.
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxaudio.data import mixing, open_sounds
from jaxaudio.data.pipeline import Clips, Prepared
from jaxaudio.metrics import concepts
from jaxaudio.train import Experiment, Optimizer, Task

LABELS = tuple(
    line
    for line in Path(__file__).with_name("concepts_50.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the sounds are.

    Attributes:
      root: folder of the built `open_sounds`.
      per_label: clips of each concept that are used at most; one has thousands.
    """

    root: str = "data/open_sounds"
    per_label: int = 300


class Examples:
    """Endless batches: batch k is a pure function of the clips, the configuration, the seed and k."""

    def __init__(self, clips: Clips, members: Sequence[Sequence[int]], config: concepts.Config, batch: int, seed: int):
        self._clips = Prepared(clips, config.mel.sample_rate, 2**30)
        self._members, self._config, self._batch, self._seed, self._step = members, config, batch, seed, 0

    def __iter__(self) -> "Examples":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng((self._seed, self._step))
        self._step += 1
        labels = rng.integers(len(self._members), size=self._batch)
        chosen = [self._members[label][rng.integers(len(self._members[label]))] for label in labels]
        return {"audio": np.stack([self._segment(i, rng) for i in chosen]), "label": labels.astype(np.int32)}

    def _segment(self, which: int, rng: np.random.Generator) -> np.ndarray:
        # Generated sound may fill the window, where a real clip is followed by silence: hear both.
        place = "repeat" if rng.random() < 0.25 else "random"
        return mixing.cut(self._clips[which].audio, self._config.samples, rng, place)

    def get_state(self) -> dict[str, int]:
        """The position."""
        return {"step": self._step}

    def set_state(self, state: Any) -> None:
        """Goes on from there."""
        self._step = int(state["step"])


def by_label(clips: Clips, labels: Sequence[str]) -> list[list[int]]:
    """For each label the clips whose first label it is."""
    found: dict[str, list[int]] = collections.defaultdict(list)
    for i in range(len(clips)):
        found[clips[i].labels[0]].append(i)
    return [found[label] for label in labels]


def held_out(root: str, config: concepts.Config, per_label: int = 40) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Unseen recordings as segments (clips, samples), the places of their labels (clips,), and their ids."""
    clips = open_sounds.open_split(root, "heldout_clips")
    segments, labels, ids = [], [], []
    for label, members in enumerate(by_label(clips, config.labels)):
        for i in members[:per_label]:
            audio = mixing.resample(clips[i].audio, clips[i].sample_rate, config.mel.sample_rate)
            segments.append(mixing.cut(audio, config.samples, np.random.default_rng(i), "random"))
            labels.append(label)
            ids.append(clips[i].id)
    return np.stack(segments), np.array(labels), ids


def accuracy(params: Any, config: concepts.Config, audio: np.ndarray, label: np.ndarray) -> dict[str, float]:
    """Share of the clips that are named rightly, over all and averaged over the concepts."""
    told = np.concatenate([_logits(params, config, audio[i : i + 32]) for i in range(0, len(audio), 32)])
    right = np.argmax(told, -1) == label
    each = [np.mean(right[label == k]) for k in np.unique(label)]
    return {"heldout_clips/accuracy": float(np.mean(right)), "heldout_clips/class_accuracy": float(np.mean(each))}


@functools.partial(jax.jit, static_argnums=1)
def _logits(params: Any, config: concepts.Config, audio: jax.Array) -> jax.Array:
    return concepts.logits(params, config, concepts.log_mels(config, audio))


def build(experiment: Experiment) -> Task:
    """Clips, the network, and its accuracy on held-out recordings."""
    data, config = experiment.data, experiment.model
    clips = open_sounds.open_split(data.root, "train")
    members = [own[: data.per_label] for own in by_label(clips, config.labels)]
    audio, label, _ = held_out(data.root, config)

    def init(key):
        return concepts.init(key, config)["params"], {}

    return Task(
        loss=lambda axis_name: functools.partial(concepts.loss, config=config),
        init=init,
        data=Examples(clips, members, config, experiment.batch_size, experiment.seed),
        evaluate=lambda variables: accuracy(variables, config, audio, label),
        config={"system": "concepts", "config": dataclasses.asdict(config)},
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/concept_classifier",
    steps=750,
    batch_size=24,
    model=concepts.Config(labels=LABELS),
    data=Data(),
    optimizer=Optimizer(lr=1.5e-3, weight_decay=1e-4, schedule="cosine", warm_up_steps=100),
    clip_norm=5.0,
    ema_decay=0.998,
    log_every=50,
    eval_every=150,
    save_every=75,
    best="heldout_clips/accuracy",
)
