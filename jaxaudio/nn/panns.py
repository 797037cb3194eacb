"""PANNs, convolutional encoders of sound (Kong et al., 2020, arXiv:1912.10211): Cnn10, Cnn14 and ResNet38.

Taggers as they were published, and what captioners and retrieval take from them: a vector per frame, or one per clip.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, batch_norm, conv2d, linear, prefixed
from jaxaudio.dsp.augment import spec_augment
from jaxaudio.dsp.mel import MelConfig
from jaxaudio.nn.conv import Conv3x3, average_pool
from jaxaudio.nn.dropout import drop, split
from jaxaudio.nn.norm import BatchNorm

Params = Any

MEL_32K = MelConfig(sample_rate=32000, n_fft=1024, hop=320, n_mels=64, fmin=50, fmax=14000)
"""The front-end of PANNs and of what was trained after it: 100 frames per second."""

MEL_16K = MelConfig(sample_rate=16000, n_fft=512, hop=160, n_mels=64, fmin=50, fmax=8000)

MEL_CLOTHO = MelConfig(sample_rate=44100, n_fft=1024, hop=512, n_mels=64, fmin=50, fmax=14000)
"""What the captioners for Clotho hear; its filters are other ones than those that PANNs was trained with."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of an encoder.

    Attributes:
      widths: channels of the blocks of two convolutions; of a ResNet those of the block before and of the one after.
      layers: residual blocks of 64, 128, 256, ... channels between them; none for a plain network.
      mel: the front-end.
      last_pool: whether the last block halves time and frequency, too.
      head: what is made of the maps' mean over frequency: "frames", a vector for each; "clip", one for all of them, by
        their maximum and mean; both through a layer `fc1`. "mean" is that of the frames, with no layer.
      embedding: channels of that vector; of a head without a layer those of the last block.
      classes: of a tagger; 0 for none.
      dropout: after each block, in training.
      head_dropout: around `fc1` of a clip's vector.
      augment: blank stripes of the spectrogram in training.
      momentum: of the running statistics.
      axis_name: mapped axis over which batches are normalised, see `norm.BatchNorm`.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    layers: tuple[int, ...] = ()
    mel: MelConfig = MEL_32K
    last_pool: bool = True
    head: Literal["frames", "clip", "mean"] = "clip"
    embedding: int = 512
    classes: int = 527
    dropout: float = 0.2
    head_dropout: float = 0.5
    augment: bool = True
    momentum: float = 0.1
    axis_name: str | None = None

    @property
    def stride(self) -> int:
        """Frames of the spectrogram in one of the encoder's."""
        pools = 1 + len(self.layers) if self.layers else len(self.widths) - (not self.last_pool)
        return 2**pools


CNN10 = Config()
CNN14 = Config(widths=(64, 128, 256, 512, 1024, 2048), last_pool=False, embedding=2048)
CNN14_16K = dataclasses.replace(CNN14, mel=MEL_16K)
RESNET38 = Config(widths=(64, 2048), layers=(3, 4, 6, 3), embedding=2048)


class _Block(nn.Module):
    """Two 3x3 convolutions with norms (`ConvBlock`), then a mean over tiles."""

    features: int
    pool: bool
    config: Config

    @nn.compact
    def __call__(self, x: Array, train: bool) -> Array:
        for i in (1, 2):
            x = Conv3x3(self.features, bias=False, fast=not train, name=f"conv{i}")(x)
            x = nn.relu(_norm(self.config, f"bn{i}")(x, train))
        return average_pool(x, (2, 2)) if self.pool else x


