"""DAC, the Descript Audio Codec (Kumar et al., 2023, arXiv:2306.06546): waveforms to a few integers per frame and back.

A convolutional autoencoder with a residual quantiser between its halves. The first levels carry the most, so fewer of
them are a smaller bit rate.
"""

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxaudio.convert.rules import prefixed
from jaxaudio.errors import UsageError
from jaxaudio.nn import receptive, wave_autoencoder, weight_norm
from jaxaudio.nn.masked import kept
from jaxaudio.quantize import rvq

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a DAC.

    Attributes:
      sample_rate: samples per second.
      waves: encoder and decoder.
      levels: codes per frame.
      size: entries of each level's codebook.
      width: numbers per entry.
      dropout: share of training items for which only some of the levels are used.
    """

    sample_rate: int = 44100
    waves: wave_autoencoder.Config = wave_autoencoder.HOP_512
    levels: int = 9
    size: int = 1024
    width: int = 8
    dropout: float = 0.5

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return self.waves.hop

    @property
    def quantizer(self) -> rvq.Config:
        """Shape of the quantiser."""
        return rvq.Config(dim=self.waves.latent, levels=self.levels, size=self.size, width=self.width)


DAC_44KHZ_8KBPS = Config()
"""Release 0.0.1: 86 frames per second, 7.8 kbit/s (77 M parameters)."""

DAC_44KHZ_16KBPS = Config(waves=wave_autoencoder.Config(latent=128), levels=18)
"""Release 1.0.0: 15.5 kbit/s (64 M parameters)."""

DAC_24KHZ_8KBPS = Config(sample_rate=24000, waves=wave_autoencoder.HOP_320, levels=32)
"""Release 0.0.4: 75 frames per second, 24 kbit/s with all levels in spite of its name (75 M parameters)."""

DAC_16KHZ_8KBPS = Config(sample_rate=16000, waves=wave_autoencoder.HOP_320, levels=12)
"""Release 0.0.5: 50 frames per second, 6 kbit/s in spite of its name (74 M parameters)."""

MINI = Config(
    sample_rate=16000,
    waves=wave_autoencoder.Config(channels=16, rates=(2, 4, 5, 8), latent=128, decoder_channels=256),
    levels=8,
)
"""Small enough to train on two cores."""


def init(key: Array, config: Config) -> dict[str, Any]:
    """Random variables {"params": ...}; under `jax.eval_shape`, their shapes at no cost."""
    waves, levels = jax.random.split(key)
    made = wave_autoencoder.init(waves, config.waves)
    return {"params": {**made, "quantizer": rvq.init(levels, config.quantizer)}}


def quantize(
    params: Params, config: Config, audio: Array, n_quantizers: int | None = None, lengths: Array | None = None
) -> rvq.Quantized:
    """Everything that encoding computes; see `encode`."""
    p = params["params"]
    z = wave_autoencoder.encode(p, config.waves, audio, lengths=lengths)
    return rvq.quantize(p["quantizer"], config.quantizer, z, n_quantizers)


def encode(
    params: Params, config: Config, audio: Array, n_quantizers: int | None = None, lengths: Array | None = None
) -> Array:
    """Codes of waveforms.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      audio: (batch, time) at `config.sample_rate`, in [-1, 1].
      n_quantizers: levels to use, from the first on; all by default.
      lengths: (batch,) int, samples of each item, if they differ: its codes are those that it has by itself.

    Returns:
      (batch, ceil(time / hop), levels) int32; 0 past an item's own frames.

    Raises:
      UsageError: another shape, or levels that the model does not have.
    """
    codes = quantize(params, config, audio, n_quantizers, lengths).codes
    return codes if lengths is None else kept(codes, -(-lengths // config.hop))


def latents(params: Params, config: Config, codes: Array) -> Array:
    """The latents (batch, frames, latent) that codes stand for, for `decode`."""
    return rvq.decode(params["params"]["quantizer"], config.quantizer, codes)


def decode(
    params: Params, config: Config, codes: Array, length: int | None = None, frames: Array | None = None
) -> Array:
    """Waveforms of codes.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      codes: (batch, frames, levels) integers of `encode`, of any number of levels; or (batch, frames, latent) floats.
      length: samples, at most frames * hop, which is the default.
      frames: (batch,) int, frames of each item, if they differ: its samples are those that it has by itself.

    Returns:
      (batch, length) in (-1, 1), zeros past what an item's own frames make. The original returns fewer where strides
      are odd; see `wave_autoencoder.decode`.

    Raises:
      UsageError: levels that the model does not have, or more samples than the frames make.
    """
    z = latents(params, config, codes) if jnp.issubdtype(codes.dtype, jnp.integer) else codes
    return wave_autoencoder.decode(params["params"], config.waves, z, length, frames)


class Reconstruction(NamedTuple):
    """What training looks at.

    Attributes:
      audio: (batch, at most time) what the decoder made; compare it with the beginning of the input.
      quantized: see `rvq.Quantized`.
      commitment: mean over items of the sum over levels.
      codebook: the same.
    """

    audio: Array
    quantized: rvq.Quantized
    commitment: Array
    codebook: Array


def reconstruct(params: Params, config: Config, audio: Array, limits: Array | None = None) -> Reconstruction:
    """Encodes and decodes for training, with gradients through the quantiser.

    Args:
      params: of `init`, or with weight normalisation (`normalized`).
      config: that they belong to.
      audio: (batch, time).
      limits: (batch,) levels that each item uses, e.g. of `rvq.drop_levels`; all by default.
    """
    p = weight_norm.fuse(params["params"])
    z = wave_autoencoder.encode(p, config.waves, audio)
    made = rvq.quantize(p["quantizer"], config.quantizer, z, limits=limits)
    # Not `decode`: the few samples that odd strides cut off are not worth a second decoder.
    heard = wave_autoencoder.decode_raw(p, config.waves, made.z)[:, : audio.shape[1]]
    return Reconstruction(heard, made, jnp.mean(made.commitment), jnp.mean(made.codebook))


def normalized(params: Params) -> Params:
    """The same parameters with weight normalisation, as the published training has them; see `nn.weight_norm`."""
    return weight_norm.split(params, rf"params/{wave_autoencoder.TRANSPOSED}")


@functools.partial(jax.jit, static_argnums=(1, 3))
def _encode(params: Params, config: Config, audio: Array, n_quantizers: int | None, lengths: Any) -> Array:
    return encode(params, config, audio, n_quantizers, lengths)


@functools.partial(jax.jit, static_argnums=1)
def _decode(params: Params, config: Config, codes: Array, frames: Any) -> Array:
    return decode(params, config, codes, frames=frames)


def encoder_windows(
    params: Params, config: Config, *, size: int = 256, n_quantizers: int | None = None
) -> receptive.Windows:
    """Windows of `size` frames over waveforms that give `encode`'s codes, for `receptive.push` and `receptive.run`."""

    def process(audio: np.ndarray, lengths: np.ndarray | None) -> Array:
        return _encode(params, config, audio, n_quantizers, lengths)

    return receptive.Windows(
        process=receptive.of_few_lengths(process, size, config.hop, 1),
        size=size,
        context=receptive.context_in_frames(wave_autoencoder.encoder_layers(config.waves), config.hop),
        inputs=config.hop,
        outputs=1,
    )


