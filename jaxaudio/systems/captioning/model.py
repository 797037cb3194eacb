"""The captioner: what is heard (or seen) becomes a memory, and words are said about it."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax import Array
from tyro.conf import subcommand

from jaxaudio.dsp.mel import MelConfig, log_mel
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import panns, patches, stack
from jaxaudio.nn.dropout import drop, split
from jaxaudio.systems.captioning import words
from jaxaudio.text.decode import GREEDY, Beam, Beams, Generated, Rules, Sampling, beam_search, generate, together

Params = Any
Memory = Array | words.Pair

BEAM = Beam()
"""The search where no other is asked for."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of a captioner, in which the papers differ by parts.

    Attributes:
      sound: the encoder of sound; None for none.
      words: the decoder.
      bridge: channels of a norm and a layer between encoder and memory, as V-ACT has; 0 for neither.
      video: channels of video features that stand in the memory before the sound, or beside it where the words are
        `adaptive`; 0 for none.
      encoder_layers: Transformer layers over the memory, with sines for positions.
      encoder_heads: their attention heads.
      keywords: whether words that are given stand in the memory after the sound.
      selection: a layer that tells whether a caption is of the sound (CL4AC).
      tags: concepts that a layer tells apart in what the encoder hears; 0 for no such layer.
      guides: how many of its own tags stand in the memory as keywords, the surest ones; 0 for none.
      tag_words: ids of the words of each tag's name, as many for each; what is the end of captions is no word.
      noise: channels of a vector of noise that is added to the memory so that captions of a sound differ, see `varied`;
        0 for none.
    """

    sound: Annotated[panns.Config, subcommand("cnn")] | Annotated[patches.Config, subcommand("patches")] | None
    words: words.Config
    bridge: int = 0
    video: int = 0
    encoder_layers: int = 0
    encoder_heads: int = 8
    keywords: bool = False
    selection: bool = False
    tags: int = 0
    guides: int = 0
    tag_words: tuple[tuple[int, ...], ...] = ()
    noise: int = 0

    def __post_init__(self) -> None:
        if self.guides > self.tags:
            raise ConfigError(f"guides={self.guides} of {self.tags} tags; give at most as many.")
        if self.words.adaptive and (self.sound is None or not self.video):
            raise ConfigError("Adaptive attention is to sound and video; give a sound encoder and video=1024, say.")
        if self.sound is None and not self.video:
            raise ConfigError(
                "A captioner needs something to describe: a sound encoder, or the width of video features."
            )

    @property
    def mel(self) -> MelConfig:
        """The front-end."""
        if self.sound is None:
            raise UsageError("This captioner describes video features alone; it has no front-end for sound.")
        return self.sound.mel

    @property
    def encoder(self) -> stack.Config:
        """Of the layers over the memory."""
        like = self.words.stack
        return dataclasses.replace(
            like, layers=self.encoder_layers, heads=self.encoder_heads, memory=0, second=0, causal=False
        )


def _size(config: Config) -> int:
    """Channels of what the sound encoder gives."""
    if config.sound is None:
        raise ConfigError("Tags are of sound; give the captioner a sound encoder.")
    return config.sound.embedding


def _encoder(config: Config) -> Any:
    """The module of functions that the sound encoder has."""
    return patches if isinstance(config.sound, patches.Config) else panns


def init(key: Array, config: Config) -> Params:
    """Random {"params", "batch_stats"}."""
    keys = iter(jax.random.split(key, 8))

    def dense(a: int, b: int) -> Params:
        return stack.dense_init(next(keys), a, b)

    width = config.words.width
    params = words.init(next(keys), config.words)
    statistics = {}
    if config.sound is not None:
        made = _encoder(config).init(next(keys), config.sound)
        size = config.sound.embedding
        params["encoder"], statistics["encoder"] = made["params"], made["batch_stats"]
        if config.bridge:
            params["bridge"] = dense(size, config.bridge)
            params["bridge_norm"] = stack.norm_init(size)
        params["audio_linear"] = dense(config.bridge or size, width)
    if config.video:
        params["video_linear"] = dense(config.video, width)
    if config.encoder_layers:
        params["transformer_encoder"] = stack.init(next(keys), config.encoder)
    if config.selection:
        params["rs_fc"] = dense(width, 2)
    if config.tags:
        # Few of many concepts are heard at a time: it begins by saying so.
        params["tag_fc"] = dense(_size(config), config.tags) | {"bias": jnp.full(config.tags, -4.0)}
    if config.noise:
        made = stack.dense_init(jax.random.fold_in(key, 8), config.noise, width)
        params["noise_linear"] = {"kernel": made["kernel"]}
    return {"params": params, "batch_stats": statistics}


def hear(config: Config, audio: Array) -> Array:
    """The log-mel spectrogram (batch, frames, mels) of waveforms (batch, time) at the front-end's rate."""
    mel = log_mel(audio, config.mel)
    return mel[:, :-1] if isinstance(config.sound, patches.Config) else mel


