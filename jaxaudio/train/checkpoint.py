"""Checkpoints of training runs and directories of released weights, both over Orbax.

A run's checkpoints are `<directory>/<step>/{state,config,data}`: the tree, the resolved configuration, and the data
position with a checksum of every
leaf. Orbax writes a step beside its final name and renames it when complete, so that a killed process never leaves
half a step behind.
"""

import json
import os
import pathlib
import re
import shutil
import warnings
import zlib
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxaudio.errors import CheckpointError
from jaxaudio.train.step import path_name

Json = dict[str, Any]


class Restored(NamedTuple):
    """What a checkpoint held."""

    step: int
    state: Any
    config: Json
    data: Json


class Checkpointer:
    """Saves and restores a run's state; use it as a context manager, so that the last save is complete on leaving.

    Args:
      directory: made when missing.
      keep: number of newest steps kept.
    """

    def __init__(self, directory: str | os.PathLike, *, keep: int = 3) -> None:
        import orbax.checkpoint as ocp

        self.directory = pathlib.Path(directory).absolute()
        self._ocp = ocp
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, cleanup_tmp_directories=True, create=True)
        handlers = {
            "state": ocp.StandardCheckpointHandler(),
            "config": ocp.JsonCheckpointHandler(),
            "data": ocp.JsonCheckpointHandler(),
        }
        try:
            self._manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        except OSError as error:
            raise CheckpointError(
                f"cannot write checkpoints to {self.directory} ({error}); choose another --out"
            ) from None

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the save in progress, and closes."""
        self.wait()
        self._manager.close()

    def wait(self) -> None:
        """Waits for the save in progress.

        Raises:
          CheckpointError: it failed, for example because the disk is full.
        """
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._failed(error) from error

    def save(self, step: int, state: Any, *, config: Json, data: Json) -> None:
        """Starts to save `state` as `step`; returns when it may be donated, the writing goes on behind.

        Args:
          step: number of steps taken.
          state: any tree of arrays, typed keys included.
          config: JSON-able description of the run.
          data: JSON-able position of the data iterator and whatever else the loop needs.
        """
        self.wait()
        state = _to_host(state)
        args = self._ocp.args
        data = json.loads(json.dumps(data))  # as it will be read back: tuples as lists, keys as strings
        record = {"data": data, "checksums": {**_checksums(state), "": _json_checksum(data)}}
        items = args.Composite(state=args.StandardSave(state), config=args.JsonSave(config), data=args.JsonSave(record))
        try:
            self._manager.save(step, args=items, force=True)
        except Exception as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> CheckpointError:
        for unfinished in self.directory.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        return CheckpointError(f"saving to {self.directory} failed: {_cause(error)}; free some space, then run again")

    def steps(self) -> list[int]:
        """The complete steps, oldest first."""
        return sorted(self._manager.all_steps())

    def restore(self, target: Any) -> Restored | None:
        """Reads the newest step that is whole; None when there is no step at all.

        A damaged step is set aside as `<directory>-damaged/<step>` with a warning, and the one before it is tried.

        Args:
          target: tree of arrays or `jax.ShapeDtypeStruct`, as saved.

        Returns:
          The state as host arrays (typed keys excepted), to be placed on whatever devices there are now.

        Raises:
          CheckpointError: there are steps but none can be read into `target`.
        """
        failures = []
        for step in reversed(self.steps()):
            try:
                found = self._read(step, target)
            except Exception as error:
                failures.append((step, _first_line(error)))
                continue
            for bad, why in failures:
                warnings.warn(f"checkpoint {bad} is damaged ({why}); going on from {step}", stacklevel=2)
                self._set_aside(bad)
            return found
        if failures:
            step, why = failures[0]
            raise CheckpointError(
                f"no checkpoint in {self.directory} can be read; the newest, {step}: {why}.\n"
                "Use the experiment that wrote it, or choose another --out to start afresh"
            )
        return None

    def _read(self, step: int, target: Any) -> Restored:
        args = self._ocp.args
        # The two small items first: a step without them is not worth reading.
        found = self._manager.restore(step, args=args.Composite(config=args.JsonRestore(), data=args.JsonRestore()))
        item = args.StandardRestore(_host_target(target))
        state = self._manager.restore(step, args=args.Composite(state=item))["state"]
        record = found["data"]
        _compare({**_checksums(state), "": _json_checksum(record["data"])}, record["checksums"])
        _check_shapes(state, _host_target(target))
        return Restored(step, _with_keys(state, target), found["config"], record["data"])

    def _set_aside(self, step: int) -> None:
        aside = self.directory.with_name(self.directory.name + "-damaged")
        if jax.process_index() == 0:
            aside.mkdir(exist_ok=True)
            shutil.rmtree(aside / str(step), ignore_errors=True)
            os.replace(self.directory / str(step), aside / str(step))
        _barrier(f"set aside {step}")
        self._manager.reload()


def save_params(directory: str | os.PathLike, params: Any, config: Json) -> pathlib.Path:
    """Writes weights for release: `<directory>/params` (Orbax) and `<directory>/config.json`.

    The directory is written beside and renamed, so that there is never half of one; an older one is replaced.

    Args:
      directory: made, or replaced.
      params: tree of arrays, for example `{"params": ..., "batch_stats": ...}`.
      config: JSON-able; the key "checksums" is added.
    """
    import orbax.checkpoint as ocp

    directory = pathlib.Path(directory).absolute()
    fresh, old = (directory.with_name(f".{directory.name}.{kind}") for kind in ("new", "old"))
    host = _to_host(params)
    try:
        if jax.process_index() == 0:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(parents=True)
            text = json.dumps({**config, "checksums": _checksums(host)}, indent=1)
            (fresh / "config.json").write_text(text + "\n", encoding="utf-8")
        _barrier(f"prepare {directory}")
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(fresh / "params", host)
        if jax.process_index() == 0:
            # Orbax's own mark of success names the directory before the renaming.
            (fresh / "params" / "commit_success.txt").unlink(missing_ok=True)
            shutil.rmtree(old, ignore_errors=True)
            if directory.exists():
                os.replace(directory, old)
            os.replace(fresh, directory)
            shutil.rmtree(old, ignore_errors=True)
        _barrier(f"replaced {directory}")
    except Exception as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise CheckpointError(
            f"cannot write {directory} ({_first_line(error)}); check the path and the free space"
        ) from error
    return directory


def load_params(directory: str | os.PathLike, target: Any = None) -> tuple[Any, Json]:
    """Reads what `save_params` wrote.

    Args:
      directory: as given to `save_params`.
      target: tree of arrays or `jax.ShapeDtypeStruct` that the weights must fit; None takes them as they are, as
        nested dicts.

    Returns:
      The weights as host arrays, and the configuration.

    Raises:
      CheckpointError: missing, truncated or altered files, or weights of another shape.
    """
    import orbax.checkpoint as ocp

    directory = pathlib.Path(directory).absolute()
    old = directory.with_name(f".{directory.name}.old")
    if not directory.exists() and old.exists():
        directory = old  # the process that replaced it died between two renames
    try:
        config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
        checksums = config.pop("checksums")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{directory} holds no readable config.json ({_first_line(error)}); fetch or export it again"
        ) from None
    try:
        with ocp.PyTreeCheckpointer() as checkpointer:
            if target is None:
                params = _read_as_host(ocp, checkpointer, directory / "params")
            else:
                args = ocp.args.PyTreeRestore(_host_target(target))
                params = checkpointer.restore(directory / "params", args=args)
        _compare(_checksums(params), checksums)
        _check_shapes(params, params if target is None else _host_target(target))
    except Exception as error:
        reason = f"{directory} is damaged or of another model ({_first_line(error)})"
        raise CheckpointError(f"{reason}; fetch or export it again") from None
    return params, config


def _read_as_host(ocp: Any, checkpointer: Any, path: pathlib.Path) -> Any:
    shapes = checkpointer.metadata(path)
    shapes = getattr(shapes, "item_metadata", shapes)
    shapes = getattr(shapes, "tree", shapes)
    return checkpointer.restore(path, args=ocp.args.PyTreeRestore(_host_target(shapes)))


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array | jax.ShapeDtypeStruct) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)


def _to_host(tree: Any) -> Any:
    """A copy on the host, typed keys as their data: the originals may be donated while it is written."""

    def copy(x: Any) -> np.ndarray:
        x = jax.random.key_data(x) if _is_key(x) else x
        return np.array(x.addressable_data(0) if isinstance(x, jax.Array) and x.is_fully_replicated else x)

    return jax.tree.map(copy, tree)


def _host_target(target: Any) -> Any:
    """Host arrays of the target's shapes, without memory of their own: Orbax restores into their kind, asking nothing
    of devices.
    """

    def empty(x: Any) -> np.ndarray:
        x = jax.eval_shape(jax.random.key_data, x) if _is_key(x) else x
        return np.broadcast_to(np.zeros((), x.dtype), x.shape)

    return jax.tree.map(empty, target)


def _with_keys(state: Any, target: Any) -> Any:
    def wrap(x, like):
        return jax.random.wrap_key_data(x) if _is_key(like) else x

    return jax.tree.map(wrap, state, target)


def _checksums(tree: Any) -> dict[str, int]:
    """CRC-32 of every leaf under its path: the files themselves do not notice an altered byte."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {path_name(path): zlib.crc32(np.ascontiguousarray(x).reshape(-1).view(np.uint8).data) for path, x in leaves}


def _json_checksum(value: Json) -> int:
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _compare(found: dict[str, int], stored: dict[str, int]) -> None:
    bad = sorted(name for name in found.keys() | stored.keys() if found.get(name) != stored.get(name))
    if bad:
        raise ValueError(f"the checksum of {bad[0] or 'the data position'} is wrong")


def _check_shapes(found: Any, target: Any) -> None:
    def check(path: Any, x: np.ndarray, like: np.ndarray) -> None:
        if (x.shape, x.dtype) != (like.shape, like.dtype):
            raise ValueError(f"{path_name(path)} is {x.dtype}{list(x.shape)}, not {like.dtype}{list(like.shape)}")

    jax.tree_util.tree_map_with_path(check, found, target)


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)


def _cause(error: Exception) -> str:
    return "the disk is full" if re.search("RESOURCE_EXHAUSTED|No space left", str(error)) else _first_line(error)


def _first_line(error: Exception) -> str:
    return (
        f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
        if str(error).strip()
        else type(error).__name__
    )
