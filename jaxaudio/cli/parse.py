"""From words to a verb's options."""

import contextlib
import difflib
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import tyro

from jaxaudio.errors import UsageError

_BOX = " │─╭╰╮╯"
Options = TypeVar("Options")

_SETTINGS = (tyro.conf.FlagCreatePairsOff, tyro.conf.PositionalMetavarFromFieldName)


def parse(options: type[Options], words: Sequence[str], verb: str) -> Options:
    """The options that the words spell; `--help` prints and leaves.

    Args:
      options: dataclass whose docstring and field docstrings are the help.
      words: after the verb.
      verb: as "models info".

    Raises:
      UsageError: in one line, whatever is wrong with the words.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            return tyro.cli(options, args=list(words), prog=f"jaxaudio {verb}", config=_SETTINGS)
    except SystemExit as stop:
        if not stop.code:
            print(told.getvalue(), end="")
            raise
    raise UsageError(f"{_gist(told.getvalue())}; jaxaudio {verb} --help shows what can be given.")


def choose(
    actions: Mapping[str, Callable[[list[str]], int | None]], words: Sequence[str], verb: str, about: str
) -> int:
    """Runs the action that the first word names.

    Raises:
      UsageError: there is no such action.
    """
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: jaxaudio {verb} {'|'.join(actions)} ...\n\n{about}\n\n  jaxaudio {verb} ACTION --help")
        return 0 if words else 2
    action, *rest = words
    if action not in actions:
        near = difflib.get_close_matches(action, actions, 1)
        meant = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"{verb} cannot '{action}'; {meant}It can {', '.join(actions)}.")
    return actions[action](rest) or 0


def span(text: str) -> tuple[float, float]:
    """Seconds from and to, written as "2.0:3.5"; UsageError for anything else."""
    try:
        begin, end = map(float, text.split(":"))
    except ValueError:
        raise UsageError(f"'{text}' is no span; give seconds from and to, such as 2.0:3.5.") from None
    return begin, end


def _gist(told: str) -> str:
    """What the box that tyro draws says between its title and the first rule."""
    _, *lines = [line.strip(_BOX) for line in told.splitlines() if line.strip(_BOX)] or [""]
    said: list[str] = []
    for line in lines:
        if line.strip("-"):
            said.append(line)
        elif said:
            break
    if said and said[0].endswith(":"):  # the flag that is missing, without its help
        said = said[:2]
    return " ".join(said).removesuffix("(required)").rstrip(". ") or "the options cannot be understood"
