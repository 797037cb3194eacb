"""Codes as DAC's own tools write and read them: windows without padding, and the loudness beside them.

`dac.encode_chunks` gives the codes of the whole signal. These give what `compress` of descript-audio-codec gives for
long signals, where every window sees samples instead of zeros at its edges; and decode it, which the others would not.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxaudio.dsp.loudness import integrated_loudness
from jaxaudio.errors import UsageError
from jaxaudio.nn import receptive, wave_autoencoder
from jaxaudio.quantize import rvq
from jaxaudio.systems import dac


class Compressed(NamedTuple):
    """What is in a .dac file.

    Attributes:
      codes: (batch, frames, levels) of all windows.
      frames: of one window.
      length: samples of the original.
      loudness: (batch,) LUFS of the original.
      padded: whether it was one window, the whole signal with zeros around.
    """

    codes: np.ndarray
    frames: int
    length: int
    loudness: np.ndarray
    padded: bool


def delay(config: dac.Config) -> int:
    """Samples that encoder and decoder, both without padding, take off either end of a signal."""
    layers = (*wave_autoencoder.encoder_layers(config.waves), *wave_autoencoder.decoder_layers(config.waves))
    made = length = receptive.valid_length(layers, 0)
    for layer in reversed(layers):
        reach = (layer.width - 1) * layer.dilation
        if layer.transposed:
            length = -(-(length - 1 - reach) // layer.stride) + 1
        else:
            length = (length - 1) * layer.stride + reach + 1
    return (length - made) // 2


def compress(
    params: Any, config: dac.Config, audio: np.ndarray, *, seconds: float = 1.0, n_quantizers: int | None = None
) -> Compressed:
    """Codes of waveforms, in windows of so many seconds without padding if they are longer.

    Args:
      params: of `dac.init` or of a converted checkpoint.
      config: that they belong to.
      audio: (batch, time) at `config.sample_rate`; the published tool brings it to -16 LUFS first.
      seconds: of a window, rounded up to whole frames.
      n_quantizers: as in `dac.encode`.

    Raises:
      UsageError: windows too short for the network.
    """
    length = audio.shape[1]
    loudness = _loudness(audio, config.sample_rate)
    audio = audio / np.maximum(1, np.abs(audio).max(1, keepdims=True))
    if length <= seconds * config.sample_rate:
        codes = np.asarray(_encode(params, config, audio, n_quantizers, True))
        return Compressed(codes, codes.shape[1], length, loudness, True)
    size = math.ceil(int(seconds * config.sample_rate) / config.hop) * config.hop
    layers = (*wave_autoencoder.encoder_layers(config.waves), *wave_autoencoder.decoder_layers(config.waves))
    step, around = receptive.valid_length(layers, size), delay(config)
    if step < 1:
        raise UsageError(f"such windows are too short: give more than {2 * around / config.sample_rate:.2f} s.")
    audio = np.pad(audio, ((0, 0), (around, around + size)))
    windows = [
        np.asarray(_encode(params, config, audio[:, i : i + size], n_quantizers, False)) for i in range(0, length, step)
    ]
    return Compressed(np.concatenate(windows, 1), windows[0].shape[1], length, loudness, False)


def decompress(params: Any, config: dac.Config, compressed: Compressed) -> np.ndarray:
    """Waveforms (batch, length) of codes, at the loudness of the original."""
    pieces = [
        np.asarray(_decode(params, config, compressed.codes[:, i : i + compressed.frames], compressed.padded))
        for i in range(0, compressed.codes.shape[1], compressed.frames)
    ]
    audio = np.concatenate(pieces, 1)
    gain = compressed.loudness - _loudness(audio, config.sample_rate)  # what the last window adds is measured, too
    audio = audio[:, : compressed.length]
    audio = np.pad(audio, ((0, 0), (0, compressed.length - audio.shape[1])))
    return audio * 10 ** (gain[:, None] / 20)


def _loudness(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """As audiotools measures it, of at least half a second."""
    audio = np.pad(audio, ((0, 0), (0, max(0, sample_rate // 2 - audio.shape[1]))))
    return np.asarray(integrated_loudness(audio, sample_rate, filters="torchaudio", incomplete=True))


@functools.partial(jax.jit, static_argnums=(1, 3, 4))
def _encode(params: Any, config: dac.Config, audio: Array, levels: int | None, padded: bool) -> Array:
    p = params["params"]
    z = wave_autoencoder.encode(p, config.waves, audio, padded=padded)
    return rvq.quantize(p["quantizer"], config.quantizer, z, levels).codes


@functools.partial(jax.jit, static_argnums=(1, 3))
def _decode(params: Any, config: dac.Config, codes: Array, padded: bool) -> Array:
    z = dac.latents(params, config, codes)
    return wave_autoencoder.decode_raw(params["params"], config.waves, z, padded=padded)
