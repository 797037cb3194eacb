"""`jaxaudio separate`."""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxaudio import io
from jaxaudio.cli import show
from jaxaudio.cli.parse import parse, span
from jaxaudio.errors import UsageError
from jaxaudio.models.registry import DEFAULT, DEFAULT_FLOW


@dataclasses.dataclass(frozen=True, kw_only=True)
class Separate:
    """Separates what you describe from a recording, or from every recording in a folder.

    jaxaudio separate street.wav "a dog barking" -o dog.wav --residual rest.wav

    The output has the sample rate, length and channels of the input. Beside every file that is written there is a JSON
    record of how it was made.
    """

    mix: tyro.conf.Positional[Path]
    """Recording to separate (WAV, FLAC, Ogg, MP3 ...), or a folder of them."""

    text: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="QUERY")] = ""
    """What to separate, in words."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write; for a folder of recordings, a folder. With several queries, each adds its words to the name."""

    query: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="TEXT")] = ()
    """One more query; can be repeated."""

    residual: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Also write what is left of the recording, named as --out is."""

    negative: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="TEXT")] = ()
    """What to take out of the recording first, in words; can be repeated."""

    model: str | None = None
    """Name of a shipped model, or path of a model's folder. By default separation-mini, or flowsep-mini where an option
    of generative models is given: --span, --steps, --solver, --guidance, --seed, --best-of."""

    chunk: Annotated[str, tyro.conf.arg(metavar="auto|off|SECONDS")] = "auto"
    """Long recordings are computed in windows: the model's own, none, or of so many seconds."""

    fade: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 0.0
    """Cross-fade between windows."""

    span: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(metavar="FROM:TO")] = ()
    """Seconds where the sound is, silent elsewhere; can be repeated. For generative models, as what follows."""

    steps: int | None = None
    """Steps of the sampler, exactly so many; the model's own number by default."""

    solver: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Solver, such as flow-euler or flow-midpoint."""

    guidance: Annotated[float | None, tyro.conf.arg(metavar="STRENGTH")] = None
    """How much more the query counts than by itself; 1 for no more."""

    seed: int | None = None
    """The same seed gives the same sound; 0 by default."""

    best_of: int | None = None
    """Make so many and keep the best, by their agreement with the query."""

    ranker: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    """CLAP model that chooses; by default the model's own."""

    quiet: bool = False
    """Say nothing but errors."""

    json: bool = False
    """Print the records to stdout, as one JSON list."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    options = parse(Separate, words, "separate")
    queries = [text for text in (options.text, *options.query) if text]
    if not queries or not all(text.strip() for text in (*queries, *options.negative)):
        raise UsageError("the query has no words; describe a sound: jaxaudio separate MIX 'a dog barking' -o OUT.wav")
    jobs = _jobs(options, queries)
    clock = show.Clock()
    model = show.open_model(options.model or (DEFAULT_FLOW if _generative(options) else DEFAULT), clock)
    with clock.phase("load"):
        how = _how(options, model)
        model.embed(queries)  # so that a query which cannot be read is noticed before the work begins
    records = []
    for mix, names in jobs:
        clock.seconds = {name: clock.seconds[name] for name in ("load", "compile")}
        records += _separate(options, words, queries, model, how, mix, names, clock)
    if options.json:
        import json

        print(json.dumps(records, indent=2, ensure_ascii=False))
    return 0


def _generative(options: Separate) -> dict[str, Any]:
    """The options of generative models that were given."""
    names = ("span", "steps", "solver", "guidance", "seed", "best_of", "ranker")
    return {name: value for name in names if (value := getattr(options, name)) not in (None, ())}


def _how(options: Separate, model: Any) -> dict[str, Any]:
    """Keywords of the model's `separate`; UsageError for options that this kind of model does not have."""
    given = _generative(options)
    if model.system != "flowsep":
        if given:
            name = next(iter(given)).replace("_", "-")
            raise UsageError(f"{model.name} is not generative and has no --{name}; give a --model of flowsep with it.")
        return {"negative": options.negative or None, "chunk": options.chunk, "fade": options.fade}
    if options.chunk != "auto" or options.fade:
        raise UsageError("a model of flowsep cuts long audio by itself; leave --chunk and --fade out.")
    if "span" in given:
        given["spans"] = [span(text) for text in given.pop("span")]
    if "ranker" in given:
        from jaxaudio.models import load

        given["ranker"] = load(given["ranker"])
    return given | {"negative": ", ".join(options.negative)}


Names = list[tuple[Path, Path | None]]  # of the estimate and the residual, for each query


