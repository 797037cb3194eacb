"""Transformer autoencoder for speech at a few hundred bits per second (Parker et al., 2024, arXiv:2411.19842).

Also known as TAAE and as Stable Codec. Speech is cut into patches, transformers that see a window around each of them
halve the rate to 25 steps per second, and a step is six numbers, each of a few levels: `jaxaudio.quantize.fsq`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, conv1d, conv_transpose1d, linear, prefixed
from jaxaudio.dsp.mel import log_mel
from jaxaudio.errors import AudioError, ConfigError, UsageError
from jaxaudio.nn import receptive, vocos, weight_norm
from jaxaudio.nn.masked import kept
from jaxaudio.precision import wide
from jaxaudio.quantize import fsq
from jaxaudio.quantize.fsq import FSQ
from jaxaudio.systems.taae_blocks import LAYER_WEIGHTS, Block, activation, block_weights, convolution, reach
from jaxaudio.systems.taae_config import (
    MINI as MINI,
    STABLE_CODEC as STABLE_CODEC,
    STABLE_CODEC_CAUSAL as STABLE_CODEC_CAUSAL,
    Config as Config,
)

Params = Any

_HIDDEN = 256  # of the head that reads phonemes
_LEVEL, _SPREAD = -6.0, 2.4  # of the log-mels of read speech


class _Encoder(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array, steps: Array | None = None) -> dict[str, Array]:
        c, count = self.config, len(self.config.strides)
        real = None if steps is None else steps * math.prod(c.strides)
        x = convolution(x, c.channels * c.multiples[0], 7, causal=c.causal, name="layers_0", real=real)
        made = {"layers_0": x}
        for i, multiple in enumerate(c.multiples):
            x = made[f"layers_{i + 1}"] = _block(c, "encoder", i, c.channels * multiple)(x, real)
            real = None if real is None else real // c.strides[i]
        x = activation(c.snake, f"layers_{count + 1}")(x)
        x = convolution(x, len(c.levels), 3, causal=c.causal, name=f"layers_{count + 2}", real=real)
        return {**made, "latents": wide(x)}


class _Decoder(nn.Module):
    config: Config

    @nn.compact
    def __call__(self, x: Array, real: Array | None = None) -> Array:
        c, count = self.config, len(self.config.strides)
        x = convolution(x, c.channels * c.multiples[-1], 3, causal=c.causal, name="layers_0", real=real)
        for i in reversed(range(count)):
            x = _block(c, "decoder", i, c.channels * c.multiples[max(i - 1, 0)])(x, real)
            real = None if real is None else real * c.strides[i]
        x = activation(c.snake, f"layers_{count + 1}")(x)
        last = f"layers_{count + 2}"
        if c.mels:
            x = convolution(x, c.n_fft + 2, 1, name=last)
            return vocos.spoken(wide(x), c.patch, frames=real)
        x = convolution(x, c.patch, 7, causal=c.causal, bias=False, name=last, real=real)
        return wide(x).reshape(len(x), -1)


def _block(config: Config, kind: Literal["encoder", "decoder"], level: int, features: int) -> Block:
    c = config
    return Block(
        kind,
        features,
        c.strides[level],
        c.depths[level],
        c.snake,
        c.dilated,
        c.causal,
        c.head_dim,
        c.window,
        c.feed_forward,
        c.remat,
        c.layer_scale,
        name=f"layers_{level + 1 if kind == 'encoder' else len(c.strides) - level}",
    )


class _Head(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, latents: Array) -> Array:
        x = jnp.tanh(latents)
        for i, features in ((1, _HIDDEN), (3, _HIDDEN), (5, self.classes)):
            x = nn.Dense(features, name=f"proj_head_{i}")(nn.relu(x) if i > 1 else x)
        return x


def init(key: Array, config: Config) -> Params:
    """Random variables {"params": {"encoder", "decoder"[, "head"]}}; their shapes alone under `jax.eval_shape`."""
    encoder, decoder, head = jax.random.split(key, 3)
    patches, latents = (
        jnp.zeros((1, math.prod(config.strides), config.mels or config.patch)),
        jnp.zeros((1, 1, len(config.levels))),
    )
    params = {
        "encoder": _Encoder(config).init(encoder, patches)["params"],
        "decoder": _Decoder(config).init(decoder, latents)["params"],
    }
    if config.phonemes:
        params["head"] = _Head(config.phonemes).init(head, latents)["params"]
    return {"params": params}


def quantizer(config: Config, preset: str | None = None) -> FSQ:
    """The one that the model is trained with, or one of `fsq.PRESETS`, into which latents can be cut as well.

    Raises:
      UsageError: an unknown preset, or one of another number of channels.
    """
    if preset is None:
        return FSQ(levels=config.levels)
    if preset not in fsq.PRESETS or len(fsq.PRESETS[preset].levels) != len(config.levels):
        known = [name for name, q in fsq.PRESETS.items() if len(q.levels) == len(config.levels)]
        raise UsageError(f"latents of {len(config.levels)} channels have no preset {preset!r}; there is {known}.")
    return fsq.PRESETS[preset]


def bits_per_second(config: Config, preset: str | None = None) -> float:
    """What the tokens cost if all of them are equally likely."""
    return fsq.bits_per_second(quantizer(config, preset), config.steps_per_second)


def encode(params: Params, config: Config, audio: Array, lengths: Array | None = None) -> Array:
    """Makes latents of waveforms.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      audio: (batch, samples), padded with zeros to whole steps.
      lengths: (batch,) int, samples of each item, if they differ: its latents are those that it has by itself, and
        those past its own steps mean nothing.

    Returns:
      (batch, ceil(samples / config.hop), channels) unbounded; `fsq` bounds and rounds them.

    Raises:
      AudioError: an array of another shape, or without samples.
    """
    return intermediates(params, config, audio, lengths)["latents"]


def intermediates(params: Params, config: Config, audio: Array, lengths: Array | None = None) -> dict[str, Array]:
    """Like `encode`, but returns {"patches" (or log-mels), "layers_0" (a convolution), "layers_1" ..., "latents"}."""
    if audio.ndim != 2 or audio.shape[1] == 0:
        raise AudioError(f"audio is (batch, samples), with at least one sample, not {audio.shape}.")
    steps = None if lengths is None else -(-lengths // config.hop)
    whole = jnp.pad(kept(audio, lengths), ((0, 0), (0, -audio.shape[1] % config.hop)))
    if config.mels:
        patches = (log_mel(whole, config.front_end) - _LEVEL) / _SPREAD
    else:
        patches = whole.reshape(len(audio), -1, config.patch)
    made: Any = _Encoder(config).apply({"params": params["params"]["encoder"]}, _cast(patches, config), steps)
    return {"patches": patches, **made}


def decode(
    params: Params, config: Config, values: Array, length: int | None = None, steps: Array | None = None
) -> Array:
    """Makes waveforms of quantised latents.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      values: (batch, steps, channels) of `fsq.decode`, `fsq.quantize` or `fsq.dither`.
      length: samples of the waveforms, at most steps * config.hop; all by default.
      steps: (batch,) int, steps of each item, if they differ: its samples are those that it has by itself.

    Returns:
      (batch, length), zeros past an item's own steps; nothing keeps it within (-1, 1).

    Raises:
      UsageError: more samples than the steps hold.
    """
    whole = values.shape[1] * config.hop
    if length is not None and length > whole:
        raise UsageError(f"{values.shape[1]} steps are {whole} samples, not {length}.")
    audio: Any = _Decoder(config).apply({"params": params["params"]["decoder"]}, _cast(values, config), steps)
    return kept(audio, None if steps is None else steps * config.hop)[:, :length]


def tokens(
    params: Params, config: Config, audio: Array, preset: str | None = None, lengths: Array | None = None
) -> Array:
    """Waveforms (batch, samples) -> (batch, steps, n) int32; `n` is 1, or what the preset says.

    With `lengths`, see `encode`, they are 0 past an item's own steps.
    """
    made = fsq.encode(encode(params, config, audio, lengths), quantizer(config, preset))
    return made if lengths is None else kept(made, -(-lengths // config.hop))


def detokenise(
    params: Params,
    config: Config,
    tokens: Array,
    preset: str | None = None,
    length: int | None = None,
    steps: Array | None = None,
) -> Array:
    """Tokens (batch, steps, n) -> waveforms (batch, length); see `tokens` and `decode`.

    Raises:
      UsageError: another number of tokens per step than the preset has.
    """
    chosen = quantizer(config, preset)
    if tokens.ndim != 3 or tokens.shape[-1] != chosen.stages:
        raise UsageError(f"tokens are (batch, steps, {chosen.stages}) here, not {tokens.shape}; is the preset theirs?")
    return decode(params, config, fsq.decode(tokens, chosen), length, steps)


def reconstruct(params: Params, config: Config, audio: Array, preset: str | None = None) -> Array:
    """What is left of waveforms (batch, samples), at their length, when they have been tokens."""
    return detokenise(params, config, tokens(params, config, audio, preset), preset, audio.shape[1])


@functools.partial(jax.jit, static_argnums=(1, 3))
def _tokens(params: Params, config: Config, audio: Array, preset: str | None, lengths: Any) -> Array:
    return tokens(params, config, audio, preset, lengths)


@functools.partial(jax.jit, static_argnums=(1, 3))
def _detokenise(params: Params, config: Config, tokens: Array, preset: str | None, steps: Any) -> Array:
    return detokenise(params, config, tokens, preset, steps=steps)


def encoder_windows(
    params: Params, config: Config, *, size: int | None = None, preset: str | None = None
) -> receptive.Windows:
    """Windows of `size` steps over waveforms that give the `tokens` of the whole; see `nn.receptive`.

    Without a size they are four times as long as what a step depends on, and without a window of attention all is one.
    """
    context = receptive.context_in_frames(_encoder_layers(config), config.hop)
    return _windows(functools.partial(_run, _tokens, params, config, preset), config, context, size, config.hop, 1)


def decoder_windows(
    params: Params, config: Config, *, size: int | None = None, preset: str | None = None
) -> receptive.Windows:
    """Windows of `size` steps over tokens that give the waveform of `detokenise`; see `encoder_windows`."""
    context = receptive.context_of_samples(_decoder_layers(config), config.hop)
    return _windows(functools.partial(_run, _detokenise, params, config, preset), config, context, size, 1, config.hop)


def _run(run: Callable, params: Params, config: Config, preset: str | None, x: Any, real: Any) -> Array:
    return run(params, config, x, preset, real)


def _windows(
    process: Callable, config: Config, context: tuple[int, int], size: int | None, inputs: int, outputs: int
) -> receptive.Windows:
    if config.window is None:
        context, size = (0, 0), 2**31
    size = max(256, 4 * sum(context)) if size is None else size
    process = receptive.of_few_lengths(process, size, inputs, outputs)
    return receptive.Windows(process=process, size=size, context=context, inputs=inputs, outputs=outputs)


def _encoder_layers(config: Config) -> list[receptive.Layer]:
    c, levels = config, range(len(config.strides))
    inside = [layer for level in levels for layer in _block(c, "encoder", level, 0).layers()]
    return [
        _frames(c, transposed=False),
        reach(7, causal=c.causal),
        *inside,
        reach(3, causal=c.causal),
    ]


def _decoder_layers(config: Config) -> list[receptive.Layer]:
    c, levels = config, reversed(range(len(config.strides)))
    inside = [layer for level in levels for layer in _block(c, "decoder", level, 0).layers()]
    last = reach(1 if c.mels else 7, causal=c.causal)
    return [reach(3, causal=c.causal), *inside, last, _frames(c, transposed=True)]


def _frames(config: Config, *, transposed: bool) -> receptive.Layer:
    """Between samples and patches or spectra."""
    width = config.n_fft if config.mels else config.patch
    pad = (width - config.patch) // 2
    return receptive.Layer(width, stride=config.patch, pad=pad, transposed=transposed)


def forward(
    params: Params, config: Config, audio: Array, key: Array, *, keep: float = 0.5, items: Array | None = None
) -> tuple[Array, Array, Array]:
    """The pass of training, in which noise stands for rounding; see `fsq.dither`.

    Args:
      params: of `init`.
      config: that they belong to.
      audio: (batch, samples).
      key: of this step.
      keep: see `fsq.dither`.
      items: see `fsq.dither`.

    Returns:
      waveforms of the shape of `audio`, latents of `encode`, and the values that were decoded.
    """
    latents = encode(params, config, audio)
    values = fsq.dither(key, latents, quantizer(config), keep=keep, items=items)
    return decode(params, config, values, audio.shape[1]), latents, values


def phonemes(params: Params, config: Config, latents: Array) -> Array:
    """Scores (batch, steps, config.phonemes) of phonemes, the blank last, in latents of `encode`.

    The published head is trained with them and left out of the published weights.
    """
    if not config.phonemes:
        raise ConfigError("this configuration has no head for phonemes; give it `phonemes` classes.")
    scores: Any = _Head(config.phonemes).apply({"params": params["params"]["head"]}, latents)
    return scores


def weight_normed(params: Params) -> Params:
    """The tree with directions and lengths for the kernels of convolutions, as the published code trains them.

    `nn.weight_norm.fuse` makes it one that the functions here take; `WEIGHT_NORM_WEIGHTS` converts into it.
    """

    def of(node: Any, path: str) -> Any:
        if getattr(node.get("kernel"), "ndim", 0) == 3:
            return weight_norm.split(node, r"params/decoder/layers_\d+/layers_2/", path)
        return {name: of(x, f"{path}{name}/") if isinstance(x, dict) else x for name, x in node.items()}

    return of(params, "")


def _cast(x: Array, config: Config) -> Array:
    return x.astype(config.dtype) if config.dtype != "float32" else x  # float64 stays what it is


WEIGHTS = (
    *(
        rule
        for side in ("encoder", "decoder")
        for rule in (
            *prefixed(rf"{side}\.layers\.(?P<level>\d+)\.", block_weights(side), rf"params/{side}/layers_\g<level>"),
            *prefixed(rf"{side}\.", LAYER_WEIGHTS, f"params/{side}"),
        )
    ),
    Rule(r"(?:projection_head\.)?proj_head\.(\d)\.weight", r"params/head/proj_head_\1/kernel", linear),
    Rule(r"(?:projection_head\.)?proj_head\.(\d)\.bias", r"params/head/proj_head_\1/bias"),
)
"""Conversion rules for the published names."""

WEIGHT_NORM_WEIGHTS = tuple(
    made
    for rule in WEIGHTS
    for made in (weight_norm.split_rules([rule]) if rule.op in (conv1d, conv_transpose1d) else [rule])
)
"""The same into a tree of `weight_normed`."""
