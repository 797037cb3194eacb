"""`jaxaudio tag`."""

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
class Tag:
    """Says which concepts are heard in recordings, and how sure each is.

    jaxaudio tag street.wav --top 5
    """

    recordings: tyro.conf.Positional[tuple[Path, ...]]
    """Recordings (WAV, FLAC, Ogg, MP3 ...) of any rate and any number of channels, or folders of them."""

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="CSV")] = None
    """Table to write, a row for each tag of a recording; beside it goes a record of how it was made."""

    top: int = 5
    """How many tags of each recording, the surest first."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|DIR")] = DEFAULT_CAPTIONER
    """Name of a shipped model, or path of a model's folder."""

    quiet: bool = False
    """Say nothing but the tags and errors."""

    json: bool = False
    """Print the record to stdout instead."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    options = parse(Tag, words, "tag")
    if options.top < 1:
        raise UsageError(f"--top {options.top} cannot be; give at least 1.")
    files = listen.recordings(options.recordings)
    listen.checked_table(options.out)
    clock = show.Clock()
    model = show.open_model(options.model, clock, "tag")
    with clock.phase("read"):
        heard = listen.hear(model, files, options.quiet)
    with clock.phase("tag"), show.progress("tag", options.quiet) as advance:
        sure = model.tag_probabilities([sound.samples for sound in heard], progress=advance)
    best = np.argsort(-sure, axis=-1, kind="stable")[:, : options.top]
    told = [
        (sound.path, [(model.tags[i], float(row[i])) for i in own])
        for sound, row, own in zip(heard, sure, best, strict=True)
    ]
    record = io.record(
        {
            "command": show.command("tag", words),
            "tags": [{"path": str(path), "tags": dict(tags)} for path, tags in told],
            "model": show.describe(model),
            "timings": clock.rounded(),
        }
    )
    rows = [(str(path), name, round(value, 4)) for path, tags in told for name, value in tags]
    if listen.deliver(options, ("file", "tag", "probability"), rows, record):
        for path, tags in told:
            show.table(str(path), ("tag", "probability"), tags)
    return 0
