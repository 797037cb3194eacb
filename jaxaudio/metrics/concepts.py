"""A small judge of what a sound is: a classifier whose last hidden layer serves as an embedding, too.

It is trained on real clips alone (experiments/concept_classifier.py), so it can be asked what a generated sound is, and
how far a set of generated sounds is from a set of real ones.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxaudio.convert.rules import flatten, unflatten
from jaxaudio.dsp import front_ends
from jaxaudio.dsp.mel import MelConfig, log_mel
from jaxaudio.errors import CheckpointError, MissingError, UsageError
from jaxaudio.nn.resnet import Downsample, GroupNorm, ResnetBlock

Params = Any
_FLOOR, _SPREAD = -11.5129, 3.0  # of log-mels: ln of the front-end's floor, and about their standard deviation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is heard, and the network's sizes.

    Attributes:
      labels: names of the classes.
      mel: the front-end.
      seconds: length that is looked at.
      channels: of each stage; every stage but the first halves time and frequency.
      width: of the embedding.
      groups: of the normalisations.
    """

    labels: tuple[str, ...]
    mel: MelConfig = front_ends.AUDIOLDM_16K
    seconds: float = 5.12
    channels: tuple[int, ...] = (32, 64, 96, 128)
    width: int = 128
    groups: int = 8

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "Config":
        """Inverse of `dataclasses.asdict`."""
        plain: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in fields.items()}
        plain["mel"] = MelConfig(**plain["mel"])
        return cls(**plain)

    @property
    def samples(self) -> int:
        """Samples that are looked at."""
        return round(self.seconds * self.mel.sample_rate)

    @property
    def frames(self) -> int:
        """Frames of their spectrogram."""
        return self.samples // self.mel.hop


class Network(nn.Module):
    """A residual network over (time, frequency).

    Attributes:
      config: its sizes.
    """

    config: Config

    @nn.compact
    def __call__(self, mel: Array) -> tuple[Array, Array]:
        """(batch, frames, mels) -> embeddings (batch, width) and logits (batch, labels)."""
        c = self.config
        x = ((mel - _FLOOR) / _SPREAD - 1)[..., None]
        x = nn.Conv(c.channels[0], (4, 4), strides=(4, 4), padding="VALID", name="stem")(x)
        for i, features in enumerate(c.channels):
            if i:
                x = Downsample(features, name=f"down{i}")(x)
            x = ResnetBlock(features, groups=c.groups, name=f"block{i}")(x)
        x = nn.silu(GroupNorm(c.groups, name="norm")(x))
        x = x.reshape(*x.shape[:2], -1)  # a low hum is not a high one
        # What sounds all the time, and what sounds once.
        x = jnp.concatenate([jnp.mean(x, 1), jnp.max(x, 1)], -1)
        x = nn.silu(nn.Dense(c.width, name="embedding")(x))
        return x, nn.Dense(len(c.labels), name="logits")(x)


class Concepts(NamedTuple):
    """What `load` returns."""

    params: Params
    config: Config


def init(key: Array, config: Config) -> Params:
    """Random {"params": ...}."""
    return Network(config).init(key, jnp.zeros((1, config.frames, config.mel.n_mels)))


def log_mels(config: Config, waveform: ArrayLike) -> Array:
    """What the network sees of (batch, time): (batch, frames, mels).

    Audio is levelled (`dsp.front_ends.level`), filled up with silence, and cut at the end.
    """
    x = front_ends.level(jnp.asarray(waveform)[..., : config.samples])
    x = jnp.pad(x, ((0, 0), (0, config.samples - x.shape[-1])))
    return log_mel(x, config.mel)[:, : config.frames]


def embed(params: Params, config: Config, mel: Array) -> Array:
    """(batch, frames, mels) of `log_mels` -> (batch, width)."""
    return _both(params, config, mel)[0]


def logits(params: Params, config: Config, mel: Array) -> Array:
    """(batch, frames, mels) of `log_mels` -> (batch, labels); their softmax are probabilities."""
    return _both(params, config, mel)[1]


def _both(params: Params, config: Config, mel: Array) -> Any:
    return Network(config).apply(params, mel)


