"""How fast and how small: the parts of generation beside PyTorch's, in turns.

    python experiments/bench_generation.py --reference-python PYTHON_WITH_TORCH_AND_DIFFUSERS --parts vae,vocoder

The reference's interpreter needs torch, diffusers (AutoencoderKL) and transformers (SpeechT5HifiGan). Each side runs in
a process of its own; warm runs alternate between them. Wall time counts on a machine that does nothing else; processor
time is compared as well, which other work disturbs less. Weights are random: the time does not depend on them.
"""

import dataclasses
import sys
from pathlib import Path

import in_turns

PARTS = {"vae": ("vae-encode", "vae-decode"), "vocoder": ("vocoder",)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
      parts: of "vae" and "vocoder", with commas between them.
      seconds: length of the sound; the models work on 100 frames per second.
      runs: timed runs per side; the median counts.
      reference_python: an interpreter with torch, diffusers and transformers; without it only ours is timed.
      threads: CPU threads of the PyTorch side.
      json: write the figures there.
    """

    parts: str = "vae,vocoder"
    seconds: float = 10.24
    runs: int = 5
    reference_python: str | None = None
    threads: int = 2
    json: Path | None = None


def ours(work: str, frames: int):
    """A function that runs ours once."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxaudio.compile_cache import enable_compile_cache
    from jaxaudio.nn import autoencoder, hifigan

    enable_compile_cache()  # as the command line does: compiling needs more memory than running
    module, config = (hifigan, hifigan.AUDIOLDM_16K) if work == "vocoder" else (autoencoder, autoencoder.AUDIOLDM_16K)
    params = in_turns.random_weights(jax.eval_shape(lambda: module.init(jax.random.key(0), config)))
    run, shape = {
        "vocoder": (lambda p, x: hifigan.generate(p, config, x), (1, frames, 64)),
        "vae-encode": (lambda p, x: autoencoder.encode(p, config, x)[0], (1, frames, 64, 1)),
        "vae-decode": (lambda p, x: autoencoder.decode(p, config, x), (1, frames // 4, 16, 8)),
    }[work]
    x, run = jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32), jax.jit(run)
    return lambda: jax.block_until_ready(run(params, x))


def original(work: str, frames: int, threads: int):
    """A function that runs PyTorch's once; its interpreter needs nothing of ours."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    if work == "vocoder":
        from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

        config = SpeechT5HifiGanConfig(
            model_in_dim=64,
            sampling_rate=16000,
            upsample_initial_channel=1024,
            upsample_rates=[5, 4, 2, 2, 2],
            upsample_kernel_sizes=[16, 16, 8, 4, 4],
            resblock_kernel_sizes=[3, 7, 11],
            resblock_dilation_sizes=[[1, 3, 5]] * 3,
            normalize_before=False,
        )
        model, x = SpeechT5HifiGan(config).eval(), torch.randn(1, frames, 64)
        run = model
    else:
        from diffusers import AutoencoderKL

        model = AutoencoderKL(
            in_channels=1,
            out_channels=1,
            down_block_types=["DownEncoderBlock2D"] * 3,
            up_block_types=["UpDecoderBlock2D"] * 3,
            block_out_channels=[128, 256, 512],
            latent_channels=8,
            layers_per_block=2,
        ).eval()
        encode = work == "vae-encode"
        x = torch.randn(1, 1, frames, 64) if encode else torch.randn(1, 8, frames // 4, 16)
        run = model.encode if encode else model.decode

    def once():
        with torch.no_grad():
            run(x)

    return once


def pair(o: Options, work: str) -> dict:
    """Medians of each side, measured in turns."""
    job = {"work": work, "frames": round(o.seconds * 100) // 4 * 4}
    jobs = {"ours": (sys.executable, job)}
    if o.reference_python:
        jobs["original"] = (o.reference_python, {**job, "threads": o.threads})
    return in_turns.measure(__file__, jobs, o.runs)


def main(o: Options) -> None:
    """Times every part and prints one line for each."""
    report = []
    for work in (work for part in o.parts.split(",") for work in PARTS[part]):
        found = pair(o, work)
        mine = found["ours"]
        line = f"{work} of {o.seconds:g} s: {mine['seconds']:.2f} s, {mine['cpu']:.2f} s CPU, {mine['peak_gb']:.2f} GB"
        if theirs := found.get("original"):
            line += f"; PyTorch {theirs['seconds']:.2f} s, {theirs['cpu']:.2f} s CPU, {theirs['peak_gb']:.2f} GB"
            line += f"; {theirs['seconds'] / mine['seconds']:.2f} times as fast"
            line += f", {theirs['cpu'] / mine['cpu']:.2f} by CPU time"
        print(line, flush=True)
        report.append({"what": work, **found})
    in_turns.save(report, o.json)


if __name__ == "__main__" and not in_turns.worker({"ours": ours, "original": original}):
    import tyro

    main(tyro.cli(Options))
