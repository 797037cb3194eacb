"""BigVGAN, a HiFi-GAN with periodic activations that do not alias (Lee et al., 2023, arXiv:2206.04658); FlowSep's."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, conv_transpose1d
from jaxaudio.nn.conv1d import Conv1d, Transpose1d
from jaxaudio.nn.hifigan import Config, ResBlock, conv_rules, mean_of
from jaxaudio.nn.snake import SmoothSnake
from jaxaudio.precision import wide

FLOWSEP = Config(channels=512)
"""The 16 kHz vocoder of FlowSep: 64 bands, 160 samples per frame."""


def _smooth_snake(index: int) -> SmoothSnake:
    return SmoothSnake(name=f"activations_{index}")


class _Generator(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, mel: Array) -> dict[str, Array]:
        c = self.config
        x = mel.astype(c.dtype) if c.dtype != "float32" else mel  # float64 stays what it is
        x = Conv1d(c.channels, 7, name="conv_pre")(x)
        made, count = {"conv_pre": x}, len(c.block_widths)
        for i, (rate, width) in enumerate(zip(c.rates, c.widths, strict=True)):
            up = Transpose1d(c.channels >> (i + 1), width, rate, (width - rate) // 2, name=f"ups_{i}")
            x = made[f"ups_{i}"] = up(x)
            blocks = [  # not fast: sines of large numbers magnify rounding at every layer
                ResBlock(w, c.dilations, _smooth_snake, fast=False, name=f"resblocks_{i * count + j}")
                for j, w in enumerate(c.block_widths)
            ]
            x = made[f"stage_{i}"] = mean_of(blocks, x)
        x = Conv1d(1, 7, name="conv_post")(SmoothSnake(name="activation_post")(x))
        made["conv_post"] = x
        made["waveform"] = jnp.tanh(wide(x[..., 0]))
        return made


def init(key: Array, config: Config) -> Any:
    """Random variables {"params": ...}; under `jax.eval_shape`, their shapes at no cost."""
    return _Generator(config).init(key, jnp.zeros((1, 2, config.mels)))


def generate(params: Any, config: Config, mel: Array, *, crop: bool = True) -> Array:
    """Makes waveforms of log-mel spectrograms; arguments and result as of `hifigan.generate`."""
    waveform = intermediates(params, config, mel)["waveform"]
    return waveform[:, : mel.shape[1] * config.hop] if crop else waveform


def intermediates(params: Any, config: Config, mel: Array) -> Any:
    """Like `generate` without cropping, but returns everything computed on the way by name."""
    return _Generator(config).apply(params, mel)


WEIGHTS = (
    Rule(r".*\.filter", None),  # fixed low-pass filters
    *conv_rules("(conv_pre|conv_post)", r"\1"),
    *conv_rules(r"ups\.(\d)\.0", r"ups_\1", conv_transpose1d),
    *conv_rules(r"resblocks\.(\d+)\.(convs[12])\.(\d)", r"resblocks_\1/\2_\3"),
    Rule(r"resblocks\.(\d+)\.activations\.(\d)\.act\.(alpha|beta)", r"params/resblocks_\1/activations_\2/act/\3"),
    Rule(r"activation_post\.act\.(alpha|beta)", r"params/activation_post/act/\1"),
)
"""Conversion rules for the published generator; weight norm may still be applied."""