def named(config: Config, labels: Sequence[str]) -> np.ndarray:
    """(labels,) int32 places of classes among the logits.

    Raises:
      UsageError: a name that the classifier does not know.
    """
    places = {label: i for i, label in enumerate(config.labels)}
    for label in labels:
        if label not in places:
            raise UsageError(f"the classifier knows no {label!r}; it knows {', '.join(config.labels)}.")
    return np.array([places[label] for label in labels], np.int32)


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array,
    frozen: Params = None,
    *,
    config: Config,
    smoothing: float = 0.1,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """Cross-entropy with smoothed labels, on spectrograms that are blurred, tilted, masked and covered with noise.

    Args:
      params: the network's.
      extra: {}.
      batch: "audio" (batch, samples), "label" (batch,) int, "index" (batch,) each item's number.
      key: of this step.
      frozen: not used.
      config: the sizes.
      smoothing: probability that is spread over all classes.

    Returns:
      (loss, ({"accuracy"}, extra)).
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch["index"])
    mel = jax.vmap(disturbed)(keys, log_mels(config, batch["audio"]))
    told = logits({"params": params}, config, mel)
    wanted = jax.nn.one_hot(batch["label"], told.shape[-1]) * (1 - smoothing) + smoothing / told.shape[-1]
    value = -jnp.mean(jnp.sum(wanted * jax.nn.log_softmax(told), -1))
    return value, ({"accuracy": jnp.mean(jnp.argmax(told, -1) == batch["label"])}, extra)


def disturbed(key: Array, mel: Array) -> Array:
    """One spectrogram (frames, mels) as other microphones, rooms and vocoders might have left it."""
    frames, mels = mel.shape
    tilt, hiss, blur, masks = jax.random.split(key, 4)
    # up to about 6 dB of slope and bend over the bands
    u = jnp.linspace(-1, 1, mels)
    slope, bend = jax.random.normal(tilt, (2,)) * 0.35
    mel = jnp.maximum(mel + slope * u + bend * (2 * u**2 - 1), _FLOOR)
    level = jax.random.uniform(hiss, (), minval=_FLOOR - 3, maxval=-6.0)
    mel = jnp.logaddexp(mel, level)
    soft = jnp.pad(mel, 1, mode="edge")
    soft = (soft[:-2, 1:-1] + soft[2:, 1:-1] + soft[1:-1, :-2] + soft[1:-1, 2:] + 2 * mel) / 6
    mel = jnp.where(jax.random.bernoulli(blur, 0.3), soft, mel)
    lengths = jax.random.uniform(masks, (3, 2))  # SpecAugment (Park et al. 2019): two masks in time, one in frequency
    for (length, place), (size, most), axis in zip(lengths, ((frames, 0.1), (frames, 0.1), (mels, 0.15)), (0, 0, 1)):
        width = length * most * size
        begin = place * (size - width)
        at = jnp.arange(size)
        hidden = (begin <= at) & (at < begin + width)
        mel = jnp.where(hidden[:, None] if axis == 0 else hidden, level, mel)
    return mel


def save(
    folder: str | Path,
    params: Params,
    config: Config,
    *,
    dtype: Any = np.float16,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Writes `config.json` and `model.safetensors`; matrices in `dtype`, vectors in float32."""
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = {path: np.asarray(x, dtype if np.ndim(x) > 1 else np.float32) for path, x in flatten(params).items()}
    save_file(flat, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)  # safetensors lets nobody else read
    fields = {"name": "concepts-mini", **(about or {}), "config": dataclasses.asdict(config)}
    (folder / "config.json").write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")


def load(folder: str | Path) -> Concepts:
    """Reads what `save` wrote.

    Raises:
      MissingError: a file is not there.
      CheckpointError: one is damaged, or the weights do not fit.
    """
    from safetensors.numpy import load_file

    folder = Path(folder)
    try:
        config = Config.from_json(json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"])
        flat = {path: x.astype(np.float32) for path, x in load_file(folder / "model.safetensors").items()}
    except OSError as error:
        raise MissingError(f"The classifier in {folder} lacks a file ({error}). Get it again.") from error
    except Exception as error:  # safetensors has its own exception, config.json may hold anything
        raise CheckpointError(f"The classifier in {folder} is damaged ({error}). Get it again.") from error
    wanted = flatten(jax.eval_shape(lambda: init(jax.random.key(0), config)))
    if {path: x.shape for path, x in flat.items()} != {path: x.shape for path, x in wanted.items()}:
        raise CheckpointError(f"The weights in {folder} do not fit their config.json. Get them again.")
    return Concepts(unflatten(flat), config)