class _Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (`_ResnetBasicBlock`); a step of 2 is a mean over tiles on both ways."""

    features: int
    step: int
    config: Config

    @nn.compact
    def __call__(self, x: Array, train: bool, key: Array | None) -> Array:
        start = average_pool(x, (self.step, self.step))
        y = Conv3x3(self.features, bias=False, fast=not train, name="conv1")(start)
        y = drop(nn.relu(_norm(self.config, "bn1")(y, train)), self.config.dropout, key)
        y = Conv3x3(self.features, bias=False, fast=not train, name="conv2")(y)
        y = _norm(self.config, "bn2")(y, train)
        if self.step != 1:
            start = nn.Dense(self.features, use_bias=False, name="downsample_conv")(start)
            start = _norm(self.config, "downsample_bn")(start, train)
        return nn.relu(y + start)


def _norm(config: Config, name: str) -> BatchNorm:
    return BatchNorm(momentum=config.momentum, axis_name=config.axis_name, name=name)


class PANN(nn.Module):
    """The network on log-mel spectrograms; `apply` and `intermediates` are the functions around it."""

    config: Config

    @nn.compact
    def __call__(self, mel: Array, train: bool = False, key: Array | None = None) -> dict[str, Array]:
        """(batch, time, mels) in dB -> everything on the way; the key draws dropout and stripes."""
        c = self.config
        first, last, *keys = split(key, 5 + len(c.widths) + sum(c.layers))
        drawn = iter(keys)
        made = {"bn0": _norm(c, "bn0")(mel, train)}
        x = made["bn0"]
        if first is not None and c.augment:
            x = spec_augment(first, x)
        x = x[..., None]
        if c.layers:
            x = made["conv_block1"] = _Block(c.widths[0], True, c, name="conv_block1")(x, train)
            x = drop(x, c.dropout, next(drawn))
            for number, count in enumerate(c.layers, 1):
                for i in range(count):
                    step = 2 if i == 0 and number > 1 else 1
                    block = _Residual(64 * 2 ** (number - 1), step, c, name=f"resnet_layer{number}_{i}")
                    x = block(x, train, next(drawn))
                made[f"resnet_layer{number}"] = x
            x = drop(average_pool(x, (2, 2)), c.dropout, next(drawn))
            x = made["conv_block_after1"] = _Block(c.widths[1], False, c, name="conv_block_after1")(x, train)
            x = drop(x, c.dropout, next(drawn))
        else:
            for number, width in enumerate(c.widths, 1):
                pool = c.last_pool or number < len(c.widths)
                name = f"conv_block{number}"
                x = made[name] = _Block(width, pool, c, name=name)(x, train)
                x = drop(x, c.dropout, next(drawn))
        x = made["maps"] = x.mean(2)
        if c.head != "frames":
            x = x.max(1) + x.mean(1) if c.head == "clip" else x.mean(1)
        if c.head != "mean":
            before, after = split(last, 2)
            x = x if c.head == "frames" else drop(x, c.head_dropout, before)
            x = nn.relu(nn.Dense(c.embedding, name="fc1")(x))
            x = drop(x, c.dropout if c.head == "frames" else c.head_dropout, after)
        made["embedding"] = x
        if c.classes:
            made["logits"] = nn.Dense(c.classes, name="fc_audioset")(x)
        return made


def init(key: Array, config: Config) -> Params:
    """Random {"params", "batch_stats"}."""
    return dict(PANN(config).init(key, jnp.zeros((1, config.stride, config.mel.n_mels))))


def apply(
    params: Params, config: Config, mel: Array, *, train: bool = False, key: Array | None = None
) -> tuple[dict[str, Array], Params]:
    """What an encoder makes of log-mel spectrograms.

    Args:
      params: {"params", "batch_stats"} of `init` or of a converted checkpoint.
      config: that they belong to.
      mel: (batch, time, mels) of `dsp.mel.log_mel` with `config.mel`; of `config.stride` frames at least.
      train: normalise by the batch, and update the running statistics.
      key: () or (batch,), draws dropout and SpecAugment's stripes; without it there are none.

    Returns:
      ({"embedding": as `Config.head` says: (batch, time / stride, channels) or (batch, channels); "logits": (batch,
      classes) before the sigmoid, of a tagger; "maps": (batch, time / stride, channels) means over frequency; "bn0" and
      each block's output under its name}, the statistics, new in training).
    """
    network = PANN(config)
    # Where it is not in training, the running statistics come back as they were.
    made, changed = network.apply(params, mel, train, key, mutable=["batch_stats"])
    return made, changed["batch_stats"]


def weights(prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names.

    Args:
      prefix: regular expression before the keys, e.g. r"feature_extractor\\.".
      path: where the encoder is, below "params" and "batch_stats".
    """
    at = f"{path}/" if path else ""
    block, layer = r"(conv_block\w+)", r"resnet\.layer(\d)\.(\d+)"
    residual = rf"{at}resnet_layer\1_\2"
    rules = (
        Rule(r"(?:spectrogram_extractor|logmel_extractor)\..*", None),  # the front-end's constants
        *batch_norm("bn0", f"{at}bn0"),
        *batch_norm(rf"{block}\.(bn\d)", rf"{at}\1/\2"),
        Rule(rf"{block}\.(conv\d)\.weight", rf"params/{at}\1/\2/kernel", conv2d),
        *batch_norm(rf"{layer}\.(bn\d)", rf"{residual}/\3"),
        Rule(rf"{layer}\.(conv\d)\.weight", rf"params/{residual}/\3/kernel", conv2d),
        # A shortcut is (mean over tiles, convolution, norm).
        Rule(rf"{layer}\.downsample\.1\.weight", rf"params/{residual}/downsample_conv/kernel", _one_by_one),
        *batch_norm(rf"{layer}\.downsample\.2", f"{residual}/downsample_bn"),
        Rule(r"(fc\w+)\.weight", rf"params/{at}\1/kernel", linear),
        Rule(r"(fc\w+)\.bias", rf"params/{at}\1/bias"),
    )
    return prefixed(prefix, rules)


def _one_by_one(x: Any) -> Any:
    """A 1x1 convolution's weight (out, in, 1, 1) -> kernel (in, out)."""
    return x[:, :, 0, 0].T


WEIGHTS = weights()