def decoder_windows(params: Params, config: Config, *, size: int = 256) -> receptive.Windows:
    """Windows of `size` frames over codes that give `decode`'s samples, for `receptive.push` and `receptive.run`."""

    def process(codes: np.ndarray, frames: np.ndarray | None) -> Array:
        return _decode(params, config, codes, frames)

    return receptive.Windows(
        process=receptive.of_few_lengths(process, size, 1, config.hop),
        size=size,
        context=receptive.context_of_samples(wave_autoencoder.decoder_layers(config.waves), config.hop),
        inputs=1,
        outputs=config.hop,
    )


def encode_chunks(
    params: Params, config: Config, audio: np.ndarray, *, size: int = 256, n_quantizers: int | None = None
) -> Iterator[np.ndarray]:
    """Codes of long waveforms, piece by piece, in memory that does not depend on their length.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      audio: (batch, time) in the host's memory, or mapped from a file.
      size: frames computed at once.
      n_quantizers: as in `encode`.

    Yields:
      (batch, frames, levels); all of them together are what `encode` gives, up to ties that rounding decides.

    Raises:
      UsageError: a window that is too short for what a frame depends on.
    """
    return receptive.run(encoder_windows(params, config, size=size, n_quantizers=n_quantizers), audio)


def decode_chunks(
    params: Params, config: Config, codes: np.ndarray, *, size: int = 256, length: int | None = None
) -> Iterator[np.ndarray]:
    """Waveforms of long codes, piece by piece; see `encode_chunks`.

    Yields:
      (batch, samples), `length` of them together, frames * hop by default; within rounding what `decode` gives.

    Raises:
      UsageError: more samples than the frames make, or a window that is too short.
    """
    most = codes.shape[1] * config.hop
    length = most if length is None else length
    if not 0 < length <= most:
        raise UsageError(f"{codes.shape[1]} frames make 1 to {most} samples, not {length}.")
    yield from receptive.cut(receptive.run(decoder_windows(params, config, size=size), codes), length)


WEIGHTS = (
    *prefixed("", wave_autoencoder.WEIGHTS, "params"),
    *prefixed(r"quantizer\.", rvq.WEIGHTS, "params/quantizer"),
)
"""Conversion rules for the released checkpoints and for bare state dicts."""
