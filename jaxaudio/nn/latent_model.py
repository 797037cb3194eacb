"""What the systems that model latents share: a U-Net between the stages of `latent_audio`."""

from typing import Any, Protocol

import jax
from jax import Array

from jaxaudio.convert.rules import Rule, prefixed
from jaxaudio.nn import latent_audio, unet
from jaxaudio.nn.unet import UNetConfig

Params = Any


class Config(Protocol):
    """What a system's configuration has for this: stages, network, and the windows that long sounds are made of."""

    @property
    def audio(self) -> latent_audio.Config:
        """Waveform to latent and back."""
        ...

    @property
    def unet(self) -> UNetConfig:
        """The latent model."""
        ...

    @property
    def window(self) -> float:
        """Seconds that it was trained on."""
        ...

    @property
    def overlap(self) -> float:
        """Seconds in which neighbouring windows fade into each other."""
        ...


def init(key: Array, config: Config) -> Params:
    """Random {"unet", "vae", "vocoder", "scale"}; use `jax.eval_shape` for the shapes alone."""
    first, second = jax.random.split(key)
    return {"unet": unet.init(first, config.unet), **latent_audio.init(second, config.audio)}


def windows(config: Config) -> tuple[int, int]:
    """Positions of a window in time, and of the overlap of two."""
    return round(config.window * config.audio.rate), round(config.overlap * config.audio.rate)


def encode(params: Params, config: Config, waveform: Array, key: Array | None = None, **options: Any) -> Array:
    """Latents of waveforms; see `latent_audio.encode`. The published systems draw from the posterior, with a key."""
    return latent_audio.encode(params, config.audio, waveform, key, **options)


def decode(params: Params, config: Config, z: Array, samples: int | None = None) -> Array:
    """Waveforms of latents; see `latent_audio.decode`."""
    return latent_audio.decode(params, config.audio, z, samples)


def weights(config: Config) -> tuple[Rule, ...]:
    """Conversion rules for the published .ckpt, text encoder apart; take `unet.with_ema` of its tensors first."""
    return (
        *prefixed(r"model\.diffusion_model\.", unet.weights(config.unet), "unet"),
        *latent_audio.weights(config.audio, r"first_stage_model\.", r"first_stage_model\.vocoder\.", "scale_factor"),
        *latent_audio.TABLES,
    )


def folder_weights(config: Config) -> tuple[Rule, ...]:
    """Conversion rules for a diffusers folder, its tensors named "unet.", "vae." and "vocoder." and theirs.

    The scale stands in vae/config.json, and is to be added as the tensor "scale_factor".
    """
    return (
        *prefixed(r"unet\.", unet.weights(config.unet), "unet"),
        *latent_audio.weights(config.audio, r"vae\.", r"vocoder\.", "scale_factor"),
    )
