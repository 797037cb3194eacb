"""`jaxaudio generate`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxaudio import io
from jaxaudio.cli import show
from jaxaudio.cli.parse import parse
from jaxaudio.errors import UsageError
from jaxaudio.models.registry import DEFAULT_GENERATOR


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """Options of every verb that samples."""

    steps: int | None = None
    """Steps of the sampler, exactly so many; the model's own number by default."""

    solver: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Solver, such as dpmpp-2m, unipc or ddim."""

    guidance: Annotated[float | None, tyro.conf.arg(metavar="STRENGTH")] = None
    """How much more the words count than by themselves; 1 for no more."""

    spacing: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Where the steps lie; log-snr is better where they are few."""

    negative: Annotated[str, tyro.conf.arg(metavar="TEXT")] = ""
    """What is not wanted, in words."""

    seed: int = 0
    """The same seed gives the same sound."""

    count: int = 1
    """How many sounds to make, each into a file of its own."""

    best_of: int = 1
    """Make so many and keep the best, by their agreement with the words."""

    ranker: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """CLAP model that chooses; by default the model's own."""

    dtype: str | None = None
    """Compute in float32 or bfloat16."""

    no_picture: bool = False
    """Draw no spectrograms; they go into a PNG file beside the first sound."""

    quiet: bool = False
    """Say nothing but errors."""

    json: bool = False
    """Print the records to stdout, as one JSON list."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generate(Sampling):
    """Makes a sound of words.

    jaxaudio generate "rain on a tin roof" -o rain.wav --seconds 10 --seed 3
    jaxaudio generate "a dog barking" -o dog.wav --model runs/soundlm_mini/best --continue in.wav

    Beside every file that is written there is a JSON record of how it was made.
    """

    prompt: tyro.conf.Positional[str]
    """What is to be heard, in words; "" for a sound of any kind."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write; of several, each adds its number to the name."""

    seconds: float | None = None
    """Length; longer sounds than the model was trained on are made of overlapping windows."""

    model: str = DEFAULT_GENERATOR
    """Name of a shipped model, or path of a model's folder."""

    continue_: Annotated[Path | None, tyro.conf.arg(name="continue", metavar="IN")] = None
    """Go on from this recording, for so many seconds; for models that write sounds code by code, as are the next."""

    temperature: float | None = None
    """How freely codes are drawn; 0 for the likeliest ones."""

    top_k: int | None = None
    """Draw among so many of the likeliest codes; 0 for all."""

    top_p: float | None = None
    """Draw among the likeliest codes that make up so much probability."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    options = parse(Generate, words, "generate")
    names = numbered(options.out, options.count)
    clock = show.Clock()
    with io.Outputs() as outputs:
        about: dict[str, Any] = {"prompt": options.prompt}
        known = None
        if options.continue_ is not None:
            with clock.phase("read"):
                known, about["continues"] = recording(options.continue_, names)
        claim(outputs, names, not options.no_picture)
        model = show.open_model(options.model, clock, "generate", options.dtype)
        if known and not hasattr(model, "extend"):
            raise UsageError(
                f"{model.name} is a model of {model.system}, which goes on from no recording; give one that writes "
                "sounds code by code, such as --model runs/soundlm_mini/best."
            )
        with clock.phase("load"):
            how = sampling_options(options, model)
            model.condition([options.prompt, options.negative])  # so that what cannot be read is noticed now
        with clock.phase("generate"), show.progress(f"'{options.prompt[:40]}'", options.quiet) as advance:
            how |= {"seconds": options.seconds, "progress": advance}
            if known is None:
                made = model.generate(options.prompt, **how)
            else:
                with show.naming(options.continue_):
                    made = model.extend(known.samples, options.prompt, sample_rate=known.sample_rate, **how)
        sounds = made if options.count > 1 else made[None]
        rate = known.sample_rate if known else model.sample_rate
        about["seconds"] = sounds.shape[1] / rate
        subtype = known.subtype if known else "PCM_16"
        records = write(outputs, options, words, "generate", model, clock, names, sounds, rate, about, subtype)
    finish(options, records, clock, sounds.shape[1] / rate, "generate")
    return 0


def recording(path: Path, names: Sequence[Path]) -> tuple[io.Recording, dict[str, Any]]:
    """A recording that is worked on, and what the record says of it; UsageError where a result would overwrite it."""
    from jaxaudio.models.folder import sha256

    if path.resolve() in [name.resolve() for name in names]:
        raise UsageError(f"{path} would be overwritten by its own result; choose another --out.")
    sound = io.read(path)
    return sound, {
        "path": str(path),
        "sha256": sha256(path),
        "sample_rate": sound.sample_rate,
        "samples": len(sound.samples),
        "channels": sound.samples.shape[1],
        "subtype": sound.subtype,
    }


def sampling_options(options: Sampling, model: Any) -> dict[str, Any]:
    """The keywords of a model's methods that the options spell; the ranker is loaded.

    Raises:
      UsageError: an option that the model has not.
    """
    given = {name: value for name in SAMPLING if (value := getattr(options, name, None)) is not None}
    given |= {"negative": options.negative} if options.negative else {}
    for name in given:
        if name not in model.OPTIONS:
            spelled = name.replace("_", "-")
            raise UsageError(f"{model.name} is a model of {model.system}, which has no {name}; leave --{spelled} out.")
    given |= {name: getattr(options, name) for name in ("seed", "count", "best_of")}
    if options.ranker is not None and options.best_of > 1:
        from jaxaudio.models import load

        given["ranker"] = load(options.ranker)
    return given


def numbered(out: Path, count: int) -> list[Path]:
    """The files to write: OUT.wav, or OUT-1.wav, OUT-2.wav ... of several."""
    io.checked_suffix(out)
    if count <= 1:
        return [out]
    return [out.with_name(f"{out.stem}-{i + 1}{out.suffix}") for i in range(count)]


def claim(outputs: io.Outputs, names: Sequence[Path], picture: bool) -> None:
    """Makes sure, before the work begins, that everything can be written."""
    for path in names:
        outputs.add(path)
        outputs.add(io.sidecar(path))
    if picture:
        outputs.add(picture_of(names))


def picture_of(names: Sequence[Path]) -> Path:
    """Where the picture goes: beside the first sound."""
    return names[0].with_suffix(".png")


def write(
    outputs: io.Outputs,
    options: Any,
    words: Sequence[str],
    verb: str,
    model: Any,
    clock: show.Clock,
    names: Sequence[Path],
    sounds: Any,
    rate: int,
    about: dict[str, Any],
    subtype: str = "PCM_16",
) -> list[dict[str, Any]]:
    """Writes sounds (count, time[, channels]), their picture and their records; returns the records."""
    with clock.phase("write"):
        for path, samples in zip(names, sounds):
            outputs.write_audio(path, samples, rate, io.kept_subtype(path, subtype))
    if not options.no_picture:
        from jaxaudio.picture import draw_spectrograms

        with clock.phase("picture"):
            panels = [(about.get("prompt") or path.name, samples) for path, samples in zip(names, sounds)]
            draw_spectrograms(outputs.add(picture_of(names)), panels[:8], rate)
    sampling = {name: value for name in SAMPLING if (value := getattr(options, name, None)) is not None}
    shared = {
        "command": show.command(verb, words),
        **about,
        "sampling": {**dataclasses.asdict(model.sampling), **sampling},
        "negative": options.negative,
        "seed": options.seed,
        "best_of": options.best_of,
        "sample_rate": rate,
        "model": show.describe(model),
        "timings": clock.rounded(),
    }
    records = [io.record({"output": str(path), "candidate": i, **shared}) for i, path in enumerate(names)]
    for path, record in zip(names, records):
        outputs.write_json(io.sidecar(path), record)
    return records


SAMPLING = ("steps", "solver", "guidance", "spacing", "temperature", "top_k", "top_p")


def finish(options: Any, records: list[dict[str, Any]], clock: show.Clock, seconds: float, verb: str) -> None:
    """Tells what was made, and how long it took."""
    if options.json:
        import json

        print(json.dumps(records, indent=2, ensure_ascii=False))
    silent = options.quiet or options.json
    for record in records:
        show.say(record["output"], silent)
    took, compiling = clock.seconds[verb], clock.seconds["compile"]
    show.say(
        f"{seconds:.1f} s of audio: {clock.seconds['load']:.1f} s to load, {took:.1f} s to {verb} "
        f"({compiling:.1f} s compiling)",
        silent,
    )
