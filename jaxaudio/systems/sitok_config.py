"""The shapes of SiTok (arXiv:2602.06602, 2026): the paper's sizes and variants, and the small one that comes along."""

import dataclasses

from jaxaudio.dsp import front_ends
from jaxaudio.dsp.mel import MelConfig
from jaxaudio.errors import ConfigError
from jaxaudio.nn import llama, velocity as flow, vocos


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a SiTok.

    Attributes:
      front_end: the spectrogram; TaDiCodec's, inferred.
      mean: of the log-mels; they are normalised.
      variance: of the log-mels.
      stack: frames per token.
      width: channels of all stacks.
      hidden: channels inside their perceptrons.
      heads: of all stacks.
      encoder_layers: of the encoder.
      decoder_layers: of the decoder, with those of `once`.
      reader_layers: of the network that reads the text.
      books: codebooks per token. More than one quantise in turn what the ones before left, inferred.
      size: entries of each.
      dim: numbers of an entry.
      labels: symbols of the text, of which 0 is CTC's blank; bytes, inferred. 0 for no reader.
      slots: places for labels per token: text in letters can have more of them than 12.5 per second.
      once: the first layers of the decoder, that hear the tokens alone and so run once for all steps (light head).
      steps: whether the decoder is told the size of the step (shortcut model).
      patch: frames that the decoder takes as one position; see `velocity.Config`. Inferred, as is the next.
      prediction: what the decoder's last layer says; see `velocity.Config`.
      time_scale: of the decoder's time before its sines and cosines, inferred.
      memory: seconds that are encoded at once, in the order of what it is trained on; longer sounds are in windows.
        Inferred.
      window: seconds that are decoded at once; longer sounds are in windows. Inferred.
      overlap: seconds in which neighbouring windows fade into each other.
      vocoder: what makes sound of the spectrograms, trained apart; None without one.
      whole: see `llama.Config`.
      remat: see `llama.Config`.
      dtype: see `llama.Config`.
    """

    front_end: MelConfig = front_ends.TADICODEC_24K
    mean: float = -4.92
    variance: float = 8.14
    stack: int = 4
    width: int = 1536
    hidden: int = 4096
    heads: int = 16
    encoder_layers: int = 16
    decoder_layers: int = 16
    reader_layers: int = 4
    books: int = 1
    size: int = 65536
    dim: int = 32
    labels: int = 257
    slots: int = 1
    once: int = 0
    steps: bool = False
    patch: int = 1
    prediction: str = "velocity"
    time_scale: float = 1000.0
    memory: float = 20.0
    window: float = 20.0
    overlap: float = 2.0
    vocoder: vocos.Config | None = None
    whole: bool | None = None
    remat: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not 0 <= self.once < self.decoder_layers:
            raise ConfigError(f"{self.once} of {self.decoder_layers} layers cannot run once; leave one to iterate.")
        if min(self.books, self.size, self.dim, self.stack) < 1:
            raise ConfigError("A SiTok has at least one codebook with one entry of one number, and frames per token.")
        if self.patch < 1 or any(frames % self.patch for frames in (self.stack, *self.windows)):
            raise ConfigError(f"Tokens, windows and their overlaps are whole patches, {self.patch} frames each.")

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.front_end.sample_rate

    @property
    def frame_rate(self) -> float:
        """Frames of the spectrogram per second."""
        return self.sample_rate / self.front_end.hop

    @property
    def windows(self) -> tuple[int, int]:
        """Frames of a decoder's window, and of its overlap with the next."""
        return round(self.window * self.frame_rate), round(self.overlap * self.frame_rate)

    @property
    def token_rate(self) -> float:
        """Tokens per second."""
        return self.frame_rate / self.stack

    @property
    def encoder(self) -> llama.Config:
        """The encoder's stack."""
        return llama.Config(
            width=self.width,
            layers=self.encoder_layers,
            heads=self.heads,
            hidden=self.hidden,
            whole=self.whole,
            remat=self.remat,
            dtype=self.dtype,
        )

    @property
    def reader(self) -> llama.Config:
        """The stack that reads the text."""
        return dataclasses.replace(self.encoder, layers=self.reader_layers)

    @property
    def decoder(self) -> flow.Config:
        """The decoder; it is told the entries as they are, `dim` numbers. Inferred: so all four sizes fit."""
        layers = self.decoder_layers - self.once
        stack = dataclasses.replace(self.encoder, layers=layers, causal=False, norm="adaptive")
        return flow.Config(
            stack=stack,
            channels=self.front_end.n_mels,
            told=self.dim,
            time_scale=self.time_scale,
            steps=self.steps,
            once=self.once,
            patch=self.patch,
            prediction=self.prediction,
        )


SITOK_L = Config()
"""The default of the paper, 200 bits per second. Ours has 1.12 G parameters, as quoted."""

SITOK_S = Config(encoder_layers=8, decoder_layers=8)
"""The paper quotes 0.63 G; that the sizes differ in depth alone is inferred, from all four coming out as quoted."""

SITOK_B = Config(encoder_layers=12, decoder_layers=12)
"""Quoted with 0.88 G; see `SITOK_S`."""

SITOK_XL = Config(encoder_layers=24, decoder_layers=24)
"""Quoted with 1.61 G; see `SITOK_S`."""

SITOK_L4 = Config(books=4, size=2**14)
"""The variant with four codebooks, 700 bits per second; their size is inferred from that."""

SITOK_LIGHT = Config(once=12)
"""The variant whose first twelve decoder layers run once, and the last four for every step."""

MINI = Config(
    front_end=MelConfig(
        sample_rate=16000,
        n_fft=640,
        hop=160,
        n_mels=80,
        center=False,
        pad=(640 - 160) // 2,
        power=1,
        epsilon=1e-9,
        log="ln",
        floor=1e-5,
    ),
    mean=-5.9,
    variance=5.7,
    stack=8,
    width=160,
    hidden=336,
    heads=4,
    encoder_layers=2,
    decoder_layers=5,
    reader_layers=1,
    books=4,
    size=1024,
    dim=16,
    labels=32,
    slots=2,
    patch=2,
    prediction="x0",
    memory=5.12,
    window=1.92,
    overlap=0.32,
    vocoder=vocos.Config(
        sample_rate=16000,
        mels=80,
        width=176,
        hidden=480,
        layers=5,
        n_fft=640,
        hop=160,
        padding="same",
        mean=-5.9,
        spread=2.4,
        noise=8,
    ),
)
"""Small enough to train on two cores: 500 bits per second at 16 kHz. Mean and variance are those of read speech."""
