"""A sound language model in hand: sounds of words, code by code, and what follows a sound that is given."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.errors import UsageError
from jaxaudio.models import ranking
from jaxaudio.models.encoders import open_encoder
from jaxaudio.models.folder import Card, in_hand
from jaxaudio.models.inputs import (
    Progress,
    Ticker,
    as_channels,
    as_number,
    as_prompts,
    as_rate,
    levelled,
    resampled,
)
from jaxaudio.models.latents import STRIDE
from jaxaudio.systems import soundlm
from jaxaudio.text.decode import Sampling

LIMIT = 600.0
"""Seconds: the longest sound that is made."""

_SHORTEST = 0.01
_ROWS = 8  # sounds that are written at a time
_FADE = 0.02  # seconds in which a continuation takes over
_MARGIN = 8  # frames of codes beyond which neither the codec's decoder nor a small vocoder hears
_BOUNDS = {
    "temperature": (0, 10, False),
    "top_k": (0, 100_000, True),
    "top_p": (1e-6, 1, False),
    "guidance": (-100, 100, False),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Writing:
    """How codes are drawn, see `text.decode.Sampling`.

    Attributes:
      temperature: what logits are divided by; 0 for the likeliest codes.
      top_k: how many of the likeliest codes may be drawn; 0 for all.
      top_p: the likeliest codes that make up so much probability, in (0, 1].
      guidance: how much more the words count than by themselves; 1 for no more.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float = 3.0


