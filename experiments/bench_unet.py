"""How fast and how small: one step of our AudioLDM-S U-Net beside diffusers' UNet2DConditionModel, in turns.

    python experiments/bench_unet.py --reference-python PYTHON_WITH_TORCH_AND_DIFFUSERS

Each side runs in a process of its own that has nothing else to do; warm runs alternate between them. Both compute the
network that was trained, 10.24 s at once (latent 256x16), in float32. Weights are random: the time does not depend on
them.
"""

import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
      batches: batch sizes; guidance doubles the batch.
      runs: timed runs per side and batch; the median counts.
      reference_python: an interpreter with torch and diffusers; None times ours alone.
      threads: CPU threads of the PyTorch side.
      json: write the figures there.
    """

    batches: tuple[int, ...] = (1, 2)
    runs: int = 7
    reference_python: str | None = None
    threads: int = 2
    json: Path | None = None


def ours(batch: int):
    """A function that runs ours once."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxaudio.compile_cache import enable_compile_cache
    from jaxaudio.nn import unet

    enable_compile_cache()  # as the command line does: compiling needs more memory than running
    config = unet.AUDIOLDM_S_UNET
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: unet.init(jax.random.key(0), config))

    def fill(leaf):
        scale = np.float32(max(1, np.prod(leaf.shape[:-1])) ** -0.5)
        return jnp.asarray(scale * rng.standard_normal(leaf.shape, np.float32))

    params = jax.tree.map(fill, shapes)
    x = jnp.asarray(rng.standard_normal((batch, 256, 16, 8)), jnp.float32)
    film = jnp.asarray(rng.standard_normal((batch, 512)) / 22, jnp.float32)
    step = jax.jit(unet.predict, static_argnums=1)
    return lambda: jax.block_until_ready(step(params, config, x, jnp.full((batch,), 500), film))


def original(batch: int, threads: int):
    """A function that runs diffusers' network once; its interpreter needs nothing of ours."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    channels = (128, 256, 384, 640)
    model = UNet2DConditionModel(
        in_channels=8,
        out_channels=8,
        down_block_types=("DownBlock2D", *["CrossAttnDownBlock2D"] * 3),
        up_block_types=(*["CrossAttnUpBlock2D"] * 3, "UpBlock2D"),
        block_out_channels=channels,
        layers_per_block=2,
        cross_attention_dim=channels,
        class_embed_type="simple_projection",
        projection_class_embeddings_input_dim=512,
        class_embeddings_concat=True,
        attention_head_dim=tuple(c // 32 for c in channels),  # heads, as trained: diffusers' name is a misnomer
    ).eval()
    x, film, t = torch.randn(batch, 8, 256, 16), torch.randn(batch, 512) / 22, torch.full((batch,), 500)

    def run():
        with torch.no_grad():
            model(x, t, encoder_hidden_states=None, class_labels=film)

    return run


def work(side: str, job: dict) -> None:
    """Runs once for every line on standard input and answers with times and the peak memory so far."""
    run = ours(**job) if side == "ours" else original(**job)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        run()
        elapsed, cpu = time.perf_counter() - start, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": elapsed, "cpu": cpu, "peak": peak}), flush=True)


def pair(o: Options, batch: int) -> dict:
    """Median time, processor time and peak memory of each side, measured in turns."""
    jobs = {"ours": (sys.executable, {"batch": batch})}
    if o.reference_python:
        jobs["original"] = (o.reference_python, {"batch": batch, "threads": o.threads})
    workers = {}
    for side, (python, words) in jobs.items():
        command = [python, __file__, "--worker", side, json.dumps(words)]
        env = {**os.environ, "JAX_PLATFORMS": os.environ.get("JAX_PLATFORMS", "cpu")}
        workers[side] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    answers = {side: [] for side in workers}
    for _ in range(o.runs + 2):  # the first two compile and warm up
        for side, worker in workers.items():
            worker.stdin.write("run\n")
            worker.stdin.flush()
            answers[side].append(json.loads(worker.stdout.readline()))
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return {
        side: {
            "seconds": statistics.median(a["seconds"] for a in found[2:]),
            "fastest": min(a["seconds"] for a in found[2:]),
            "cpu": statistics.median(a["cpu"] for a in found[2:]),
            "first": found[0]["seconds"],
            "peak_gb": found[-1]["peak"] / 1e9,
        }
        for side, found in answers.items()
    }


def main(o: Options) -> None:
    """Times every batch size and prints one line for each."""
    report = []
    for batch in o.batches:
        found = pair(o, batch)
        mine = found["ours"]
        line = (
            f"U-Net step, batch {batch}: {mine['seconds']:.2f} s ({mine['cpu']:.2f} s of CPU), {mine['peak_gb']:.2f} GB"
        )
        if theirs := found.get("original"):
            line += f"; diffusers {theirs['seconds']:.2f} s ({theirs['cpu']:.2f} s of CPU), {theirs['peak_gb']:.2f} GB"
            line += f"; {theirs['seconds'] / mine['seconds']:.2f} times as fast"
            line += (
                f" ({theirs['cpu'] / mine['cpu']:.2f} by CPU time, {theirs['fastest'] / mine['fastest']:.2f} at best)"
            )
            line += f", {mine['peak_gb'] / theirs['peak_gb']:.2f} of the memory"
        print(line, flush=True)
        report.append({"batch": batch, **found})
    if o.json:
        o.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], json.loads(sys.argv[3]))
    else:
        import tyro

        main(tyro.cli(Options))
