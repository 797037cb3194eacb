"""A generator in hand: sounds of words, of any length, and other sounds of sounds."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack

import jax
import numpy as np

from jaxaudio.dsp.mel import hz_to_mel, mel_to_hz
from jaxaudio.errors import UsageError
from jaxaudio.models.encoders import Condition, open_prompts
from jaxaudio.models.folder import Card, in_hand
from jaxaudio.models.inputs import (
    Spans,
    as_channels,
    as_number,
    as_prompts,
    as_rate,
    as_spans,
    inside,
    levelled,
    resampled,
)
from jaxaudio.models.latents import Stage, Stages, bounded
from jaxaudio.models.requests import Options, Request, guided, told
from jaxaudio.nn import latent_audio
from jaxaudio.systems import audioldm

LIMIT = 600.0
"""Seconds: the longest sound that is made."""

_SHORTEST = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Generator:
    """A model that makes sounds from words, from `jaxaudio.load`.

    Attributes:
      name: of the model.
      system: "audioldm".
      config: the system's configuration.
      params: parameters for the pure functions of `jaxaudio.systems.audioldm`, on the default device.
      sample_rate: of what it makes, in Hz.
      licence: of the weights.
      source: of the weights.
      card: everything that is known about the model.
    """

    name: str
    system: str
    config: audioldm.Config
    params: Any
    sample_rate: int
    licence: str
    source: str
    card: Card

    OPTIONS: ClassVar[frozenset[str]] = frozenset(Options.__annotations__)
    """The names of what its methods can be told, see `Options`."""

    @functools.cached_property
    def encoder(self) -> Callable[[Sequence[str]], Condition]:
        """The text encoder, read when it is first needed."""
        return open_prompts(self.card)

    @functools.cached_property
    def stages(self) -> Stages:
        """Encoder, sampler and decoder, compiled when they are first needed."""
        return Stages(self.config, self.params)

    @property
    def sampling(self) -> audioldm.Sampling:
        """How it samples where nothing else is asked for: what its card says under "sampling", or the system's own."""
        return audioldm.Sampling(**self.card.about.get("sampling", {}))

    def condition(self, texts: str | Sequence[str]) -> Condition:
        """Prompts -> what the U-Net is told, the prompts leading: {"film": ...} or {"contexts": [...], "masks": [...]}.

        "" is the unconditional one. Prompts that are too long are cut, with a warning.

        Raises:
          UsageError: no prompt, or one that is not text.
          CheckpointError: the text encoder and the U-Net do not belong together.
        """
        return told(self.encoder(as_prompts(texts)), self.config.unet)

    def generate(
        self, prompt: str | Sequence[str], *, seconds: float | None = None, **options: Unpack[Options]
    ) -> np.ndarray:
        """Makes sounds from words.

        Args:
          prompt: in words; "" for a sound of any kind. A list of them gives a leading axis; what prompt i of it gives
            does not depend on the others, nor on the number of candidates.
          seconds: length, at most `LIMIT`; the window that the model was trained on by default. Longer sounds are made
            of overlapping windows that agree at every step.
          **options: see `Options`. A list of prompts may have a list of negative ones. A count above 1 gives an axis
            after that of the prompts.

        Returns:
          float32 ([prompts,] [count,] time) in [-1, 1], at `sample_rate`.

        Raises:
          UsageError: what cannot be: a duration, a number of steps, a solver, ...
        """
        request = self._request(options)
        prompts, positions, samples = as_prompts(prompt), *self._length(seconds)
        away = self.condition(request.negatives(len(prompts)))
        items = np.arange(len(prompts))[:, None] + request.candidates
        request.expect(items.size, positions)
        stage = _generate(self.config, request.compiled, positions)
        waves = request.sample(stage, self.condition(prompts), away, items, positions)[..., :samples]
        waves = np.take_along_axis(waves, request.chosen(waves, prompts)[..., None], 1)
        waves = waves[:, 0] if request.count == 1 else waves
        return waves[0] if isinstance(prompt, str) else waves

    def vary(
        self, audio: Any, prompt: str, *, sample_rate: int, strength: float = 0.5, **options: Unpack[Options]
    ) -> np.ndarray:
        """Style transfer: makes of a sound what a prompt says, keeping its course.

        Every channel is varied by itself, with the same noise: equal channels stay equal. Audio is levelled for the
        model, and its level given back; silence stays silent.

        Args:
          audio: (time,) or (time, channels), float in [-1, 1] or integers, up to `LIMIT` seconds; not changed.
          prompt: what it is to become, in words.
          sample_rate: of `audio`, in Hz. What is made has nothing above half the model's rate.
          strength: from 0, `audio` itself, to 1, next to nothing of it.
          **options: see `Options`. Of the steps only the last part is taken, by the strength. A count above 1 gives a
            leading axis.

        Returns:
          float32 of the shape of `audio`, at its rate.

        Raises:
          AudioError: audio that is empty, not finite, or none.
          UsageError: anything else that cannot be.
        """
        strength = as_number(strength, "a strength of", 0, 1)
        request, recording = self._request(options), _Recording(self, audio, sample_rate)
        if strength == 0:
            made = np.repeat(recording.samples[None], request.count, 0)
        else:
            stage = _vary(self.config, request.compiled, strength)
            made = recording.edited(request, stage, prompt) * recording.audible
        return recording.shaped(made)

    def fill(
        self, audio: Any, prompt: str, *, sample_rate: int, spans: Spans, **options: Unpack[Options]
    ) -> np.ndarray:
        """Inpainting: makes some spans of a recording anew, to go with what is around them.

        Outside the spans the audio is what it was, exactly; inside of their edges the new fades in and out within
        20 ms. Channels and levels are treated as by `vary`.

        Args:
          audio: as of `vary`.
          prompt: what is to be heard, in words.
          sample_rate: of `audio`, in Hz.
          spans: (from, to) in seconds, such as [(2.0, 3.5)]; cut where the audio ends.
          **options: see `Options`; a count above 1 gives a leading axis.

        Returns:
          float32 of the shape of `audio`, at its rate.

        Raises:
          AudioError: audio that is empty, not finite, or none.
          UsageError: no span, one that is outside the audio, or anything else that cannot be.
        """
        request, recording = self._request(options), _Recording(self, audio, sample_rate)
        samples, rate = recording.samples, recording.rate
        spans = as_spans(spans, len(samples) / rate)
        mask = latent_audio.outside(self.config.audio, recording.positions, spans)
        made = recording.edited(request, _fill(self.config, request.compiled), prompt, {"mask": mask})
        weight = inside(spans, len(samples), rate)[:, None]
        return recording.shaped(samples * (1 - weight) + made * weight)

    def upsample(
        self,
        audio: Any,
        *,
        sample_rate: int,
        prompt: str = "",
        cutoff: float | None = None,
        **options: Unpack[Options],
    ) -> np.ndarray:
        """Super-resolution: makes the high frequencies that a recording lacks, and keeps the low ones.

        Channels and levels are treated as by `vary`.

        Args:
          audio: as of `vary`.
          sample_rate: of `audio`, in Hz.
          prompt: what is heard, in words; helps.
          cutoff: Hz above which it is made anew; half of `sample_rate` where that is below the model's.
          **options: see `Options`; a count above 1 gives a leading axis.

        Returns:
          float32 of the channels and duration of `audio`, at the higher one of `sample_rate` and the model's.

        Raises:
          AudioError: audio that is empty, not finite, or none.
          UsageError: a cutoff that leaves nothing to make or nothing to keep, or anything else that cannot be.
        """
        request, recording = self._request(options), _Recording(self, audio, sample_rate)
        rate = recording.rate
        if cutoff is None and rate >= self.sample_rate:
            raise UsageError(
                f"at {rate} Hz this has all that a model of {self.sample_rate} Hz can make; say from where on it is to "
                "be made anew, in Hz: cutoff=4000, or --cutoff 4000."
            )
        low = as_number(rate / 2 if cutoff is None else cutoff, "a cutoff of", 1, self.sample_rate / 2)
        mask = self._kept_below(low)
        final = max(rate, self.sample_rate)
        known = recording.at(final)
        stage = _fill(self.config, request.compiled)
        made = recording.edited(request, stage, prompt, {"mask": mask}, final) * recording.audible
        return recording.shaped(_joined(known, made, low / final))

    def _request(self, options: Options) -> Request:
        return Request(self, self.sampling, lambda sampling: audioldm.schedule(self.config, sampling), options)

    def _length(self, seconds: float | None) -> tuple[int, int]:
        """Positions of the latent, and samples."""
        length = self.config.window if seconds is None else as_number(seconds, "a duration of", _SHORTEST, LIMIT)
        samples = max(round(length * self.sample_rate), 1)
        return self.stages.positions(samples), samples

    def _kept_below(self, cutoff: float) -> np.ndarray:
        """A mask of the rows of the latent whose mel bands lie below a frequency."""
        front, audio = self.config.audio.front_end, self.config.audio
        top = front.sample_rate / 2 if front.fmax is None else front.fmax
        low, high = (float(hz_to_mel(x, front.scale)) for x in (front.fmin, top))
        edges = mel_to_hz(np.linspace(low, high, front.n_mels + 2), front.scale)[
            1 + audio.vae.factor :: audio.vae.factor
        ]
        kept = int(np.sum(edges <= cutoff * (1 + 1e-9)))
        if not 0 < kept < audio.frequencies:
            raise UsageError(
                f"a cutoff of {cutoff:g} Hz leaves nothing to {'make' if kept else 'keep'}; give one from "
                f"{np.ceil(edges[0]):g} to {np.floor(edges[-1]) - 1:g} Hz."
            )
        return audioldm.frequency_mask(self.config, (kept + 0.5) / audio.frequencies)


