"""Puts the small sound language model into the package: weights, card and measured figures.

python experiments/ship_soundlm.py --run runs/soundlm_mini/best
python experiments/ship_soundlm.py --keep
"""

import dataclasses
import json
import shutil
import time
from pathlib import Path

import jax
import numpy as np
import tyro
from ship_generation import COMMON, Options as Judged, heard, measure_generator, real_sounds

import jaxaudio
from jaxaudio.data import open_sounds
from jaxaudio.metrics import concepts, named
from jaxaudio.models import publish, verify

NAME = "soundlm-mini"
SAMPLING = {"temperature": 1.0, "top_k": 0, "top_p": 0.95, "guidance": 4.0}
"""How it writes where nothing else is asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(Judged):
    """What to ship and how to measure it; see `ship_generation.Options`, too.

    Attributes:
      run: weights, a run's `best` or `final`.
      temperature: to measure with; None for the model's own, as of the next.
      top_p: to measure with.
    """

    run: Path = Path("runs/soundlm_mini/best")
    temperature: float | None = None
    top_p: float | None = None


def export(o: Options) -> None:
    """A model folder of a run, as float16, with a record to verify it by."""
    about = {"step": json.loads((o.run / "config.json").read_text())["step"], "sampling": SAMPLING}
    shutil.rmtree(o.assets / NAME, ignore_errors=True)
    publish.export_training(
        o.run,
        o.assets / NAME,
        name=NAME,
        licence="CC-BY-SA-4.0",
        source="trained by experiments/ on open_sounds",
        dtype=np.float16,
        about=about,
    )
    verify.add_record(o.assets / NAME)


def measure_codec(o: Options, model: jaxaudio.models.SoundLM) -> float:
    """How often the classifier names held-out real clips rightly after the way through codes and back."""
    judge = concepts.load(o.judge)
    clips, labels = real_sounds(o, judge, 20)
    through = [model.decode(model.encode(clip, sample_rate=model.sample_rate))[: clips.shape[1]] for clip in clips]
    return float(np.mean(named(heard(judge, np.stack(through))[1], labels)[1]))


def main(o: Options) -> None:
    """Exports, measures, and writes the card."""
    if not o.keep:
        export(o)
    model = jaxaudio.load(o.assets / NAME)
    options = {"temperature": o.temperature, "top_p": o.top_p, "guidance": o.guidance}
    found = measure_generator(o, lambda texts, seed: model.generate(texts, seed=seed, **options))
    found["through_codes"] = measure_codec(o, model)
    took = []
    for seed in range(5):
        begun = time.perf_counter()
        model.generate("a church bell", seed=seed)
        took.append(time.perf_counter() - begun)
    found["seconds"] = float(np.median(took[1:]))
    print(NAME, json.dumps(found), flush=True)
    counts = {part: sum(x.size for x in jax.tree.leaves(tree)) / 1e6 for part, tree in model.params.items()}
    text = CARD.format(
        **found,
        step=model.card.about["step"],
        size=sum(path.stat().st_size for path in (o.assets / NAME).glob("*")) / 1e6,
        parts=", ".join(f"{part} {count:.2f}" for part, count in counts.items()),
        **{f"default_{key}": value for key, value in model.card.about["sampling"].items()},
        each=o.each,
        common=COMMON.format(sources=open_sounds.attribution()),
    )
    (o.assets / NAME / "CARD.md").write_text(text, encoding="utf-8")


CARD = """# soundlm-mini

Writes up to 5.12 s of sound of a short English description code by code, longer sounds half a window at a time, and goes
on from a recording. The language model of sound in the time-frequency domain (arXiv:2107.09998) at laptop size, with a
Transformer that reads and writes in the delay pattern (arXiv:2306.05284): 16 codes of 256 for each of 25 frames a second,
143 steps for 5.12 s. 16 kHz, million parameters: {parts}; {size:.1f} MB as float16; told by
[text-mini](../text-mini/CARD.md), the vocoder that of [audioldm-mini](../audioldm-mini/CARD.md).

- **Use.** `jaxaudio.load("soundlm-mini").generate("a church bell")`, `.extend(audio, "rain", sample_rate=44100)`,
  `.stream("a church bell", seconds=20)`. By default a temperature of {default_temperature:g}, the likeliest
  {default_top_p:.0%} of the codes, and a guidance of {default_guidance:g}.
- **Training.** `experiments/soundlm_codec.py`, `soundlm_codes.py` and `soundlm_mini.py`, {step} steps of 32 sounds on two
  CPU cores.

## Measured

By `python experiments/ship_soundlm.py --keep`: {each} sounds for each of fifty concepts, prompted with captions of
held-out clips. The judge, [concepts-mini](../concepts-mini/CARD.md), has learnt from real clips alone.

| | |
|---|---|
| named rightly by the classifier, of {sounds} sounds of 50 concepts (chance 2 %) | {accuracy:.0%} |
| mean probability of the prompted concept | {probability:.2f} |
| held-out real clips of the same concepts, named rightly | {real_accuracy:.0%} |
| the same clips after the way through codes and back | {through_codes:.0%} |
| Frechet distance to those clips, in the classifier's embedding | {frechet:.2f} |
| the same between two halves of those clips | {frechet_of_real_halves:.2f} |
| one sound of 5.12 s on two CPU cores, warm | {seconds:.2f} s |

## Limits

A small model, trained for an hour: textures and tones are recognisable, fine detail is not. The codes of one step are
drawn independently of each other. It knows about two hundred kinds of sound and speaks no words; prompts that combine
sounds, count them or order them in time are beyond it.

{common}"""


if __name__ == "__main__":
    main(tyro.cli(Options))
