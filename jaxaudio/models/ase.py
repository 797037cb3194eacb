"""ASE in hand: WavCaps' sounds and sentences in one space."""

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from jaxaudio.models.clap import Clap
from jaxaudio.models.folder import Card, in_hand
from jaxaudio.models.inputs import as_texts, in_steps
from jaxaudio.systems import ase
from jaxaudio.text.vocabulary import words_of


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Ase(Clap):
    """The retrieval model of WavCaps, from `jaxaudio.load`: all that a `Clap` can, with 1024 numbers for each item.

    Its authors classify sounds by the prompt "<class> can be heard", the sounds filled up with zeros to 10 s:
    `model.match([f"{name} can be heard" for name in names], heard)`, the largest of each row; for UrbanSound8K by the
    bare class.
    """

    def embed(self, texts: str | Sequence[str]) -> np.ndarray:
        """Sentences -> (sentences, 1024) float32, unit length.

        They are read in lower case and without punctuation, as in training: of each the first 28 pieces of words.
        """
        return self.encoder([" ".join(words_of(text)) for text in as_texts(texts)])

    def hear(self, audio: Any, *, sample_rate: int) -> np.ndarray:
        """What the model is given of a sound, (time,) or (time, channels) at any rate: (samples,) float32 at 32 kHz.

        Channels are averaged. HTS-AT hears the first 10 s, Cnn14 the first 30, in steps of 10 s, the last of which
        zeros fill.
        """
        text = self.card.text
        longest, step = float(text.get("longest", 10.0)), float(text.get("seconds", 10.0))
        return in_steps(audio, sample_rate, self.sample_rate, longest=longest, step=step)[0]

    _network: ClassVar[Any] = staticmethod(ase.embed_audio)


def open_ase(card: Card) -> Ase:
    """Reads the weights of a retrieval model; see `jaxaudio.load`."""
    return Ase(**{name: value for name, value in in_hand(card).items() if name != "system"})
