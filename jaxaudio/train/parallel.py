"""Devices: where the state and the batch live, and how one step runs on all of them.

Two ways give the same numbers as one device. "mesh" is `jit` over arrays placed on a named mesh: the step sees the
global batch, so there is no
collective to get wrong. "pmap" is `jax.pmap`: each device runs the step on its rows, and the step itself averages
over the axis "data".
"""

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.train.state import TrainState
from jaxaudio.train.step import Metrics, Step

AXIS = "data"
Mode = Literal["mesh", "pmap"]


def initialize_distributed() -> bool:
    """Joins the other processes of the run when the environment names them; call it before anything touches a device.

    Reads JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Returns whether there are other
    processes.

    Raises:
      ConfigError: only some of the three are set, or they are not numbers.
    """
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    values = [os.environ.get(name) for name in names]
    if not any(values):
        return False
    try:
        address, count, index = values[0], int(values[1] or ""), int(values[2] or "")
    except ValueError:
        raise ConfigError(
            f"set all of {', '.join(names)} (address:port, and two whole numbers), or none of them"
        ) from None
    if address is None:
        raise ConfigError(f"{names[0]} is not set; set it to host:port of process 0")
    if count > 1 and not jax.distributed.is_initialized():
        jax.distributed.initialize(address, count, index)
    return count > 1


def data_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh named "data" over all devices of all processes, or those given."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Puts one copy of every array of `tree` on each device of `mesh`; all processes must give the same values."""
    sharding = NamedSharding(mesh, PartitionSpec())
    if not mesh.is_multi_process:
        return jax.device_put(tree, sharding)

    def spread(x: Any) -> jax.Array:
        if isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(spread(jax.random.key_data(x)))
        return jax.make_array_from_process_local_data(sharding, np.asarray(x))

    return jax.tree.map(spread, tree)


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Splits this process's rows over its devices of `mesh`; the result is the global batch.

    Raises:
      ConfigError: the rows do not divide evenly.
    """
    _rows_per_device(batch, mesh.local_mesh.size)
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), batch)


@dataclasses.dataclass(frozen=True)
class DataParallel:
    """A step that runs on every device.

    Attributes:
      place: puts a tree (state or frozen parameters) on every device. Arrays come back without a device axis.
      shard: splits a host batch, the rows of this process, over its devices.
      run: `(placed state, sharded batch, placed frozen) -> (state, metrics)`; consumes the state.
      devices: number of devices of all processes.
    """

    place: Callable[[Any], Any]
    shard: Callable[[Any], Any]
    run: Callable[[TrainState, Any, Any], tuple[TrainState, Metrics]]
    devices: int

    def __call__(self, state: TrainState, batch: Any, frozen: Any = None) -> tuple[TrainState, Metrics]:
        """Runs one step on a host batch."""
        return self.run(state, self.shard(batch), frozen)


def data_parallel(
    build: Callable[[str | None], Step], mode: Mode = "mesh", devices: Sequence[jax.Device] | None = None
) -> DataParallel:
    """Spreads a training step over devices, each taking an equal share of the batch.

    Args:
      build: `build(axis_name)` makes the step; it gets None for "mesh" and "data" for "pmap", to hand to `make_step`
        and to every BatchNorm.
      mode: "mesh" or "pmap"; the results are equal up to the order of summation.
      devices: all of them unless given.
    """
    match mode:
        case "mesh":
            mesh = data_mesh(devices)
            options = training_options(mesh.devices.flat[0].platform)
            run = jax.jit(build(None), donate_argnums=0, compiler_options=options)
            return DataParallel(
                lambda tree: replicate(tree, mesh), lambda batch: shard_batch(batch, mesh), run, mesh.size
            )
        case "pmap":
            count = jax.local_device_count() if devices is None else len(devices)
            total = jax.device_count() if devices is None else len(devices)
            # With in_axes and out_axes None the state never grows a device axis that could leak into checkpoints.
            run = jax.pmap(
                build(AXIS), AXIS, in_axes=(None, 0, None), out_axes=(None, None), devices=devices, donate_argnums=0
            )
            spread = jax.pmap(lambda _, tree: tree, in_axes=(0, None), out_axes=None, devices=devices)
            return DataParallel(
                lambda tree: spread(np.arange(count), tree), lambda b: _split_rows(b, count), run, total
            )
    raise ConfigError(f"parallel={mode!r} is not known; choose mesh or pmap")


@functools.cache
def training_options(platform: str) -> dict[str, Any]:
    """Compiler options, for `jax.jit`, with which training steps run fastest on a platform; {} where none are needed.

    On CPUs recent XLA hands convolutions to a library that is slow at their gradients: without it, training steps of
    convolutional networks take about 0.6 of the time. Products and sums stay with the library.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}
    if platform != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except RuntimeError:  # this version of XLA knows neither the library nor the option
        return {}
    return options


def batched_inference(
    fn: Callable[[Any, Any], Any],
    shared: Any,
    *,
    rows: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[Any], Any]:
    """Maps `fn(shared, batch)` over the local devices with `jax.pmap`, whatever the number of rows.

    Args:
      fn: pure; every array of its batch and of its result has the rows first.
      shared: parameters, copied to each device once.
      rows: rows per device and call; larger inputs take several calls of this one shape. By default one call holds all.
      devices: all local ones unless given.

    Returns:
      `apply(batch) -> result` on host arrays. The last call is padded with copies of the last row, and the result
      trimmed.
    """
    devices = jax.local_devices() if devices is None else devices
    count = len(devices)
    spread = jax.pmap(lambda _, tree: tree, in_axes=(0, None), out_axes=None, devices=devices)
    mapped = jax.pmap(fn, in_axes=(None, 0), devices=devices)
    shared = spread(np.arange(count), shared)

    def apply(batch: Any) -> Any:
        total = jax.tree.leaves(batch)[0].shape[0]
        if total == 0:
            raise UsageError("the batch is empty; give at least one row")
        size = count * (rows or -(-total // count))
        results, waiting = [], None
        for first in range(0, total, size):
            part = jax.tree.map(lambda x: _pad_rows(np.asarray(x[first : first + size]), size), batch)  # noqa: B023
            running = mapped(shared, _split_rows(part, count))
            if waiting is not None:
                results.append(_join_rows(waiting))
            waiting = running
        results.append(_join_rows(waiting))
        return jax.tree.map(lambda *xs: np.concatenate(xs)[:total], *results)

    return apply


def _rows_per_device(batch: Any, count: int) -> int:
    rows = jax.tree.leaves(batch)[0].shape[0]
    if rows % count:
        raise ConfigError(
            f"a batch of {rows} does not divide over {count} devices; make batch_size a multiple of {count}"
        )
    return rows // count


def _split_rows(batch: Any, count: int) -> Any:
    rows = _rows_per_device(batch, count)
    return jax.tree.map(lambda x: np.asarray(x).reshape(count, rows, *x.shape[1:]), batch)


def _pad_rows(x: np.ndarray, rows: int) -> np.ndarray:
    return x if len(x) == rows else np.concatenate([x, np.repeat(x[-1:], rows - len(x), axis=0)])


def _join_rows(tree: Any) -> Any:
    """(device, row, ...) to (row, ...), on the host: indexing a pmap result on the device compiles a gather."""
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), tree)
