"""How fast and how small: our AudioSep separator beside the original's PyTorch code, in turns.

    python experiments/bench_separation.py --reference AUDIOSEP_CHECKOUT --reference-python PYTHON_WITH_TORCH

Each side runs in a process of its own that has nothing else to do; warm runs alternate between them. Without
--reference only ours is timed. Weights are random: the time does not depend on them.
"""

import dataclasses
import functools
import sys
from pathlib import Path

import in_turns


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
      seconds: lengths of the mixture.
      runs: timed runs per side and length; the median counts.
      reference: checkout of the original repository.
      reference_python: an interpreter with torch and torchlibrosa.
      threads: CPU threads of the PyTorch side.
      train: also time training steps of this batch size on one-second mixtures; 0 for none.
      json: write the figures there.
    """

    seconds: tuple[float, ...] = (5.0, 10.0)
    runs: int = 5
    reference: Path | None = None
    reference_python: str = sys.executable
    threads: int = 2
    train: int = 0
    json: Path | None = None


def ours(seconds: float, train: int):
    """A function that runs ours once."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxaudio.compile_cache import enable_compile_cache
    from jaxaudio.systems import audiosep
    from jaxaudio.train import adamw, create, data_parallel, make_step

    enable_compile_cache()  # as the command line does: compiling needs more memory than running
    config = audiosep.AUDIOSEP_BASE
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: audiosep.init(jax.random.key(0), config))
    scale = {1: lambda x: 1 + 0.1 * x}  # norms near one, everything else small
    params = jax.tree.map(
        lambda s: jnp.asarray(scale.get(len(s.shape), lambda x: 0.05 * x)(rng.random(s.shape)), jnp.float32), shapes
    )
    batch, length = max(train, 1), round(seconds * config.sample_rate)
    mixture = jnp.asarray(0.1 * rng.standard_normal((batch, length)), jnp.float32)
    condition = jnp.asarray(rng.standard_normal((batch, config.condition_size)), jnp.float32)
    if not train:
        separate = jax.jit(audiosep.separate, static_argnums=1)
        return lambda: jax.block_until_ready(separate(params, config, mixture, condition))

    tx = adamw(1e-3, amsgrad=True)
    step = data_parallel(lambda axis: make_step(functools.partial(audiosep.loss, config=config, axis_name=axis), tx))
    held = [step.place(create(params["params"], {"batch_stats": params["batch_stats"]}, tx, jax.random.key(0)))]
    data = {"mixture": mixture, "segment": 0.5 * mixture, "condition": condition}

    def run():
        held[0], _ = jax.block_until_ready(step(held[0], data))

    return run


def original(seconds: float, train: int, checkout: str, threads: int):
    """A function that runs the original once; its interpreter needs nothing of ours."""
    sys.path.insert(0, checkout)
    import torch
    from models.resunet import ResUNet30

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    model = ResUNet30(input_channels=1, output_channels=1, condition_size=512)
    batch = max(train, 1)
    inputs = {"mixture": 0.1 * torch.randn(batch, 1, round(seconds * 32000)), "condition": torch.randn(batch, 512)}
    if not train:
        model.eval()

        def run():
            with torch.no_grad():
                model(inputs)

        return run
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0, amsgrad=True)

    def step():
        optimizer.zero_grad()
        (model(inputs)["waveform"] - 0.5 * inputs["mixture"]).abs().mean().backward()
        optimizer.step()

    return step


def pair(o: Options, seconds: float, train: int) -> dict:
    """Median time and peak memory of each side, measured in turns."""
    job = {"seconds": seconds, "train": train}
    jobs = {"ours": (sys.executable, job)}
    if o.reference:
        jobs["original"] = (o.reference_python, {**job, "checkout": str(o.reference), "threads": o.threads})
    return in_turns.measure(__file__, jobs, o.runs)


def main(o: Options) -> None:
    """Times every length and prints one line for each."""
    report = []
    jobs = [(seconds, 0) for seconds in o.seconds] + ([(1.0, o.train)] if o.train else [])
    for seconds, train in jobs:
        found = pair(o, seconds, train)
        what = f"training step, batch {train}, {seconds:g} s" if train else f"separation of {seconds:g} s"
        mine, audio = found["ours"], seconds * max(train, 1)
        line = f"{what}: {mine['seconds']:.2f} s ({audio / mine['seconds']:.1f} x real time), {mine['peak_gb']:.2f} GB"
        if theirs := found.get("original"):
            line += f"; original {theirs['seconds']:.2f} s, {theirs['peak_gb']:.2f} GB"
            line += f"; {theirs['seconds'] / mine['seconds']:.2f} times as fast"
            line += f", {mine['peak_gb'] / theirs['peak_gb']:.2f} of the memory"
        print(line, flush=True)
        report.append({"what": what, **found})
    in_turns.save(report, o.json)


if __name__ == "__main__" and not in_turns.worker({"ours": ours, "original": original}):
    import tyro

    main(tyro.cli(Options))
