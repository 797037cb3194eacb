"""The codecs' systems behind one face: waveforms at the model's rate to integers and back, in bounded memory."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxaudio.errors import UsageError
from jaxaudio.nn import receptive

MIXTURE = "mixture"
"""The name of the whole, where a codec has tracks, and of the only track where it has none."""


class Rate(NamedTuple):
    """One way to spend bits.

    Attributes:
      sizes: entries of each book, as many as there are tokens per frame.
      setting: what the system calls it.
    """

    sizes: tuple[int, ...]
    setting: Any

    def bits_per_second(self, frame_rate: float) -> float:
        """Of one track."""
        return frame_rate * sum(math.log2(size) for size in self.sizes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class How:
    """How to decode, where a system has a choice; None is the model's own.

    Attributes:
      steps: of the sampler.
      guidance: how much more the tokens count than by themselves.
      seed: of what is drawn.
    """

    steps: int | None = None
    guidance: float | None = None
    seed: int = 0


Pieces = Iterator[np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Coder:
    """What `models.Codec` needs of a system.

    Attributes:
      tracks: what is encoded apart.
      sources: what can be decoded.
      hop: samples per frame.
      rates: from the cheapest to the best, which is the default.
      loudness: LUFS that each channel is brought to before it is encoded; None where the codec keeps levels.
      samples: whether decoding draws, so that it has steps, guidance and a seed.
      encode: `(waves (rows, time), rate)` to pieces (rows, frames, tracks, books).
      decode: `(codes (rows, frames, tracks, books), rate, source, length, how)` to pieces (rows, samples), together
        `length` samples.
    """

    tracks: tuple[str, ...]
    sources: tuple[str, ...]
    hop: int
    rates: tuple[Rate, ...]
    loudness: float | None
    samples: bool
    encode: Callable[[np.ndarray, Rate], Pieces]
    decode: Callable[[np.ndarray, Rate, str, int, How], Pieces]


def open_coder(system: str, params: Any, config: Any) -> Coder:
    """The coder of a model."""
    return {"dac": _dac, "sdcodec": _sdcodec, "taae": _taae}[system](params, config)


def _dac(params: Any, config: Any) -> Coder:
    from jaxaudio.systems import dac

    def encode(waves: np.ndarray, rate: Rate) -> Pieces:
        pieces = dac.encode_chunks(params, config, waves, n_quantizers=rate.setting)
        return (piece[:, :, None] for piece in pieces)

    def decode(codes: np.ndarray, rate: Rate, source: str, length: int, how: How) -> Pieces:
        return dac.decode_chunks(params, config, codes[:, :, 0], length=length)

    return Coder(
        tracks=(MIXTURE,),
        sources=(MIXTURE,),
        hop=config.hop,
        rates=_by_levels(config),
        loudness=-16.0,  # as the original's `compress`
        samples=False,
        encode=encode,
        decode=decode,
    )


def _sdcodec(params: Any, config: Any) -> Coder:
    from jaxaudio.systems import sdcodec

    def encode(waves: np.ndarray, rate: Rate) -> Pieces:
        return receptive.run(sdcodec.encoder_windows(params, config, n_quantizers=rate.setting), waves)

    def decode(codes: np.ndarray, rate: Rate, source: str, length: int, how: How) -> Pieces:
        wanted = sdcodec.MIX if source == MIXTURE else source
        windows = sdcodec.decoder_windows(params, config, sources=(wanted,))
        return _cut((piece[:, :, 0] for piece in receptive.run(windows, codes)), length)

    return Coder(
        tracks=config.tracks,
        sources=(MIXTURE, *config.tracks),
        hop=config.hop,
        rates=_by_levels(config),
        loudness=None,
        samples=False,
        encode=encode,
        decode=decode,
    )


def _taae(params: Any, config: Any) -> Coder:
    from jaxaudio.quantize import fsq
    from jaxaudio.systems import taae

    presets = [None, *(name for name, q in fsq.PRESETS.items() if len(q.levels) == len(config.levels))]
    rates = [Rate((q.size,) * q.stages, name) for name in presets for q in (taae.quantizer(config, name),)]
    rates.sort(key=lambda rate: (rate.setting is None, rate.bits_per_second(1)))  # the trained one is the default

    def encode(waves: np.ndarray, rate: Rate) -> Pieces:
        pieces = receptive.run(taae.encoder_windows(params, config, preset=rate.setting), waves)
        return (piece[:, :, None] for piece in pieces)

    def decode(codes: np.ndarray, rate: Rate, source: str, length: int, how: How) -> Pieces:
        windows = taae.decoder_windows(params, config, preset=rate.setting)
        return _cut(receptive.run(windows, codes[:, :, 0]), length)

    return Coder(
        tracks=(MIXTURE,),
        sources=(MIXTURE,),
        hop=config.hop,
        rates=tuple(rates),
        loudness=config.loudness,
        samples=False,
        encode=encode,
        decode=decode,
    )


def _by_levels(config: Any) -> tuple[Rate, ...]:
    return tuple(Rate((config.size,) * levels, levels) for levels in range(1, config.levels + 1))


def _cut(pieces: Pieces, length: int) -> Pieces:
    """The first `length` samples."""
    for piece in pieces:
        if length:
            yield piece[:, :length]
        length -= min(length, piece.shape[1])


def choose(rates: Sequence[Rate], frame_rate: float, bitrate: float | None) -> Rate:
    """The best rate that is not above a bit rate in bits per second; the last by default.

    Raises:
      UsageError: it is below all of them.
    """
    if bitrate is None:
        return rates[-1]
    costs = [rate.bits_per_second(frame_rate) for rate in rates]
    fitting = [(cost, i) for i, cost in enumerate(costs) if cost <= bitrate * (1 + 1e-6)]
    if not fitting:
        raise UsageError(
            f"a bit rate of {bitrate:g} bit/s is too low: the model has {', '.join(f'{c:.0f}' for c in sorted(costs))}."
        )
    return rates[max(fitting)[1]]
