"""Encodes open_sounds once, for the latent model to learn from (the second stage).

python experiments/generation_latents.py --data data/open_sounds --vae runs/generation_vae/final --out data/latents
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from rich.progress import Progress

from jaxaudio.data import open_sounds
from jaxaudio.data.latents import write_latents
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

    for split in o.splits:
        with Progress() as bar:
            task = bar.add_task(split)
            made = write_latents(
                f"{o.out}/{split}",
                open_sounds.open_split(o.data, split),
                lambda x: np.asarray(encode(x)),
                sample_rate=config.sample_rate,
                seconds=config.window,
                about={"vae": about["step"]},
                progress=lambda done, total, task=task, bar=bar: bar.update(task, completed=done, total=total),
            )
        print(f"{split}: {len(made.records)} windows, scale {made.scale:.4f}")


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
