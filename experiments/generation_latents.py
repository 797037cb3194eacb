"""Encodes open_sounds once, for the latent model to learn from (the second stage).

python experiments/generation_latents.py --data data/open_sounds --vae runs/generation_vae/final --out data/latents
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

from jaxaudio.data import open_sounds
from jaxaudio.data.latents import Latents, write_latents
from jaxaudio.dsp.front_ends import level
from jaxaudio.nn import latent_audio
from jaxaudio.systems import audioldm
from jaxaudio.train import load_params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What is encoded by what.

    Attributes:
      data: folder of a built data set.
      vae: weights of the autoencoder, a run's `final`.
      out: folder to write; one below it for each split.
      splits: of the data set.
    """

    data: str = "data/open_sounds"
    vae: str = "runs/generation_vae/final"
    out: str = "data/latents"
    splits: tuple[str, ...] = ("heldout_clips", "train")


def main(o: Options) -> None:
    """Windows of 5.12 s, levelled as the system hears them."""
    config = audioldm.MINI
    params, about = load_params(o.vae)
    stages = {"vae": params, "scale": jnp.ones(())}

    @jax.jit
    def encode(waveform: jax.Array) -> jax.Array:
        return latent_audio.encode(stages, config.audio, level(waveform))

    how: Any = {"sample_rate": config.sample_rate, "seconds": config.window, "about": {"vae": about["step"]}}
    for split, made in encoded(o.data, o.splits, o.out, encode, **how):
        print(f"{split}: {len(made.records)} windows, scale {made.scale:.4f}")


def encoded(
    data: str, splits: Sequence[str], out: str, encode: Callable[[Any], Any], **how: Any
) -> Iterator[tuple[str, Latents]]:
    """Writes the latents of one split after the other, with a progress bar; options as of `write_latents`."""
    for split in splits:
        with Progress() as bar:
            task = bar.add_task(split)
            made = write_latents(
                f"{out}/{split}",
                open_sounds.open_split(data, split),
                lambda x: np.asarray(encode(x)),
                progress=lambda done, total, task=task, bar=bar: bar.update(task, completed=done, total=total),
                **how,
            )
        yield split, made


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
