"""Makes what `jaxaudio demo` separates: a mixture of held-out recordings, with its stems and where they are from.

python experiments/demo_mixture.py --root data/open_sounds --out jaxaudio/assets/demo
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import tyro

from jaxaudio import io
from jaxaudio.data import open_sounds
from jaxaudio.data.mixing import mix_at_snr
from jaxaudio.errors import MissingError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to mix.

    Attributes:
      root: the store of `open_sounds`, as `python -m jaxaudio.data.open_sounds` builds it.
      out: folder to write.
      concepts: the two sounds, each taken from a recording of `heldout_clips`.
      licence: of the recordings, so that the demo may be passed on.
      seconds: length of the mixture.
      sample_rate: of the files.
    """

    root: Path = Path("data/open_sounds")
    out: Path = Path("jaxaudio/assets/demo")
    concepts: tuple[str, str] = ("piano", "crowd")
    licence: str = "CC0-1.0"
    seconds: float = 6.0
    sample_rate: int = 32000


def recording(clips, concept: str, o: Options):
    """The longest held-out recording of a concept, repeated where it is too short, and its record."""
    found = [i for i, r in enumerate(clips.records) if r["concept"] == concept and r["licence"] == o.licence]
    if not found:
        raise MissingError(f"{o.root} holds out no {o.licence} recording of {concept!r}; choose another concept.")
    best = max(found, key=lambda i: clips.records[i]["length"])
    audio = clips[best].audio
    return np.resize(audio, round(o.seconds * o.sample_rate)), clips.records[best]


def main(o: Options) -> None:
    """Writes mixture.flac, one flac per stem, and demo.json."""
    clips = open_sounds.read_store(o.root / "heldout_clips")
    (first, a), (second, b) = (recording(clips, concept, o) for concept in o.concepts)
    mixture, target = mix_at_snr(first, second, 0.0)
    stems = (target, mixture - target)
    io.write(o.out / "mixture.flac", mixture, o.sample_rate)
    for i, stem in enumerate(stems):
        io.write(o.out / f"stem{i}.flac", stem, o.sample_rate)
    plan = {
        "mixture": "mixture.flac",
        "stems": [{"query": record["captions"][0], "reference": f"stem{i}.flac"} for i, record in enumerate((a, b))],
        "attribution": "; ".join(f"{r['id']} ({r['licence']})" for r in (a, b)),
    }
    (o.out / "demo.json").write_text(json.dumps(plan, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options))
