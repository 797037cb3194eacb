"""What a person sees while a verb works, and the record that it leaves."""

import contextlib
import shlex
import sys
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

_COMPILING = "/jax/core/compile/backend_compile_duration"


class Clock:
    """Seconds per phase, and those that JAX spent compiling meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[None, None, None]:
        """Adds the time inside to a phase."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun

    def count_compiling(self) -> None:
        """Counts compilation from now on, as "compile"; a part of the phase in which it happens."""
        from jax import monitoring

        self.seconds.setdefault("compile", 0.0)

        def listen(event: str, duration_secs: float, **_: str | int) -> None:
            if event == _COMPILING:
                self.seconds["compile"] += duration_secs

        monitoring.register_event_duration_secs_listener(listen)

    def rounded(self) -> dict[str, float]:
        """For a record, in seconds."""
        return {f"{name}_s": round(value, 4) for name, value in self.seconds.items()}


def say(message: str, quiet: bool = False) -> None:
    """One line for the person, on stderr."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def progress(title: str, quiet: bool = False) -> Generator[Callable[[int, int], None], None, None]:
    """A bar on a terminal, nothing elsewhere: a function (done, total). Until the first is done, JAX compiles."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich import progress as bars
    from rich.console import Console

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.MofNCompleteColumn())
    with bars.Progress(
        *columns, bars.TimeElapsedColumn(), bars.TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as shown:
        task = shown.add_task(title)

        def advance(done: int, total: int) -> None:
            what = title if done else f"{title}: compiling (first call) ..."
            shown.update(task, completed=done, total=total, description=what)

        yield advance


@contextlib.contextmanager
def naming(path: Any) -> Generator[None, None, None]:
    """Puts the file before the message of an AudioError that is raised inside."""
    from jaxaudio.errors import AudioError

    try:
        yield
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; numbers to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=title, title_justify="left", title_style="bold", show_header=any(columns))
    for i, column in enumerate(columns):
        numbers = rows and all(isinstance(row[i], int | float | np.number) for row in rows)
        shown.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(f"{x:.2f}" if isinstance(x, float | np.floating) else str(x)) for x in row))
    Console(soft_wrap=not sys.stdout.isatty()).print(shown)


def command(verb: str, words: Sequence[str]) -> str:
    """The command line, as it can be given again."""
    return shlex.join(["jaxaudio", *verb.split(), *words])


def describe(model: Any) -> dict[str, Any]:
    """What a record says of a model."""
    import dataclasses

    card = model.card
    return {
        "name": card.name,
        "system": card.system,
        "sha256": dict(card.sha256),
        "licence": card.licence,
        "source": card.source,
        "config": dataclasses.asdict(card.config),
    }


def open_model(name: str, clock: Clock, kind: str | tuple[str, ...] = "separate", dtype: str | None = None) -> Any:
    """Loads a model with the compilation cache on; UsageError unless it can do `kind`, or one of these."""
    from jaxaudio.compile_cache import enable_compile_cache
    from jaxaudio.errors import UsageError

    with clock.phase("load"):
        enable_compile_cache()
        clock.count_compiling()
        from jaxaudio.models import load

        model = load(name, dtype=dtype)
    kinds = (kind,) if isinstance(kind, str) else kind
    if not any(hasattr(model, one) for one in kinds):
        what = " or ".join(kinds)
        raise UsageError(f"{name} is a model of {model.card.system}, which cannot {what}; see jaxaudio models list.")
    return model
