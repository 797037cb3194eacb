"""A captioner in hand: a recording in, sentences and tags out."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.errors import CheckpointError, UsageError
from jaxaudio.models import systems
from jaxaudio.models.encoders import open_tokenizer
from jaxaudio.models.folder import Card, in_hand
from jaxaudio.models.inputs import Progress, Ticker, as_number, as_texts, in_steps
from jaxaudio.text.decode import Beam, Sampling
from jaxaudio.text.pieces import Pieces
from jaxaudio.text.vocabulary import Vocabulary

BATCH = 8
"""Sounds that are heard at a time, where there are several."""

LONGEST = 30.0
"""Seconds of a recording that are heard where the model's card names no other number; Clotho's longest."""

_LONGEST_QUERY = 30  # words


class Caption(NamedTuple):
    """A sentence about a sound.

    Attributes:
      text: the sentence, in lower case, without punctuation, as captions are learnt.
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
      vocabulary: the words that it can say, or the pieces of words.
      tags: the concepts that it tells apart; none in most published captioners.
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
    def vocabulary(self) -> Vocabulary | Pieces:
        """Words from the model's card, pieces from its tokenizer."""
        if self.card.text.get("kind") == "bart":
            return Pieces(open_tokenizer(self.card), self.config.words.decoder_start_token_id)
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
        return tuple(self.card.text.get("tags", ())) if getattr(self.config, "tags", 0) else ()

    def hear(self, audio: Any, *, sample_rate: int) -> np.ndarray:
        """What the model is given of a recording, (time,) or (time, channels) at any rate: (samples,) float32.

        Channels are averaged, the first seconds are heard, as many as the model's card names or `LONGEST`, at the level
        that the model learnt from, if any, and zeros fill the last of the steps that its card names, so that few
        lengths compile.
        """
        text = self.card.text
        longest, step = float(text.get("longest", LONGEST)), float(text.get("seconds", 2.0))
        x, length = in_steps(audio, sample_rate, self.sample_rate, longest=longest, step=step)
        wanted, power = text.get("rms"), float(np.sqrt(np.mean(np.square(x[:length], dtype=np.float64))))
        return x * np.float32(wanted / power) if wanted and power > 1e-6 else x

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
          audio: (time,) or (time, channels), in [-1, 1], at any rate; see `hear`.
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
        search = None if samples else dataclasses.replace(self._home.BEAM, width=beam)
        key = jax.random.key(int(as_number(seed, "a seed of", 0, 2**32 - 1, whole=True)))
        found: list[list[Caption]] = [[] for _ in heard]
        for places, audio in self._batches(heard, progress):
            said = _say(self.params, self._home, self.config, audio, drawn, search, max(samples, 1), key)
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
            sure[places] = np.asarray(_tags(self.params, self._home, self.config, audio))[: len(places)]
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
        queries, home = as_texts(texts), self._home
        for query in queries:
            if not self.vocabulary.knows(query):
                raise UsageError(f"{self.name} knows no word of {query!r}; describe the sound in other words.")
        ids, mask = self.vocabulary.encode(queries, _LONGEST_QUERY)
        ids, mask = ids[:, : mask.sum(1).max()], mask[:, : mask.sum(1).max()]
        found = np.zeros((len(heard), len(queries)), np.float32)
        silent: dict[int, Any] = {}  # by length, once each
        for places, audio in self._batches(heard, progress):
            length = audio.shape[1]
            if length not in silent:
                silent[length] = _likely(self.params, home, self.config, jnp.zeros_like(audio[:1]), ids, mask)
            gained = _likely(self.params, home, self.config, audio, ids, mask) - silent[length]
            found[places] = np.asarray(gained)[: len(places)]
        return found

    @property
    def _home(self) -> Any:
        """The system's functions."""
        return systems.module(self.system)

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


@functools.partial(jax.jit, static_argnums=(1, 2, 4, 5, 6))
def _say(
    params: Any, home: Any, config: Any, audio: Any, drawn: Sampling, beam: Beam | None, count: int, key: Any
) -> tuple[Any, Any]:
    """Tokens (rows, count, length) and their scores (rows, count) of waveforms (rows, time).

    `home` is the system's module, here and below.
    """
    memory = home.encode(params, config, home.hear(config, audio))[0]["memory"]
    if beam is not None:
        found = home.caption(params, config, memory, beam=beam)
        return found.tokens, found.scores
    rows = len(audio)
    memory = jax.tree.map(lambda x: jnp.repeat(x, count, 0), memory)
    if getattr(config, "noise", 0):
        memory = home.varied(params, config, memory, home.noise(key, config, jnp.arange(rows * count)))
    said = home.caption(params, config, memory, sampling=drawn, key=key)
    scores = said.log_probs.sum(-1) / said.lengths
    return said.tokens.reshape(rows, count, -1), scores.reshape(rows, count)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _tags(params: Any, home: Any, config: Any, audio: Any) -> Any:
    return jax.nn.sigmoid(home.encode(params, config, home.hear(config, audio))[0]["tag_logits"])


@functools.partial(jax.jit, static_argnums=(1, 2))
def _likely(params: Any, home: Any, config: Any, audio: Any, ids: Any, mask: Any) -> Any:
    """Mean logarithmic probability of each sentence's words and its end, for each sound: (rows, sentences)."""
    memory = home.encode(params, config, home.hear(config, audio))[0]["memory"]

    def of_one(row: Any, kept: Any) -> Any:
        told = jnp.broadcast_to(row[:-1], (len(audio), len(row) - 1))
        logits = home.caption_logits(params, config, memory, told, jnp.broadcast_to(kept[:-1], told.shape))
        chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), row[None, 1:, None], -1)[..., 0]
        return (chosen * kept[1:]).sum(-1) / kept[1:].sum()

    return jax.lax.map(lambda pair: of_one(*pair), (jnp.asarray(ids), jnp.asarray(mask, audio.dtype))).T


def open_captioner(card: Card) -> Captioner:
    """Reads the weights of a captioner; see `jaxaudio.load`."""
    return Captioner(**in_hand(card))
