"""The shapes of transformer autoencoders for speech (Parker et al., 2024, arXiv:2411.19842)."""

import dataclasses
import math

from jaxaudio.dsp.mel import MelConfig
from jaxaudio.errors import ConfigError
from jaxaudio.quantize import fsq


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a transformer autoencoder.

    Attributes:
      sample_rate: samples per second.
      patch: samples that are one position at the highest rate.
      channels: width of the first convolution.
      multiples: of `channels`, the width of each level.
      strides: positions of a level that become one of the next.
      depths: transformers of each level of the encoder; the decoder's are the same, from behind.
      levels: of the quantiser that it is trained with, one number for each channel of a latent.
      head_dim: of the attention; divides every width.
      window: positions (left, right) that attention sees beside its own; None for all.
      feed_forward: width of the perceptrons over that of the level.
      mels: bands of log-mels that the encoder hears in place of patches; the decoder's last layer then makes spectra,
        as Vocos does (arXiv:2306.00814). Their windows are four patches long. 0 for patches, as published.
      layer_scale: what the factors on transformers' additions begin at; small ones suit deep models.
      snake: SnakeBeta before changes of rate.
      dilated: dilated convolutions at every level.
      causal: convolutions see the past alone; attention does where the window says so.
      phonemes: classes of the head for connectionist temporal classification, the blank among them; 0 for no head.
      loudness: LUFS that speech is brought to before it is encoded; nothing here does so by itself.
      remat: compute transformers again for gradients: less memory, a third more time.
      dtype: compute dtype, "float32" or "bfloat16"; norms, softmax, latents and waveforms are float32.
    """

    sample_rate: int = 16000
    patch: int = 320
    channels: int = 1024
    multiples: tuple[int, ...] = (1, 1)
    strides: tuple[int, ...] = (1, 2)
    depths: tuple[int, ...] = (8, 20)
    levels: tuple[int, ...] = fsq.STABLE_CODEC.levels
    head_dim: int = 128
    window: tuple[int, int] | None = (63, 64)
    feed_forward: int = 4
    mels: int = 0
    layer_scale: float = 1e-2
    snake: bool = False
    dilated: bool = False
    causal: bool = False
    phonemes: int = 0
    loudness: float = -20.0
    remat: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not len(self.multiples) == len(self.strides) == len(self.depths) > 0:
            raise ConfigError("multiples, strides and depths have one number for each level, at least one of them.")
        if any(self.channels * multiple % self.head_dim for multiple in self.multiples):
            raise ConfigError(f"every width must be a multiple of head_dim={self.head_dim}.")
        if self.mels and self.causal:
            raise ConfigError("spectra hear half a window ahead: a causal model takes patches, mels=0.")

    @property
    def hop(self) -> int:
        """Samples per step of tokens."""
        return self.patch * math.prod(self.strides)

    @property
    def n_fft(self) -> int:
        """Samples of a window, where there are spectra."""
        return 4 * self.patch

    @property
    def front_end(self) -> MelConfig:
        """What the encoder of a model with `mels` hears."""
        return MelConfig(
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop=self.patch,
            n_mels=self.mels,
            center=False,
            pad=(self.n_fft - self.patch) // 2,
            pad_mode="constant",
            power=1,
            epsilon=1e-9,
            log="ln",
            floor=1e-5,
        )

    @property
    def steps_per_second(self) -> float:
        """Steps of tokens per second."""
        return self.sample_rate / self.hop


STABLE_CODEC = Config()
"""Stable Codec (953 M parameters), reconstructed: its configuration is not public. These are the numbers of the paper
where it gives them, and they have the published number of parameters; whether it has snakes is not known."""

STABLE_CODEC_CAUSAL = Config(causal=True, window=(127, 0))
"""The same with as many positions in the window, all of them past. The paper has a causal model, whose code and
weights are not public; that convolutions are causal too is our choice."""

MINI = Config(
    patch=160,
    channels=192,
    strides=(1, 3),
    depths=(1, 2),
    head_dim=64,
    window=(31, 32),
    feed_forward=2,
    mels=80,
    layer_scale=0.1,
    snake=True,
)
"""Small enough to train on two cores: 33 steps and 817 bits per second, with the tokens of the published model."""
