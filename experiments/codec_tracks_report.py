"""How well an SD-Codec's tokens keep speech and music apart, on speakers and pieces that it never heard: a table.

python experiments/codec_tracks_report.py --speech data/open_speech --music data/open_music --model tracks-codec-mini

Every mixture holds one of each, at the levels of the paper. "decoded" is what a track's tokens become by themselves,
"masked" the share of the mixture that they have (SD-Codec's sep_mask), and "mixture" what doing nothing would give.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import tyro

import jaxaudio
from jaxaudio.data.audio_clips import open_dataset
from jaxaudio.data.tracks import TrackConfig, TrackPipeline
from jaxaudio.dsp.loudness import mixed
from jaxaudio.metrics import speech
from jaxaudio.metrics.codec import fidelity
from jaxaudio.systems import sdcodec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure.

    Attributes:
      speech: folder of `open_speech`.
      music: folder of `open_music`.
      model: name or folder.
      mixtures: how many.
      seconds: length of each.
      out: where the table goes.
    """

    speech: Path = Path("data/open_speech")
    music: Path = Path("data/open_music")
    model: str = "tracks-codec-mini"
    mixtures: int = 64
    seconds: float = 3.0
    out: Path = Path("runs/codec_tracks_report.md")


def mixtures(options: Options, rate: int) -> np.ndarray:
    """(mixtures, tracks, time) held-out speech and music, at the levels that they have in their mixtures."""
    sets = {
        "speech": open_dataset(options.speech)["heldout_speakers"],
        "music": open_dataset(options.music)["heldout_pieces"],
    }
    config = TrackConfig(
        batch=options.mixtures, sample_rate=rate, seconds=options.seconds, counts=(1e-9, 1.0), place="repeat", seed=1
    )
    batch = TrackPipeline(sets, config)[0]
    return np.asarray(mixed(batch["sources"], batch["valid"], batch["levels"], batch["mix_level"], rate))


def measured(reference: np.ndarray, made: np.ndarray, rate: int, spoken: bool) -> dict[str, float]:
    """Means over all mixtures of what one track's estimates (mixtures, time) are like."""
    rows = []
    for a, b in zip(reference, made, strict=True):
        row = fidelity(a[None], b[None], rate)
        rows.append(row | ({"pesq": speech.pesq(a, b), "stoi": speech.stoi(a, b)} if spoken else {}))
    return speech.means(rows)


def main() -> None:
    """Measures, prints, and writes."""
    options = tyro.cli(Options, description=__doc__)
    model = jaxaudio.load(options.model)
    config, rate = model.config, model.sample_rate
    sources = mixtures(options, rate)
    mixture = sources.sum(1)
    separate = jax.jit(sdcodec.separate, static_argnums=(1,), static_argnames=("masked",))
    made = {
        "mixture": np.repeat(mixture[:, None], len(config.tracks), 1),
        "decoded": np.asarray(separate(model.params, config, mixture)),
        "masked": np.asarray(separate(model.params, config, mixture, masked=True)),
    }
    columns = {"si_sdr_db": "SI-SDR dB", "mel_distance": "mel", "stft_distance": "STFT", "pesq": "PESQ", "stoi": "STOI"}
    lines = ["| track | | " + " | ".join(columns.values()) + " |", "|---" * (len(columns) + 2) + "|"]
    for i, track in enumerate(config.tracks):
        for name, sounds in made.items():
            row = measured(sources[:, i], sounds[:, i], rate, track == "speech")
            values = (f"{row[column]:.3g}" if column in row else "" for column in columns)
            lines.append(f"| {track} | {name} | " + " | ".join(values) + " |")
            print(lines[-1], flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