class Options(TypedDict, total=False):
    """How to write, for every method of a `SoundLM`; what is None or left out is the model's default.

    Attributes:
      temperature: 0 to 10, see `Writing`.
      top_k: 0 for all, see `Writing`.
      top_p: in (0, 1], see `Writing`.
      guidance: -100 to 100, see `Writing`.
      seed: 0 to 2^32 - 1; the same seed gives the same sound.
      count: sounds to give for each prompt, 1 by default.
      best_of: sounds to make for each prompt, of which the `count` best are given, the best first.
      ranker: what chooses them, as for `Generator`.
      progress: called with the windows written and in all.
    """

    temperature: float | None
    top_k: int | None
    top_p: float | None
    guidance: float | None
    seed: int
    count: int
    best_of: int
    ranker: Any
    progress: Progress | None


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SoundLM:
    """A model that writes sounds as codes, from `jaxaudio.load`; attributes as in `jaxaudio.models.Generator`."""

    name: str
    system: str
    config: soundlm.Config
    params: Any
    sample_rate: int
    licence: str
    source: str
    card: Card

    OPTIONS: ClassVar[frozenset[str]] = frozenset(Options.__annotations__)
    """The names of what its methods can be told, see `Options`."""

    @functools.cached_property
    def encoder(self) -> Callable[..., np.ndarray]:
        """The text encoder, read when it is first needed."""
        return open_encoder(self.card)

    @property
    def sampling(self) -> Writing:
        """How it writes where nothing else is asked for: what its card says under "sampling", or the default."""
        return Writing(**self.card.about.get("sampling", {}))

    def condition(self, texts: str | Sequence[str]) -> np.ndarray:
        """Prompts -> vectors (prompts, width) of length 1; "" is one, too. Prompts that are too long are cut."""
        return self.encoder(as_prompts(texts), allow_empty=True)

    def encode(self, audio: Any, *, sample_rate: int) -> np.ndarray:
        """Codes (bands, frames) int32 of a recording, (time,) or (time, channels), levelled and averaged to mono."""
        heard, _ = self._heard(as_channels(audio)[0], as_rate(sample_rate))
        return np.asarray(_encode(self.config, self.params, heard[None]))[0]

    def decode(self, codes: Any) -> np.ndarray:
        """The sound (time,) float32 of codes (bands, frames), as loud as the model learnt them.

        Raises:
          UsageError: no codes of this model.
        """
        codes, (bands, most) = np.asarray(codes), (self.config.codec.bands, self.config.codec.codes)
        whole = codes.ndim == 2 and len(codes) == bands and codes.size and np.issubdtype(codes.dtype, np.integer)
        if not whole or codes.min() < 0 or codes.max() >= most:
            raise UsageError(f"no codes of {self.name}: give integers ({bands}, frames) from 0 to {most - 1}.")
        return self._decoded(codes[None].astype(np.int32))[0]

    def generate(
        self, prompt: str | Sequence[str], *, seconds: float | None = None, **options: Unpack[Options]
    ) -> np.ndarray:
        """Writes sounds from words.

        Args:
          prompt: in words; "" for a sound of any kind. A list of them gives a leading axis; no sound depends on the
            others.
          seconds: length, at most `LIMIT`; the window that the model was trained on by default. Of longer sounds, each
            half window is told the half before.
          **options: see `Options`. A count above 1 gives an axis after that of the prompts.

        Returns:
          float32 ([prompts,] [count,] time) in [-1, 1], at `sample_rate`.

        Raises:
          UsageError: what cannot be: a duration, a temperature, ...
        """
        prompts, request = as_prompts(prompt), _Request(self, options)
        samples, frames = self._length(seconds)
        items = np.arange(len(prompts))[:, None] + STRIDE * np.arange(request.made)
        request.expect(items.size, frames)
        waves = self._decoded(request.write(prompts, items, frames))[:, :samples].reshape(*items.shape, samples)
        waves = request.chosen(waves, prompts)
        waves = waves[:, 0] if request.count == 1 else waves
        return waves[0] if isinstance(prompt, str) else waves

    def extend(
        self,
        audio: Any,
        prompt: str = "",
        *,
        sample_rate: int,
        seconds: float | None = None,
        **options: Unpack[Options],
    ) -> np.ndarray:
        """Goes on from a recording.

        The model hears the last half of its window of it, averaged to mono, and every channel goes on as one; the
        recording itself stays as it is, up to 20 ms in which what follows fades in.

        Args:
          audio: (time,) or (time, channels), float in [-1, 1] or integers, up to `LIMIT` seconds.
          prompt: what is to be heard, in words; "" leaves that to the recording.
          sample_rate: of `audio`, in Hz. What is added has nothing above half the model's rate.
          seconds: of what is added; half the model's window by default.
          **options: see `Options`; a count above 1 gives a leading axis.

        Returns:
          float32 of the channels of `audio`, at its rate, as much longer.

        Raises:
          AudioError: audio that is empty, not finite, or none.
          UsageError: anything else that cannot be.
        """
        (samples, single), rate, request = as_channels(audio), as_rate(sample_rate), _Request(self, options)
        if len(samples) > LIMIT * rate:
            raise UsageError(f"the audio has {len(samples) / rate:.0f} s; give at most {LIMIT:g} s at once.")
        length = as_number(self.config.window / 2 if seconds is None else seconds, "a duration of", _SHORTEST, LIMIT)
        heard, gain = self._heard(samples, rate)
        # As much as the model is told and its encoder hears around it, whole frames up to the recording's end.
        hop, half = self.config.hop, self.config.prior.frames // 2
        heard = heard[-(half + _MARGIN) * hop :]
        heard = heard[len(heard) % hop :] if len(heard) >= hop else np.pad(heard, (hop - len(heard), 0))
        known = np.asarray(_encode(self.config, self.params, heard[None]))[:, :, -half:]
        _, frames = self._length(length)
        items = STRIDE * np.arange(request.made)[None]
        request.expect(items.size, frames, known.shape[2])
        codes = request.write([as_prompts(prompt)[0]], items, known.shape[2] + frames, known)
        # From one fade before the recording's end on; the codes' end is the recording's.
        fade = min(round(_FADE * rate), len(samples))
        more, old = round(length * rate), self.sample_rate
        made = np.clip(self._decoded(codes) * gain, -1, 1)
        start = known.shape[2] * hop
        at = np.stack([resampled(x, old, rate, -(-len(x) * rate // old)) for x in made])
        begin = max(round(start * rate / old) - fade, 0)
        at = at[:, begin : begin + fade + more]
        at = np.pad(at, ((0, 0), (0, fade + more - at.shape[1])))
        rise = (0.5 - 0.5 * np.cos(np.pi * (np.arange(fade) + 0.5) / max(fade, 1)))[:, None]
        whole = np.concatenate([np.repeat(samples[None], len(at), 0), np.zeros((len(at), more, samples.shape[1]))], 1)
        last = len(samples) - fade
        whole[:, last : len(samples)] *= 1 - rise
        whole[:, last:] += at[:, :, None] * np.concatenate([rise, np.ones((more, 1))])
        whole = request.chosen(whole.mean(2)[None, :, last:].astype(np.float32), [prompt], whole[None])[0]
        whole = np.asarray(whole[..., 0] if single else whole, np.float32)
        return whole[0] if request.count == 1 else whole

    def stream(self, prompt: str, *, seconds: float | None = None, **options: Unpack[Options]) -> Iterator[np.ndarray]:
        """The sound of `generate` in pieces, each as soon as its window is written; arguments and errors as there.

        Yields:
          (time,) float32, which together are what `generate` gives.
        """
        request = _Request(self, options)
        if request.made > 1:
            raise UsageError("a stream is one sound; leave count and best_of out.")
        samples, frames = self._length(seconds)
        request.expect(1, frames)
        hop, sent, codes = self.config.hop, 0, np.zeros((1, self.config.codec.bands, 0), np.int32)
        for new in request.windows(self.condition(prompt), np.zeros(1, int), frames):
            codes = np.concatenate([codes, new], 2)
            begin = max(0, sent - _MARGIN)
            ready = codes.shape[2] if codes.shape[2] >= frames else codes.shape[2] - _MARGIN
            wave = np.asarray(_decode(self.config, self.params, codes[:, :, begin:], begin))[0]
            yield np.clip(wave[(sent - begin) * hop : (ready - begin) * hop], -1, 1)[: samples - sent * hop]
            sent = ready

    def _length(self, seconds: float | None) -> tuple[int, int]:
        """Samples, and frames of codes: whole quarters of a window, for few shapes."""
        length = self.config.window if seconds is None else as_number(seconds, "a duration of", _SHORTEST, LIMIT)
        samples, step = max(round(length * self.sample_rate), 1), max(self.config.prior.frames // 4, 1)
        return samples, -(-samples // (step * self.config.hop)) * step

    def _heard(self, samples: np.ndarray, rate: int) -> tuple[np.ndarray, float]:
        """What the model hears of a recording, and the gain that gives its level back."""
        mono = samples.mean(1)
        mono = resampled(mono, rate, self.sample_rate, max(1, -(-len(mono) * self.sample_rate // rate)))
        wave, gain, _ = levelled(mono[None])
        return wave[0], float(gain[0, 0])

    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        """Waveforms (rows, time) of codes (rows, bands, frames), one by one, so that memory does not grow."""
        rows = [np.asarray(_decode(self.config, self.params, row[None], 0))[0] for row in codes]
        return np.clip(np.stack(rows), -1, 1)


def open_sound_lm(card: Card) -> SoundLM:
    """Reads the weights of a sound language model; see `jaxaudio.load`."""
    return SoundLM(**in_hand(card))


class _Request:
    """What is asked of a model, checked."""

    def __init__(self, model: SoundLM, options: Options) -> None:
        unknown = sorted(set(options) - set(Options.__annotations__))
        if unknown:
            raise UsageError(
                f"{model.name} is a model of {model.system}, which has no {unknown[0]}; "
                f"there are {', '.join(Options.__annotations__)}."
            )
        given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
        changes = {
            name: as_number(given[name], f"{name} of", least, most, whole=whole)
            for name, (least, most, whole) in _BOUNDS.items()
            if name in given
        }
        if "top_k" in changes:
            changes["top_k"] = int(changes["top_k"])
        self.model, how = model, dataclasses.replace(model.sampling, **changes)
        self.guidance = how.guidance
        self.sampling = Sampling(temperature=how.temperature, top_k=how.top_k, top_p=how.top_p)
        seed = as_number(given.get("seed", 0), "a seed of", 0, 2**32 - 1, whole=True)
        self.key = jax.random.key(np.uint32(seed))
        self.count, self.made = ranking.as_counts(given.get("count", 1), given.get("best_of", 1))
        chooses = self.made > 1 and given.get("best_of", 1) > 1
        self.judge = ranking.open_judge(model.card, given.get("ranker"), model.sample_rate) if chooses else None
        self.ticker = Ticker(given.get("progress"))

    def expect(self, rows: int, frames: int, known: int = 0) -> None:
        """Says how much work there will be: new frames of codes for each row, after known ones."""
        window = self.model.config.prior.frames
        each = 1 + max(0, -(-(frames + known - window) // (window - window // 2)))
        self.ticker.expect(each * -(-rows // _ROWS))

    def windows(
        self, told: np.ndarray, items: np.ndarray, frames: int, known: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Codes (rows, bands, n), window by window, of rows that are told vectors and draw by their numbers (rows,)."""
        model = self.model
        keys = jax.vmap(jax.random.fold_in, (None, 0))(self.key, jnp.asarray(items))
        prefix = None if known is None else jnp.asarray(np.repeat(known, len(items), 0))
        how = {"sampling": self.sampling, "guidance": 1.0 if self.guidance == 1 else jnp.float32(self.guidance)}
        for new in soundlm.windows(model.params, model.config, jnp.asarray(told), keys, frames, prefix=prefix, **how):
            self.ticker()
            yield np.asarray(new)

    def write(
        self, prompts: Sequence[str], items: np.ndarray, frames: int, known: np.ndarray | None = None
    ) -> np.ndarray:
        """Codes (rows, bands, frames), what is known among them; some rows at a time."""
        told, made = self.model.condition(prompts), []
        for first in range(0, items.size, _ROWS):
            count = min(_ROWS, items.size - first)
            size = 1 << (count - 1).bit_length()  # few sizes, of which each compiles
            rows = np.minimum(first + np.arange(size), items.size - 1)
            pieces = self.windows(told[rows // items.shape[1]], items.reshape(-1)[rows], frames, known)
            before = [] if known is None else [np.repeat(known, size, 0)]
            made.append(np.concatenate([*before, *pieces], 2)[:count])
        return np.concatenate(made)

    def chosen(self, heard: np.ndarray, prompts: Sequence[str], waves: np.ndarray | None = None) -> np.ndarray:
        """(prompts, count, ...) of candidates (prompts, made, ...), judged by what is heard (prompts, made, time)."""
        waves = heard if waves is None else waves
        if self.judge is None:
            return waves[:, : self.count]
        best = ranking.best(self.judge, heard, prompts, self.count)[0]
        return np.stack([row[numbers] for row, numbers in zip(waves, best)])


@functools.partial(jax.jit, static_argnums=0)
def _encode(config: soundlm.Config, params: Any, wave: jax.Array) -> jax.Array:
    return soundlm.encode(params, config, wave)


@functools.partial(jax.jit, static_argnums=0)
def _decode(config: soundlm.Config, params: Any, codes: jax.Array, first: jax.Array | int) -> jax.Array:
    return soundlm.decode(params, config, codes, first)
