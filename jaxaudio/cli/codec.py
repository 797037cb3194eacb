"""`jaxaudio codec`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxaudio import io
from jaxaudio.cli import show
from jaxaudio.cli.parse import choose, parse
from jaxaudio.errors import UsageError
from jaxaudio.models.coders import MIXTURE
from jaxaudio.models.codes import SUFFIX
from jaxaudio.models.registry import DEFAULT_CODEC, DEFAULT_TRACKS

ModelOption = Annotated[str, tyro.conf.arg(metavar="NAME|DIR")]
OptionalModel = Annotated[str | None, tyro.conf.arg(metavar="NAME|DIR")]
Rate = Annotated[float | None, tyro.conf.arg(metavar="BITS")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Decoding:
    source: str = MIXTURE
    """What to decode: mixture, or a track that the codec keeps apart, such as speech or music."""

    steps: int | None = None
    """Steps of the sampler, for codecs that have one; the model's own number by default."""

    guidance: Annotated[float | None, tyro.conf.arg(metavar="STRENGTH")] = None
    """How much more the tokens count than by themselves, for codecs that sample; 1 for no more."""

    seed: int = 0
    """The same seed gives the same sound, for codecs that sample."""

    @property
    def how(self) -> dict[str, Any]:
        """Keywords of a codec's `decode`."""
        return {"source": self.source, "steps": self.steps, "guidance": self.guidance, "seed": self.seed}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encode:
    """Turns a recording into a code file, or every recording in a folder.

    jaxaudio codec encode speech.wav -o speech.jac
    """

    recording: tyro.conf.Positional[Path]
    """Recording (WAV, FLAC, Ogg, MP3 ...), of any rate and any number of channels; or a folder of them."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write; for a folder of recordings, a folder."""

    model: ModelOption = DEFAULT_CODEC
    """Path of a model's folder, or name of a shipped model."""

    bitrate: Rate = None
    """At most so many bits per second of each channel and track; the model's best by default."""

    quiet: bool = False
    """Say nothing but errors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Decode(_Decoding):
    """Turns a code file into the recording that it is of, or every code file in a folder.

    jaxaudio codec decode speech.jac -o speech.wav
    """

    codes: tyro.conf.Positional[Path]
    """Code file (.jac), or a folder of them."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write; for a folder of code files, a folder."""

    model: OptionalModel = None
    """Path of a model's folder, or name of a shipped model; the one that the codes name by default."""

    quiet: bool = False
    """Say nothing but errors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roundtrip(_Decoding):
    """Encodes a recording and decodes it again, and says what that cost: a sound, a picture, and figures.

    jaxaudio codec roundtrip speech.wav -o heard.wav

    jaxaudio codec roundtrip interview.wav -o voice.wav --source speech
    """

    recording: tyro.conf.Positional[Path]
    """Recording (WAV, FLAC, Ogg, MP3 ...), of any rate and any number of channels."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """File to write. Beside it: the codes (.jac), spectrograms (.png) and a record (.json)."""

    model: OptionalModel = None
    """Path of a model's folder, or name of a shipped model; by default one for speech, or, if there is a source to be
    heard, one that keeps speech and music apart."""

    bitrate: Rate = None
    """At most so many bits per second of each channel and track; the model's best by default."""

    no_picture: bool = False
    """Draw no spectrograms."""

    quiet: bool = False
    """Say nothing but errors."""

    json: bool = False
    """Print the record to stdout."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspect:
    """Says what is in a code file, without the model."""

    codes: tyro.conf.Positional[Path]
    """Code file (.jac)."""

    json: bool = False
    """Print JSON."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    actions = {"encode": _encode, "decode": _decode, "roundtrip": _roundtrip, "inspect": _inspect}
    return choose(actions, words, "codec", "Sound to tokens and back.")


def _encode(words: list[str]) -> int:
    options = parse(Encode, words, "codec encode")
    from jaxaudio.models import codes as code_files

    jobs = _jobs(options.recording, options.out, io.readable, SUFFIX, "audio")
    for _, out in jobs:
        if out.suffix.lower() != SUFFIX:
            raise UsageError(f"codes go into a {SUFFIX} file, not {out.name}; end its name in {SUFFIX}.")
    clock = show.Clock()
    model = show.open_model(options.model, clock, "encode")
    for recording, out in jobs:
        with io.Outputs() as outputs:
            part = outputs.add(out)
            sound = io.read(recording)
            with clock.phase("encode"), show.progress(recording.name, options.quiet) as advance, show.naming(recording):
                codes = model.encode(
                    sound.samples, sample_rate=sound.sample_rate, bitrate=options.bitrate, progress=advance
                )
            code_files.write(part, codes)
        show.say(f"{out}: {codes.seconds:.1f} s, {_cost(codes)}", options.quiet)
    return 0