def encode(
    params: Params,
    config: Config,
    mel: Array | None = None,
    *,
    video: Array | None = None,
    video_mask: Array | None = None,
    keywords: Array | None = None,
    train: bool = False,
    key: Array | None = None,
) -> tuple[dict[str, Any], Params]:
    """What is described, as the decoder attends to it.

    Args:
      params: {"params", "batch_stats"} of `init` or of a converted checkpoint.
      config: that they belong to.
      mel: (batch, frames, mels) of `hear`.
      video: (batch, frames, config.video) features of a video; with adaptive attention they may be missing.
      video_mask: (batch, frames), 0 where padded or missing, for adaptive attention.
      keywords: (batch, count) ids of words that guide the caption (Mei et al., 2021).
      train: normalise by the batch, and update the running statistics.
      key: draws dropout and SpecAugment's stripes.

    Returns:
      ({"memory": (batch, keys, width), or a `words.Pair` of an adaptive model, "tag_logits": (batch, config.tags) of a
      model with tags, and what the encoder gives}, the statistics, new in training).

    Raises:
      UsageError: something that the model describes is missing, or a mask is given that it does not take.
    """
    p, statistics = params["params"], params.get("batch_stats", {})
    keys = split(key, 4)
    made: dict[str, Any] = {}
    parts = []
    if video_mask is not None and not config.words.adaptive:
        raise UsageError("Only adaptive attention can do without video; leave video_mask out, or see words.Config.")
    if config.video and not config.words.adaptive:
        if video is None:
            raise UsageError(f"This captioner sees: give it video features (batch, frames, {config.video}).")
        parts.append(_active(p["video_linear"], video))
    if config.sound is not None:
        if mel is None:
            raise UsageError("This captioner hears: give it a spectrogram, see `hear`.")
        variables = {"params": p["encoder"], "batch_stats": statistics["encoder"]}
        made, new = _encoder(config).apply(variables, config.sound, mel, train=train, key=keys[0])
        statistics = {"encoder": new}
        x = made["embedding"]
        if config.tags:
            made["tag_logits"] = tag_logits(params, config, x)
        if config.bridge:
            x = _active(p["bridge"], stack.layer_norm(p["bridge_norm"], x))
        parts.append(drop(_active(p["audio_linear"], x), config.words.dropout, keys[1]))
    x = jnp.concatenate(parts, 1)
    if config.encoder_layers:
        x = x * config.words.width**0.5 + stack.positions(x.shape[1], config.words.width)
        x = drop(x, config.words.dropout, keys[2])
        x = stack.apply(p["transformer_encoder"], config.encoder, x, key=keys[3])
    made["encoded"] = x
    if config.keywords and keywords is not None:
        x = jnp.concatenate([x, p["word_emb"][keywords]], 1)
    if config.guides:
        x = jnp.concatenate([x, _guides(p["word_emb"], config, made["tag_logits"])], 1)
    if config.words.adaptive:
        x = _beside(p["video_linear"], config, x, video, video_mask)
    return made | {"memory": x}, statistics


def _beside(params: Params, config: Config, heard: Array, video: Array | None, mask: Array | None) -> words.Pair:
    """What is heard with what is seen; missing frames may hold anything."""
    if video is None:
        video, mask = jnp.zeros((len(heard), 1, config.video)), jnp.zeros((len(heard), 1))
    there = jnp.ones(video.shape[:2], bool) if mask is None else mask != 0
    return words.Pair(heard, _active(params, jnp.where(there[..., None], video, 0)), there)


def _guides(embedding: Array, config: Config, logits: Array) -> Array:
    """The words of the surest tags as keywords, each as strong as its tag is sure: (batch, words, width).

    As large as the decoder reads words; smaller, they are lost beside what is heard.
    """
    # What is said must not teach what is heard: that has its own loss.
    sure, which = jax.lax.top_k(jax.nn.sigmoid(jax.lax.stop_gradient(logits)), config.guides)
    ids = jnp.asarray(config.tag_words)[which]
    strength = config.words.width**0.5 * jnp.where(ids == config.words.end, 0.0, sure[..., None])
    said = embedding[ids] * strength[..., None]
    return said.reshape(len(said), -1, said.shape[-1])


def noise(key: Array, config: Config, index: Array) -> Array:
    """Normal noise for `varied`, each item's drawn by its index (batch,): (batch, config.noise).

    The key may be one that dropout or words are drawn by as well.
    """
    # Far from the numbers of items and words, which would fold into the same keys.
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, 1 << 20), index)
    return jax.vmap(lambda k: jax.random.normal(k, (config.noise,)))(keys)


def varied(params: Params, config: Config, memory: Memory, vectors: Array) -> Memory:
    """A memory that noise makes another of, of which something else is said (Mei et al., 2022, arXiv:2110.06691).

    To add a map of the noise to every key is what a layer on each key and the noise side by side would do; noise of
    zero leaves the memory as it is.

    Args:
      params: {"params", ...} of `init`.
      config: that they belong to, with `noise`.
      memory: (batch, keys, width) of `encode`.
      vectors: (batch, config.noise) of `noise`.

    Raises:
      UsageError: the captioner has no such layer.
    """
    if not config.noise:
        raise UsageError("This captioner has no layer for noise; train one with Config(noise=16), say.")
    added = (vectors @ params["params"]["noise_linear"]["kernel"])[:, None]
    return memory._replace(heard=memory.heard + added) if isinstance(memory, words.Pair) else memory + added


