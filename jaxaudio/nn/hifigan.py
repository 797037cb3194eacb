"""HiFi-GAN, which makes waveforms of mel spectrograms (Kong et al., 2020, arXiv:2010.05646), as AudioLDM uses it."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, conv1d, conv_transpose1d
from jaxaudio.nn.conv1d import Conv1d, Transpose1d
from jaxaudio.nn.winograd import after
from jaxaudio.precision import wide

_SLOPE, _LAST_SLOPE = 0.1, 0.01  # of the leaky ReLUs; the last one has torch's default


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a HiFi-GAN or BigVGAN generator.

    Attributes:
      sample_rate: samples per second of the waveform.
      mels: bands of the spectrogram.
      channels: of the first convolution; every upsampling halves them.
      rates: upsampling factors; their product is the hop between frames.
      widths: taps of the upsampling convolutions.
      block_widths: taps of the residual blocks after each upsampling, which run side by side.
      dilations: of the convolutions of one such block.
      dtype: compute dtype, "float32" or "bfloat16"; the waveform is float32.
    """

    sample_rate: int = 16000
    mels: int = 64
    channels: int = 1024
    rates: tuple[int, ...] = (5, 4, 2, 2, 2)
    widths: tuple[int, ...] = (16, 16, 8, 4, 4)
    block_widths: tuple[int, ...] = (3, 7, 11)
    dilations: tuple[int, ...] = (1, 3, 5)
    dtype: str = "float32"

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return math.prod(self.rates)


AUDIOLDM_16K = Config()
"""The vocoder of AudioLDM and AudioLDM 2 at 16 kHz (55 M parameters)."""

AUDIOLDM_48K = Config(
    sample_rate=48000,
    mels=256,
    channels=1536,
    rates=(6, 5, 4, 2, 2),
    widths=(12, 10, 8, 4, 4),
    block_widths=(3, 7, 11, 15),
)
"""The vocoder of AudioLDM at 48 kHz (190 M parameters)."""


class ResBlock(nn.Module):
    """Residual pairs of convolutions, dilated and plain, each after an activation.

    Attributes:
      width: taps.
      dilations: of the first convolution of each pair.
      activation: `activation(n)` gives the n-th activation; it may make a submodule.
      fast: see `Conv1d`.
    """

    width: int
    dilations: tuple[int, ...]
    activation: Callable[[int], Callable[[Array], Array]]
    fast: bool = True

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """(batch, time, channels) -> the same."""
        for i, dilation in enumerate(self.dilations):
            y = self.activation(2 * i)(x)
            y = Conv1d(x.shape[-1], self.width, dilation, self.fast, name=f"convs1_{i}")(y)
            y = self.activation(2 * i + 1)(y)
            x = x + Conv1d(x.shape[-1], self.width, 1, self.fast, name=f"convs2_{i}")(y)
        return x


def mean_of(blocks: Sequence[Callable[[Array], Array]], x: Array) -> Array:
    """The mean of what several blocks make of x, computed one after the other to keep little in memory."""

    def wait(x: Array, total: Array) -> Array:
        return jax.lax.platform_dependent(x, total, cpu=after, default=lambda x, _: x)

    total = blocks[0](x)
    for block in blocks[1:]:
        total = total + block(wait(x, total))
    return total / len(blocks)


class _Generator(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, mel: Array) -> dict[str, Array]:
        c = self.config

        def leaky(x: Array) -> Array:
            return nn.leaky_relu(x, _SLOPE)

        x = mel.astype(c.dtype) if c.dtype != "float32" else mel  # float64 stays what it is
        made = {"conv_pre": Conv1d(c.channels, 7, name="conv_pre")(x)}
        x = made["conv_pre"]
        for i, (rate, width) in enumerate(zip(c.rates, c.widths, strict=True)):
            up = Transpose1d(c.channels >> (i + 1), width, rate, (width - rate) // 2, name=f"ups_{i}")
            x = made[f"ups_{i}"] = up(leaky(x))
            count = len(c.block_widths)
            blocks = [
                ResBlock(w, c.dilations, lambda _: leaky, name=f"resblocks_{i * count + j}")
                for j, w in enumerate(c.block_widths)
            ]
            x = made[f"stage_{i}"] = mean_of(blocks, x)
        x = Conv1d(1, 7, name="conv_post")(nn.leaky_relu(x, _LAST_SLOPE))
        made["conv_post"] = x
        made["waveform"] = jnp.tanh(wide(x[..., 0]))
        return made


def init(key: Array, config: Config) -> Any:
    """Random variables {"params": ...}; under `jax.eval_shape`, their shapes at no cost."""
    return _Generator(config).init(key, jnp.zeros((1, 2, config.mels)))


def generate(params: Any, config: Config, mel: Array, *, crop: bool = True) -> Array:
    """Makes waveforms of log-mel spectrograms.

    Args:
      params: variables of `init` or of a converted checkpoint.
      config: the configuration that they belong to.
      mel: (batch, frames, mels), natural logarithm, as `dsp.log_mel` computes it.
      crop: give exactly frames * hop samples. The published upsamplings add a few at the end (32 at 16 kHz, 16 at
        48 kHz), which False keeps.

    Returns:
      (batch, frames * config.hop) in (-1, 1).
    """
    waveform = intermediates(params, config, mel)["waveform"]
    return waveform[:, : mel.shape[1] * config.hop] if crop else waveform


def intermediates(params: Any, config: Config, mel: Array) -> Any:
    """Like `generate` without cropping, but returns everything computed on the way by name."""
    return _Generator(config).apply(params, mel)


def conv_rules(key: str, path: str, op: Callable = conv1d) -> tuple[Rule, ...]:
    """The rules of a convolution with bias."""
    return Rule(rf"{key}\.weight", f"params/{path}/kernel", op), Rule(rf"{key}\.bias", f"params/{path}/bias")


WEIGHTS = (
    *conv_rules("(conv_pre|conv_post)", r"\1"),
    *conv_rules(r"(?:ups|upsampler)\.(\d)", r"ups_\1", conv_transpose1d),
    *conv_rules(r"resblocks\.(\d+)\.(convs[12])\.(\d)", r"resblocks_\1/\2_\3"),
    Rule("(?:mean|scale)", None),  # of a normalisation that AudioLDM does not use
)
"""Conversion rules, for the names of HiFi-GAN and of `transformers`; weight norm may still be applied."""
