"""How fast and how small: AudioLDM-S and its parts beside diffusers and transformers, in turns.

    python experiments/bench_generation.py --reference-python PYTHON_WITH_TORCH_AND_DIFFUSERS
    python experiments/bench_generation.py --reference-python PYTHON_WITH_TORCH_AND_DIFFUSERS --parts unet,whole

The reference's interpreter needs torch, diffusers (UNet2DConditionModel, AutoencoderKL) and transformers
(SpeechT5HifiGan). Each side runs in a process of its own; warm runs alternate between them. Wall time counts on a
machine that does nothing else; processor time is compared as well, which other work disturbs less. Weights are random:
the time does not depend on them. Everything is float32, and the network is the one that was trained.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import in_turns

PARTS = {
    "unet": ("unet", "unet-of-2"),
    "vae": ("vae-encode", "vae-decode"),
    "vocoder": ("vocoder",),
    "whole": ("whole",),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
      parts: of "unet" (a step at batch 1 and 2), "vae", "vocoder" and "whole" (noise to sound in 25 guided steps), with
        commas between them.
      seconds: length of the sound; the models work on 100 frames per second.
      runs: timed runs per side; the median counts. Of "whole" there are two.
      reference_python: an interpreter with torch, diffusers and transformers; without it only ours is timed.
      threads: CPU threads of the PyTorch side.
      json: write the figures there.
    """

    parts: str = "unet,vae,vocoder,whole"
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
    from jaxaudio.nn import autoencoder, hifigan, unet
    from jaxaudio.systems import audioldm

    enable_compile_cache()  # as the command line does: compiling needs more memory than running
    config = audioldm.AUDIOLDM_S

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)

    def step(p: Any, x: jax.Array, film: jax.Array) -> jax.Array:
        return unet.predict(p, config.unet, x, jnp.full(len(x), 500), film)

    def whole(p: Any, film: jax.Array) -> jax.Array:
        told, negative = {"film": film}, {"film": 0 * film}
        z = audioldm.generate(p, config, told, negative, jax.random.key(0), samples=160 * frames)
        return audioldm.decode(p, config, z, 160 * frames)

    parts: dict[str, tuple[Callable[[jax.Array], Any], Callable[..., Any], tuple[jax.Array, ...]]] = {
        **{
            name: (lambda key: unet.init(key, config.unet), step, (normal(n, frames // 4, 16, 8), normal(n, 512) / 22))
            for name, n in (("unet", 1), ("unet-of-2", 2))
        },
        "vae-encode": (
            lambda key: autoencoder.init(key, config.audio.vae),
            lambda p, x: autoencoder.encode(p, config.audio.vae, x)[0],
            (normal(1, frames, 64, 1),),
        ),
        "vae-decode": (
            lambda key: autoencoder.init(key, config.audio.vae),
            lambda p, x: autoencoder.decode(p, config.audio.vae, x),
            (normal(1, frames // 4, 16, 8),),
        ),
        "vocoder": (
            lambda key: hifigan.init(key, hifigan.AUDIOLDM_16K),
            lambda p, x: hifigan.generate(p, hifigan.AUDIOLDM_16K, x),
            (normal(1, frames, 64),),
        ),
        "whole": (lambda key: audioldm.init(key, config), whole, (normal(1, 512) / 22,)),
    }
    init, function, inputs = parts[work]
    params = in_turns.random_weights(jax.eval_shape(lambda: init(jax.random.key(0))))
    run = jax.jit(function)
    return lambda: jax.block_until_ready(run(params, *inputs))


def original(work: str, frames: int, threads: int):
    """A function that runs PyTorch's once; its interpreter needs nothing of ours."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    run = {
        "unet": lambda: _torch_unet(frames, 1),
        "unet-of-2": lambda: _torch_unet(frames, 2),
        "vae-encode": lambda: _torch_vae(frames)[0],
        "vae-decode": lambda: _torch_vae(frames)[1],
        "vocoder": lambda: _torch_vocoder(frames),
        "whole": lambda: _torch_whole(frames),
    }[work]()

    def once():
        with torch.no_grad():
            run()

    return once


def _torch_unet(frames: int, batch: int):
    import torch
    from diffusers import UNet2DConditionModel

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
    latent, told = torch.randn(batch, 8, frames // 4, 16), torch.randn(batch, 512) / 22

    def step(x=latent, t=500, film=told):
        return model(x, torch.full((len(x),), int(t)), encoder_hidden_states=None, class_labels=film).sample

    return step


def _torch_vae(frames: int):
    """Both halves."""
    import torch
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
    mel, latent = torch.randn(1, 1, frames, 64), torch.randn(1, 8, frames // 4, 16)
    return lambda x=mel: model.encode(x), lambda z=latent: model.decode(z).sample


def _torch_vocoder(frames: int):
    import torch
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
    model, spectrogram = SpeechT5HifiGan(config).eval(), torch.randn(1, frames, 64)
    return lambda mel=spectrogram: model(mel)


def _torch_whole(frames: int):
    """What the pipeline does once the prompt is embedded: the same solver, steps and guidance as ours."""
    import torch
    from diffusers import DPMSolverMultistepScheduler

    step, (_, decode), voice = _torch_unet(frames, 2), _torch_vae(frames), _torch_vocoder(frames)
    told = torch.cat([torch.zeros(1, 512), torch.randn(1, 512) / 22])

    def run():
        scheduler = DPMSolverMultistepScheduler(beta_start=0.0015, beta_end=0.0195, beta_schedule="scaled_linear")
        scheduler.set_timesteps(25)
        x = torch.randn(1, 8, frames // 4, 16)
        for t in scheduler.timesteps:
            away, towards = step(torch.cat([x, x]), t, told).chunk(2)
            x = scheduler.step(away + 2.5 * (towards - away), t, x).prev_sample
        return voice(decode(x)[:, 0])

    return run


def pair(o: Options, work: str) -> dict:
    """Medians of each side, measured in turns."""
    job = {"work": work, "frames": round(o.seconds * 100) // 4 * 4}
    jobs = {"ours": (sys.executable, job)}
    if o.reference_python:
        jobs["original"] = (o.reference_python, {**job, "threads": o.threads})
    return in_turns.measure(__file__, jobs, 2 if work == "whole" else o.runs)


def main(o: Options) -> None:
    """Times every part and prints one line for each."""
    report = []
    for work in (work for part in o.parts.split(",") for work in PARTS[part]):
        found = pair(o, work)
        mine = found["ours"]
        line = f"{work} of {o.seconds:g} s: {mine['seconds']:.2f} s, {mine['cpu']:.2f} s CPU, {mine['peak_gb']:.2f} GB"
        line += f", the first {mine['first']:.2f} s"
        if theirs := found.get("original"):
            line += f"; PyTorch {theirs['seconds']:.2f} s, {theirs['cpu']:.2f} s CPU, {theirs['peak_gb']:.2f} GB"
            line += f", the first {theirs['first']:.2f} s; {theirs['seconds'] / mine['seconds']:.2f} times as fast"
            line += f" ({theirs['cpu'] / mine['cpu']:.2f} by CPU time, {theirs['first'] / mine['first']:.2f} at first)"
            line += f", {mine['peak_gb'] / theirs['peak_gb']:.2f} of the memory"
        print(line, flush=True)
        report.append({"what": work, **found})
    in_turns.save(report, o.json)


if __name__ == "__main__" and not in_turns.worker({"ours": ours, "original": original}):
    import tyro

    main(tyro.cli(Options))
