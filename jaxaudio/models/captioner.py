"""A captioner in hand: a recording in, sentences and tags out."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.errors import CheckpointError, UsageError
from jaxaudio.models.folder import Card, in_hand
from jaxaudio.models.inputs import Progress, Ticker, as_channels, as_number, as_rate, as_texts, resampled
from jaxaudio.systems import captioning
from jaxaudio.text.decode import Beam, Sampling
from jaxaudio.text.vocabulary import Vocabulary

BATCH = 8
"""Sounds that are heard at a time, where there are several."""

LONGEST = 30.0
"""Seconds of a recording that are heard; Clotho's longest."""

_LONGEST_QUERY = 30  # words


class Caption(NamedTuple):
    """A sentence about a sound.

    Attributes:
      text: the sentence, in lower case, without punctuation.
      score: mean of its words' logarithmic probabilities, the end among them; 0 would be sure.
    """

    text: str
    score: float


class Tag(NamedTuple):
    """A concept, and how sure it is that it is heard, in [0, 1]."""

    name: str
    probability: float


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Captioner:
    """A captioner, from `jaxaudio.load`; attributes as in `jaxaudio.models.Separator`.

    Attributes:
      vocabulary: the words that it can say.
      tags: the concepts that it tells apart; none in most published captioners.
    """

    name: str
    system: str
    config: captioning.Config
    params: Any
    sample_rate: int
    licence: str
    source: str
    card: Card

    @functools.cached_property
    def vocabulary(self) -> Vocabulary:
        """From the model's card."""
        words = self.card.text.get("words")
        if not words:
            raise UsageError(f"{self.name} has no words; convert it again with its list of words: --tokenizer FOLDER.")
        if len(words) != self.config.words.vocab_size:
            raise CheckpointError(
                f"{self.name} has {len(words)} words for {self.config.words.vocab_size} places; get the model again."
            )
        return Vocabulary(tuple(words))

    @property
    def tags(self) -> tuple[str, ...]:
        """The concepts, in the order of the layer that tells them apart."""
        return tuple(self.card.text.get("tags", ())) if self.config.tags else ()

    def hear(self, audio: Any, *, sample_rate: int) -> np.ndarray:
        """What the model is given of a recording, (time,) or (time, channels) at any rate: (samples,) float32.

        Channels are averaged, at most `LONGEST` seconds are heard, at the level that the model learnt from, and zeros
        fill the last of the steps that the model's card names, so that few lengths compile.
        """
        samples, _ = as_channels(audio)
        rate, step = as_rate(sample_rate), float(self.card.text.get("seconds", 2.0))
        mono = samples[: round(LONGEST * rate)].mean(1)
        length = max(1, round(len(mono) * self.sample_rate / rate))
        whole = max(1, -(-length // round(step * self.sample_rate))) * round(step * self.sample_rate)
        x = resampled(mono, rate, self.sample_rate, length)
        wanted, power = self.card.text.get("rms"), float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))
        if wanted and power > 1e-6:
            x = x * np.float32(wanted / power)
        return np.concatenate([x, np.zeros(whole - length, np.float32)]).astype(np.float32)

    def caption(self, audio: Any, *, sample_rate: int, beam: int = 3) -> str:
        """The best sentence about a recording; see `captions`."""
        return self.captions(audio, sample_rate=sample_rate, beam=beam)[0].text

    def captions(
        self,
        audio: Any,
        *,
        sample_rate: int,
        beam: int = 3,
        samples: int = 0,
        temperature: float = 1.0,
        top_p: float = 0.95,
        seed: int = 0,
    ) -> list[Caption]:
        """Sentences about a recording, the best first.

        Args:
          audio: (time,) or (time, channels), in [-1, 1], at any rate; the first 30 s are heard.
          sample_rate: in Hz.
          beam: sequences that are followed at a time, 1 to 32; so many sentences are given.
          samples: draw so many sentences by chance instead, 1 to 64; those that are equal are given once.
          temperature: of the draw, above 0 to 4.
          top_p: only the likeliest words that make up so much probability are drawn.
          seed: the same seed gives the same sentences.

        Raises:
          AudioError: audio that is none, or is not finite.
          UsageError: a rate or an option that cannot be.
        """
        heard = [self.hear(audio, sample_rate=sample_rate)]
        return self.describe(heard, beam=beam, samples=samples, temperature=temperature, top_p=top_p, seed=seed)[0]

    def describe(
        self,
        heard: Sequence[np.ndarray],
        *,
        beam: int = 3,
        samples: int = 0,
        temperature: float = 1.0,
        top_p: float = 0.95,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[list[Caption]]:
        """`captions` of many sounds, several at a time.

        Args:
          heard: what `hear` gives of each.
          beam: see `captions`.
          samples: see `captions`.
          temperature: see `captions`.
          top_p: see `captions`.
          seed: see `captions`.
          progress: called with (done, total) sounds.
        """
        beam = int(as_number(beam, "a beam of", 1, 32, whole=True))
        samples = int(as_number(samples, "samples", 0, 64, whole=True))
        drawn = Sampling(
            temperature=as_number(temperature, "a temperature of", 0.01, 4), top_p=as_number(top_p, "top-p", 0.01, 1)
        )
        search = None if samples else Beam(width=beam)
        key = jax.random.key(int(as_number(seed, "a seed of", 0, 2**32 - 1, whole=True)))
        found: list[list[Caption]] = [[] for _ in heard]
        for places, audio in self._batches(heard, progress):
            said = _say(self.params, self.config, audio, drawn, search, max(samples, 1), key)
            tokens, scores = (np.asarray(x) for x in said)
            for row, place in enumerate(places):
                kept: dict[str, float] = {}
                for ids, score in zip(tokens[row], scores[row], strict=True):
                    if np.isfinite(score):
                        text = self.vocabulary.decode(ids)
                        kept[text] = max(float(score), kept.get(text, -np.inf))
                found[place] = [Caption(*pair) for pair in sorted(kept.items(), key=lambda pair: -pair[1])]
        return found

    def tag(self, audio: Any, *, sample_rate: int, top: int = 10) -> list[Tag]:
        """The concepts that are surest in a recording, the surest first.

        Raises:
          UsageError: the model has no tags; others as `captions`.
        """
        top = int(as_number(top, "top", 1, 10_000, whole=True))
        sure = self.tag_probabilities([self.hear(audio, sample_rate=sample_rate)])[0]
        return [Tag(self.tags[i], float(sure[i])) for i in np.argsort(-sure, kind="stable")[:top]]

    def tag_probabilities(self, heard: Sequence[np.ndarray], progress: Progress | None = None) -> np.ndarray:
        """How sure each of `tags` is in what `hear` gives of each sound: (sounds, tags), in [0, 1].

        Raises:
          UsageError: the model has no tags.
        """
        if not self.tags:
            raise UsageError(f"{self.name} has no tags; take a model that has, captioning-mini say.")
        sure = np.zeros((len(heard), len(self.tags)), np.float32)
        for places, audio in self._batches(heard, progress):
            sure[places] = np.asarray(_tags(self.params, self.config, audio))[: len(places)]
        return sure

    def match(
        self, texts: str | Sequence[str], heard: Sequence[np.ndarray], progress: Progress | None = None
    ) -> np.ndarray:
        """How well sentences go with sounds: (sounds, texts), higher where better, 0 where nothing is told.

        The mean gain in the logarithmic probability of a sentence's words from hearing the sound instead of silence, so
        that sentences which are likely by themselves get no more than others.

        Raises:
          UsageError: a sentence of no word that the model knows.
        """
        queries = as_texts(texts)
        ids, mask = self.vocabulary.encode(queries, _LONGEST_QUERY)
        known = [[i for i in row[1:] if i not in (self.vocabulary.unknown, self.vocabulary.end)] for row in ids]
        for query, row in zip(queries, known, strict=True):
            if not row:
                raise UsageError(f"{self.name} knows no word of {query!r}; describe the sound in other words.")
        ids, mask = ids[:, : mask.sum(1).max()], mask[:, : mask.sum(1).max()]
        found = np.zeros((len(heard), len(queries)), np.float32)
        silent: dict[int, Any] = {}  # by length, once each
        for places, audio in self._batches(heard, progress):
            length = audio.shape[1]
            if length not in silent:
                silent[length] = _likely(self.params, self.config, jnp.zeros_like(audio[:1]), ids, mask)
            gained = _likely(self.params, self.config, audio, ids, mask) - silent[length]
            found[places] = np.asarray(gained)[: len(places)]
        return found

    def _batches(self, heard: Sequence[np.ndarray], progress: Progress | None) -> Any:
        """(places, audio (rows, time)) of sounds of one length, with rows of zeros so that few shapes compile."""
        told = Ticker(progress)
        told.expect(len(heard))
        lengths: dict[int, list[int]] = {}
        for i, x in enumerate(heard):
            lengths.setdefault(len(x), []).append(i)
        rows = 1 if len(heard) == 1 else BATCH
        for length, places in lengths.items():
            for start in range(0, len(places), rows):
                own = places[start : start + rows]
                audio = np.zeros((rows, length), np.float32)
                audio[: len(own)] = [heard[i] for i in own]
                yield own, jnp.asarray(audio)
                told(len(own))


@functools.partial(jax.jit, static_argnums=(1, 3, 4, 5))
def _say(
    params: Any, config: captioning.Config, audio: Any, drawn: Sampling, beam: Beam | None, count: int, key: Any
) -> tuple[Any, Any]:
    """Tokens (rows, count, length) and their scores (rows, count) of waveforms (rows, time)."""
    memory = captioning.encode(params, config, captioning.hear(config, audio))[0]["memory"]
    if beam is not None:
        found = captioning.caption(params, config, memory, beam=beam)
        return found.tokens, found.scores
    rows = len(audio)
    memory = jax.tree.map(lambda x: jnp.repeat(x, count, 0), memory)
    if config.noise:
        memory = captioning.varied(params, config, memory, captioning.noise(key, config, jnp.arange(rows * count)))
    said = captioning.caption(params, config, memory, sampling=drawn, key=key)
    scores = said.log_probs.sum(-1) / said.lengths
    return said.tokens.reshape(rows, count, -1), scores.reshape(rows, count)


@functools.partial(jax.jit, static_argnums=1)
def _tags(params: Any, config: captioning.Config, audio: Any) -> Any:
    return jax.nn.sigmoid(captioning.encode(params, config, captioning.hear(config, audio))[0]["tag_logits"])


@functools.partial(jax.jit, static_argnums=1)
def _likely(params: Any, config: captioning.Config, audio: Any, ids: Any, mask: Any) -> Any:
    """Mean logarithmic probability of each sentence's words and its end, for each sound: (rows, sentences)."""
    memory = captioning.encode(params, config, captioning.hear(config, audio))[0]["memory"]

    def of_one(row: Any, kept: Any) -> Any:
        told = jnp.broadcast_to(row[:-1], (len(audio), len(row) - 1))
        logits = captioning.caption_logits(params, config, memory, told, jnp.broadcast_to(kept[:-1], told.shape))
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), row[None, 1:, None], -1)[..., 0]
        return (chosen * kept[1:]).sum(-1) / kept[1:].sum()

    return jax.lax.map(lambda pair: of_one(*pair), (jnp.asarray(ids), jnp.asarray(mask, audio.dtype))).T


def open_captioner(card: Card) -> Captioner:
    """Reads the weights of a captioner; see `jaxaudio.load`."""
    return Captioner(**in_hand(card))
