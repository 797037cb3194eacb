"""How fast and how small: DAC and SD-Codec beside the same networks in PyTorch, in turns.

    python experiments/bench_codecs.py --reference-python PYTHON_WITH_TORCH
    python experiments/bench_codecs.py --reference-python PYTHON_WITH_TORCH --models dac-16khz --seconds 5

The reference is the network of the published codecs written in plain PyTorch below, with weights that are random: the
time does not depend on them. Its interpreter needs torch alone. Each side runs in a process of its own; warm runs
alternate between them. Wall time counts on a machine that does nothing else; processor time is compared as well, which
other work disturbs less. Everything is float32.
"""

import dataclasses
import sys
from pathlib import Path

import in_turns

MODELS = {
    "dac-44khz": {"rate": 44100, "rates": (2, 4, 8, 8), "levels": 9, "tracks": 0},
    "dac-24khz": {"rate": 24000, "rates": (2, 4, 5, 8), "levels": 32, "tracks": 0},
    "dac-16khz": {"rate": 16000, "rates": (2, 4, 5, 8), "levels": 12, "tracks": 0},
    "sdcodec-16khz": {"rate": 16000, "rates": (2, 4, 5, 8), "levels": 12, "tracks": 3},
}
"""What the reference needs to know; ours are the constants of `systems.dac` and `systems.sdcodec`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to time.

    Attributes:
      models: of "dac-44khz", "dac-24khz", "dac-16khz" and "sdcodec-16khz" (whose decoder makes the mixture and three
        sources), with commas between them.
      seconds: length of the sound.
      runs: timed runs per side; the median counts.
      reference_python: an interpreter with torch; without it only ours is timed.
      threads: CPU threads of the PyTorch side.
      json: write the figures there.
    """

    models: str = ",".join(MODELS)
    seconds: float = 5.0
    runs: int = 5
    reference_python: str | None = None
    threads: int = 2
    json: Path | None = None


