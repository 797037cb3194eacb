"""The multi-scale VQ-VAE of mel spectrograms (Liu et al., 2021, arXiv:2107.09998, section 3.1).

Four branches of convolutions with kernels of different sizes hear a spectrogram at a quarter of its resolution both
ways; their sum is quantised, a code for each position, and a decoder makes a spectrogram of the codes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, conv2d, conv_transpose2d, linear, prefixed
from jaxaudio.dsp import front_ends
from jaxaudio.dsp.mel import MelConfig
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.quantize import vq

Params = Any

MEL = MelConfig(
    sample_rate=22050,
    n_fft=1024,
    hop=256,
    n_mels=80,
    fmax=8000,
    center=False,
    pad=(1024 - 256) // 2,
    power=1,
    epsilon=1e-9,
    log="ln",
    floor=1e-5,
)
"""What the published model hears: 86 frames per second, as many as hops; 344 of them are 4 s."""

CODEBOOK = ("embed", "cluster_size", "embed_avg")
"""The published names of a codebook, and of the counts and sums that it follows, in the order of `vq.EmaState`."""

_STRIDE = 4
_START = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
_LAYOUT = ("NHWC", "HWIO", "NHWC")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a VQ-VAE.

    Attributes:
      mel: the front-end.
      channels: of the encoder's and the decoder's maps.
      kernels: of the encoder's branches, even; each strides by 2 twice.
      layers: residual blocks of each branch and of the decoder.
      hidden: channels inside them.
      codes: rows of the codebook.
      dim: channels of a row.
      mean: of spectrograms, about; taken off before they are heard.
      spread: what they are divided by, so that what is heard is about of unit variance. As published, neither is done.
      commitment: factor on the distance between vectors and their rows, in training.
      decay: weight of the past in the codebook's moving averages.
      revive_below: a row whose average count falls below this becomes a vector of the batch; 0, as published, for none.
      axis_name: mapped axis over which the codebook is moved, under `jax.pmap`.
    """

    mel: MelConfig = MEL
    channels: int = 128
    kernels: tuple[int, ...] = (4, 2, 6, 8)
    layers: int = 2
    hidden: int = 32
    codes: int = 512
    dim: int = 64
    mean: float = 0.0
    spread: float = 1.0
    commitment: float = 0.25
    decay: float = 0.99
    revive_below: float = 0.0
    axis_name: str | None = None

    def __post_init__(self) -> None:
        if not self.kernels or any(k < 2 or k % 2 for k in self.kernels):
            raise ConfigError(f"Kernels {self.kernels} of the branches; give even ones, 2 or more.")
        if self.mel.n_mels % _STRIDE or self.channels % 2:
            raise ConfigError(
                f"{self.mel.n_mels} mels, {self.channels} channels; give a multiple of {_STRIDE} and an even number."
            )

    @property
    def bands(self) -> int:
        """Codes of a frame, low frequencies first."""
        return self.mel.n_mels // _STRIDE


URBANSOUND8K = Config()
"""The published one: 2.2 million parameters, 20 codes for each of 21.5 frames per second."""

MINI = Config(
    mel=front_ends.AUDIOLDM_16K,
    channels=64,
    kernels=(4, 8),
    layers=2,
    hidden=32,
    codes=256,
    dim=32,
    mean=-6.0,
    spread=3.0,
    revive_below=1.0,
)
"""Small enough to be trained on a laptop: 16 codes for each of 25 frames per second, 3.2 kbit/s."""


