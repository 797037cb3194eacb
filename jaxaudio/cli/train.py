"""`jaxaudio train`."""

from collections.abc import Sequence

from jaxaudio.errors import UsageError

_USAGE = """usage: jaxaudio train FILE [--quiet] [--FIELD VALUE ...]

Trains the experiment that a Python file defines, for example experiments/separation_mini.py.
A run whose folder holds checkpoints is resumed.

  --quiet             no progress bar, nothing printed
  --steps 1000        any field of the experiment can be set, nested ones as --optimizer.lr 3e-4
  FILE --help         lists the fields of an experiment, with their values"""


def run(words: Sequence[str]) -> int:
    """Runs the verb; what follows the file goes to the experiment."""
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if words else 2
    file, *overrides = words
    if file.startswith("-"):
        raise UsageError(f"the experiment comes first: jaxaudio train FILE {file} ...")
    from jaxaudio.compile_cache import enable_compile_cache

    enable_compile_cache()
    from jaxaudio.train import launch

    quiet = "--quiet" in overrides
    return launch.run(file, [word for word in overrides if word != "--quiet"], quiet=quiet).exit_code
