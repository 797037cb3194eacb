"""The codecs' systems behind one face: waveforms at the model's rate to integers and back, in bounded memory."""

import dataclasses
import functools
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
    return {"dac": _dac, "sdcodec": _sdcodec, "taae": _taae, "sitok": _sitok}[system](params, config)


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
        return receptive.cut((piece[:, :, 0] for piece in receptive.run(windows, codes)), length)

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
        return receptive.cut(receptive.run(windows, codes[:, :, 0]), length)

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


def _sitok(params: Any, config: Any) -> Coder:
    import jax
    import jax.numpy as jnp

    from jaxaudio.systems import sitok

    hop = config.front_end.hop * config.stack
    usual = sitok.Sampling(steps=2, solver="shortcut") if config.steps else sitok.Sampling()

    @jax.jit
    def listen(params: Any, waves: jax.Array, frames: jax.Array) -> jax.Array:
        codes = sitok.encode(params, config, sitok.mel(config, waves), frames)
        return codes.reshape(*codes.shape[:2], 1, config.books)

    @functools.partial(jax.jit, static_argnames="sampling")
    def speak(params: Any, codes: jax.Array, frames: jax.Array, key: jax.Array, sampling: Any) -> jax.Array:
        codes = codes[..., 0] if config.books == 1 else codes
        made = sitok.decode(params, config, codes, key, sampling=sampling, frames=frames)
        return sitok.waveform(params, config, made)

    def process(waves: np.ndarray, lengths: np.ndarray | None) -> jax.Array:
        lengths = np.full(len(waves), waves.shape[1], np.int32) if lengths is None else lengths
        return listen(params, jnp.asarray(waves), -(-lengths // config.front_end.hop))

    def encode(waves: np.ndarray, rate: Rate) -> Pieces:
        # Of a long sound a token hears a quarter of the encoder's memory at least, and half a window of the spectrogram
        # after its own frames.
        size = round(config.memory * config.token_rate)
        before = size // 4
        few = receptive.of_few_lengths(process, size, hop, 1)
        windows = receptive.Windows(process=few, size=size, context=(before, 1), inputs=hop, outputs=1)
        return receptive.run(windows, waves)

    def decode(codes: np.ndarray, rate: Rate, source: str, length: int, how: How) -> Pieces:
        sampling = dataclasses.replace(
            usual,
            steps=usual.steps if how.steps is None else how.steps,
            guidance=usual.guidance if how.guidance is None else how.guidance,
        )
        tokens = codes.shape[1]
        filled = np.pad(codes[:, :, 0], ((0, 0), (0, receptive.filled(tokens) - tokens), (0, 0)))
        frames = np.full(len(codes), -(-length // config.front_end.hop), np.int32)
        made = speak(params, jnp.asarray(filled), frames, jax.random.key(how.seed), sampling)
        yield np.asarray(made)[:, :length]

    return Coder(
        tracks=(MIXTURE,),
        sources=(MIXTURE,),
        hop=hop,
        rates=(Rate((config.size,) * config.books, None),),
        loudness=-20.0,
        samples=True,
        encode=encode,
        decode=decode,
    )


def _by_levels(config: Any) -> tuple[Rate, ...]:
    return tuple(Rate((config.size,) * levels, levels) for levels in range(1, config.levels + 1))


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