def _decode(words: list[str]) -> int:
    options = parse(Decode, words, "codec decode")
    from jaxaudio.models import codes as code_files

    def listed(folder: Path) -> list[Path]:
        return sorted(path for path in folder.rglob(f"*{SUFFIX}") if path.is_file())

    jobs = _jobs(options.codes, options.out, listed, ".wav", "code file")
    for _, out in jobs:
        io.checked_suffix(out)
    clock = show.Clock()
    models: dict[str, Any] = {}
    for file, out in jobs:
        codes = code_files.load(file)
        name = options.model or codes.model
        model = models[name] = models.get(name) or show.open_model(name, clock, "decode")
        with io.Outputs() as outputs:
            outputs.add(out)
            with clock.phase("decode"), show.progress(file.name, options.quiet) as advance, show.naming(file):
                samples = model.decode(codes, **options.how, progress=advance)
            outputs.write_audio(out, samples, codes.sample_rate)
        show.say(f"{out}: {codes.seconds:.1f} s", options.quiet)
    return 0


def _roundtrip(words: list[str]) -> int:
    options = parse(Roundtrip, words, "codec roundtrip")
    io.checked_suffix(options.out)
    if options.out.resolve() == options.recording.resolve():
        raise UsageError(f"{options.recording} would be overwritten by its own result; choose another --out.")
    from jaxaudio.models import codes as code_files

    clock = show.Clock()
    with clock.phase("read"):
        sound = io.read(options.recording)
    picture, kept = options.out.with_suffix(".png"), options.out.with_suffix(SUFFIX)
    with io.Outputs() as outputs:
        for path in (options.out, kept, io.sidecar(options.out), *([] if options.no_picture else [picture])):
            outputs.add(path)
        usual = DEFAULT_CODEC if options.source == MIXTURE else DEFAULT_TRACKS
        model = show.open_model(options.model or usual, clock, "encode")
        with show.progress(options.recording.name, options.quiet) as advance, show.naming(options.recording):
            with clock.phase("encode"):
                codes = model.encode(
                    sound.samples, sample_rate=sound.sample_rate, bitrate=options.bitrate, progress=advance
                )
            with clock.phase("decode"):
                made = model.decode(codes, **options.how, progress=advance)
        code_files.write(outputs.add(kept), codes)
        outputs.write_audio(options.out, made, sound.sample_rate)
        record = io.record(
            {
                "command": show.command("codec roundtrip", words),
                "input": str(options.recording),
                "output": str(options.out),
                **_facts(codes),
                "source": options.source,
                "metrics": _metrics(sound.samples, made, sound.sample_rate),
                "model": show.describe(model),
                "timings": clock.rounded(),
            }
        )
        outputs.write_json(io.sidecar(options.out), record)
        if not options.no_picture:
            from jaxaudio.picture import draw_spectrograms

            panels = [(options.recording.name, sound.samples), (f"{model.name}, {_cost(codes)}", made)]
            draw_spectrograms(outputs.add(picture), panels, sound.sample_rate)
    if options.json:
        import json

        print(json.dumps(record, indent=2, ensure_ascii=False))
    quiet = options.quiet or options.json
    show.say(f"{options.out}: {codes.seconds:.1f} s, {_cost(codes)}", quiet)
    show.say(", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in record["metrics"].items()), quiet)
    return 0


def _inspect(words: list[str]) -> int:
    options = parse(Inspect, words, "codec inspect")
    from jaxaudio.models import codes as code_files

    facts = {"file": str(options.codes), "bytes": 0, **_facts(code_files.load(options.codes))}
    facts["bytes"] = options.codes.stat().st_size
    if options.json:
        import json

        print(json.dumps(facts, indent=2))
    else:
        show.table(options.codes.name, ("", ""), [(name.replace("_", " "), str(x)) for name, x in facts.items()])
    return 0


def _jobs(given: Path, out: Path, listed: Any, suffix: str, kind: str) -> list[tuple[Path, Path]]:
    """What to read and what to write, for a file or a folder of them."""
    if not given.is_dir():
        return [(given, out)]
    found = [path for path in listed(given) if out.resolve() not in path.resolve().parents or out == given]
    if not found:
        raise UsageError(f"there is no {kind} in {given}; give one, or a folder of them.")
    jobs = [(path, out / path.relative_to(given).with_suffix(suffix)) for path in found]
    places = [place.resolve() for _, place in jobs]
    if twice := next((place for place in places if places.count(place) > 1), None):
        raise UsageError(f"two outputs would both be {twice}; rename one of the files.")
    return jobs


def _facts(codes: Any) -> dict[str, Any]:
    channels, tracks, frames, books = codes.values.shape
    return {
        "model": codes.model,
        "seconds": round(codes.seconds, 4),
        "sample_rate": codes.sample_rate,
        "samples": codes.length,
        "channels": channels,
        "tracks": list(codes.tracks),
        "frames": frames,
        "frames_per_second": codes.frame_rate,
        "tokens_per_frame": books,
        "book_sizes": list(codes.sizes),
        "bits_per_second": round(codes.bits_per_second * channels * tracks, 2),
        "tokens_per_second": round(codes.tokens_per_second * channels * tracks, 2),
        "fingerprint": codes.fingerprint,
    }


def _cost(codes: Any) -> str:
    rows = codes.values.shape[0] * codes.values.shape[1]
    return f"{rows * codes.tokens_per_second:.4g} tokens/s, {rows * codes.bits_per_second / 1000:.3g} kbit/s"


def _metrics(real: Any, made: Any, sample_rate: int) -> dict[str, float]:
    """What the way there and back has cost."""
    from jaxaudio.metrics import codec

    return codec.fidelity(real.T, made.T if made.ndim == 2 else made[None], sample_rate)
