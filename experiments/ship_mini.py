"""Puts a trained separator into the package: weights, card and measured figures.

python experiments/ship_mini.py --run runs/separation_mini --root data/open_sounds [--earlier MODEL]
"""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import tyro

import jaxaudio
from jaxaudio.data import open_sounds
from jaxaudio.metrics import protocol
from jaxaudio.models import publish, verify
from jaxaudio.systems import audiosep

MADE_BY_US = ("fluid-soundfont-gm", "procedural", "espeak-ng")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to ship and how to measure it.

    Attributes:
      run: folder of the training run; its `best` weights are taken.
      earlier: model folder of an earlier stage of the same run. The mean of both is shipped: it keeps most of what the
        later one gained on known concepts, and of what the earlier one knew about new ones (Wortsman et al. 2022).
      root: the built `open_sounds`.
      out: folder of the shipped model.
      trials: mixtures per figure.
      seconds: length of a mixture.
      keep: measure `out` as it is, without writing new weights.
    """

    run: Path = Path("runs/separation_mini")
    earlier: Path | None = None
    root: Path = Path("data/open_sounds")
    out: Path = Path("jaxaudio/assets/separation-mini")
    trials: int = 200
    seconds: float = 4.0
    keep: bool = False


def _step(config: Path) -> int:
    """The step of a training run's folder, or of a model shipped from one."""
    fields = json.loads(config.read_text())
    return fields.get("step") or fields["about"]["step"]


def averaged(o: Options) -> Path:
    """The mean of two stages, with the statistics of its norms taken anew over fifty training batches."""
    import jax
    import jax.numpy as jnp

    from jaxaudio.models import folder
    from jaxaudio.train import load_experiment, load_params, override, save_params

    experiment = override(load_experiment("experiments/separation_mini.py"), ["--data.root", str(o.root)])
    data = experiment.build(experiment).data
    later, about = load_params(o.run / "best")
    earlier = folder.read_weights(folder.read_card(o.earlier))["separator"]
    mean = jax.tree.map(lambda a, b: jnp.asarray((np.asarray(a) + np.asarray(b)) / 2), later, earlier)
    config = dataclasses.replace(experiment.model, momentum=1.0)  # the statistics of one batch

    @jax.jit
    def statistics(batch):
        extra = {"batch_stats": mean["batch_stats"]}
        return audiosep.loss(mean["params"], extra, batch, config=config)[1][1]["batch_stats"]

    found = [statistics(next(data)) for _ in range(50)]
    stats = jax.tree.map(lambda *xs: sum(xs) / len(xs), *found)
    out = o.run / "averaged"
    save_params(out, {"params": mean["params"], "batch_stats": stats}, about)
    return out


def measure(model, o: Options) -> dict[str, dict[str, float]]:
    """Figures of every held-out set, on two-source mixtures at 0 dB."""

    def separator(mixtures, captions):
        # The model takes one query for all rows, so each mixture is asked by itself.
        return np.stack([model.separate(x, c, sample_rate=model.sample_rate) for x, c in zip(mixtures, captions)])

    def split(name):
        return open_sounds.open_split(o.root, name)

    known, new = split("heldout_clips"), split("heldout_concepts")
    real = [clip for clip in known if not clip.id.startswith(MADE_BY_US)]
    real_new = [clip for clip in new if not clip.id.startswith(MADE_BY_US)]
    effects = [clip for clip in real if not {"speech", "human voice"} & set(clip.labels)]
    speech = [clip for clip in split("eval_speech") if len(clip.audio) > 2 * clip.sample_rate]
    pairs = {
        "held-out clips of known concepts": (known, known),
        "the recordings among them": (real, real),
        "held-out concepts": (new, known),
        "the recordings among them, new concepts": (real_new, real),
        "real speech of unseen speakers, against real effects": (speech, effects),
        "real effects, against that speech": (effects, speech),
    }
    figures = {}
    for name, (targets, others) in pairs.items():
        trials = protocol.pair_trials(
            targets,
            others,
            count=o.trials,
            seconds=o.seconds,
            sample_rate=model.sample_rate,
            place="random",
            seed=1,
        )
        figures[name] = protocol.evaluate(separator, trials, batch=1, wrong=True)
        print(name, json.dumps({k: round(v, 2) for k, v in figures[name].items()}), flush=True)
    return figures


