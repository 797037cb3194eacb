"""How the captioners of this package are trained on described sounds, and judged by whether they name what is heard."""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

from jaxaudio.data import mixing
from jaxaudio.data.described import DescribedConfig, DescribedPipeline
from jaxaudio.data.pipeline import Clips, conflict_names
from jaxaudio.errors import ConfigError
from jaxaudio.metrics.naming import Names, naming_rate
from jaxaudio.models.systems import config_from_json
from jaxaudio.systems import captioning
from jaxaudio.systems.captioning import critical
from jaxaudio.systems.captioning.objective import loss
from jaxaudio.text.vocabulary import Vocabulary, words_of
from jaxaudio.train.checkpoint import load_params
from jaxaudio.train.experiment import Experiment, Task

RMS = 0.05
"""Level at which sounds are judged; in training it varies about that of the recordings."""


class Judged:
    """Sounds whose concepts are known: single clips, and mixtures of two at equal levels.

    Args:
      clips: what was held out.
      names: the phrases of the concepts.
      config: rate and length.
      count: single clips; half as many mixtures.
      concepts: those to be asked for; all by default.

    Attributes:
      single: audio (clips, time), and the labels of each.
      captions: of each of these.
      ids: of each of these.
      pairs: audio (mixtures, time), and the labels of both parts of each; fewer where sounds are too alike.
    """

    def __init__(
        self, clips: Clips, names: Names, config: DescribedConfig, count: int, concepts: Iterable[str] | None = None
    ):
        self._names, rng = names, np.random.default_rng(11)
        asked = None if concepts is None else set(concepts)
        members: dict[str, list[int]] = {}
        for i in range(len(clips)):
            label = clips[i].labels[0]
            if asked is None or label in asked:
                members.setdefault(label, []).append(i)
        # Every concept as often as any other, as far as there are clips.
        rows = [list(rng.permutation(own)) for own in members.values()]
        order = [int(i) for row in itertools.zip_longest(*rows) for i in row if i is not None]

        def audio(i: int) -> np.ndarray:
            clip = clips[i]
            sound = mixing.resample(mixing.to_mono(clip.audio), clip.sample_rate, config.sample_rate)
            sound = mixing.cut(sound, config.length, rng, "random")
            return sound / max(float(np.sqrt(np.mean(np.square(sound)))), 1e-6) * np.float32(RMS)

        single = order[:count]
        self.captions, self.ids = [clips[i].captions for i in single], [clips[i].id for i in single]
        self.single = np.stack([audio(i) for i in single]), [[clips[i].labels] for i in single]
        pairs = []
        for i in order[: count // 2]:
            others = (int(j) for j in rng.permutation(order))
            other = next((j for j in others if not conflict_names(clips[i]) & conflict_names(clips[j])), None)
            if other is not None:
                pairs.append((i, other))
        mixed = np.stack([audio(i) + audio(j) for i, j in pairs]) if pairs else np.zeros((0, config.length), np.float32)
        self.pairs = mixed, [[clips[i].labels, clips[j].labels] for i, j in pairs]

    def rates(self, describe: Any) -> dict[str, float]:
        """Share of single clips whose concept is named, and of mixtures of which both are.

        Args:
          describe: audio (batch, time) -> captions.
        """
        asked = {"named": self.single, "both_named": self.pairs}
        return {
            name: naming_rate(self._names, describe(audio), labels) for name, (audio, labels) in asked.items() if labels
        }


def phrases(clips: Clips) -> dict[str, set[str]]:
    """{first label: the captions of its clips}."""
    found: dict[str, set[str]] = {}
    for i in range(len(clips)):
        clip = clips[i]
        found.setdefault(clip.labels[0], set()).update(clip.captions)
    return found


def tag_words(vocabulary: Vocabulary, names: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Ids of the words of each name, filled up with ends to the longest: `captioning.Config.tag_words`."""
    ids, _ = vocabulary.encode(names, 2 + max(len(words_of(name)) for name in names))
    return tuple(tuple(int(i) for i in row[1:-1]) for row in ids)


def captioning_task(
    experiment: Experiment,
    clips: Clips,
    held_out: Clips,
    *,
    data: DescribedConfig,
    words: int = 24,
    trials: int = 400,
    smoothing: float = 0.1,
    known_words: Vocabulary | None = None,
    start_from: str = "",
    self_critical: bool = False,
    teacher: str = "",
    microphone: bool = False,
) -> Task:
    """A captioner on sounds and their sentences.

    Args:
      experiment: its `model` is the captioner's configuration, whose vocabulary is set here.
      clips: to be described.
      held_out: to be judged by, with the labels of the first.
      data: how batches are made.
      words: most of a caption, start and end among them.
      trials: held-out sounds per evaluation; half as many mixtures.
      smoothing: of the targets.
      known_words: the vocabulary; the words of the captions by default, or those of `start_from`.
      start_from: the `best` or `final` folder of an earlier run, whose weights and words are the first ones.
      self_critical: train on the reward of drawn captions, see `systems.captioning.critical`; needs `data.references`.
      teacher: the `best` or `final` folder of a run with the same words, whose next words are learnt as well, see
        `losses.distilled`; with the words of that run.
      microphone: see `objective.loss`; for sounds made by a computer, so that recordings are known too.

    Raises:
      ConfigError: self-critical training without references, weights of another configuration, or a teacher with it.
    """
    config: captioning.Config = experiment.model
    if self_critical and not data.references:
        raise ConfigError("Self-critical training compares with what people said; give data.references=5 or so.")
    weights, earlier = load_params(start_from) if start_from else (None, {})
    known_by, taught = load_params(teacher) if teacher else (None, {})
    if self_critical and teacher:
        raise ConfigError("Self-critical training is rewarded by what people said; leave the teacher out.")
    earlier = earlier or taught
    if earlier and known_words is None:
        known_words = Vocabulary(tuple(earlier["text"]["words"]))
    known = phrases(clips)
    joined = [template.format("", "") for template in data.joined]
    vocabulary = known_words or Vocabulary.of(itertools.chain(*known.values(), joined))
    spoken = dataclasses.replace(config.words, vocab_size=len(vocabulary), start=vocabulary.start, end=vocabulary.end)
    concepts = sorted(known)
    config = dataclasses.replace(config, words=spoken, tags=len(concepts) if config.tags else 0)
    if config.guides:
        config = dataclasses.replace(config, tag_words=tag_words(vocabulary, concepts))

    def text(captions: Sequence[str]) -> dict[str, np.ndarray]:
        ids, mask = vocabulary.encode(captions, words)
        return {"ids": ids, "mask": mask}

    judged = Judged(held_out, Names(known), data, trials, known)

    @jax.jit
    def said(variables: Any, audio: jax.Array) -> jax.Array:
        made, _ = captioning.encode(variables, config, captioning.hear(config, audio))
        return captioning.caption(variables, config, made["memory"], words).tokens

    @jax.jit
    def tagged(variables: Any, audio: jax.Array) -> jax.Array:
        made, _ = captioning.encode(variables, config, captioning.hear(config, audio))
        return made["tag_logits"].argmax(-1)

    def evaluate(variables: dict[str, Any]) -> dict[str, float]:
        def describe(audio: np.ndarray) -> list[str]:
            captions: list[str] = []
            for start in range(0, len(audio), 50):
                part = audio[start : start + 50]
                padded = np.concatenate([part, np.zeros((50 - len(part), audio.shape[1]), np.float32)])
                captions += [vocabulary.decode(row) for row in np.asarray(said(variables, padded))[: len(part)]]
            return captions

        rates = judged.rates(describe)
        if config.tags:
            audio, labels = judged.single
            best = np.concatenate([tagged(variables, audio[i : i + 50]) for i in range(0, len(audio), 50)])
            rates["tagged"] = float(np.mean([concepts[b] in own[0] for b, own in zip(best, labels, strict=True)]))
        return rates

    master = config_from_json("captioning", taught["config"]) if taught else None
    if master is not None and dataclasses.replace(master.words, dropout=0) != dataclasses.replace(
        master.words, vocab_size=len(vocabulary), start=vocabulary.start, end=vocabulary.end, dropout=0
    ):
        raise ConfigError(f"{teacher} has other words; give a teacher that was trained with the same.")

    def start(key: jax.Array) -> tuple[Any, Any]:
        variables = captioning.init(key, config) if weights is None else weights
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    if weights is not None:
        wanted = jax.eval_shape(lambda: captioning.init(jax.random.key(0), config))
        if jax.tree.map(np.shape, weights) != jax.tree.map(lambda x: x.shape, wanted):
            raise ConfigError(f"The weights of {start_from} are of another captioner; give the same model and words.")

    def of_axis(axis_name: str | None) -> Any:
        if self_critical:
            return functools.partial(critical.loss, config=config, length=words)
        sound = config.sound
        mapped = (
            config
            if sound is None
            else dataclasses.replace(config, sound=dataclasses.replace(sound, axis_name=axis_name))
        )
        return functools.partial(loss, config=mapped, smoothing=smoothing, teacher=master, microphone=microphone)

    share = jax.process_index(), jax.process_count()
    return Task(
        loss=of_axis,
        init=start,
        data=iter(DescribedPipeline(clips, data, text=text, concepts=concepts if config.tags else (), share=share)),
        evaluate=evaluate,
        frozen=known_by,
        config={
            "system": "captioning",
            "config": dataclasses.asdict(config),
            "text": {
                "kind": "words",
                "words": list(vocabulary.words),
                "tags": concepts if config.tags else [],
                "seconds": data.seconds,
                "rms": RMS,
            },
        },
    )
