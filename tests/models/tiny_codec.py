"""Codecs with random weights, as small as they can be, in model folders of their own."""

from pathlib import Path

import jax

from jaxaudio.models import folder as folders
from jaxaudio.models import systems
from jaxaudio.nn import wave_autoencoder
from jaxaudio.systems import dac, sdcodec
from tests.models.tiny import filled

_WAVES = {"channels": 4, "rates": (2, 5), "latent": 8, "decoder_channels": 16}

DAC = dac.Config(sample_rate=8000, waves=wave_autoencoder.Config(**_WAVES), levels=3, size=32, width=4)

SDCODEC = sdcodec.Config(
    sample_rate=8000,
    waves=wave_autoencoder.Config(**_WAVES, crop="down"),
    tracks=("speech", "music"),
    levels=2,
    size=32,
    width=4,
)


def write(folder: Path, system: str, config, seed: int = 0) -> Path:
    """Makes the folder and returns it."""
    weights = filled(systems.shapes(system, config, {"kind": "none"}), seed)
    folders.write(
        folder,
        name=folder.name,
        system=system,
        config=config,
        weights=jax.tree.map(lambda x: x, weights),
        text={"kind": "none"},
        licence="CC0-1.0",
        source="random numbers",
    )
    return folder
