"""Codecs with random weights, as small as they can be, in model folders of their own."""

import dataclasses
from pathlib import Path

import jax

from jaxaudio.models import folder as folders, systems
from jaxaudio.nn import spectral_autoencoder, vocos, wave_autoencoder
from jaxaudio.systems import dac, sdcodec, sitok
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

SPECTRAL = sdcodec.Config(
    waves=spectral_autoencoder.Config(step=20, width=8, hidden=8, encoder_layers=1, decoder_layers=1, latent=4),
    tracks=("speech", "music"),
    levels=3,
    shared=1,
    size=4,
    width=2,
    cosine=False,
)

SITOK = dataclasses.replace(
    sitok.MINI,
    front_end=dataclasses.replace(sitok.MINI.front_end, sample_rate=8000, n_fft=128, hop=32, pad=48, n_mels=8),
    stack=4,
    books=1,
    width=16,
    hidden=24,
    heads=2,
    encoder_layers=1,
    decoder_layers=1,
    reader_layers=1,
    size=32,
    dim=4,
    window=0.512,
    overlap=0.096,
    vocoder=vocos.Config(sample_rate=8000, mels=8, width=8, hidden=16, layers=1, n_fft=128, hop=32, padding="same"),
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