def _active(params: Params, x: Array) -> Array:
    """A layer {"kernel", "bias"} and a ReLU."""
    return jax.nn.relu(stack.dense(params, x))


def caption_logits(
    params: Params,
    config: Config,
    memory: Memory,
    ids: Array,
    mask: Array | None = None,
    *,
    key: Array | None = None,
) -> Array:
    """What follows each word of whole captions.

    Args:
      params: {"params", ...} of `init` or of a converted checkpoint.
      config: that they belong to.
      memory: (batch, keys, width) of `encode`.
      ids: (batch, time) words, the first of which is `config.words.start`.
      mask: (batch, time), 0 where padded.
      key: draws dropout, in training.

    Returns:
      (batch, time, words).
    """
    p = params["params"]
    return words.logits(p, config.words, words.memorise(p, config.words, memory), ids, mask, key=key)


def tag_logits(params: Params, config: Config, embedding: Array) -> Array:
    """How sure each concept is, before the sigmoid, in what `encode` gives as "embedding": (batch, config.tags).

    By the maximum and the mean over time, as PANNs' taggers have it.

    Raises:
      UsageError: the captioner has no such layer.
    """
    if not config.tags:
        raise UsageError("This captioner has no layer for tags; take one that has, captioning-mini say.")
    return stack.dense(params["params"]["tag_fc"], embedding.max(1) + embedding.mean(1))


def selection_scores(
    params: Params, config: Config, memory: Memory, ids: Array, last: Array, *, key: Array | None = None
) -> Array:
    """Whether captions are of a sound (CL4AC): (batch, 2) scores of no and yes.

    Args:
      params: {"params", ...} of `init` or of a converted checkpoint.
      config: that they belong to, with `selection`.
      memory: (batch, keys, width) of `encode`.
      ids: (batch, time) words, with their start.
      last: (batch,) int, where the last word is that is no padding.
      key: draws dropout, in training.
    """
    p = params["params"]
    hidden = words.hidden(p, config.words, words.memorise(p, config.words, memory), ids, key=key)
    return stack.dense(p["rs_fc"], jnp.take_along_axis(hidden, last[:, None, None], 1)[:, 0])


@functools.partial(jax.jit, static_argnums=(1, 3, 4, 5))
def caption(
    params: Params,
    config: Config,
    memory: Memory,
    length: int = 30,
    sampling: Sampling = GREEDY,
    beam: Beam | None = None,
    key: Array | None = None,
) -> Generated | Beams:
    """Says what is in a memory.

    Args:
      params: {"params", ...} of `init` or of a converted checkpoint.
      config: that they belong to.
      memory: (batch, keys, width) of `encode`.
      length: most words, the end among them.
      sampling: how words are drawn; the likeliest by default.
      beam: search instead.
      key: where words are drawn by chance.

    Returns:
      One caption per item, or several of a beam; without the start.
    """
    return _said([(params, config, memory)], length, sampling, beam, key)


def caption_together(
    members: Sequence[tuple[Params, Config, Memory]],
    length: int = 30,
    sampling: Sampling = GREEDY,
    beam: Beam | None = None,
    key: Array | None = None,
    weights: Sequence[float] | None = None,
) -> Generated | Beams:
    """Says what is in the memories of several captioners with the same words, by the mean of what they would say.

    Two decoders on two encoders' features are the dual decoders of the captioning literature; several runs of one
    captioner are an ensemble.

    Args:
      members: (params, config, memory) of each captioner, see `caption`.
      length: see `caption`, as what follows.
      sampling: see `caption`.
      beam: see `caption`.
      key: see `caption`.
      weights: of each captioner; alike by default.

    Raises:
      UsageError: their words are not the same.
    """
    return _said(members, length, sampling, beam, key, weights)


def _said(
    members: Sequence[tuple[Params, Config, Memory]],
    length: int,
    sampling: Sampling,
    beam: Beam | None,
    key: Array | None,
    weights: Sequence[float] | None = None,
) -> Generated | Beams:
    known = {(config.words.vocab_size, config.words.start, config.words.end) for _, config, _ in members}
    if len(known) != 1:
        raise UsageError(f"The captioners have lists of words that differ, {sorted(known)}; give some with the same.")
    begun = []
    for params, config, memory in members:
        p = params["params"]
        kept = words.memorise(p, config.words, memory)
        begun.append((words.decoder(p, config.words, kept), *words.read(p, config.words, kept, length)))
    rules = Rules(length=length, end=members[0][1].words.end)
    decoder, logits, state = begun[0] if len(begun) == 1 else together(*zip(*begun, strict=True), weights)
    if beam is not None:
        return beam_search(decoder, logits, state, rules, beam=beam)
    return generate(decoder, logits, state, rules, sampling=sampling, key=key)
