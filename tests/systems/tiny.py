"""What the tests of the generating systems share: an audio part of a few channels, and weights for anything."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.dsp.mel import MelConfig
from jaxaudio.nn import autoencoder, hifigan, latent_audio

AUDIO = latent_audio.Config(
    front_end=MelConfig(sample_rate=800, n_fft=32, hop=8, n_mels=8, power=1, log="ln", floor=1e-5),
    vae=autoencoder.Config(mels=8, channels=8, multipliers=(1, 2), blocks=1, latent=2, groups=4),
    vocoder=hifigan.Config(
        sample_rate=800, mels=8, channels=8, rates=(4, 2), widths=(8, 4), block_widths=(3,), dilations=(1,)
    ),
)


def filled(init):
    """Normal numbers in the shapes of what `init(key)` makes, norms near one."""
    shapes, rng = jax.eval_shape(init, jax.random.key(0)), np.random.default_rng(0)

    def fill(path, leaf):
        spread = np.sqrt(np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 10.0
        return jnp.asarray((path[-1].key == "scale") + rng.standard_normal(leaf.shape) / spread, jnp.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)
