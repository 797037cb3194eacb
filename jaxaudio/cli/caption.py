"""`jaxaudio caption`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxaudio import io
from jaxaudio.cli import listen, show
from jaxaudio.cli.parse import parse
from jaxaudio.errors import UsageError
from jaxaudio.models.registry import DEFAULT_CAPTIONER


@dataclasses.dataclass(frozen=True, kw_only=True)
class Caption:
    """Says in a sentence what is heard in recordings.

    jaxaudio caption street.wav

    jaxaudio caption recordings/ -o captions.csv
    """

    recordings: tyro.conf.Positional[tuple[Path, ...]]
    """Recordings (WAV, FLAC, Ogg, MP3 ...) of any rate and any number of channels, or folders of them."""

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="CSV")] = None
    """Table to write, a row for each sentence; beside it goes a record of how it was made."""

    beam: int | None = None
    """Sentences that are followed at a time while the best is looked for; 1 takes the likeliest word each time. 3 by
    default."""

    samples: int | None = None
    """Draw so many sentences by chance instead of looking for the best, and give all that differ."""

    temperature: Annotated[float | None, tyro.conf.arg(metavar="T")] = None
    """Of the draw: lower is safer, higher is more varied; 1 by default."""

    top_p: Annotated[float | None, tyro.conf.arg(metavar="P")] = None
    """Of the draw: only the likeliest words that make up so much probability; 0.95 by default."""

    seed: int | None = None
    """Of the draw: the same seed gives the same sentences; 0 by default."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|DIR")] = DEFAULT_CAPTIONER
    """Name of a shipped model, or path of a model's folder."""

    quiet: bool = False
    """Say nothing but the sentences and errors."""

    json: bool = False
    """Print the record with all sentences and their scores to stdout instead."""

    @property
    def decoding(self) -> dict[str, Any]:
        """Keywords of `Captioner.describe`; UsageError for those of a draw without one."""
        draw = {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        given = {name: value for name, value in draw.items() if value is not None}
        if self.samples:
            if self.beam is not None:
                raise UsageError("--beam looks for the best and --samples draws by chance; give one of them.")
            return {"samples": self.samples} | given
        if given:
            name = next(iter(given)).replace("_", "-")
            raise UsageError(f"--{name} is of a draw by chance; give --samples with it.")
        return {"beam": 3 if self.beam is None else self.beam}


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    options = parse(Caption, words, "caption")
    decoding, files = options.decoding, listen.recordings(options.recordings)
    listen.checked_table(options.out)
    clock = show.Clock()
    model = show.open_model(options.model, clock, "caption")
    with clock.phase("load"):
        _ = model.vocabulary  # so that its lack is noticed before the work begins
    with clock.phase("read"):
        heard = listen.hear(model, files, options.quiet)
    with clock.phase("caption"), show.progress("caption", options.quiet) as advance:
        said = model.describe([sound.samples for sound in heard], progress=advance, **decoding)
    record = io.record(
        {
            "command": show.command("caption", words),
            "decoding": decoding,
            "captions": [
                {"path": str(sound.path), "seconds": sound.seconds, "captions": [one._asdict() for one in captions]}
                for sound, captions in zip(heard, said, strict=True)
            ],
            "model": show.describe(model),
            "timings": clock.rounded(),
        }
    )
    told = [(sound.path, one) for sound, own in zip(heard, said) for one in (own if options.samples else own[:1])]
    rows = [(str(path), one.text, round(one.score, 4)) for path, one in told]
    if listen.deliver(options, ("file", "caption", "score"), rows, record):
        for path, one in told:
            print(one.text if len(heard) == 1 else f"{path}: {one.text}")
    seconds = sum(sound.seconds for sound in heard)
    show.say(
        f"{len(heard)} recording(s), {seconds:.1f} s: {clock.seconds['load']:.1f} s to load, "
        f"{clock.seconds['caption']:.1f} s to caption ({clock.seconds['compile']:.1f} s compiling)",
        options.quiet or options.json,
    )
    return 0