def init(key: Array, config: Config) -> Params:
    """Random {"params": {"enc_b", "quantize_conv_b", "dec"}, "batch_stats": {"quantize_b"}}.

    Every row of the codebook starts as if one vector had chosen it. Published training starts with none, and so loses
    all rows for good that the first batch does not choose.
    """
    c = config
    keys = iter(jax.random.split(key, 6 + len(c.kernels) * (3 + 2 * c.layers) + 2 * c.layers))

    def conv(size: int, inputs: int, features: int) -> Params:
        return {"kernel": _START(next(keys), (size, size, inputs, features)), "bias": jnp.zeros(features)}

    def residual() -> Params:
        return {
            str(i): {"conv1": conv(3, c.channels, c.hidden), "conv2": conv(1, c.hidden, c.channels)}
            for i in range(c.layers)
        }

    def branch(size: int) -> Params:
        half = c.channels // 2
        return {
            "down1": conv(size, 1, half),
            "down2": conv(size, half, c.channels),
            "conv": conv(3, c.channels, c.channels),
            "resblocks": residual(),
        }

    decoder = {"conv": conv(3, c.dim, c.channels), "resblocks": residual()}
    decoder |= {"up1": conv(4, c.channels, c.channels // 2), "up2": conv(4, c.channels // 2, 1)}
    params = {
        "enc_b": {f"blocks_{i}": branch(size) for i, size in enumerate(c.kernels, 1)},
        "quantize_conv_b": conv(1, c.channels, c.dim),
        "dec": decoder,
    }
    state = vq.ema_state(jax.random.normal(next(keys), (c.codes, c.dim)))
    return {"params": params, "batch_stats": {"quantize_b": dict(zip(CODEBOOK, state, strict=True))}}


class Quantized(NamedTuple):
    """What a codebook makes of vectors (..., dim).

    Attributes:
      values: (..., dim) their rows; gradients pass through to the vectors.
      codes: (...) int32, the numbers of the rows.
      commitment: () the mean squared difference, which moves the vectors alone.
    """

    values: Array
    codes: Array
    commitment: Array


class Made(NamedTuple):
    """What a VQ-VAE makes of mel spectrograms (batch, frames, mels).

    Attributes:
      maps: (batch, bands, frames / 4, channels) of the encoder.
      vectors: (batch, bands, frames / 4, dim) before quantisation.
      codes: (batch, bands, frames / 4) int32.
      commitment: () see `Quantized`.
      mel: (batch, frames, mels) reconstructed.
      codebook: after a step of training, else as it was.
    """

    maps: Array
    vectors: Array
    codes: Array
    commitment: Array
    mel: Array
    codebook: Params


def quantize(
    codebook: Mapping[str, Array],
    x: Array,
    *,
    decay: float = 0.99,
    revive_below: float = 0.0,
    train: bool = False,
    key: Array | None = None,
    axis_name: str | None = None,
) -> tuple[Quantized, dict[str, Array]]:
    """Quantises vectors (..., dim), and in training moves the codebook towards them; see `vq.ema_update`.

    Returns:
      (what it made, the codebook {"embed": (codes, dim), "cluster_size": (codes,), "embed_avg": (codes, dim)}).
    """
    state = vq.EmaState(*(codebook[name] for name in CODEBOOK))
    codes = vq.nearest(x, state.codebook)
    rows = vq.lookup(state.codebook, codes)
    made = Quantized(vq.straight_through(x, rows), codes, vq.commitment_loss(x, rows).mean())
    if train:
        state = vq.ema_update(state, x, codes, key, decay=decay, revive_below=revive_below, axis_name=axis_name)
    return made, dict(zip(CODEBOOK, state, strict=True))


def forward(params: Params, config: Config, mel: Array, *, train: bool = False, key: Array | None = None) -> Made:
    """Encodes and decodes mel spectrograms.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      mel: (batch, frames, mels) of `dsp.mel.log_mel` with `config.mel`, a multiple of 4 frames.
      train: move the codebook.
      key: draws what revived rows become, in training with `config.revive_below`.

    Raises:
      UsageError: another shape; rows are to be revived, and there is no key.
    """
    if train and config.revive_below and key is None:
        raise UsageError("Rows of the codebook are to be revived: give a key, or set revive_below to 0.")
    p = params["params"]
    maps, vectors = _encoded(p, config, mel)
    options: Any = {"decay": config.decay, "revive_below": config.revive_below, "axis_name": config.axis_name}
    made, codebook = quantize(params["batch_stats"]["quantize_b"], vectors, train=train, key=key, **options)
    return Made(maps, vectors, made.codes, made.commitment, _decoded(p["dec"], config, made.values), codebook)


def encode(params: Params, config: Config, mel: Array) -> Array:
    """Codes (batch, bands, frames / 4) int32 of mel spectrograms; arguments and errors as `forward`."""
    vectors = _encoded(params["params"], config, mel)[1]
    return vq.nearest(vectors, params["batch_stats"]["quantize_b"]["embed"])


def decode(params: Params, config: Config, codes: Array) -> Array:
    """Mel spectrograms (batch, 4 frames, mels) of codes (batch, bands, frames); UsageError for another shape."""
    if codes.ndim != 3 or codes.shape[1] != config.bands:
        raise UsageError(f"codes of shape {tuple(codes.shape)}; give (batch, {config.bands} bands, frames).")
    rows = vq.lookup(params["batch_stats"]["quantize_b"]["embed"], codes)
    return _decoded(params["params"]["dec"], config, rows)


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Any = None,
    *,
    config: Config,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """Mean squared error of the spectrograms, and the vectors' distance from their rows.

    Args:
      params: the parameters.
      extra: {"batch_stats"}, the codebook; it follows the vectors where there is a key.
      batch: "mel" (batch, frames, mels), a multiple of 4 frames.
      key: of a step of training.
      frozen: not used.
      config: of the VQ-VAE.

    Returns:
      (loss, ({"error", "commitment", "perplexity": rows in use}, {"batch_stats"})).
    """
    del frozen
    made = forward({"params": params, **extra}, config, batch["mel"], train=key is not None, key=key)
    error = jnp.mean(jnp.square((made.mel - batch["mel"]) / config.spread))
    used = vq.perplexity(made.codes, config.codes)
    metrics = {"error": error, "commitment": made.commitment, "perplexity": used}
    return error + config.commitment * made.commitment, (metrics, {"batch_stats": {"quantize_b": made.codebook}})


def _encoded(p: Params, config: Config, mel: Array) -> tuple[Array, Array]:
    """The encoder's maps, and what is to be quantised."""
    if mel.ndim != 3 or mel.shape[2] != config.mel.n_mels or not mel.shape[1] or mel.shape[1] % _STRIDE:
        raise UsageError(
            f"a mel spectrogram of shape {tuple(mel.shape)}; give (batch, frames, {config.mel.n_mels}), frames a "
            f"multiple of {_STRIDE}: pad or cut them."
        )
    x = ((mel - config.mean) / config.spread).swapaxes(1, 2)[..., None]

    def branch(p: Params, size: int) -> Array:
        side = size // 2 - 1
        y = jax.nn.relu(_convolve(p["down1"], x, side, 2))
        y = jax.nn.relu(_convolve(p["down2"], y, side, 2))
        return _residual(p["resblocks"], config, _convolve(p["conv"], y, 1))

    branches = [branch(p["enc_b"][f"blocks_{i}"], size) for i, size in enumerate(config.kernels, 1)]
    maps = sum(branches[1:], branches[0])
    return maps, _convolve(p["quantize_conv_b"], maps)


def _decoded(p: Params, config: Config, rows: Array) -> Array:
    x = _residual(p["resblocks"], config, _convolve(p["conv"], rows, 1))
    x = _double(p["up2"], jax.nn.relu(_double(p["up1"], x)))
    return config.mean + config.spread * x[..., 0].swapaxes(1, 2)


def _residual(p: Params, config: Config, x: Array) -> Array:
    """Residual blocks and a ReLU. As published, what a block adds to went through a ReLU, too."""
    for i in range(config.layers):
        layer, x = p[str(i)], jax.nn.relu(x)
        x = x + _convolve(layer["conv2"], jax.nn.relu(_convolve(layer["conv1"], x, 1)))
    return jax.nn.relu(x)


def _convolve(p: Params, x: Array, side: int = 0, stride: int = 1) -> Array:
    """Convolution of maps (batch, height, width, channels) with so many zeros around them."""
    # Padded by hand: where XLA for CPUs pads, the kernel's gradient takes it many times as long.
    x = jnp.pad(x, ((0, 0), (side, side), (side, side), (0, 0)))
    return (
        jax.lax.conv_general_dilated(x, p["kernel"], (stride, stride), "VALID", dimension_numbers=_LAYOUT) + p["bias"]
    )


def _double(p: Params, x: Array) -> Array:
    """Transposed convolution, 4 by 4 with a stride of 2, to twice the height and width."""
    # Each of the four outputs at an input's place sees the inputs around it with every other tap, from the last on: one
    # convolution of 2 x 2 taps with four times the features. Outputs lie half an input to either side of it.
    batch, height, width, channels = x.shape
    kernel = p["kernel"].reshape(2, 2, 2, 2, channels, -1)[::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    y = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    y = jax.lax.conv_general_dilated(y, kernel.reshape(2, 2, channels, -1), (1, 1), "VALID", dimension_numbers=_LAYOUT)
    y = y.reshape(batch, height + 1, width + 1, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(batch, 2 * height + 2, 2 * width + 2, -1)
    return y[:, 1:-1, 1:-1] + p["bias"]


def weights(config: Config, prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names.

    Args:
      config: of the VQ-VAE.
      prefix: regular expression before the keys.
      path: where the tree is, below "params" and "batch_stats".
    """
    at = f"{path}/" if path else ""
    # Layers are counted with the activations between them.
    branch = {0: "down1", 2: "down2", 4: "conv"} | {5 + i: f"resblocks/{i}" for i in range(config.layers)}
    decoder = {0: "conv"} | {1 + i: f"resblocks/{i}" for i in range(config.layers)}
    decoder |= {config.layers + 2: "up1", config.layers + 4: "up2"}
    rules: list[Rule] = []
    for key, target, layers in (
        (r"enc_b\.(blocks_\d)", r"enc_b/\1", branch),
        (r"dec\.blocks", "dec", decoder),
        (r"(quantize_conv_b)", r"\1", {None: ""}),
    ):
        for number, name in layers.items():
            own = key if number is None else rf"{key}\.{number}"
            there = f"params/{at}{target}" + (f"/{name}" if name else "")
            op = conv_transpose2d if name.startswith("up") else conv2d
            parts = {r"conv\.1\.": "/conv1", r"conv\.3\.": "/conv2"} if name.startswith("res") else {"": ""}
            for more, part in parts.items():
                rules.append(Rule(rf"{own}\.{more}weight", f"{there}{part}/kernel", op))
                rules.append(Rule(rf"{own}\.{more}bias", f"{there}{part}/bias"))
    rules += [
        Rule(r"quantize_b\.(embed|embed_avg)", rf"batch_stats/{at}quantize_b/\1", linear),
        Rule(r"quantize_b\.cluster_size", f"batch_stats/{at}quantize_b/cluster_size"),
    ]
    return prefixed(prefix, rules)
