"""Puts the small generator and the small flow separator into the package: weights, cards and measured figures.

python experiments/ship_generation.py --audioldm runs/generation_mini/best --flowsep runs/separation_flow_mini/best
"""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import jaxaudio
from jaxaudio.data import open_sounds
from jaxaudio.metrics import concepts, energies_left, frechet_distance, named, protocol
from jaxaudio.models import publish, verify

LABELS = [
    line
    for line in Path(__file__).with_name("concepts_50.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to ship and how to measure it.

    Attributes:
      audioldm: weights of the generator, a run's `best`; None to leave it as it is.
      flowsep: weights of the flow separator; None to leave it as it is.
      judge: the classifier of `concept_classifier.py`, as a folder.
      root: the built `open_sounds`.
      assets: folder of the shipped models.
      each: sounds generated for each of the fifty concepts.
      trials: mixtures for the separator.
      keep: measure what is in `assets`, without writing new weights.
      steps: of the sampler; None for the model's own number.
      guidance: of the sampler; None for the model's own.
    """

    audioldm: Path | None = None
    flowsep: Path | None = None
    judge: Path = Path("jaxaudio/assets/concepts-mini")
    root: Path = Path("data/open_sounds")
    assets: Path = Path("jaxaudio/assets")
    each: int = 4
    trials: int = 100
    keep: bool = False
    steps: int | None = None
    guidance: float | None = None


def export(o: Options, run: Path, name: str) -> None:
    """A model folder of a run, as float16, with a record to verify it by."""
    shutil.rmtree(o.assets / name, ignore_errors=True)
    publish.export_training(
        run,
        o.assets / name,
        name=name,
        licence="CC-BY-SA-4.0",
        source="trained by experiments/ on open_sounds",
        dtype=np.float16,
        about={"step": json.loads((run / "config.json").read_text())["step"]},
    )
    verify.add_record(o.assets / name)


def prompts(o: Options) -> list[str]:
    """`each` captions for every concept in turn, of held-out clips where there are so many different ones."""
    clips = open_sounds.open_split(o.root, "heldout_clips")
    known: dict[str, dict[str, None]] = {label: {} for label in LABELS}
    for i in range(len(clips)):
        if (label := clips[i].labels[0]) in known:
            known[label] |= dict.fromkeys(clips[i].captions)
    return [list(known[label])[i % len(known[label])] for label in LABELS for i in range(o.each)]


def heard(judge: concepts.Concepts, waves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and logits of the classifier."""
    import jax

    @jax.jit
    def run(x: Any) -> Any:
        mel = concepts.log_mels(judge.config, x)
        return concepts.embed(judge.params, judge.config, mel), concepts.logits(judge.params, judge.config, mel)

    rows = [run(waves[i : i + 10]) for i in range(0, len(waves), 10)]
    return tuple(np.concatenate([np.asarray(row[k]) for row in rows]) for k in range(2))


def real_sounds(o: Options, judge: concepts.Concepts, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Held-out clips of the same concepts, up to `count` of each, and the places of their labels."""
    from jaxaudio.data import mixing

    clips = open_sounds.open_split(o.root, "heldout_clips")
    places = {label: i for i, label in enumerate(judge.config.labels)}
    left = dict.fromkeys(LABELS, count)
    rows, labels = [], []
    for i in range(len(clips)):
        label = clips[i].labels[0]
        if left.get(label):
            left[label] -= 1
            audio = mixing.resample(clips[i].audio, clips[i].sample_rate, judge.config.mel.sample_rate)
            rows.append(mixing.cut(audio, judge.config.samples, np.random.default_rng(i), "start"))
            labels.append(places[label])
    return np.stack(rows), np.array(labels)


def measure_generator(o: Options) -> dict[str, float]:
    """How often the classifier names the concept that was asked for, and how far the sounds are from real ones."""
    model, judge = jaxaudio.load(o.assets / "audioldm-mini"), concepts.load(o.judge)
    asked = prompts(o)
    wanted = concepts.named(judge.config, [label for label in LABELS for _ in range(o.each)])
    options = {"steps": o.steps, "guidance": o.guidance}
    waves = np.concatenate(
        [model.generate(asked[i : i + 10], seed=i, batch=10, **options) for i in range(0, len(asked), 10)]
    )
    embeddings, logits = heard(judge, waves)
    real, labels = real_sounds(o, judge, 20)
    real_embeddings, real_logits = heard(judge, real)
    probability, right = named(logits, wanted)
    half = np.random.default_rng(0).permutation(len(real))
    return {
        "accuracy": float(np.mean(right)),
        "probability": float(np.mean(probability)),
        "real_accuracy": float(np.mean(named(real_logits, labels)[1])),
        "frechet": frechet_distance(embeddings, real_embeddings),
        "frechet_of_real_halves": frechet_distance(real_embeddings[half[::2]], real_embeddings[half[1::2]]),
        "sounds": len(waves),
    }


def measure_separators(o: Options) -> dict[str, dict[str, float]]:
    """What each shipped separator leaves of the interference, and keeps of the target, on the same mixtures."""
    clips = open_sounds.open_split(o.root, "heldout_clips")
    trials = protocol.pair_trials(clips, clips, count=o.trials, seconds=5.12, sample_rate=16000, place="random", seed=1)
    figures = {}
    for name in ("separation-mini", "flowsep-mini"):
        model = jaxaudio.load(o.assets / name)
        rows = []
        for trial in trials:
            made = model.separate(trial.mixture, trial.caption, sample_rate=16000)
            rows.append(energies_left(trial.target, trial.mixture - trial.target, made))
        left, kept = np.nanmedian(np.array(rows), 0)
        figures[name] = {"interference": float(left), "target": float(kept)}
    return figures


def main(o: Options) -> None:
    """Exports and measures."""
    for run, name in ((o.audioldm, "audioldm-mini"), (o.flowsep, "flowsep-mini")):
        if run and not o.keep:
            export(o, run, name)
    if o.audioldm:
        print("audioldm-mini", json.dumps(measure_generator(o)), flush=True)
    if o.flowsep:
        print("separators", json.dumps(measure_separators(o)), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
