"""ASE, text-to-audio retrieval of WavCaps (Mei et al., 2023, arXiv:2303.17395): two encoders, one space.

HTS-AT or Cnn14 hears, BERT reads; a perceptron on each side brings both to vectors of unit length, whose dot product
over a learnt temperature tells how well a sound and a sentence go together.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, prefixed
from jaxaudio.dsp.mel import MelConfig
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import audio_encoder, htsat, panns
from jaxaudio.nn.dropout import split
from jaxaudio.text import bert, roberta

Params = Any

BERT_BASE = dataclasses.replace(bert.BERT_BASE, pooler=False)
"""bert-base-uncased as it reads here: the first token as it is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a retrieval model.

    Attributes:
      sound: the encoder of sound; a PANN has head="mean", since what `fc1` makes is not used.
      text: BERT; its first token stands for the sentence, without the pooler.
      features: channels of the common space.
      temperature: that training begins with.
      regularise: whether the loss asks for vectors with few large channels, see `spread`.
    """

    sound: audio_encoder.Config
    text: bert.Config = BERT_BASE
    features: int = 1024
    temperature: float = 0.07
    regularise: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.sound, panns.Config) and (self.sound.head != "mean" or self.sound.classes):
            raise ConfigError(
                f'A clip\'s vector comes from the last block, not from a PANN with head="{self.sound.head}" and '
                f'{self.sound.classes} classes; give it head="mean", classes=0.'
            )
        if self.temperature <= 0:
            raise ConfigError(f"A temperature of {self.temperature} divides; give a positive one, 0.07 as published.")

    @property
    def mel(self) -> MelConfig:
        """The front-end."""
        return audio_encoder.front_end(self.sound)


HTSAT_BERT = Config(sound=htsat.WAVCAPS)
"""For sounds of up to 10 s."""

CNN14_BERT = Config(sound=dataclasses.replace(panns.CNN14, head="mean", classes=0, last_pool=True))
"""For sounds of up to 30 s as trained."""


def init(key: Array, config: Config) -> Params:
    """Random {"params", "batch_stats"}."""
    keys = jax.random.split(key, 4)
    encoder = audio_encoder.init(keys[0], config.sound)
    projection = roberta.Projection(config.features)

    def head(key: Array, width: int) -> Params:
        return projection.init(key, jnp.zeros((1, width)))["params"]

    params = {
        "audio_encoder": encoder["params"],
        "text_encoder": bert.init(keys[1], config.text)["params"],
        "audio_proj": head(keys[2], audio_encoder.pooled_width(config.sound)),
        "text_proj": head(keys[3], config.text.hidden_size),
        "temp": jnp.asarray(config.temperature),
    }
    return {"params": params, "batch_stats": {"audio_encoder": encoder["batch_stats"]}}


def hear(config: Config, audio: Array, *, key: Array | None = None) -> Array:
    """The log-mel spectrogram (batch, frames, mels) of waveforms (batch, time) at 32 kHz, see `audio_encoder.hear`."""
    return audio_encoder.hear(config.sound, audio, key=key)


def encode_audio(
    params: Params, config: Config, mel: Array, *, train: bool = False, key: Array | None = None
) -> tuple[dict[str, Array], Params]:
    """The audio branch.

    Args:
      params: {"params", "batch_stats"} of `init` or of a converted checkpoint.
      config: that they belong to.
      mel: (batch, frames, mels) of `hear`.
      train: normalise by the batch, and update the running statistics.
      key: () or (batch,), draws dropout, SpecAugment's stripes, and the blocks that HTS-AT leaves out.

    Returns:
      ({"features": (batch, width) of the encoder, "embedding": (batch, features) of unit length}, the statistics, new
      in training).

    Raises:
      UsageError: more frames than HTS-AT takes.
    """
    p = params["params"]
    variables = {"params": p["audio_encoder"], "batch_stats": params["batch_stats"]["audio_encoder"]}
    made, statistics = audio_encoder.apply(variables, config.sound, mel, train=train, key=key)
    features = audio_encoder.pooled(config.sound, made)
    embedding = bert.unit(roberta.project({"params": p["audio_proj"]}, features))
    return {"features": features, "embedding": embedding}, {"audio_encoder": statistics}


def encode_text(
    params: Params, config: Config, ids: Array, mask: Array, *, key: Array | None = None
) -> dict[str, Array]:
    """The text branch.

    Args:
      params: {"params", ...} of `init` or of a converted checkpoint.
      config: that they belong to.
      ids: (batch, length) of BERT's tokens, [CLS] first; 30 at most as trained.
      mask: (batch, length), 1 for a real token.
      key: (), draws dropout, in training.

    Returns:
      {"features": (batch, width) of the first token, "embedding": (batch, features) of unit length}.

    Raises:
      UsageError: more tokens than BERT has positions.
    """
    if ids.shape[1] > config.text.max_position_embeddings:
        raise UsageError(
            f"{ids.shape[1]} tokens; BERT has {config.text.max_position_embeddings} positions: cut the sentences."
        )
    p = params["params"]
    hidden = bert.encode({"params": p["text_encoder"]}, config.text, ids, mask, key=key)["last_hidden_state"]
    features = hidden[:, 0]
    return {
        "features": features,
        "embedding": bert.unit(roberta.project({"params": p["text_proj"]}, features)),
    }


def embed_audio(params: Params, config: Config, audio: Array) -> Array:
    """Vectors of unit length (batch, features) of sounds (batch, time) at 32 kHz; cropped as `hear` says."""
    return encode_audio(params, config, hear(config, audio))[0]["embedding"]


def embed_text(params: Params, config: Config, ids: Array, mask: Array) -> Array:
    """Vectors of unit length (batch, features) of sentences, see `encode_text`."""
    return encode_text(params, config, ids, mask)["embedding"]


def similarity(params: Params, audio: Array, text: Array) -> Array:
    """How well sounds and sentences go together: (sounds, sentences) cosines over the temperature.

    Args:
      params: {"params", ...}, of which the temperature.
      audio: (sounds, features) of unit length.
      text: (sentences, features) likewise.
    """
    return audio @ text.T / params["params"]["temp"]


def targets(index: Array) -> Array:
    """What a batch's similarities should be: (batch, batch), each row shared by all items of the row's own sound.

    Args:
      index: (batch,) which sound an item is of. Several captions of it may be in a batch.
    """
    same = (index[:, None] == index).astype(jnp.float32)
    return same / same.sum(1, keepdims=True)


def contrastive(similarity: Array, targets: Array) -> Array:
    """Cross entropy from sounds to sentences and from sentences to sounds, the mean of both, in nats: ().

    Args:
      similarity: (batch, batch) with sounds along the rows.
      targets: (batch, batch) of `targets`; symmetric, hence the same in both directions.
    """
    ways = [-jnp.mean(jnp.sum(jax.nn.log_softmax(x) * targets, 1)) for x in (similarity, similarity.T)]
    return (ways[0] + ways[1]) / 2


def spread(embedding: Array) -> Array:
    """The regulariser of one side: mean magnitude of (batch, features) over the root of the sum of squares: ().

    Smallest where few channels are large. Of vectors of unit length it shrinks with the batch.
    """
    return jnp.mean(jnp.abs(embedding)) / jnp.linalg.norm(embedding)


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Any = None,
    *,
    config: Config,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """What training minimises: `contrastive`, and `spread` of both sides.

    Args:
      params: the parameters.
      extra: {"batch_stats"}.
      batch: "audio" (batch, time) at 32 kHz, or "mel" of `hear`; "ids" and "mask" (batch, length) of the sentences;
        "sound" (batch,) int, which sound an item is of, all different without it; "index" (batch,) that tells items
        apart.
      key: in training: draws crops, dropout, stripes; those of the sounds for each item by its index.
      frozen: not used.
      config: of the model.

    Returns:
      (loss, ({"contrastive", "spread", "temperature", "accuracy": share of the sounds whose likeliest sentence is one
      of theirs}, {"batch_stats"})).
    """
    del frozen
    variables, (heard, read) = {"params": params, **extra}, split(key, 2)
    count = batch["ids"].shape[0]
    if heard is not None:
        heard = jax.vmap(jax.random.fold_in, (None, 0))(heard, batch.get("index", jnp.arange(count)))
    crop, drawn = split(heard, 2)
    mel = batch["mel"] if "mel" in batch else hear(config, batch["audio"], key=crop)
    audio, statistics = encode_audio(variables, config, mel, train=key is not None, key=drawn)
    text = encode_text(variables, config, batch["ids"], batch["mask"], key=read)
    wanted = targets(batch.get("sound", jnp.arange(count)))
    scores = similarity(variables, audio["embedding"], text["embedding"])
    metrics = {
        "contrastive": contrastive(scores, wanted),
        "spread": spread(audio["embedding"]) + spread(text["embedding"]),
        "temperature": params["temp"],
        "accuracy": jnp.mean(jnp.take_along_axis(wanted, jnp.argmax(scores, 1)[:, None], 1) > 0),
    }
    value = metrics["contrastive"] + (metrics["spread"] if config.regularise else 0.0)
    return value, (metrics, {"batch_stats": statistics})


def weights(config: Config) -> tuple[Rule, ...]:
    """Conversion rules for the published keys; the buffers of the front-end and HTS-AT's tagging head are dropped."""
    return (
        Rule("temp", "params/temp"),
        *audio_encoder.weights(config.sound, r"audio_encoder\.audio_enc\.", "audio_encoder"),
        *prefixed(r"text_encoder\.text_encoder\.", bert.weights(config.text), "params/text_encoder"),
        *prefixed(r"audio_proj\.", roberta.PROJECTION_WEIGHTS, "params/audio_proj"),
        *prefixed(r"text_proj\.", roberta.PROJECTION_WEIGHTS, "params/text_proj"),
    )
