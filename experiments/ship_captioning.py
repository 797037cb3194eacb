"""Makes a model folder of the trained captioner: weights, card and measured figures.

python experiments/ship_captioning.py --run runs/captioning_mini --root data/open_sounds
"""

import dataclasses
import json
import shutil
from collections import defaultdict
from pathlib import Path

import numpy as np
import tyro

import jaxaudio
from jaxaudio.data import open_sounds
from jaxaudio.data.described import DescribedConfig
from jaxaudio.metrics import captions
from jaxaudio.metrics.naming import Names, naming_rate
from jaxaudio.models import publish, verify
from jaxaudio.text.vocabulary import words_of
from jaxaudio.train.captioning import Judged, phrases

MADE_BY_US = ("fluid-soundfont-gm", "procedural", "espeak-ng")
HERE = Path(__file__).parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to ship and how to measure it.

    Attributes:
      run: folder of the training run; its `best` weights are taken.
      root: the built `open_sounds`.
      out: folder of the shipped captioner.
      clips: most clips of each list of concepts; half as many mixtures.
      beam: see `Captioner.captions`.
    """

    run: Path = Path("runs/captioning_mini")
    root: Path = Path("data/open_sounds")
    out: Path = Path("jaxaudio/assets/captioning-mini")
    clips: int = 600
    beam: int = 3


def measure(model, o: Options, concepts: set[str] | None) -> dict[str, float]:
    """How often what is heard is named, in held-out clips of some concepts, and the scores of the captions."""
    known, held_out = phrases(open_sounds.open_split(o.root, "train")), open_sounds.open_split(o.root, "heldout_clips")
    names = Names(known)
    config = DescribedConfig(sample_rate=model.sample_rate, seconds=float(model.card.text["seconds"]))
    judged = Judged(held_out, names, config, o.clips, concepts or set(known))
    (single, labels), (mixed, both) = judged.single, judged.pairs
    heard = [model.hear(x, sample_rate=model.sample_rate) for x in single]
    said = [own[0].text for own in model.describe(heard, beam=o.beam)]
    sure = model.tag_probabilities(heard)
    of_two = [model.hear(x, sample_rate=model.sample_rate) for x in mixed]
    told = [own[0].text for own in model.describe(of_two, beam=o.beam)]
    right = [bool(naming_rate(names, [one], [own])) for one, own in zip(said, labels, strict=True)]
    scores = captions.scores(said, [[" ".join(words_of(text)) for text in own] for own in judged.captions])
    each = defaultdict(list)
    for own, one in zip(labels, right, strict=True):
        each[own[0][0]].append(one)
    recorded = [not clip_id.startswith(MADE_BY_US) for clip_id in judged.ids]
    return {
        "clips": len(said),
        "concepts": len(each),
        "named": float(np.mean(right)),
        "tagged": float(np.mean([model.tags[i] in own[0] for i, own in zip(sure.argmax(-1), labels, strict=True)])),
        "mixtures": len(told),
        "both_named": naming_rate(names, told, both),
        "one_named": float(np.mean([any(naming_rate(names, [t], [[s]]) for s in two) for t, two in zip(told, both)])),
        "recorded": int(np.sum(recorded)),
        "recorded_named": float(np.mean(np.asarray(right)[recorded])),
        "bleu_4": scores.bleu[3],
        "rouge_l": scores.rouge_l,
        "cider_d": scores.cider_d,
        "vocabulary": captions.diversity(said)["vocabulary"],
        "found_first": found_first(model, heard, labels, known),
        "worst": ", ".join(f"{name} {100 * np.mean(each[name]):.0f} %" for name in _worst(each)),
    }


def _worst(each: dict[str, list[bool]]) -> list[str]:
    return sorted(each, key=lambda name: (np.mean(each[name]), name))[:8]


def found_first(model, heard, labels, known) -> float:
    """Share of the concepts for whose shortest phrase a clip of them comes first of all that are searched."""
    asked = sorted({own[0][0] for own in labels})
    queries = [min(known[name], key=len) for name in asked]
    best = model.match(queries, heard).argmax(0)
    return float(np.mean([name in labels[i][0] for name, i in zip(asked, best, strict=True)]))


def main(o: Options) -> None:
    """Exports, measures, and writes the card."""
    step = json.loads((o.run / "best" / "config.json").read_text())["step"]
    shutil.rmtree(o.out, ignore_errors=True)
    publish.export_training(
        o.run / "best",
        o.out,
        name="captioning-mini",
        licence="CC-BY-SA-4.0",
        source="trained by experiments/captioning_mini.py on open_sounds",
        dtype=np.float16,
        about={"step": step},
    )
    verify.add_record(o.out)
    model = jaxaudio.load(o.out)
    lines = (HERE / "concepts_100.txt").read_text().splitlines()
    hundred = {line for line in lines if line and not line.startswith("#")}
    figures = {"hundred": measure(model, o, hundred), "all": measure(model, o, None)}
    print(json.dumps(figures, indent=2))
    fields = json.loads((o.out / "config.json").read_text())
    card = CARD.format(
        step=step,
        beam=o.beam,
        tags=len(model.tags),
        words=len(model.vocabulary),
        parameters=fields["parameters"] / 1e6,
        size=sum(path.stat().st_size for path in o.out.glob("*")) / 1e6,
        a=figures["hundred"] | {"percent": _percent(figures["hundred"])},
        table=table(figures),
        sources=open_sounds.attribution(),
        worst=figures["hundred"]["worst"],
    )
    (o.out / "CARD.md").write_text(card, encoding="utf-8")


def _percent(figures: dict[str, float]) -> str:
    return f"{100 * figures['named']:.1f} %"


ROWS = (
    ("single clips", "clips", "{:.0f}"),
    ("the concept is named", "named", "{:.1%}"),
    ("of the recordings among them", "recorded_named", "{:.1%}"),
    ("the surest tag is right", "tagged", "{:.1%}"),
    ("mixtures of two at equal levels", "mixtures", "{:.0f}"),
    ("both concepts are named", "both_named", "{:.1%}"),
    ("at least one is", "one_named", "{:.1%}"),
    ("BLEU-4", "bleu_4", "{:.3f}"),
    ("ROUGE-L", "rouge_l", "{:.3f}"),
    ("CIDEr-D, of 10", "cider_d", "{:.2f}"),
    ("different words", "vocabulary", "{:.0f}"),
    ("concepts of which a clip is found first", "found_first", "{:.1%}"),
)


def table(figures: dict[str, dict[str, float]]) -> str:
    """Markdown: a column for each list of concepts."""
    head = ["", *(f"{own['concepts']} concepts" for own in figures.values())]
    rows = [[title, *(form.format(own[name]) for own in figures.values())] for title, name, form in ROWS]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)).replace("%", " %")


CARD = """# captioning-mini

