"""From an experiment file and command-line words to a run."""

import contextlib
import difflib
import importlib.util
import io
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Iterator, Sequence

import tyro

from jaxaudio.errors import ConfigError, JaxAudioError, MissingError
from jaxaudio.train import parallel
from jaxaudio.train.experiment import Experiment, to_json
from jaxaudio.train.loop import Result, fit


def load_experiment(path: str | os.PathLike) -> Experiment:
    """The `EXPERIMENT` that a Python file defines.

    Raises:
      MissingError: there is no such file.
      ConfigError: it is not Python, fails, or defines no `EXPERIMENT`.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise MissingError(f"there is no experiment {path}; the ready ones are in experiments/")
    spec = importlib.util.spec_from_file_location(f"jaxaudio_experiment_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file; give an experiment like those in experiments/")
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their own module up by name.
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except JaxAudioError:
        raise
    except Exception as error:
        raise ConfigError(f"{path} cannot be loaded: {type(error).__name__}: {error}; correct the file") from error
    experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment):
        raise ConfigError(f"{path} defines no EXPERIMENT; set EXPERIMENT = jaxaudio.train.Experiment(...) in it")
    return experiment


def override(experiment: Experiment, words: Sequence[str]) -> Experiment:
    """The experiment with fields replaced, for example by `["--steps", "10", "--optimizer.lr", "3e-4"]`.

    Raises:
      ConfigError: an unknown field or a value of the wrong kind.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told), warnings.catch_warnings():
            # A choice of configurations is settled by the default; tyro would name the commands that it does not make.
            warnings.filterwarnings("ignore", "Duplicate subcommand name")
            return tyro.cli(
                Experiment,
                default=experiment,
                args=list(words),
                console_outputs=True,
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as stop:
        if not stop.code:
            print(told.getvalue(), end="")
            raise
    raise ConfigError(f"cannot apply {' '.join(words)}: {_reason(told.getvalue(), experiment)}")


def run(experiment: Experiment | str | os.PathLike, overrides: Sequence[str] = (), *, quiet: bool = False) -> Result:
    """Trains an experiment, or the one in a file, with command-line overrides; `Result.exit_code` is for the shell.

    Joins other processes first if the environment names them (see `parallel.initialize_distributed`).
    """
    parallel.initialize_distributed()
    loaded = experiment if isinstance(experiment, Experiment) else load_experiment(experiment)
    resolved = override(loaded, overrides) if overrides else loaded
    return fit(resolved, resolved.build(resolved), quiet=quiet)


def _reason(told: str, experiment: Experiment) -> str:
    """The gist of tyro's boxed message, and the field that may have been meant."""
    lines = [line.strip(" │─╭╰╮╯") for line in told.splitlines()]
    what = next((line for line in lines if line.startswith(("Error parsing", "Unrecognized options:", "Missing"))), "")
    what = what or next(filter(None, lines), "not understood")
    unknown = re.search(r"Unrecognized options: --(\S+)", what)
    near = (
        difflib.get_close_matches(unknown[1].replace("-", "_"), list(_field_names(to_json(experiment))), 1)
        if unknown
        else []
    )
    return f"{what}; {f'did you mean --{near[0]}? ' if near else ''}--help lists all fields"


def _field_names(value: dict, prefix: str = "") -> Iterator[str]:
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _field_names(item, f"{prefix}{name}.")
        else:
            yield prefix + name
