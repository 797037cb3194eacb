"""The `jaxaudio` command: one module per verb, imported when it is called."""

import difflib
import importlib
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

from jaxaudio.errors import JaxAudioError, UsageError

VERBS = {
    "demo": "hear it: separate a mixture that comes with the package",
    "separate": "separate what you describe: MIX 'a dog barking' -o OUT.wav",
    "generate": "make a sound of words: 'rain on a tin roof' -o OUT.wav",
    "edit": "restyle, fill in or widen a recording: IN -o OUT.wav",
    "caption": "say what is heard: RECORDINGS",
    "tag": "name the concepts that are heard: RECORDINGS",
    "search": "find recordings: FOLDER 'glass breaking'",
    "codec": "sound to tokens and back: encode, decode, roundtrip, inspect",
    "train": "train an experiment: experiments/NAME.py [overrides]",
    "eval": "measure a separator: SDRi, SI-SDR, per class",
    "benchmark": "solvers against steps: quality, latency, memory",
    "models": "list, info, convert, verify",
    "data": "build data sets",
    "doctor": "versions, devices, caches, and what can run",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; the entry point of the package.

    Args:
      argv: the words after `jaxaudio`; those of the process by default.

    Returns:
      The exit status: 0, 1 for a failure, 2 for wrong usage, 3 for missing weights or extras, 130 after Ctrl-C.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's remarks about cached programs are not for people
    if not debug:
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax tells there what the error says anyway
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("default", UserWarning)
            setattr(warnings, "showwarning", _note)  # noqa: B010
            return _run(words)
    except (KeyboardInterrupt, BrokenPipeError) as error:
        if debug:
            traceback.print_exc()
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        if debug:
            traceback.print_exc()
        message, status = _explain(error)
        print(f"jaxaudio: {message}", file=sys.stderr)
        return status


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    verb, *rest = words
    if verb in ("-V", "--version", "version"):
        from importlib.metadata import version

        print(f"jaxaudio {version('jaxaudio')}")
        return 0
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        meant = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"there is no verb '{verb}'; {meant}The verbs are {', '.join(VERBS)}.")
    return importlib.import_module(f"jaxaudio.cli.{verb}").run(rest) or 0


def _help() -> str:
    verbs = "\n".join(f"  {name:<10}{what}" for name, what in VERBS.items())
    return (
        "usage: jaxaudio VERB ...\n\nNatural-language audio in JAX.\n\n"
        f"{verbs}\n\n"
        "  jaxaudio VERB --help   the options of a verb\n"
        "  --debug                show the traceback of an error\n"
        "  --version              show the version"
    )


def _explain(error: Exception) -> tuple[str, int]:
    """A message of a line or two, and the exit status."""
    if isinstance(error, JaxAudioError):
        return str(error), error.exit_code
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return "there is not enough memory; use shorter windows (--chunk 5), or ask for less at once.", 1
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]}\nThis should not happen; --debug shows where it did.", 1


def _note(message: Any, *_: Any, **__: Any) -> None:
    print(f"note: {message}", file=sys.stderr)
