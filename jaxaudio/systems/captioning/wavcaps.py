"""WavCaps' captioners (Mei et al., 2023, arXiv:2303.17395): a sound encoder whose frames BART rewords.

The encoder's frames stand in the place of BART's word vectors: BART encodes them once more, and its decoder says what
was heard. The same functions as those of `captioning.model`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, linear
from jaxaudio.dsp.mel import MelConfig
from jaxaudio.errors import ConfigError
from jaxaudio.nn import audio_encoder, htsat, panns, stack
from jaxaudio.nn.dropout import split
from jaxaudio.systems.captioning import losses
from jaxaudio.text import bart
from jaxaudio.text.decode import GREEDY, Beam, Beams, Generated, Rules, Sampling, beam_search, generate

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a captioner.

    Attributes:
      sound: the encoder; a PANN gives a vector per frame.
      words: BART.
      first: the token that every caption begins with; None for whatever comes. It adds nothing to a beam's score.
      no_repeat: no sequence of so many tokens comes twice in a caption; 0 for no such rule.
    """

    sound: audio_encoder.Config
    words: bart.Config = bart.BART_BASE
    first: int | None = None
    no_repeat: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.sound, panns.Config) and self.sound.head != "frames":
            raise ConfigError(
                f'A captioner attends to frames; its PANN has head="{self.sound.head}", give it head="frames".'
            )

    @property
    def mel(self) -> MelConfig:
        """The front-end."""
        return audio_encoder.front_end(self.sound)


# What BART-base's own configuration says of generating, which the published captioners go by.
_BART_BASE = {"words": bart.BART_BASE, "first": 0, "no_repeat": 3}

HTSAT_BART = Config(sound=htsat.WAVCAPS, **_BART_BASE)
"""HTSAT-BART, for up to 10 s."""

CNN14_BART = Config(
    sound=dataclasses.replace(panns.CNN14, head="frames", embedding=1024, classes=0, last_pool=True), **_BART_BASE
)
"""CNN14-BART, for up to 30 s as trained."""

BEAM = Beam(width=3, stop="full")
"""The search of the published captioners."""


def init(key: Array, config: Config) -> Params:
    """Random {"params", "batch_stats"}."""
    sound, layer, words = jax.random.split(key, 3)
    encoder = audio_encoder.init(sound, config.sound)
    params = {
        "encoder": encoder["params"],
        "enc_to_dec_proj": stack.dense_init(layer, audio_encoder.frame_width(config.sound), config.words.d_model),
        "decoder": bart.init(words, config.words),
    }
    return {"params": params, "batch_stats": {"encoder": encoder["batch_stats"]}}


def hear(config: Config, audio: Array, *, key: Array | None = None) -> Array:
    """The log-mel spectrogram (batch, frames, mels) of waveforms (batch, time) at 32 kHz, see `audio_encoder.hear`."""
    return audio_encoder.hear(config.sound, audio, key=key)


def encode(
    params: Params, config: Config, mel: Array, *, train: bool = False, key: Array | None = None
) -> tuple[dict[str, Array], Params]:
    """What is heard, as the decoder attends to it.

    Args:
      params: {"params", "batch_stats"} of `init` or of a converted checkpoint.
      config: that they belong to.
      mel: (batch, frames, mels) of `hear`.
      train: normalise by the batch, and update the running statistics.
      key: () or (batch,), draws every kind of dropout, SpecAugment's stripes, and the blocks that HTS-AT leaves out.

    Returns:
      ({"memory": (batch, keys, width), "frames": (batch, keys, width) the sound as BART's encoder reads it, and what
      the encoder gives}, the statistics, new in training).

    Raises:
      UsageError: more frames than HTS-AT takes, or than BART has positions.
    """
    p, (first, second) = params["params"], split(key, 2)
    variables = {"params": p["encoder"], "batch_stats": params["batch_stats"]["encoder"]}
    made, statistics = audio_encoder.apply(variables, config.sound, mel, train=train, key=first)
    heard = stack.dense(p["enc_to_dec_proj"], audio_encoder.frames(config.sound, made))
    memory = bart.encode(p["decoder"], config.words, heard, key=second)
    return made | {"frames": heard, "memory": memory}, {"encoder": statistics}


