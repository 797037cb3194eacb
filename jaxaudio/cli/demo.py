"""`jaxaudio demo`."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxaudio import io
from jaxaudio.cli import show
from jaxaudio.cli.parse import parse
from jaxaudio.cli.separate import slugs
from jaxaudio.errors import MissingError
from jaxaudio.models.registry import ASSETS, DEFAULT


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo:
    """Separates a mixture that comes with the package, and says how well.

    Writes the mixture, what was found in it, a picture of their spectrograms and a JSON record.
    """

    out: Path = Path("jaxaudio-demo")
    """Folder to write to."""

    model: str = DEFAULT
    """Name of a shipped model, or path of a model's folder."""

    assets: Path = ASSETS / "demo"
    """Folder with a demo.json that names a mixture, and queries with their references."""

    quiet: bool = False
    """Say nothing but errors."""

    json: bool = False
    """Print the record to stdout instead of a table."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    options = parse(Demo, words, "demo")
    plan = _plan(options.assets)
    queries = [stem["query"] for stem in plan["stems"]]
    mixture = io.read(options.assets / plan["mixture"])
    references = [io.read(options.assets / stem["reference"]).samples for stem in plan["stems"]]
    with io.Outputs() as outputs:
        picture = outputs.add(options.out / "spectrograms.png")
        clock = show.Clock()
        model = show.open_model(options.model, clock)
        with clock.phase("separate"), show.progress("separating", options.quiet) as advance:
            estimates = model.separate(mixture.samples, queries, sample_rate=mixture.sample_rate, progress=advance)
        names = [f"{slug}.wav" for slug in slugs(queries)]
        rows = [
            _score(query, name, reference, estimate, mixture.samples)
            for query, name, reference, estimate in zip(queries, names, references, estimates)
        ]
        for name, samples in zip(["mixture.wav", *names], [mixture.samples, *estimates]):
            outputs.write_audio(options.out / name, samples, mixture.sample_rate)
        with clock.phase("picture"):
            from jaxaudio.picture import draw_spectrograms

            panels = [("the mixture", mixture.samples), *zip(queries, estimates)]
            draw_spectrograms(picture, panels, mixture.sample_rate)
        record = io.record(
            {
                "command": show.command("demo", words),
                "stems": rows,
                "seconds": len(mixture.samples) / mixture.sample_rate,
                "sample_rate": mixture.sample_rate,
                "attribution": plan.get("attribution", ""),
                "seed": None,
                "model": show.describe(model),
                "timings": clock.rounded(),
            }
        )
        outputs.write_json(options.out / "demo.json", record)
        for name in ("mixture.wav", *names, "spectrograms.png"):
            outputs.write_json(io.sidecar(options.out / name), {"output": name, **record})
    if options.json:
        print(json.dumps(record, indent=2, ensure_ascii=False))
    elif not options.quiet:
        columns = ("query", "file", "SDR of the mixture, dB", "SDR, dB", "SDRi, dB")
        table = [[row[k] for k in ("query", "file", "sdr_mixture_db", "sdr_db", "sdri_db")] for row in rows]
        show.table(f"{record['seconds']:.1f} s of audio, separated by {model.name}", columns, table)
        times = ", ".join(f"{name} {value:.1f} s" for name, value in clock.seconds.items())
        print(f"{times}\nListen to the files in {options.out}, and look at {options.out / 'spectrograms.png'}.")
    return 0


def _plan(assets: Path) -> dict[str, Any]:
    try:
        return json.loads((assets / "demo.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MissingError(f"there is no demo in {assets} ({error}); install jaxaudio again.") from error


def _score(query: str, name: str, reference: Any, estimate: Any, mixture: Any) -> dict[str, Any]:
    from jaxaudio.metrics.separation import sdr

    before, after = (float(sdr(reference.T, x.T).mean()) for x in (mixture, estimate))
    return {"query": query, "file": name, "sdr_mixture_db": before, "sdr_db": after, "sdri_db": after - before}