Says in a sentence what is heard, and tells {tags} concepts apart: a CNN-Transformer (Mei et al., 2021,
arXiv:2108.02752) whose own surest tags stand in its memory as keywords. {parameters:.2f} million parameters,
{size:.1f} MB; it knows {words} words.

- **Use.** `jaxaudio caption RECORDING`, `jaxaudio tag RECORDING`, `jaxaudio search FOLDER "glass breaking"`; in Python
  `jaxaudio.load("captioning-mini").caption(audio, sample_rate=rate)`.
- **What it hears.** Mono at 32 kHz, levelled, filled up with silence to steps of 4 s, which is what it learnt from; of
  longer recordings the first 30 s at once.
- **Training.** `experiments/captioning_mini.py`, on two CPU cores: 2,400 steps of 48 sounds, about half of them mixtures of
  two clips, and {step} more of all but the encoder and the tags, with the tags' words in the memory as large as words are
  read (`--data.start-from runs/captioning_mini/best --trainable '^(?!encoder/|tag_fc/)'`). The keywords came in after
  1,050 steps, the sounds of other microphones after 1,870.
- **Licence of these weights.** CC-BY-SA-4.0: some of the sound that they learnt from is CC-BY-SA. All of it is CC0,
  public domain, permissively licensed, CC-BY or CC-BY-SA; GPL sound is not in the training set.

## Measured

By `python experiments/ship_captioning.py`, on recordings, notes and seeds that were never trained on, with a beam of
{beam}. A concept counts as named where the caption holds one of its phrases, or those of another label of the clip. The
hundred concepts are those of `experiments/concepts_100.txt`. References are the sentences of `captions.json`, as
written by us for each concept; scores against them say how well it speaks this set's language, not people's.

{table}

Of the hundred, least often named: {worst}.

## Limits

It knows {words} words and names nothing else. Of two sounds at once it names one, or one of them twice. Most of its clips
are renders of one sound font and of our own generators; of recordings of the world it names fewer, as the table says,
and it says something whatever it hears.

## Sources

{sources}
"""


if __name__ == "__main__":
    main(tyro.cli(Options))
