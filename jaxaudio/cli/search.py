"""`jaxaudio search`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxaudio import io
from jaxaudio.cli import listen, show
from jaxaudio.cli.parse import parse
from jaxaudio.errors import UsageError
from jaxaudio.models.registry import DEFAULT_CAPTIONER


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
    """Finds the recordings in a folder that go best with a sentence.

    jaxaudio search recordings/ "glass breaking"
    """

    folder: tyro.conf.Positional[Path]
    """Folder of recordings (WAV, FLAC, Ogg, MP3 ...), those in folders below it among them."""

    text: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="QUERY")]
    """What to look for, in words."""

    top: int = 10
    """How many recordings, the best first."""

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="CSV")] = None
    """Table to write of all recordings, the best first; beside it goes a record of how it was made."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|DIR")] = DEFAULT_CAPTIONER
    """A captioner, a CLAP or an ASE: name of a shipped model, or path of a model's folder."""

    quiet: bool = False
    """Say nothing but what is found and errors."""

    json: bool = False
    """Print the record to stdout instead."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    options = parse(Search, words, "search")
    if not options.text.strip():
        raise UsageError('the query has no words; describe a sound: jaxaudio search FOLDER "glass breaking"')
    if options.top < 1:
        raise UsageError(f"--top {options.top} cannot be; give at least 1.")
    if not options.folder.is_dir():
        raise UsageError(f"{options.folder} is no folder; give one with recordings in it.")
    files = listen.recordings([options.folder])
    listen.checked_table(options.out)
    clock = show.Clock()
    model = show.open_model(options.model, clock, "match")
    with clock.phase("read"):
        heard = listen.hear(model, files, options.quiet)
    with clock.phase("search"), show.progress("search", options.quiet) as advance:
        scores = model.match(options.text, [sound.samples for sound in heard], progress=advance)[:, 0]
    order = np.argsort(-scores, kind="stable")
    found: list[tuple[str, float]] = [(str(heard[i].path), float(scores[i])) for i in order]
    record = io.record(
        {
            "command": show.command("search", words),
            "query": options.text,
            "found": [{"path": path, "score": score} for path, score in found[: options.top]],
            "searched": len(found),
            "model": show.describe(model),
            "timings": clock.rounded(),
        }
    )
    rows = [(path, round(score, 4)) for path, score in found]
    if listen.deliver(options, ("file", "score"), rows, record):
        show.table(options.text, ("file", "score"), found[: options.top])
    return 0
