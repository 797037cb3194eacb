"""Makes a folder of the trained concept classifier: weights, card and measured figures.

python experiments/ship_concepts.py --run runs/concept_classifier --root data/open_sounds
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import tyro
from concept_classifier import LABELS, held_out

from jaxaudio.benchmark import judges
from jaxaudio.data import open_sounds
from jaxaudio.metrics import concepts, frechet_distance, named
from jaxaudio.train import load_params

MADE_BY_US = ("fluid-soundfont-gm", "procedural", "espeak-ng")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to ship and how to measure it.

    Attributes:
      run: folder of the training run; its `best` weights are taken.
      root: the built `open_sounds`.
      out: folder of the shipped classifier.
    """

    run: Path = Path("runs/concept_classifier")
    root: Path = Path("data/open_sounds")
    out: Path = Path("jaxaudio/assets/concepts-mini")


def main(o: Options) -> None:
    """Exports, measures, and writes the card."""
    params, about = load_params(o.run / "best")
    config = concepts.Config.from_json(about["config"])
    assert config.labels == LABELS, "the run is of another list of concepts"
    licence = {"licence": "CC-BY-SA-4.0", "source": "trained by experiments/concept_classifier.py on open_sounds"}
    concepts.save(o.out, params, config, about={**licence, "step": about["step"]})

    judge = judges.classifier(o.out)
    audio, labels, ids = held_out(str(o.root), config)
    embedded = judge.embed(audio)
    head = concepts.load(o.out).params["params"]["logits"]
    right = named(embedded @ head["kernel"] + head["bias"], labels)[1]
    each = {LABELS[k]: float(np.mean(right[labels == k])) for k in range(len(LABELS))}
    recorded = np.array([not name.startswith(MADE_BY_US) for name in ids])
    half = np.random.default_rng(0).permutation(len(audio))
    figures = {
        "clips": len(labels),
        "accuracy": 100 * float(np.mean(right)),
        "class_accuracy": 100 * float(np.mean(list(each.values()))),
        "recorded": int(recorded.sum()),
        "recorded_accuracy": 100 * float(np.mean(right[recorded])),
        "frechet": frechet_distance(embedded[half[::2]], embedded[half[1::2]]),
    }
    print({name: round(value, 2) for name, value in figures.items()})
    card = CARD.format(
        **figures,
        steps=about["step"],
        parameters=sum(x.size for x in jax.tree.leaves(params)) / 1e6,
        size=sum(path.stat().st_size for path in o.out.glob("*")) / 1e6,
        labels=", ".join(LABELS),
        worst=", ".join(f"{name} {100 * each[name]:.0f} %" for name in sorted(each, key=lambda name: each[name])[:6]),
        sources=open_sounds.attribution(),
    )
    (o.out / "CARD.md").write_text(card, encoding="utf-8")


CARD = """# concepts-mini

Names one of fifty kinds of sound, and embeds sounds as 128 numbers: the judge of generated sounds. It has learnt from
the clips of `open_sounds` alone, and from nothing that a model generated. {parameters:.2f} million parameters,
{size:.1f} MB.

- **Use.** `jaxaudio.metrics.concepts.load(folder)`; `log_mels`, `embed` and `logits` beside it. With
  `--judge concepts-mini`, `jaxaudio benchmark samplers` takes Frechet distances between its embeddings, and its
  probability of the prompted concept for agreement.
- **What it hears.** 5.12 s at 16 kHz, levelled, as the log-mel spectrogram of AudioLDM. Shorter sounds are filled up
  with silence.
- **Concepts.** {labels}. `experiments/concepts_50.txt` says by which rule.
- **Training.** `experiments/concept_classifier.py`, {steps} steps of 24 clips, on two CPU cores.
- **Licence of these weights.** CC-BY-SA-4.0: some of the sound that they learnt from is CC-BY-SA. All of it is CC0,
  public domain, permissively licensed, CC-BY or CC-BY-SA; GPL sound is not in the training set.

## Measured

By `python experiments/ship_concepts.py`, on recordings, notes and seeds of the fifty concepts that were never trained
on; chance is 2 %. The best of the training run's few evaluations was taken by the first line.

| held-out clips | clips | named rightly |
|---|---|---|
| all, at most 40 of a concept | {clips} | {accuracy:.1f} % |
| mean over the concepts | | {class_accuracy:.1f} % |
| the recordings among them | {recorded} | {recorded_accuracy:.1f} % |

Least often right: {worst}. The Frechet distance between two random halves of these clips is {frechet:.2f}: about what
a perfect generator would have with as many sounds.

## Limits

It answers with one of its fifty names whatever it hears. Most of its clips are renders of one sound font and of our
own generators, and of some concepts it knows nothing else; of recordings of the world it names far fewer, as the last
line says. Embeddings of one network say what that network can tell apart, and no more.

## Sources

{sources}
"""


if __name__ == "__main__":
    main(tyro.cli(Options))
