"""Whether a large codec can be trained on so many devices: the compiled memory plan of a step, without any weights.

    python experiments/plan_memory.py
    python experiments/plan_memory.py --models sitok-xl --devices 16 --batch 32 --seconds 10.24

Parameters, averages and both moments of Adam are abstract shapes, each cut along its longest axis over the devices, and
so is the batch. The step is compiled for forced host devices, whose plan stands for that of accelerators: the sizes of
what is kept are exact, those of what is computed on the way depend on the compiler.
"""

import dataclasses
import functools
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import tyro


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to plan.

    Attributes:
      models: of sitok-s, sitok-b, sitok-l, sitok-xl and taae. That is the generator's part of its step alone, and its
        56 layers are not looped over: compiling them takes more than the minute or two of the others.
      devices: how many share it.
      batch: items in all; a multiple of the devices.
      seconds: of each.
    """

    models: tuple[str, ...] = ("sitok-l", "sitok-xl")
    devices: int = 8
    batch: int = 16
    seconds: float = 5.12


class Plan(NamedTuple):
    """Of one device, in bytes.

    Attributes:
      parameters: how many numbers are trained, on all devices together.
      state: parameters, averages and moments.
      batch: its items.
      temporary: what is computed on the way.
      compiled: seconds that compiling took.
    """

    parameters: int
    state: int
    batch: int
    temporary: int
    compiled: float


def plan(init: Callable[[], Any], loss: Callable[..., Any], batch: Any, extra: tuple[str, ...] = ()) -> Plan:
    """The plan of a training step.

    Args:
      init: makes the variables.
      loss: of the library's form, with everything but (params, extra, batch, key, frozen) bound.
      batch: a tree of `jax.ShapeDtypeStruct`.
      extra: collections of the variables that are not trained.
    """
    import jax

    from jaxaudio.convert.rules import count
    from jaxaudio.train import optim, parallel, state, step

    mesh = parallel.data_mesh()
    tx = optim.adamw(8e-5)

    def begin() -> state.TrainState:
        variables = init()
        others = {name: variables[name] for name in extra}
        return state.create(variables["params"], others, tx, jax.random.key(0), ema=True)

    def placed(tree: Any, place: Callable[[Any], Any]) -> Any:
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place(x)), tree)

    abstract = placed(jax.eval_shape(begin), functools.partial(spread, mesh))
    batch = placed(batch, lambda _: jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(parallel.AXIS)))
    run = step.make_step(loss, tx, ema_decay=0.999)
    outputs = (jax.tree.map(lambda x: x.sharding, abstract), None)
    begun = time.perf_counter()
    compiled = jax.jit(run, donate_argnums=0, out_shardings=outputs).lower(abstract, batch).compile()
    memory = compiled.memory_analysis()
    one = sum(local_bytes(x) for x in jax.tree.leaves(batch))
    return Plan(
        count(abstract.params),
        memory.argument_size_in_bytes - one,
        one,
        memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        time.perf_counter() - begun,
    )


def spread(mesh: Any, x: Any) -> Any:
    """How an array is cut: along the longest axis that the devices divide, or not at all."""
    from jax.sharding import NamedSharding, PartitionSpec

    axes = [i for i, size in enumerate(x.shape) if size % mesh.size == 0]
    if not axes:
        return NamedSharding(mesh, PartitionSpec())
    longest = max(axes, key=lambda i: x.shape[i])
    return NamedSharding(mesh, PartitionSpec(*[None] * longest, mesh.axis_names[0]))


def local_bytes(x: Any) -> int:
    """What one device holds of an array."""
    import numpy as np

    return int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize


def sitok_plan(name: str, options: Options) -> Plan:
    import jax
    import jax.numpy as jnp

    from jaxaudio.systems import sitok, sitok_training

    config = getattr(sitok, name.upper().replace("-", "_"))
    config = dataclasses.replace(config, whole=True, remat=True)
    frames = round(options.seconds * config.frame_rate)
    batch = {
        "mel": jax.ShapeDtypeStruct((options.batch, frames, config.front_end.n_mels), jnp.float32),
        "labels": jax.ShapeDtypeStruct((options.batch, frames // config.stack), jnp.int32),
        "label_lengths": jax.ShapeDtypeStruct((options.batch,), jnp.int32),
    }
    loss = functools.partial(sitok_training.loss, config=config)

    def init():
        variables = sitok.init(jax.random.key(0), config)
        return {**variables, **sitok_training.start(variables)}

    return plan(init, loss, batch, ("codebooks",))


def taae_plan(name: str, options: Options) -> Plan:
    import jax
    import jax.numpy as jnp

    from jaxaudio.systems import taae

    config = dataclasses.replace(taae.STABLE_CODEC, remat=True)
    samples = round(options.seconds * config.sample_rate)
    batch = {"waveform": jax.ShapeDtypeStruct((options.batch, samples), jnp.float32)}

    def loss(params: Any, extra: Any, batch: Any, key: Any, frozen: Any) -> Any:
        made, _, _ = taae.forward({"params": params}, config, batch["waveform"], key, items=batch["index"])
        return jnp.mean(jnp.abs(made - batch["waveform"])), ({}, extra)

    return plan(lambda: taae.init(jax.random.key(0), config), loss, batch)


def main(options: Options) -> None:
    flags = f"--xla_force_host_platform_device_count={options.devices}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    os.environ["JAX_PLATFORMS"] = "cpu"  # before jax is imported
    print(f"{options.devices} devices, {options.batch} items of {options.seconds} s; GiB per device\n")
    print("| model | parameters | state | batch | temporary | in all | compiled in |\n|---|---|---|---|---|---|---|")
    for name in options.models:
        made = (taae_plan if name == "taae" else sitok_plan)(name, options)
        sizes = (made.state, made.batch, made.temporary, made.state + made.batch + made.temporary)
        shown = " | ".join(f"{size / 2**30:.2f}" for size in sizes)
        print(f"| {name} | {made.parameters / 1e9:.3f} G | {shown} | {made.compiled:.0f} s |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