def ours(model: str, work: str, seconds: float):
    """A function that runs ours once."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from jaxaudio.compile_cache import enable_compile_cache
    from jaxaudio.systems import dac, sdcodec

    enable_compile_cache()  # as the command line does: compiling needs more memory than running
    config = {
        "dac-44khz": dac.DAC_44KHZ_8KBPS,
        "dac-24khz": dac.DAC_24KHZ_8KBPS,
        "dac-16khz": dac.DAC_16KHZ_8KBPS,
        "sdcodec-16khz": sdcodec.SDCODEC_16KHZ,
    }[model]
    system = sdcodec if model.startswith("sdcodec") else dac
    params = in_turns.random_weights(jax.eval_shape(lambda: system.init(jax.random.key(0), config)))
    length = int(seconds * config.sample_rate)
    rng = np.random.default_rng(1)
    if work == "encode":
        audio = jnp.asarray(0.1 * rng.standard_normal((1, length)), jnp.float32)
        inputs, run = audio, jax.jit(lambda p, x: system.encode(p, config, x))
    else:
        frames = -(-length // config.hop)
        if system is dac:
            codes = jnp.asarray(rng.integers(config.size, size=(1, frames, config.levels)), jnp.int32)
            inputs, run = codes, jax.jit(lambda p, x: dac.decode(p, config, x, length))
        else:
            shape = (1, frames, len(config.tracks), config.levels)
            codes = jnp.asarray(rng.integers(config.size, size=shape), jnp.int32)
            sources = (sdcodec.MIX, *config.tracks)
            inputs, run = codes, jax.jit(lambda p, x: sdcodec.decode(p, config, x, sources, length))
    return lambda: jax.block_until_ready(run(params, inputs))


def original(model: str, work: str, seconds: float, threads: int):
    """A function that runs PyTorch's once; its interpreter needs nothing of ours."""
    import math

    import torch
    from torch import nn
    from torch.nn.functional import normalize
    from torch.nn.utils import weight_norm

    torch.manual_seed(0)
    torch.set_num_threads(threads)
    shape = MODELS[model]
    rates, levels, tracks = shape["rates"], shape["levels"], shape["tracks"]

    def conv(*args, **options):
        return weight_norm(nn.Conv1d(*args, **options))

    class Snake(nn.Module):
        def __init__(self, channels):
            super().__init__()
            self.alpha = nn.Parameter(torch.ones(1, channels, 1))

        def forward(self, x):
            return x + (self.alpha + 1e-9).reciprocal() * torch.sin(self.alpha * x).pow(2)

    class Unit(nn.Module):
        def __init__(self, channels, dilation):
            super().__init__()
            self.block = nn.Sequential(
                Snake(channels),
                conv(channels, channels, 7, dilation=dilation, padding=3 * dilation),
                Snake(channels),
                conv(channels, channels, 1),
            )

        def forward(self, x):
            return x + self.block(x)

    def units(channels):
        return [Unit(channels, dilation) for dilation in (1, 3, 9)]

    layers, channels = [conv(1, 64, 7, padding=3)], 64
    for rate in rates:
        down = conv(channels, 2 * channels, 2 * rate, stride=rate, padding=math.ceil(rate / 2))
        layers += [*units(channels), Snake(channels), down]
        channels *= 2
    encoder = nn.Sequential(*layers, Snake(channels), conv(channels, channels, 3, padding=1))

    layers, wide = [conv(channels, 1536, 7, padding=3)], 1536
    for rate in reversed(rates):
        pad = rate // 2 if tracks else math.ceil(rate / 2)
        up = weight_norm(nn.ConvTranspose1d(wide, wide // 2, 2 * rate, stride=rate, padding=pad))
        layers += [Snake(wide), up, *units(wide // 2)]
        wide //= 2
    decoder = nn.Sequential(*layers, Snake(wide), conv(wide, 1, 7, padding=3), nn.Tanh())

    class Level(nn.Module):
        def __init__(self):
            super().__init__()
            self.in_proj, self.out_proj = conv(channels, 8, 1), conv(8, channels, 1)
            self.codebook = nn.Embedding(1024, 8)

        def made(self, codes):
            return self.out_proj(self.codebook(codes).transpose(1, 2))

        def forward(self, x):
            x = self.in_proj(x)
            flat, book = normalize(x.transpose(1, 2).reshape(-1, 8)), normalize(self.codebook.weight)
            far = flat.pow(2).sum(1, keepdim=True) - 2 * flat @ book.t() + book.pow(2).sum(1, keepdim=True).t()
            codes = (-far).max(1)[1].reshape(len(x), -1)
            return codes, self.made(codes)

    books = nn.ModuleList(nn.ModuleList(Level() for _ in range(levels)) for _ in range(max(1, tracks)))

    hop, length = math.prod(rates), int(seconds * shape["rate"])
    frames = math.ceil(length / hop)
    audio = 0.1 * torch.randn(1, 1, frames * hop)
    codes = torch.randint(1024, (max(1, tracks), levels, 1, frames))

    def encode():
        z, found = encoder(audio), []
        for book in books:
            rest = z
            for level in book:
                made, value = level(rest)
                rest = rest - value
                found.append(made)
        return found

    def decode():
        parts = [sum(level.made(c) for level, c in zip(book, row)) for book, row in zip(books, codes)]
        return [decoder(z) for z in ([sum(parts), *parts] if tracks else parts)]

    def once():
        with torch.no_grad():
            (encode if work == "encode" else decode)()

    return once


def pair(o: Options, model: str, work: str) -> dict:
    """Medians of each side, measured in turns."""
    job = {"model": model, "work": work, "seconds": o.seconds}
    jobs = {"ours": (sys.executable, job)}
    if o.reference_python:
        jobs["original"] = (o.reference_python, {**job, "threads": o.threads})
    return in_turns.measure(__file__, jobs, o.runs)


def main(o: Options) -> None:
    """Times every part and prints one line for each."""
    report = []
    for model, work in ((model, work) for model in o.models.split(",") for work in ("encode", "decode")):
        found = pair(o, model, work)
        mine = found["ours"]
        line = f"{model} {work} of {o.seconds:g} s: {mine['seconds']:.2f} s, {mine['cpu']:.2f} s CPU"
        line += f", {mine['peak_gb']:.2f} GB, the first {mine['first']:.2f} s"
        if theirs := found.get("original"):
            line += f"; PyTorch {theirs['seconds']:.2f} s, {theirs['cpu']:.2f} s CPU, {theirs['peak_gb']:.2f} GB"
            line += f"; {theirs['seconds'] / mine['seconds']:.2f} times as fast"
            line += f" ({theirs['cpu'] / mine['cpu']:.2f} by CPU time)"
            line += f", {mine['peak_gb'] / theirs['peak_gb']:.2f} of the memory"
        print(line, flush=True)
        report.append({"what": f"{model} {work}", **found})
    in_turns.save(report, o.json)


if __name__ == "__main__" and not in_turns.worker({"ours": ours, "original": original}):
    import tyro

    main(tyro.cli(Options))