def open_generator(card: Card) -> Generator:
    """Reads the weights of a generator; see `jaxaudio.load`."""
    return Generator(**in_hand(card))


class _Recording:
    """A recording to edit, as the model hears it, and the way back."""

    def __init__(self, model: Generator, audio: Any, sample_rate: Any) -> None:
        self.samples, self._squeeze = as_channels(audio)
        self.rate, self._model = as_rate(sample_rate), model
        if len(self.samples) > LIMIT * self.rate:
            raise UsageError(f"the audio has {len(self.samples) / self.rate:.0f} s; give at most {LIMIT:g} s at once.")
        waves = self.at(model.sample_rate)
        self._length, self.positions = len(waves), model.stages.positions(len(waves))
        self._waves, self._gain, self._mean = levelled(waves.T)
        self.audible = np.ptp(self.samples, 0) > 0

    def at(self, rate: int) -> np.ndarray:
        """(time, channels) at another rate."""
        length = -(-len(self.samples) * rate // self.rate)
        return np.stack([resampled(channel, self.rate, rate, length) for channel in self.samples.T], -1)

    def edited(
        self, request: Request, stage: Stage, prompt: str, shared: dict[str, Any] | None = None, rate: int = 0
    ) -> np.ndarray:
        """(count, time, channels) of what the stage makes, at the recording's rate or the one that is asked for."""
        model, channels = self._model, self.samples.shape[1]
        (away,) = request.negatives(1)
        items = np.tile(request.candidates, (channels, 1))  # the same noise in every channel
        request.expect(items.size, self.positions, channels)
        known = request.encode(self._waves)
        conditions = (model.condition([text] * channels) for text in (*as_prompts([prompt]), away))
        made = request.sample(stage, *conditions, items, self.positions, shared, known=known)
        made = made[..., : self._length] * self._gain[:, :, None] + self._mean[:, :, None]
        made = made[:, request.chosen(made.mean(0)[None], [prompt])[0]]
        rate = rate or self.rate
        length = -(-len(self.samples) * rate // self.rate)
        back = [[resampled(x, model.sample_rate, rate, length) for x in channel] for channel in made]
        return np.stack(back, -1)

    def shaped(self, made: np.ndarray) -> np.ndarray:
        """(count, time, channels) without the axes that were not there."""
        made = np.asarray(made, np.float32)
        made = made[..., 0] if self._squeeze else made
        return made[0] if len(made) == 1 else made


def _joined(low: np.ndarray, high: np.ndarray, cutoff: float) -> np.ndarray:
    """What one signal (time, channels) has below a frequency, in cycles per sample, and others have above it."""
    frequencies = np.fft.rfftfreq(len(low))
    rise = np.clip((frequencies / cutoff - 0.9) / 0.1, 0, 1)  # where a recording's rate ends, it has begun to fade
    share = (0.5 - 0.5 * np.cos(np.pi * rise))[:, None]
    out = np.empty_like(high)
    for i, one in enumerate(high):
        spectrum = np.fft.rfft(low, axis=0) * (1 - share) + np.fft.rfft(one, axis=0) * share
        out[i] = np.fft.irfft(spectrum, len(low), axis=0)
    return out


@functools.cache
def _generate(config: audioldm.Config, sampling: audioldm.Sampling, positions: int) -> Stage:
    return _stage(audioldm.generate, config, sampling, samples=positions * config.audio.hop)


@functools.cache
def _vary(config: audioldm.Config, sampling: audioldm.Sampling, strength: float) -> Stage:
    return _stage(audioldm.vary, config, sampling, strength=strength)


@functools.cache
def _fill(config: audioldm.Config, sampling: audioldm.Sampling) -> Stage:
    return _stage(audioldm.fill, config, sampling)


def _stage(task: Callable[..., Any], config: audioldm.Config, sampling: audioldm.Sampling, **fixed: Any) -> Stage:
    """One of the system's tasks as a stage; what is known, and the mask, come with the rows and what they share."""

    def run(params: Any, shared: dict[str, Any], rows: dict[str, Any]) -> jax.Array:
        sound = [tree[name] for tree, name in ((rows, "known"), (shared, "mask")) if name in tree]
        conditions, key = (rows["condition"], rows["negative"]), jax.random.key(shared["seed"])
        how = {"sampling": guided(sampling, shared), "items": rows["items"]}
        return bounded(task(params, config, *sound, *conditions, key, **how, **fixed))

    return run
