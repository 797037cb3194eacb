"""Samples per second of one training step on 1, 2, 4 and 8 forced host devices, at one global batch.

The host's cores are the same whatever the number of devices, so the best that can be had is a constant rate; what is
lost is the price of splitting.
Run from the repository root: `python -m tests.multi_device.scaling [--rows 16] [--mode mesh pmap] [--devices 1 2 4 8]`.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]


def measure(rows: int, mode: str, seconds: float) -> dict:
    """Median rate of a small convolutional network's step, after warming up; and the seconds to compile it."""
    import flax.linen as nn
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxaudio.nn.norm import BatchNorm
    from jaxaudio.train import adamw, create, data_parallel, make_step

    class Net(nn.Module):
        axis_name: str | None = None

        @nn.compact
        def __call__(self, x, train=False):
            for index, features in enumerate((32, 64, 32)):
                x = nn.Conv(features, (3, 3), use_bias=False, name=f"conv{index}")(x)
                x = nn.leaky_relu(BatchNorm(axis_name=self.axis_name, name=f"bn{index}")(x, train), 0.01)
            return nn.Conv(1, (1, 1), name="out")(x)

    def loss_for(axis_name):
        net = Net(axis_name)

        def loss(params, extra, batch, key, frozen):
            out, extra = net.apply({"params": params, **extra}, batch["x"], True, mutable=["batch_stats"])
            return jnp.mean(jnp.abs(out - batch["y"])), ({}, extra)

        return loss

    tx = adamw(1e-3, amsgrad=True)
    variables = jax.jit(Net().init)(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    state = create(variables["params"], {"batch_stats": variables["batch_stats"]}, tx, jax.random.key(1))
    runner = data_parallel(lambda axis: make_step(loss_for(axis), tx, axis_name=axis), mode)
    state = runner.place(state)
    x = np.random.default_rng(0).standard_normal((rows, 64, 64, 1)).astype(np.float32)
    batch = {"x": x, "y": np.sin(x)}
    began = time.perf_counter()
    for _ in range(3):
        state, metrics = runner(state, batch)
        jax.block_until_ready(metrics)
    compiled, times = time.perf_counter() - began, []
    while sum(times) < seconds or len(times) < 5:
        began = time.perf_counter()
        state, metrics = runner(state, batch)
        jax.block_until_ready(metrics)
        times.append(time.perf_counter() - began)
    return {
        "samples_per_second": rows / statistics.median(times),
        "warm_up_seconds": compiled,
        "loss": float(metrics["loss"]),
    }


def main() -> None:
    """Measures each number of devices in a process of its own, in turns, and prints the best median of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--mode", nargs="+", default=["mesh", "pmap"])
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        print(json.dumps(measure(chosen.rows, chosen.mode[0], chosen.seconds)))
        return
    best: dict[tuple[str, int], float] = {}
    for _ in range(chosen.rounds):
        for mode in chosen.mode:
            for devices in chosen.devices:
                flags = f"--xla_force_host_platform_device_count={devices}"
                variables = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
                words = ["--worker", "--rows", str(chosen.rows), "--mode", mode, "--seconds", str(chosen.seconds)]
                command = [sys.executable, "-m", "tests.multi_device.scaling", *words]
                said = subprocess.run(
                    command, env=variables, cwd=ROOT, capture_output=True, text=True, check=True
                ).stdout
                rate = json.loads(said.splitlines()[-1])["samples_per_second"]
                best[mode, devices] = max(rate, best.get((mode, devices), 0.0))
    for (mode, devices), rate in best.items():
        share = rate / best[mode, chosen.devices[0]]
        print(f"{mode:4s} {devices} devices: {rate:8.1f} samples/s, {share:.2f} of one device")


if __name__ == "__main__":
    main()