def table(figures: dict[str, dict[str, float]]) -> str:
    """The figures as a Markdown table."""
    rows = ["| mixtures of two sounds at 0 dB | SDRi | SI-SDR | wrong query worse by |", "|---|---|---|---|"]
    rows += [
        f"| {name} | {f['sdri']:.1f} dB | {f['si_sdr']:.1f} dB | {f['wrong_gap']:.1f} dB |"
        for name, f in figures.items()
    ]
    return "\n".join(rows)


def main(o: Options) -> None:
    """Exports, measures, and writes the card."""
    steps = _step(o.run / "best" / "config.json")
    if not o.keep:
        shutil.rmtree(o.out, ignore_errors=True)
        publish.export_training(
            averaged(o) if o.earlier else o.run / "best",
            o.out,
            name="separation-mini",
            licence="CC-BY-SA-4.0",
            source="trained by experiments/separation_mini.py on open_sounds",
            dtype=np.float16,
            about={"step": steps} | ({"averaged_with_step": _step(o.earlier / "config.json")} if o.earlier else {}),
        )
        verify.add_record(o.out)
    model = jaxaudio.load(str(o.out))
    figures = measure(model, o)
    about = json.loads((o.out / "config.json").read_text())["about"]
    earlier = about.get("averaged_with_step")
    card = CARD.format(
        table=table(figures),
        trials=o.trials,
        seconds=f"{o.seconds:g}",
        steps=about["step"],
        averaged=f"; the mean of the weights then and after {earlier} steps" if earlier else "",
        size=sum(p.stat().st_size for p in o.out.glob("*")) / 1e6,
        sources=open_sounds.attribution(),
    )
    (o.out / "CARD.md").write_text(card, encoding="utf-8")


CARD = """# separation-mini

Lifts a sound out of a mixture by a short English description. AudioSep's architecture (arXiv:2308.05037) at laptop size:
16 kHz, 4.5 million parameters, {size:.1f} MB as float16, conditioned on the sentence embeddings of
[text-mini](../text-mini/CARD.md).

- **Use.** `jaxaudio.load("separation-mini").separate(audio, "a dog barking", sample_rate=44100)`. What lies above 8 kHz is
  not returned.
- **Training.** `experiments/separation_mini.py`, {steps} steps of 16 mixtures of 2.55 s, on two CPU cores{averaged}.
- **Licence of these weights.** CC-BY-SA-4.0: some of the sound that they learnt from is CC-BY-SA. All of it is CC0, public
  domain, permissively licensed, CC-BY or CC-BY-SA; GPL sound is not in the training set.

## Measured

By `python experiments/ship_mini.py`: {trials} mixtures of {seconds} s per line, at 16 kHz, never trained on. SDRi is the mean
improvement over the mixture; the last column says how much worse the estimate is when the other sound is asked for.

{table}

"Held-out clips" are other recordings, notes or seeds of concepts in the training set; "held-out concepts" are known to the
model only through the words that name them. Renders of one sound font and our own generators make up most of both sets, so
the recordings among them stand on lines of their own. Speech is asked for as a man or a woman speaking; its speakers and
languages are not in the training set.

## Limits

Sounds alike (two voices, two string instruments) are not told apart. Concepts with a single training source are known by
little but their name. Wordings far from short descriptions of sounds work less well. Negation inside a query is not understood.

## Sources

{sources}
"""


if __name__ == "__main__":
    main(tyro.cli(Options))