def caption_logits(
    params: Params, config: Config, memory: Array, ids: Array, mask: Array | None = None, *, key: Array | None = None
) -> Array:
    """What follows each token of whole captions.

    Args:
      params: {"params", ...} of `init` or of a converted checkpoint.
      config: that they belong to.
      memory: (batch, keys, width) of `encode`.
      ids: (batch, time) tokens, the first of which is `config.words.decoder_start_token_id`, see `shifted`.
      mask: (batch, time), 0 where padded.
      key: () or (batch,), draws dropout, in training.

    Returns:
      (batch, time, words) float32.
    """
    p = params["params"]["decoder"]
    return bart.logits(p, config.words, bart.memorise(p, config.words, memory), ids, mask, key=key)


def shifted(config: Config, ids: Array) -> Array:
    """What the decoder reads to say captions `ids` (batch, time): its start, then all but their last token."""
    start = jnp.full((ids.shape[0], 1), config.words.decoder_start_token_id, ids.dtype)
    return jnp.concatenate([start, ids[:, :-1]], 1)


@functools.partial(jax.jit, static_argnums=(1, 3, 4, 5))
def caption(
    params: Params,
    config: Config,
    memory: Array,
    length: int = 29,
    sampling: Sampling = GREEDY,
    beam: Beam | None = None,
    key: Array | None = None,
) -> Generated | Beams:
    """Says what is in a memory.

    Args:
      params: {"params", ...} of `init` or of a converted checkpoint.
      config: that they belong to.
      memory: (batch, keys, width) of `encode`.
      length: most tokens, the end among them, which is the last of the longest captions: 29 as published, where the
        start counts as the 30th.
      sampling: how tokens are drawn; the likeliest by default.
      beam: search instead; `BEAM` as published.
      key: where tokens are drawn by chance.

    Returns:
      One caption per item, or several of a beam; without the decoder's start, padded after the end.

    Raises:
      UsageError: a length that BART has no positions for, or no room for a token and the end.
    """
    p, words = params["params"]["decoder"], config.words
    kept = bart.memorise(p, words, memory)
    rules = Rules(
        length=length,
        end=words.eos_token_id,
        pad=words.pad_token_id,
        least=1,
        first=config.first,
        close=True,
        no_repeat=config.no_repeat,
    )
    logits, state = bart.read(p, words, kept, length)
    decoder = bart.decoder(p, words, kept)
    if beam is not None:
        return beam_search(decoder, logits, state, rules, beam=beam)
    return generate(decoder, logits, state, rules, sampling=sampling, key=key)


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Any = None,
    *,
    config: Config,
    smoothing: float = 0.1,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """Cross entropy of each token of the captions, of which a part is given to all words alike, the right one too.

    Args:
      params: the parameters.
      extra: {"batch_stats"}.
      batch: "audio" (batch, time) at 32 kHz, or "mel" of `hear`; "ids" and "mask" (batch, length) of the captions, with
        <s> and </s>, 0 where padded; "index" (batch,).
      key: in training: draws crops, dropout, stripes, for each item by its index.
      frozen: not used.
      config: of the captioner.
      smoothing: that part.

    Returns:
      (the mean over the real tokens in nats, ({"accuracy": share of the tokens that are the likeliest},
      {"batch_stats"})).
    """
    del frozen
    keys = None
    if key is not None:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, batch.get("index", jnp.arange(batch["ids"].shape[0])))
    variables, (first, second, third) = {"params": params, **extra}, split(keys, 3)
    mel = batch["mel"] if "mel" in batch else hear(config, batch["audio"], key=first)
    made, statistics = encode(variables, config, mel, train=key is not None, key=second)
    ids, mask = batch["ids"], batch["mask"]
    logits = caption_logits(variables, config, made["memory"], shifted(config, ids), mask, key=third)
    value = losses.smoothed(logits, ids, mask, smoothing=smoothing, everywhere=True)
    right = losses.masked_mean((jnp.argmax(logits, -1) == ids).astype(value.dtype), mask)
    return value, ({"accuracy": right}, {"batch_stats": statistics})


def weights(config: Config) -> tuple[Rule, ...]:
    """Conversion rules for the published keys; the buffers of the front-end and HTS-AT's tagging head are dropped."""
    return (
        *audio_encoder.weights(config.sound, r"encoder\.audio_enc\.", "encoder"),
        Rule(r"enc_to_dec_proj\.weight", "params/enc_to_dec_proj/kernel", linear),
        Rule(r"enc_to_dec_proj\.bias", "params/enc_to_dec_proj/bias"),
        *bart.weights(r"decoder\.", "params/decoder"),
    )
