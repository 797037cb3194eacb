"""Puts the small generator and the small flow separator into the package: weights, cards and measured figures.

    python experiments/ship_generation.py --audioldm runs/generation_mini/final \
        --flowsep runs/separation_flow_mini/final
    python experiments/ship_generation.py --keep
"""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

import jaxaudio
from jaxaudio.data import open_sounds
from jaxaudio.metrics import concepts, energies_left, frechet_distance, named, protocol
from jaxaudio.models import publish, verify
from jaxaudio.train import load_params, save_params

LABELS = [
    line
    for line in Path(__file__).with_name("concepts_50.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]

SAMPLING = {
    "audioldm-mini": {"steps": 25, "solver": "dpmpp-2m", "guidance": 4.0, "spacing": "log-snr"},
    "flowsep-mini": {"steps": 10, "guidance": 2.0},
}
"""How the models sample where nothing else is asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to ship and how to measure it.

    Attributes:
      audioldm: weights of the generator, a run's `final`; without any it is left as it is.
      flowsep: weights of the flow separator; without any it is left as it is.
      vocoder: weights of a vocoder to take in place of the one that they were stored with.
      judge: the classifier of `concept_classifier.py`, as a folder.
      root: the built `open_sounds`.
      assets: folder of the shipped models.
      each: sounds generated for each of the fifty concepts.
      trials: mixtures for the separator.
      keep: measure both as they are in `assets`, without writing new weights.
      steps: of the sampler; None for the model's own number.
      guidance: of the sampler; None for the model's own.
    """

    audioldm: Path | None = None
    flowsep: Path | None = None
    vocoder: Path | None = None
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
    about = {"step": json.loads((run / "config.json").read_text())["step"], "sampling": SAMPLING[name]}
    shutil.rmtree(o.assets / name, ignore_errors=True)
    publish.export_training(
        with_vocoder(run, o.vocoder) if o.vocoder else run,
        o.assets / name,
        name=name,
        licence="CC-BY-SA-4.0",
        source="trained by experiments/ on open_sounds",
        dtype=np.float16,
        about=about,
    )
    verify.add_record(o.assets / name)


def with_vocoder(run: Path, vocoder: Path) -> Path:
    """The weights of a run with another vocoder, beside it."""
    params, about = load_params(run)
    out = run.with_name(f"{run.name}_voiced")
    save_params(out, {**params, "vocoder": load_params(vocoder)[0]}, about)
    return out


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


def measure_generator(o: Options, generate: Callable[[list[str], int], np.ndarray]) -> dict[str, float]:
    """How often the classifier names the concept that was asked for, and how far the sounds are from real ones.

    Args:
      o: judge, data, and how many sounds.
      generate: (prompts, seed) -> (prompts, time), at the judge's rate.
    """
    judge, asked = concepts.load(o.judge), prompts(o)
    wanted = concepts.named(judge.config, [label for label in LABELS for _ in range(o.each)])
    waves = np.concatenate([generate(asked[i : i + 25], i) for i in range(0, len(asked), 25)])
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


def card(o: Options, name: str, table: str) -> None:
    """The model's card, with what was measured."""
    folder = o.assets / name
    model = jaxaudio.load(folder)
    counts = {part: sum(x.size for x in jax.tree.leaves(tree)) / 1e6 for part, tree in model.params.items()}
    counts.pop("scale", None)
    text = CARDS[name].format(
        table=table,
        steps=model.card.about["step"],
        size=sum(path.stat().st_size for path in folder.glob("*")) / 1e6,
        parts=", ".join(f"{part} {count:.2f}" for part, count in counts.items()),
        **{f"default_{key}": value for key, value in model.card.about["sampling"].items()},
        each=o.each,
        trials=o.trials,
        common=COMMON.format(sources=open_sounds.attribution()),
    )
    (folder / "CARD.md").write_text(text, encoding="utf-8")


def main(o: Options) -> None:
    """Exports, measures, and writes the cards."""
    for run, name in ((o.audioldm, "audioldm-mini"), (o.flowsep, "flowsep-mini")):
        if run and not o.keep:
            export(o, run, name)
    if o.audioldm or o.keep:
        model = jaxaudio.load(o.assets / "audioldm-mini")
        options = {"steps": o.steps, "guidance": o.guidance}
        found = measure_generator(o, lambda texts, seed: model.generate(texts, seed=seed, batch=25, **options))
        print("audioldm-mini", json.dumps(found), flush=True)
        card(o, "audioldm-mini", GENERATOR_TABLE.format(**found))
    if o.flowsep or o.keep:
        figures = measure_separators(o)
        print("separators", json.dumps(figures), flush=True)
        rows = [f"| {name} | {f['interference']:.1f} dB | {f['target']:.1f} dB |" for name, f in figures.items()]
        card(o, "flowsep-mini", "\n".join([SEPARATOR_HEAD, *rows]))


GENERATOR_TABLE = """| | |
|---|---|
| named rightly by the classifier, of {sounds} sounds of 50 concepts (chance 2 %) | {accuracy:.0%} |
| mean probability of the prompted concept | {probability:.2f} |
| held-out real clips of the same concepts, named rightly | {real_accuracy:.0%} |
| Frechet distance to those clips, in the classifier's embedding | {frechet:.2f} |
| the same between two halves of those clips | {frechet_of_real_halves:.2f} |"""

SEPARATOR_HEAD = """| median over the mixtures | interference left | target kept |
|---|---|---|"""

COMMON = """- **Licence of these weights.** CC-BY-SA-4.0: some of the sound that they learnt from is CC-BY-SA. All of it is CC0, public
  domain, permissively licensed, CC-BY or CC-BY-SA; GPL sound is not in the training set.

## Sources

{sources}
"""

CARDS = {
    "audioldm-mini": """# audioldm-mini

Makes up to 5.12 s of sound of a short English description in one piece, longer sounds in overlapping windows. AudioLDM's
architecture (arXiv:2301.12503) at laptop size: 16 kHz, million parameters: {parts}; {size:.1f} MB as float16, conditioned
on the sentence embeddings of [text-mini](../text-mini/CARD.md); its vocoder is a Vocos (arXiv:2306.00814).

- **Use.** `jaxaudio.load("audioldm-mini").generate("a church bell")`. By default {default_steps} steps of
  {default_solver} on the "{default_spacing}" grid with a guidance of {default_guidance:g}.
- **Training.** `experiments/generation_mini.py`, {steps} steps of 16 latents on two CPU cores, on an autoencoder and a vocoder of
  `generation_vae.py` and `generation_vocoder.py`; it predicts v.

## Measured

By `python experiments/ship_generation.py --keep`: {each} sounds for each of fifty concepts, prompted with captions of held-out clips. The
judge, [concepts-mini](../concepts-mini/CARD.md), has learnt from real clips alone.

{table}

## Limits

A small model, trained for hours, not weeks: textures, tones and single events are recognisable, fine detail is not. It
knows about two hundred kinds of sound and speaks no words. Prompts that combine sounds, count them or order them in time are
beyond it.

{common}""",
    "flowsep-mini": """# flowsep-mini

Makes the sound that a sentence names out of a mixture anew, by rectified flow. FlowSep's architecture (arXiv:2409.07614) at
laptop size: 16 kHz, million parameters: {parts}; {size:.1f} MB as float16, conditioned on the sentence embeddings of
[text-mini](../text-mini/CARD.md); autoencoder and vocoder are those of [audioldm-mini](../audioldm-mini/CARD.md).

- **Use.** `jaxaudio.load("flowsep-mini").separate(audio, "a dog barking", sample_rate=44100)`; `spans=[(2.0, 3.5)]` says where
  it sounds. By default {default_steps} steps with a guidance of {default_guidance:g}.
- **Training.** `experiments/separation_flow_mini.py`, {steps} steps of 16 mixtures of 2.56 s on two CPU cores.

## Measured

By `python experiments/ship_generation.py --keep`, on {trials} held-out mixtures of two sounds, 5.12 s each: how much of the energy of
the mixture's parts is found in the estimate (`jaxaudio.metrics.energies_left`).

{table}

## Limits

What it makes sounds like what was there, but its waveform is not the same; measures that compare waveforms say little of it.
It leaves less of the interference than the masking separator does, and keeps less of the target too: the estimate is quieter and
blurred, in part already by the autoencoder and the vocoder. Where the mixture's own samples matter, take separation-mini.

{common}""",
}


if __name__ == "__main__":
    main(tyro.cli(Options))
