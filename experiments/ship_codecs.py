"""Puts a trained codec into the package: weights, card and the figures that `codec_report.py` measured.

python experiments/ship_codecs.py --name speech-codec-mini --run runs/codec_speech_mini/final
python experiments/codec_report.py --data data/open_speech --models speech-codec-mini --out docs/codecs-speech
python experiments/ship_codecs.py --name speech-codec-mini --report docs/codecs-speech.txt

python experiments/ship_codecs.py --name tracks-codec-mini --run runs/codec_tracks_mini/final
python experiments/codec_tracks_report.py --speech data/open_speech --music data/open_music --out docs/codecs-tracks.txt
python experiments/ship_codecs.py --name tracks-codec-mini --report docs/codecs-tracks.txt

python experiments/ship_codecs.py --name sitok-mini --run runs/sitok_shortcut/final --vocoder runs/sitok_vocoder/final
"""

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro

from jaxaudio.data import open_music, open_speech
from jaxaudio.models import publish, read_card, verify
from jaxaudio.systems import sitok
from jaxaudio.train import load_params

ASSETS = Path("jaxaudio/assets")


class About(NamedTuple):
    """What a model is, what trained it and how, on which sets, and how the figures of its card were measured."""

    what: str
    experiment: str
    trained: str
    kinds: tuple[str, ...]
    measured: str


_SPEECH = (
    "On people and texts that were never trained on, `python experiments/codec_report.py`; means over all clips, word "
    "error rates of Whisper tiny.en over the English ones."
)

ABOUT = {
    "speech-codec-mini": About(
        "A transformer codec with FSQ (arXiv:2411.19842) for speech at 16 kHz: 33 tokens per second, 817 bit/s.",
        "experiments/codec_speech_mini.py",
        "for {step} steps",
        ("speech",),
        _SPEECH,
    ),
    "tracks-codec-mini": About(
        "An SD-Codec (arXiv:2409.11228) at 16 kHz that keeps speech and music apart: 50 steps of eight tokens per "
        "second and track, 4 kbit/s each.",
        "experiments/codec_tracks_mini.py",
        "for {step} steps",
        ("speech", "music"),
        "On speakers and pieces that were never trained on, `python experiments/codec_tracks_report.py`: means over 64 "
        'mixtures of one of each, 3 s. "decoded" is what a track\'s tokens become, whose phases are their own, so '
        'that SI-SDR says nothing of it; "masked" the share of the mixture that it has; "mixture" what doing nothing '
        "gives.",
    ),
    "sitok-mini": About(
        "A SiTok (arXiv:2602.06602) for speech at 16 kHz: 12.5 steps of four tokens per second, 500 bit/s. Its decoder is a "
        "shortcut model, two evaluations by default; its vocoder is a Vocos (arXiv:2306.00814).",
        "experiments/sitok_mini.py",
        "in two stages, {step} steps of the second, after its vocoder (`experiments/sitok_vocoder.py`),",
        ("speech",),
        _SPEECH,
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to ship.

    Attributes:
      name: of the model, one of `ABOUT`.
      run: `final` or `best` folder of its training run; without it the weights stay what they are.
      vocoder: the same of a SiTok's vocoder.
      report: table of `codec_report.py` or `codec_tracks_report.py` for the card.
    """

    name: str
    run: Path | None = None
    vocoder: Path | None = None
    report: Path | None = None


def attribution(kinds: tuple[str, ...]) -> str:
    """Whom weights trained on these sets owe their names."""
    lines = []
    if "speech" in kinds:
        lines += [
            f"- {source.package}: {source.speaker} ({source.language}), {source.licence}"
            for source in open_speech.SOURCES
            if not source.unseen
        ]
        lines.append(
            "- synthetic voices of flite (CMU ARCTIC: awb, rms, slt, kal16) and espeak-ng, reading random words of SCOWL"
        )
    if "music" in kinds:
        lines += [f"- {source.package}: {source.authors}, {open_music.LICENCE}" for source in open_music.SOURCES]
    return "\n".join(lines)


def with_vocoder(vocoder: Path, config: Any, weights: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A SiTok that speaks, without its reader, which only training needs."""
    whole = weights["codec"]
    params = {name: part for name, part in whole["params"].items() if name != "reader"}
    config = dataclasses.replace(config, labels=0, vocoder=sitok.MINI.vocoder)
    return config, {"codec": {**whole, "params": params, "vocoder": load_params(vocoder)[0]}}


def main(options: Options) -> None:
    """Exports, and writes the card."""
    about = ABOUT[options.name]
    out = ASSETS / options.name
    if options.run is not None:
        step = json.loads((options.run / "config.json").read_text())["step"]
        shutil.rmtree(out, ignore_errors=True)
        publish.export_training(
            options.run,
            out,
            name=options.name,
            licence="CC-BY-SA-3.0",
            source=f"trained by {about.experiment}",
            dtype=np.float16,
            about={"step": step},
            change=functools.partial(with_vocoder, options.vocoder) if options.vocoder else lambda *whole: whole,
        )
        verify.add_record(out)
    card = read_card(out)
    figures = options.report.read_text() if options.report else "Not measured yet.\n"
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    (out / "CARD.md").write_text(
        f"# {options.name}\n\n{about.what} {size:.1f} MB, stored as float16.\n\n"
        f"Trained {about.trained.format(**card.about)} on two CPU cores by `jaxaudio train {about.experiment}`, exported by "
        f"`python experiments/ship_codecs.py`.\n\n"
        f"## Measured\n\n{about.measured}\n\n{figures}\n"
        "## Licence and sources\n\nCC-BY-SA-3.0, as the recordings that it was trained on:\n\n"
        f"{attribution(about.kinds)}\n"
    )
    print(f"{out}: {size:.1f} MB")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
