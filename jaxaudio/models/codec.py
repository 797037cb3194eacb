"""A codec in hand: audio of any rate, length and channel count to integers, and back to exactly that."""

import dataclasses
import functools
import math
from typing import Any

import numpy as np

from jaxaudio.errors import AudioError, UsageError
from jaxaudio.models.coders import MIXTURE, Coder, How, Rate, choose, open_coder
from jaxaudio.models.codes import Codes
from jaxaudio.models.folder import WEIGHTS, Card, in_hand
from jaxaudio.models.inputs import Progress, Ticker, as_channels, as_number, as_rate, resampled

_PEAK = 0.95  # of what is brought to a loudness
_QUIETEST = -69.0  # LUFS; what is below is left as it is
_MOST_STEPS, _MOST_GUIDANCE, _MOST_SEED = 1000, 100.0, 2**32 - 1


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Codec:
    """A model that turns sound into tokens and back, from `jaxaudio.load`.

    Attributes:
      name: of the model.
      system: "dac", "sdcodec", "taae" or "sitok".
      config: the system's configuration.
      params: parameters for the pure functions of `jaxaudio.systems`, on the default device.
      sample_rate: that the model works at, in Hz.
      licence: of the weights.
      source: of the weights.
      card: everything that is known about the model.
    """

    name: str
    system: str
    config: Any
    params: Any
    sample_rate: int
    licence: str
    source: str
    card: Card

    @functools.cached_property
    def coder(self) -> Coder:
        """The system behind it."""
        return open_coder(self.system, self.params, self.config)

    @property
    def frame_rate(self) -> float:
        """Frames of tokens per second."""
        return self.sample_rate / self.coder.hop

    @property
    def bitrates(self) -> tuple[float, ...]:
        """What `bitrate` can be, in bits per second of each channel and track; the last one is the default."""
        return tuple(rate.bits_per_second(self.frame_rate) for rate in self.coder.rates)

    @property
    def sources(self) -> tuple[str, ...]:
        """What can be decoded: "mixture", and the codec's tracks where it has some."""
        return self.coder.sources

    def encode(
        self, audio: Any, *, sample_rate: int, bitrate: float | None = None, progress: Progress | None = None
    ) -> Codes:
        """Turns audio into integers.

        Every channel is encoded by itself, in windows of which the codes do not depend; memory does not grow with the
        length. Other rates than the model's are resampled.

        Args:
          audio: (time,) or (time, channels), float in [-1, 1] or integers, whose full scale is taken as 1; not changed.
          sample_rate: of `audio`, in Hz.
          bitrate: at most so many bits per second of each channel and track; the model's best by default.
          progress: called with the frames done and in all.

        Returns:
          See `Codes`.

        Raises:
          AudioError: audio that is empty, not finite, or has a shape or type that is no audio.
          UsageError: a sample rate or a bit rate that cannot be.
        """
        samples, squeeze = as_channels(audio)
        rate = as_rate(sample_rate)
        chosen = choose(self.coder.rates, self.frame_rate, _bitrate(bitrate))
        frames = self._frames(len(samples), rate)
        values = np.empty((samples.shape[1], len(self.coder.tracks), frames, len(chosen.sizes)), np.int32)
        ticker = Ticker(progress)
        ticker.expect(values.shape[0] * frames)
        gains = []
        for channel in range(samples.shape[1]):
            wave = resampled(samples[:, channel], rate, self.sample_rate, self._length(len(samples), rate))
            gain = self._gain(wave)
            gains.append(1 / gain)
            done = 0
            for piece in self.coder.encode((wave * np.float32(gain))[None], chosen):
                values[channel, :, done : done + piece.shape[1]] = np.moveaxis(piece[0], 1, 0)
                done += piece.shape[1]
                ticker(piece.shape[1])
        return Codes(
            values=values,
            sizes=chosen.sizes,
            tracks=self.coder.tracks,
            frame_rate=self.frame_rate,
            sample_rate=rate,
            length=len(samples),
            squeeze=squeeze,
            gains=tuple(gains),
            model=self.name,
            fingerprint=self.fingerprint,
        )

    def decode(
        self,
        codes: Codes,
        *,
        source: str = MIXTURE,
        steps: int | None = None,
        guidance: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> np.ndarray:
        """Turns integers into the recording that they are of.

        Args:
          codes: of this model's `encode`.
          source: one of `sources`.
          steps: of the sampler, for codecs that draw.
          guidance: how much more the tokens count than by themselves, for codecs that draw.
          seed: of what is drawn; the same seed gives the same sound.
          progress: called with the samples done and in all.

        Returns:
          float32 of the shape, the sample rate and the loudness of the recording.

        Raises:
          AudioError: codes of another model, of another length than they say, or without the track that is asked for.
          UsageError: a source, or an option, that this codec does not have.
        """
        rate, how = self._checked(codes, source, steps, guidance, seed)
        codes = self._completed(codes, source)
        length = self._length(codes.length, codes.sample_rate)
        ticker = Ticker(progress)
        ticker.expect(len(codes.values) * length)
        out = np.empty((codes.length, len(codes.values)), np.float32)
        for channel, values in enumerate(codes.values):
            wave, done = np.empty(length, np.float32), 0
            for piece in self.coder.decode(np.moveaxis(values, 0, 1)[None], rate, source, length, how):
                wave[done : done + piece.shape[1]] = piece[0]
                done += piece.shape[1]
                ticker(piece.shape[1])
            wave *= np.float32(codes.gains[channel])
            out[:, channel] = resampled(wave, self.sample_rate, codes.sample_rate, codes.length)
        return out[:, 0] if codes.squeeze else out

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the weights: codes say which they were made with. "" for those of a training run, which go on changing."""
        return str(self.card.sha256.get(WEIGHTS, ""))

    def _length(self, samples: int, rate: int) -> int:
        """Samples at the model's rate."""
        return -(-samples * self.sample_rate // rate)

    def _frames(self, samples: int, rate: int) -> int:
        return -(-self._length(samples, rate) // self.coder.hop)

    def _gain(self, wave: np.ndarray) -> float:
        """What brings a channel to the model's loudness, and not above full scale."""
        if self.coder.loudness is None:
            return 1.0
        from jaxaudio.dsp.loudness import integrated_loudness

        # Whole seconds, so that few shapes are compiled; the gate does not hear the silence added.
        padded = np.pad(wave, (0, -len(wave) % self.sample_rate))
        found, peak = float(integrated_loudness(padded, self.sample_rate)), float(np.abs(wave).max())
        if found <= _QUIETEST or not peak:
            return 1.0
        return min(10 ** ((self.coder.loudness - found) / 20), _PEAK / peak)

    def _checked(
        self, codes: Codes, source: str, steps: int | None, guidance: float | None, seed: int
    ) -> tuple[Rate, How]:
        if codes.fingerprint and self.fingerprint and codes.fingerprint != self.fingerprint:
            raise AudioError(
                f"these codes are of the model {codes.model}, not of {self.name} or of other weights of it; decode "
                "them with that one."
            )
        rate = next((rate for rate in self.coder.rates if rate.sizes == tuple(codes.sizes)), None)
        if rate is None or not math.isclose(codes.frame_rate, self.frame_rate, rel_tol=1e-9):
            raise AudioError(
                f"these codes are of the model {codes.model}, whose books or rate {self.name} does not have; decode "
                "them with that one."
            )
        frames = self._frames(codes.length, codes.sample_rate)
        if codes.values.shape[2] != frames:
            raise AudioError(
                f"{codes.values.shape[2]} frames are not {codes.seconds:.2f} s, which have {frames}; encode the "
                "recording again."
            )
        if source not in self.sources:
            raise UsageError(f"{self.name} has no source {source!r}; choose from {', '.join(self.sources)}.")
        if not self.coder.samples and (steps, guidance, seed) != (None, None, 0):
            raise UsageError(f"{self.name} does not sample; leave steps, guidance and seed out.")
        if steps is not None:
            as_number(steps, "a number of steps", 1, _MOST_STEPS, whole=True)
        if guidance is not None:
            as_number(guidance, "a guidance", -_MOST_GUIDANCE, _MOST_GUIDANCE)
        as_number(seed, "a seed", 0, _MOST_SEED, whole=True)
        return rate, How(steps=steps, guidance=guidance, seed=seed)

    def _completed(self, codes: Codes, source: str) -> Codes:
        """The same with all of the model's tracks: those that `source` does not need may be missing."""
        if codes.tracks == self.coder.tracks:
            return codes
        if source not in codes.tracks:
            held = ", ".join(codes.tracks)
            raise AudioError(f"these codes hold {held} alone; give a source of that, or encode the recording again.")
        values = np.zeros((len(codes.values), len(self.coder.tracks), *codes.values.shape[2:]), np.int32)
        values[:, [self.coder.tracks.index(track) for track in codes.tracks]] = codes.values
        return dataclasses.replace(codes, values=values, tracks=self.coder.tracks)


def _bitrate(bitrate: Any) -> float | None:
    return None if bitrate is None else as_number(bitrate, "a bit rate", 1, 1e9)


def open_codec(card: Card) -> Codec:
    """Reads the weights of a codec; see `jaxaudio.load`."""
    return Codec(**in_hand(card))
