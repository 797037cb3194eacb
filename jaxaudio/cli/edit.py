"""`jaxaudio edit`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxaudio import io
from jaxaudio.cli import show
from jaxaudio.cli.generate import Sampling, claim, finish, numbered, recording, sampling_options, write
from jaxaudio.cli.parse import parse, span
from jaxaudio.errors import UsageError
from jaxaudio.models.registry import DEFAULT_GENERATOR


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edit(Sampling):
    """Makes another sound of a recording: restyles it, fills parts of it in, or adds what it lacks at the top.

    jaxaudio edit street.wav --style "a forest in spring" --strength 0.6 -o forest.wav

    jaxaudio edit street.wav --inpaint 2.0:3.5 --prompt "a dog barking" -o dog.wav

    jaxaudio edit old.wav --upsample -o new.wav
    """

    recording: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """Recording to edit (WAV, FLAC, Ogg, MP3 ...)."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write; of several, each adds its number to the name."""

    style: Annotated[str | None, tyro.conf.arg(metavar="TEXT")] = None
    """Restyle: what it is to become, in words."""

    strength: float = 0.5
    """Of --style: from 0, the recording itself, to 1, next to nothing of it."""

    inpaint: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="FROM:TO")] = ()
    """Fill in: a span in seconds that is made anew; can be repeated. Everything else stays as it is, exactly."""

    prompt: Annotated[str, tyro.conf.arg(metavar="TEXT")] = ""
    """Of --inpaint and --upsample: what is to be heard, in words."""

    upsample: bool = False
    """Add the high frequencies that the recording lacks."""

    cutoff: Annotated[float | None, tyro.conf.arg(metavar="HZ")] = None
    """Of --upsample: where the new frequencies begin; half the recording's rate by default."""

    model: str = DEFAULT_GENERATOR
    """Name of a shipped model, or path of a model's folder."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    options = parse(Edit, words, "edit")
    task, about = _task(options)
    names = numbered(options.out, options.count)
    clock = show.Clock()
    with io.Outputs() as outputs:
        with clock.phase("read"):
            sound, about["input"] = recording(options.recording, names)
        claim(outputs, names, not options.no_picture)
        model = show.open_model(options.model, clock, task, options.dtype)
        with clock.phase("load"):
            how = sampling_options(options, model)
        with clock.phase("edit"), show.progress(options.recording.name, options.quiet) as advance:
            how |= {"sample_rate": sound.sample_rate, "progress": advance}
            with show.naming(options.recording):
                made = _edit(options, task, model, sound.samples, how)
        sounds = made if options.count > 1 else made[None]
        rate = max(sound.sample_rate, model.sample_rate) if task == "upsample" else sound.sample_rate
        records = write(outputs, options, words, "edit", model, clock, names, sounds, rate, about, sound.subtype)
    finish(options, records, clock, sounds.shape[1] / rate, "edit")
    return 0


def _task(options: Edit) -> tuple[str, dict[str, Any]]:
    """Which method of a generator, and what the record says of it; UsageError unless one thing is asked for."""
    asked = [options.style is not None, bool(options.inpaint), options.upsample]
    if sum(asked) != 1:
        raise UsageError("give one of --style TEXT, --inpaint FROM:TO and --upsample; jaxaudio edit --help says more.")
    if options.style is not None:
        if options.prompt:
            raise UsageError("the words of --style are the prompt; leave --prompt out.")
        return "vary", {"task": "style", "prompt": options.style, "strength": options.strength}
    if options.inpaint:
        return "fill", {"task": "inpaint", "prompt": options.prompt, "spans": [span(text) for text in options.inpaint]}
    return "upsample", {"task": "upsample", "prompt": options.prompt, "cutoff": options.cutoff}


def _edit(options: Edit, task: str, model: Any, samples: Any, how: dict[str, Any]) -> Any:
    if task == "vary":
        return model.vary(samples, options.style, strength=options.strength, **how)
    if task == "fill":
        return model.fill(samples, options.prompt, spans=[span(text) for text in options.inpaint], **how)
    return model.upsample(samples, prompt=options.prompt, cutoff=options.cutoff, **how)
