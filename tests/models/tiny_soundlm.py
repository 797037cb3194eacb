"""A sound language model with random weights, as small as it can be, in a folder of its own."""

import jax
import numpy as np

from jaxaudio.dsp.mel import MelConfig
from jaxaudio.models import folder as folders
from jaxaudio.nn import hifigan, stack
from jaxaudio.systems import soundlm
from jaxaudio.systems.soundlm import grid_transformer, vqvae
from tests.models import tiny

RATE = 800
CONFIG = soundlm.Config(
    codec=vqvae.Config(
        mel=MelConfig(sample_rate=RATE, n_fft=32, hop=8, n_mels=8, power=1, log="ln", floor=1e-5),
        channels=8,
        kernels=(4,),
        layers=1,
        hidden=4,
        codes=12,
        dim=4,
        mean=-4.0,
        spread=2.0,
        revive_below=1.0,
    ),
    prior=grid_transformer.Config(
        network=stack.Config(width=16, layers=1, heads=2, hidden=16, norm="pre", last_norm=True),
        codes=12,
        bands=2,
        frames=32,
        vectors=tiny.ENCODER.width,
    ),
    vocoder=hifigan.Config(
        sample_rate=RATE, mels=8, channels=8, rates=(4, 2), widths=(8, 4), block_widths=(3,), dilations=(1,)
    ),
    vocoder_kind="hifigan",
)  # windows of 32 frames of 32 samples: 1.28 s
SECONDS = 32 * 32 / RATE


def weights(seed=0):
    return tiny.filled(jax.eval_shape(lambda: soundlm.init(jax.random.key(0), CONFIG)), seed)


def write(folder, scratch, seed=0):
    return folders.write(
        folder,
        name="tiny",
        system="soundlm",
        config=CONFIG,
        weights={"generator": weights(seed)},
        text={"kind": "mini", "folder": "text"},
        licence="CC0-1.0",
        source="random numbers",
        files=tiny.write_encoder(scratch / f"encoder-{folder.name}"),
        about={"sampling": {"guidance": 2.0}},
        dtype=np.float32,
    )
