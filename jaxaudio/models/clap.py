"""CLAP in hand: sounds and sentences in one space."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.models.encoders import TextEncoder, clap_config, open_encoder
from jaxaudio.models.folder import Card, read_weights
from jaxaudio.models.inputs import Progress, Ticker, as_channels, as_rate, as_texts, resampled
from jaxaudio.text import clap


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Clap:
    """A CLAP model, from `jaxaudio.load`; attributes as in `jaxaudio.models.Separator`.

    Dot products of what `embed` and `embed_audio` return say how well a sound and a sentence go together, -1 to 1.
    """

    name: str
    config: Any
    params: Any
    sample_rate: int
    licence: str
    source: str
    card: Card

    @functools.cached_property
    def encoder(self) -> TextEncoder:
        """The text branch, read when it is first needed."""
        return open_encoder(self.card)

    def embed(self, texts: str | Sequence[str]) -> np.ndarray:
        """Sentences -> (sentences, 512) float32, unit length."""
        return self.encoder(as_texts(texts))

    def embed_audio(self, audio: Any, *, sample_rate: int) -> np.ndarray:
        """One sound, (time,) or (time, channels) at any rate -> (512,) float32, unit length.

        Channels are averaged. The first ten seconds are heard; shorter sounds are repeated, as AudioSep does.
        """
        return self._embedded(self.hear(audio, sample_rate=sample_rate))

    def hear(self, audio: Any, *, sample_rate: int) -> np.ndarray:
        """What the model is given of a sound: (samples,) float32, see `embed_audio`."""
        samples, _ = as_channels(audio)
        rate, limit = as_rate(sample_rate), self.config.clip_samples
        mono = samples[: -(-limit * rate // self.sample_rate) + rate].mean(1)
        length = min(limit, max(1, -(-len(mono) * self.sample_rate // rate)))
        heard = resampled(mono, rate, self.sample_rate, length)[None]
        return np.asarray(clap.pad_or_crop(jnp.asarray(heard), length=limit))[0]

    def match(
        self, texts: str | Sequence[str], heard: Sequence[np.ndarray], progress: Progress | None = None
    ) -> np.ndarray:
        """How well sentences go with what `hear` gives of each sound: (sounds, texts) cosines."""
        told, rows, wanted = Ticker(progress), [], self.embed(texts)
        told.expect(len(heard))
        for sound in heard:
            rows.append(wanted @ self._embedded(sound))
            told()
        return np.stack(rows)

    def _embedded(self, sound: np.ndarray) -> np.ndarray:
        return np.asarray(_jitted(self._network)(self.params, self.config, jnp.asarray(sound)[None]))[0]

    _network: ClassVar[Any] = staticmethod(clap.audio_embedding)


@functools.cache
def _jitted(network: Any) -> Any:
    return jax.jit(network, static_argnums=1)


def open_clap(card: Card) -> Clap:
    """Reads the weights of a CLAP model, or of the CLAP in another model; see `jaxaudio.load`."""
    config = clap_config(card)
    return Clap(
        name=card.name,
        config=config,
        params=jax.device_put(read_weights(card, ("query/",))["query"]),
        sample_rate=config.mel.sample_rate,
        licence=card.licence,
        source=card.source,
        card=card,
    )
