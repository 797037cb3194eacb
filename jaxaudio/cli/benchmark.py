"""`jaxaudio benchmark`."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from jaxaudio.cli import show
from jaxaudio.cli.parse import choose, parse
from jaxaudio.errors import UsageError

_LIST = tyro.conf.arg(metavar="A,B,...")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samplers:
    """Solvers against numbers of steps on one system: quality, latency, memory. Ask again to go on after a break.

    jaxaudio benchmark samplers --system mixture --solvers ddim,dpmpp-2m,unipc --steps 4,8,16

    jaxaudio benchmark samplers --system audioldm-mini --judge concepts-mini --data data/open_sounds

    jaxaudio benchmark samplers --system sitok-mini --solvers shortcut,flow-euler --steps 1,2,4,16 \
        --data data/open_speech --split heldout_speakers
    """

    system: str
    """gaussian, mixture, gaussian-flow or mixture-flow, whose answer is known; or the name or folder of a model."""

    solvers: Annotated[str, _LIST] = "ddim,dpmpp-2m,unipc,flow-midpoint"
    """Names, see docs/samplers.md; or "all"."""

    steps: Annotated[str, _LIST] = "1,2,4,8,16,32,64,128"
    """Numbers of steps."""

    spacing: Annotated[str, _LIST] = "usual"
    """Grids: "usual" is each solver's customary one; log-snr, straight, karras, angle, trailing, ..."""

    guidance: Annotated[str | None, _LIST] = None
    """Strengths of guidance; by default the system's own."""

    batch: Annotated[str, _LIST] = "4"
    """Items per call."""

    dtype: Annotated[str, _LIST] = "float32"
    """What the network computes in: float32, bfloat16."""

    devices: Annotated[str, _LIST] = "1"
    """Numbers of devices that share a batch."""

    items: int | None = None
    """Results that quality is measured over; by default 1024 for known answers, 64 for models."""

    rounds: int = 7
    """Timed calls of each cell."""

    seed: int = 0
    """Of the noise."""

    seconds: float | None = None
    """Length of a model's sounds; by default its window."""

    judge: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Embedding for Frechet distance and agreement: the folder of a concept classifier, or of a CLAP."""

    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """A built data set: real sounds for the judge to compare with, or, without a judge, speech for a codec."""

    split: str = "heldout_clips"
    """Its split."""

    prompts: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """What is asked for, a line each; by default what the judge knows."""

    out: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = Path("runs/samplers")
    """Folder of cells.jsonl, cells.csv, report.md and the pictures."""

    quiet: bool = False
    """Say nothing but errors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Tables and pictures of what was measured so far."""

    out: Annotated[Path, tyro.conf.Positional]
    """Folder with cells.jsonl."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    about = "samplers: solvers against steps on one system\nreport: tables and pictures of a folder again"
    return choose({"samplers": _samplers, "report": _report}, words, "benchmark", about)


def _samplers(words: list[str]) -> int:
    options = parse(Samplers, words, "benchmark samplers")
    from jaxaudio import benchmark, samplers

    names = tuple(samplers.SOLVERS) if options.solvers == "all" else _list("solvers", options.solvers, str)
    grid = benchmark.Grid(
        solvers=names,
        steps=_list("steps", options.steps, int),
        spacings=_list("spacing", options.spacing, str),
        guidance=_list("guidance", options.guidance, float) if options.guidance else (),
        batch=_list("batch", options.batch, int),
        dtype=_list("dtype", options.dtype, str),
        devices=_list("devices", options.devices, int),
    )
    for name in ("items", "rounds"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UsageError(f"--{name} {value}: give 1 or more.")
    grid.check()
    problem = benchmark.find(options.system, setting(options))
    items = options.items or (64 if problem.exact is None else 1024)
    with show.progress(f"{options.system}", options.quiet) as advance:
        rows = benchmark.run(
            problem, grid, options.out, items=items, rounds=options.rounds, seed=options.seed, advance=advance
        )
    made = benchmark.write_report(options.out)
    if not options.quiet:
        _show(rows, made)
    return 0


def setting(options: Samplers) -> Any:
    """Judges, prompts and real sounds."""
    from jaxaudio.benchmark import Setting, judges

    prompts: tuple[str, ...] = ()
    if options.prompts:
        try:
            lines = options.prompts.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UsageError(f"cannot read {options.prompts} ({error.strerror}); give a text file.") from error
        prompts = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
        if not prompts:
            raise UsageError(f"{options.prompts} holds no prompt; give one per line.")
    if options.data and not options.judge:
        from jaxaudio.data.audio_clips import open_dataset

        splits = open_dataset(options.data)
        if options.split not in splits:
            raise UsageError(f"{options.data} has no split {options.split!r}; give one of {', '.join(splits)}.")
        recordings = splits[options.split]
        count = min(len(recordings), options.items or 64)
        clips = [recordings[i * len(recordings) // count] for i in range(count)]  # evenly
        return Setting(prompts=prompts, clips=clips, seconds=options.seconds)
    if not options.judge:
        return Setting(prompts=prompts, seconds=options.seconds)
    judge = judges.open_judge(options.judge)
    if options.data:
        from jaxaudio.data.open_sounds import open_split

        judge = judges.with_real(judge, open_split(options.data, options.split), seconds=options.seconds or 5.12)
    return Setting(judges=(judge,), prompts=prompts, seconds=options.seconds)


def _report(words: list[str]) -> int:
    from jaxaudio import benchmark

    options = parse(Report, words, "benchmark report")
    rows = benchmark.read(options.out)
    if not rows:
        raise UsageError(f"{options.out} holds no cells.jsonl; measure first: jaxaudio benchmark samplers --out ...")
    _show(rows, benchmark.write_report(options.out))
    return 0


def _list(name: str, text: str, kind: Any) -> tuple[Any, ...]:
    try:
        return tuple(dict.fromkeys(kind(part.strip()) for part in text.split(",") if part.strip()))
    except ValueError:
        raise UsageError(f"--{name} {text}: give numbers with commas between them, as 4,8,16.") from None


def _show(rows: Sequence[dict[str, Any]], made: Sequence[Path]) -> None:
    from jaxaudio import benchmark

    best = benchmark.best_at(rows)
    lines = [
        (b.system, b.metric, f"{b.row['nfe']} of {b.budget}", _named(b.row), f"{b.row['quality'][b.metric]:.3g}")
        for b in best
    ]
    if lines:
        show.table("the best within a number of evaluations", ("system", "figure", "NFE", "best", "value"), lines)
    for line in benchmark.claims(rows):
        print(line)
    undefined = sum(row["status"] != "ok" for row in rows)
    if undefined:
        show.say(f"{undefined} of {len(rows)} combinations are not defined; report.md says why.")
    show.say(f"wrote {', '.join(map(str, made))}")


def _named(row: dict[str, Any]) -> str:
    return row["solver"] if row["spacing"] == "usual" else f"{row['solver']} ({row['spacing']})"