def _jobs(options: Separate, queries: list[str]) -> list[tuple[Path, Names]]:
    """The recordings, with the files to make of each; UsageError where two would be one."""
    if options.mix.is_dir():
        made = {path.resolve() for path in (options.out, options.residual) if path} - {options.mix.resolve()}
        found = [path for path in io.readable(options.mix) if not made & set(path.resolve().parents)]
        if not found:
            raise UsageError(f"there is no audio in {options.mix}; give a recording, or a folder of them.")
        places = [(mix, mix.relative_to(options.mix).with_suffix(".wav")) for mix in found]
        jobs = [
            (mix, _names(options.out / place, options.residual and options.residual / place, queries))
            for mix, place in places
        ]
    else:
        jobs = [(options.mix, _names(options.out, options.residual, queries))]
    outputs = [path for _, names in jobs for pair in names for path in pair if path is not None]
    for path in outputs:
        io.checked_suffix(path)
    resolved = [path.resolve() for path in outputs]
    if twice := next((path for path in outputs if resolved.count(path.resolve()) > 1), None):
        raise UsageError(f"two outputs would both be {twice}; give --residual another path, or rename a recording.")
    for mix, _ in jobs:
        if mix.resolve() in resolved:
            raise UsageError(f"{mix} would be overwritten by its own result; choose another --out.")
    return jobs


def _names(out: Path, residual: Path | None, queries: list[str]) -> Names:
    if len(queries) == 1:
        return [(out, residual)]
    tags = slugs(queries)

    def tagged(path: Path, tag: str) -> Path:
        return path.with_name(f"{path.stem}-{tag}{path.suffix}")

    return [(tagged(out, tag), residual and tagged(residual, tag)) for tag in tags]


def slugs(queries: Sequence[str]) -> list[str]:
    """File-name forms of some queries, all different: lower case, words joined by "-"."""
    tags: list[str] = []
    for query in queries:
        tag = re.sub(r"[\W_]+", "-", query.lower())[:40].strip("-") or "query"
        tags.append(tag if tag not in tags else f"{tag}-{len(tags) + 1}")
    return tags


def _separate(
    options: Separate,
    words: Sequence[str],
    queries: list[str],
    model: Any,
    how: dict[str, Any],
    mix: Path,
    names: Names,
    clock: show.Clock,
) -> list[dict[str, Any]]:
    from jaxaudio.models.folder import sha256

    with clock.phase("read"):
        sound, digest = io.read(mix), sha256(mix)
    with io.Outputs() as outputs:
        for path in (path for pair in names for path in pair if path is not None):
            outputs.add(path)
            outputs.add(io.sidecar(path))
        with clock.phase("separate"), show.progress(mix.name, options.quiet) as advance, show.naming(mix):
            made = model.separate(
                sound.samples,
                queries,
                sample_rate=sound.sample_rate,
                residual=options.residual is not None,
                progress=advance,
                **how,
            )
        estimates, rests = made if options.residual is not None else (made, [None] * len(queries))
        written = [
            (path, samples, query, what)
            for query, (out, left), estimate, rest in zip(queries, names, estimates, rests)
            for path, samples, what in ((out, estimate, "estimate"), (left, rest, "residual"))
            if path is not None and samples is not None
        ]
        with clock.phase("write"):
            for path, samples, _, _ in written:
                outputs.write_audio(path, samples, sound.sample_rate, io.kept_subtype(path, sound.subtype))
        shared = {
            "command": show.command("separate", words),
            "negative": list(options.negative),
            "chunk": options.chunk,
            "fade_s": options.fade,
            "seed": (options.seed or 0) if model.system == "flowsep" else None,  # nothing random in the others
            **({"sampling": dataclasses.asdict(model.sampling)} if model.system == "flowsep" else {}),
            **_generative(options),
            "input": {
                "path": str(mix),
                "sha256": digest,
                "sample_rate": sound.sample_rate,
                "samples": len(sound.samples),
                "channels": sound.samples.shape[1],
                "subtype": sound.subtype,
            },
            "model": show.describe(model),
            "timings": clock.rounded(),
        }
        records = [
            io.record({"output": str(path), "what": what, "query": query, **shared}) for path, _, query, what in written
        ]
        for (path, *_), record in zip(written, records):
            outputs.write_json(io.sidecar(path), record)
    seconds, taken = len(sound.samples) / sound.sample_rate, clock.seconds["separate"]
    for path, *_ in written:
        show.say(f"{path}", options.quiet or options.json)
    loading, compiling = clock.seconds["load"], clock.seconds["compile"]
    show.say(
        f"{seconds:.1f} s of audio: {loading:.1f} s to load, {taken:.1f} s to separate ({compiling:.1f} s compiling)",
        options.quiet or options.json,
    )
    return records
