"""A generator and a generative separator with random weights, as small as they can be, in folders of their own."""

import dataclasses

import jax
import numpy as np

from jaxaudio.dsp.mel import MelConfig
from jaxaudio.models import folder as folders
from jaxaudio.nn import autoencoder, hifigan, latent_audio, unet
from jaxaudio.systems import audioldm, flowsep
from tests.models import tiny

RATE = 800
AUDIO = latent_audio.Config(
    front_end=MelConfig(sample_rate=RATE, n_fft=32, hop=8, n_mels=8, power=1, log="ln", floor=1e-5),
    vae=autoencoder.Config(mels=8, channels=8, multipliers=(1, 2), blocks=1, latent=2, groups=4),
    vocoder=hifigan.Config(
        sample_rate=RATE, mels=8, channels=8, rates=(4, 2), widths=(8, 4), block_widths=(3,), dilations=(1,)
    ),
)
UNET = unet.UNetConfig(
    inputs=2, outputs=2, channels=(64, 64), blocks=1, attention=(False, True), head_dim=32, film=tiny.ENCODER.width
)  # two channels in a group: of one alone, normalisation takes away all that a prompt adds
# Windows of 16 positions of 16 samples. At the first time there is signal: random networks would leave all bounds else.
GENERATOR = audioldm.Config(audio=AUDIO, unet=UNET, window=0.32, overlap=0.16, betas=(1e-4, 2e-3))
FLOW = flowsep.Config(
    audio=dataclasses.replace(AUDIO, vocoder_kind="bigvgan"),
    unet=dataclasses.replace(UNET, inputs=4, outputs=4),
    window=0.32,
    overlap=0.16,
)


def weights(home, config, seed=0):
    return tiny.filled(jax.eval_shape(lambda: home.init(jax.random.key(0), config)), seed)


def write(folder, scratch, system="audioldm", config=None, seed=0, **changes):
    home = {"audioldm": audioldm, "flowsep": flowsep}[system]
    config = config or {"audioldm": GENERATOR, "flowsep": FLOW}[system]
    known = {
        "name": "tiny",
        "system": system,
        "config": config,
        "weights": {"generator": weights(home, config, seed)},
        "text": {"kind": "mini", "folder": "text"},
        "licence": "CC0-1.0",
        "source": "random numbers",
        "files": tiny.write_encoder(scratch / f"encoder-{folder.name}"),
        "about": {"sampling": {"steps": 2}},
        "dtype": np.float32,
    }
    return folders.write(folder, **known | changes)
