"""How fast and how small: one step of our AudioLDM-S U-Net beside diffusers' UNet2DConditionModel, in turns.

    python experiments/bench_unet.py --reference-python PYTHON_WITH_TORCH_AND_DIFFUSERS

Each side runs in a process of its own that has nothing else to do; warm runs alternate between them. Both compute the
network that was trained, 10.24 s at once (latent 256x16), in float32. Weights are random: the time does not depend on
them.
"""

import dataclasses
import sys
from pathlib import Path

import in_turns


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
    params = in_turns.random_weights(jax.eval_shape(lambda: unet.init(jax.random.key(0), config)))
    rng = np.random.default_rng(1)
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


def pair(o: Options, batch: int) -> dict:
    """Median time, processor time and peak memory of each side, measured in turns."""
    jobs = {"ours": (sys.executable, {"batch": batch})}
    if o.reference_python:
        jobs["original"] = (o.reference_python, {"batch": batch, "threads": o.threads})
    return in_turns.measure(__file__, jobs, o.runs)


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
    in_turns.save(report, o.json)


if __name__ == "__main__" and not in_turns.worker({"ours": ours, "original": original}):
    import tyro

    main(tyro.cli(Options))
