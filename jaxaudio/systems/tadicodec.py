"""TaDiCodec: speech as 6.25 tokens per second, made of text again by diffusion (Wang et al., 2025, arXiv:2508.16790).

A Llama that sees both ways encodes a spectrogram; what is left of it, thinned eightfold, becomes bits; a second Llama
turns noise into the spectrogram that the bits, the text and the beginning of the recording (the prompt) ask for.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio import samplers
from jaxaudio.convert.rules import Rule, linear
from jaxaudio.dsp import front_ends
from jaxaudio.dsp.mel import MelConfig, log_mel
from jaxaudio.errors import UsageError
from jaxaudio.nn import llama, velocity as flow
from jaxaudio.quantize import bsq, vq
from jaxaudio.samplers.objectives import flow_point, item_normal, item_streams

Params = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A TaDiCodec without its text tokenizer and vocoder.

    Attributes:
      front_end: the spectrogram.
      mean: of the log-mels; they are normalised.
      variance: of the log-mels.
      width: channels of both stacks; perceptrons have four times as many.
      encoder_layers: of the encoder.
      decoder_layers: of the decoder.
      heads: of both.
      factor: frames per token.
      bits: of a token.
      words: tokens of the text's vocabulary; 0 for a decoder without text.
      smallest: noise that remains at the end of the path.
    """

    front_end: MelConfig = front_ends.TADICODEC_24K
    mean: float = -4.92
    variance: float = 8.14
    width: int = 1024
    encoder_layers: int = 8
    decoder_layers: int = 16
    heads: int = 16
    factor: int = 8
    bits: int = 14
    words: int = 32100
    smallest: float = 1e-5

    @property
    def encoder(self) -> llama.Config:
        """The encoder's stack."""
        return llama.Config(
            width=self.width,
            layers=self.encoder_layers,
            heads=self.heads,
            hidden=4 * self.width,
            causal=False,
            norm="plain",
        )

    @property
    def decoder(self) -> flow.Config:
        """The decoder."""
        stack = dataclasses.replace(self.encoder, layers=self.decoder_layers, norm="adaptive")
        text = self.width if self.words else 0
        return flow.Config(stack=stack, channels=self.front_end.n_mels, told=self.width, text=text)


TADICODEC = Config()
"""TaDiCodec as published: 24 kHz, 87.5 bits per second."""


def init(key: Array, config: Config) -> Params:
    """Random {"params": ...}, by the published names; use `jax.eval_shape` for the shapes alone."""
    keys = jax.random.split(key, 6)
    width, dense = config.width, lambda key, a, b: nn.Dense(b).init(key, jnp.zeros((1, a)))["params"]
    encoder = {
        "in_linear": dense(keys[0], config.front_end.n_mels, width),
        "stack": llama.init(keys[1], config.encoder),
    }
    params = {
        "encoder": encoder,
        "vq_in_linear": dense(keys[2], width, config.bits),
        "vq_out_linear": dense(keys[3], config.bits, width),
        "decoder": flow.init(keys[4], config.decoder),
    }
    if config.words:
        params["text_emb"] = {"embedding": 0.02 * jax.random.normal(keys[5], (config.words, width))}
    return {"params": params}


def mel(config: Config, waveform: Array) -> Array:
    """Normalised log-mels of waveforms (batch, samples): (batch, samples // hop, mels)."""
    return (log_mel(waveform, config.front_end) - config.mean) / config.variance**0.5


def encode(params: Params, config: Config, mel: Array, mask: Array | None = None) -> Array:
    """Tokens of spectrograms.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      mel: (batch, frames, mels) of `mel`.
      mask: (batch, frames), nonzero where a frame is real. A batch is thinned as a whole, so that an item's tokens are
        its own alone only if its frames are a multiple of `config.factor`, and so are the batch's.

    Returns:
      (batch, frames // factor) int32, 0 to 2^bits - 1.
    """
    return analysis(params, config, mel, mask)["codes"]


def analysis(params: Params, config: Config, mel: Array, mask: Array | None = None) -> dict[str, Array]:
    """Like `encode`, but everything on the way.

    Returns:
      {"encoder": (batch, frames, width); "projected", "continuous", "z": (batch, tokens, bits) before they are made
      unit vectors, after, and quantised; "codes"}.
    """
    p = params["params"]
    x = llama.project(p["encoder"]["in_linear"], mel)
    encoded = llama.apply(p["encoder"]["stack"], config.encoder, x, mask=mask)
    thinned = _resized(encoded, mel.shape[1] // config.factor)
    projected = llama.project(p["vq_in_linear"], thinned)
    continuous = vq.unit(projected)
    return {"encoder": encoded, "projected": projected, "continuous": continuous, **bsq.quantize(continuous)._asdict()}


def told(params: Params, config: Config, z: Array, frames: int) -> Array:
    """What the decoder is to make heard: (batch, frames, width) of quantised vectors z (batch, tokens, bits)."""
    return _resized(llama.project(params["params"]["vq_out_linear"], z), frames)


def heard(
    params: Params,
    config: Config,
    told: Array,
    *,
    mask: Array | None = None,
    text: Array | None = None,
    text_mask: Array | None = None,
) -> flow.Context:
    """The decoder's context: `told`, and text (batch, words) int with its mask; see `nn.velocity.context`."""
    if config.words and text is not None:
        text = params["params"]["text_emb"]["embedding"][text]
    return flow.context(params["params"]["decoder"], config.decoder, told, mask=mask, text=text, text_mask=text_mask)


def velocity(params: Params, config: Config, x: Array, t: Array, context: flow.Context) -> Array:
    """Where x (batch, frames, mels), with the prompt in front, moves at t in [0, 1]; see `nn.velocity.velocity`."""
    return flow.velocity(params["params"]["decoder"], config.decoder, x, t, context)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a spectrogram is sampled; hashable, so that it can be a static argument.

    Attributes:
      steps: Euler steps, at whose middles the network is evaluated.
      guidance: strength of classifier-free guidance against silence about both tokens and text; 1 for none.
      rescale: how much of the deviation that guidance adds is taken back.
      together: measure it over the whole batch, padding too, as published.
    """

    steps: int = 32
    guidance: float = 2.0
    rescale: float = 0.75
    together: bool = False


def decode(
    params: Params,
    config: Config,
    codes: Array,
    key: Array | None = None,
    *,
    sampling: Sampling = Sampling(),
    prompt: Array | None = None,
    mask: Array | None = None,
    text: Array | None = None,
    text_mask: Array | None = None,
    noise: Array | None = None,
) -> Array:
    """Makes spectrograms of tokens.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      codes: (batch, tokens), of the prompt and of what follows it.
      key: decides the noise.
      sampling: how.
      prompt: (batch, frames, mels), the beginning, which is known.
      mask: (batch, tokens * factor), nonzero where a frame is real: the first so many of each item.
      text: (batch, words) int, where the configuration has words; of the prompt and of what follows.
      text_mask: (batch, words), nonzero where real.
      noise: in the place of the key's, (batch, frames to make, mels).

    Returns:
      (batch, frames after the prompt, mels), normalised.

    Raises:
      UsageError: neither key nor noise; or no text for a decoder that was trained with it.
    """
    if config.words and text is None:
        raise UsageError("This decoder is told the text as well: give its token ids.")
    batch, frames = codes.shape[0], codes.shape[1] * config.factor
    prompt = jnp.zeros((batch, 0, config.front_end.n_mels)) if prompt is None else prompt
    known = prompt.shape[1]
    if noise is None:
        if key is None:
            raise UsageError("Sampling draws noise: give it a key, jax.random.key(seed).")
        noise = samplers.item_noise(key, (batch, frames - known, config.front_end.n_mels))
    if mask is not None:  # between two tokens lies a mixture of both: after an item's last there is none of another
        last = -(-jnp.sum(mask != 0, 1, keepdims=True) // config.factor) - 1
        codes = jnp.take_along_axis(codes, jnp.minimum(jnp.arange(codes.shape[1]), jnp.maximum(last, 0)), 1)
    spoken = told(params, config, bsq.lookup(codes, config.bits), frames)
    if text is not None and text_mask is None:
        text_mask = jnp.ones(text.shape)
    towards = heard(params, config, spoken, mask=mask, text=text, text_mask=text_mask)
    silence = None if text_mask is None else jnp.zeros_like(text_mask)  # hides the text; positions are relative
    away = heard(params, config, jnp.zeros_like(spoken), mask=mask, text=text, text_mask=silence)

    def network(x: Array, t: Array, given: dict[str, Any]) -> Array:
        x = jnp.concatenate([given["prompt"], x], 1)
        return -velocity(params, config, x, t, given["context"])[:, known:]  # samplers count towards the noise

    conditions = ({"context": context, "prompt": prompt} for context in (towards, away))
    counted = None if mask is None or sampling.together else mask[:, known:, None]
    guided = samplers.classifier_free(
        network, *conditions, sampling.guidance, rescale=sampling.rescale, together=sampling.together, where=counted
    )
    grid = samplers.flow(sampling.steps, reverse=True)
    grid = grid._replace(t=grid.t + 0.5 / sampling.steps)
    return samplers.sample(guided, noise, grid, solver="flow-euler", prediction="velocity")


def objective(
    params: Params,
    config: Config,
    mel: Array,
    mask: Array,
    t: Array,
    noise: Array,
    *,
    prompts: Array,
    kept: Array,
    text: Array | None = None,
    text_mask: Array | None = None,
) -> tuple[Array, dict[str, Array]]:
    """The training objective, with everything that chance decides given.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      mel: (batch, frames, mels) of `mel`.
      mask: (batch, frames), nonzero where a frame is real.
      t: (batch,) in [0, 1].
      noise: like mel.
      prompts: (batch,) frames in front that are shown as they are, and not asked for.
      kept: (batch,) whether the decoder is told the tokens.
      text: (batch, words) int.
      text_mask: (batch, words), nonzero where real.

    Returns:
      (loss, {"flow_loss", "vq_loss", "commitment": scalars; "velocity", "estimate": like mel; "asked": (batch,
      frames)}): the mean absolute error of the velocity over all frames asked for, plus the bits' entropy penalty.
    """
    made = analysis(params, config, mel, mask)
    spoken = jnp.where(kept[:, None, None], told(params, config, made["z"], mel.shape[1]), 0)
    context = heard(params, config, spoken, mask=mask, text=text, text_mask=text_mask)
    free = jnp.arange(mel.shape[1]) >= prompts[:, None]
    x, goal = flow_point(mel, noise, t, config.smallest)
    x = jnp.where(free[..., None], x, mel)
    moved = velocity(params, config, x, t, context)
    asked = free * (mask != 0)
    flow_loss = jnp.sum(jnp.mean(jnp.abs(moved - goal), -1) * asked) / jnp.sum(asked)
    penalty = bsq.entropy_penalty(made["continuous"])
    metrics = {"flow_loss": flow_loss, "vq_loss": penalty, "commitment": bsq.commitment(made["continuous"])}
    estimate = x + (1 - t[:, None, None]) * moved
    return flow_loss + penalty, {**metrics, "velocity": moved, "estimate": estimate, "asked": asked}


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Any],
    key: Array,
    frozen: Params = None,
    *,
    config: Config,
    drop: float = 0.2,
    promptless: float = 0.2,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """The objective with times, noise, prompts and what is dropped drawn per item (the original drops per batch).

    Args:
      params: {"encoder", ...}, trained.
      extra: {}.
      batch: "mel" and "mask" as in `objective`, "text" and "text_mask" where there are words, and "index" (batch,).
      key: of this step.
      frozen: not used.
      config: of the system.
      drop: probability that the decoder is not told the tokens.
      promptless: probability of no prompt; others are up to 0.4 of the frames long.

    Returns:
      (loss, (metrics, extra)).
    """
    data = batch["mel"]
    frames = data.shape[1]
    streams = item_streams(key, batch["index"], 5)
    least, most = min(frames // 4, 5), max(int(frames * 0.4), 1)
    lengths = jax.vmap(lambda k: jax.random.randint(k, (), min(least, most - 1), most))(streams[:, 2])
    shown, kept = (
        jax.vmap(lambda k, rate=rate: jax.random.bernoulli(k, 1 - rate))(streams[:, i])
        for i, rate in ((3, promptless), (4, drop))
    )
    t = jax.vmap(lambda k: jax.random.uniform(k, (), data.dtype, 1e-5))(streams[:, 0])
    value, made = objective(
        {"params": params},
        config,
        data,
        batch["mask"],
        t,
        item_normal(streams[:, 1], data),
        prompts=jnp.where(shown, lengths, 0),
        kept=kept,
        text=batch.get("text"),
        text_mask=batch.get("text_mask"),
    )
    return value, ({name: x for name, x in made.items() if x.ndim == 0}, extra)


def _resized(x: Array, length: int) -> Array:
    """Linear interpolation along time, between the middles of frames."""
    return jax.image.resize(x, (x.shape[0], length, x.shape[2]), "linear", antialias=False)


WEIGHTS = (
    Rule(r"bsq\..*", None),  # powers of two, computed here
    Rule(r"text_emb\.weight", "params/text_emb/embedding"),
    Rule(r"(vq_in_linear|vq_out_linear)\.weight", r"params/\1/kernel", linear),
    Rule(r"(vq_in_linear|vq_out_linear)\.bias", r"params/\1/bias"),
    Rule(r"encoder\.in_linear\.weight", "params/encoder/in_linear/kernel", linear),
    Rule(r"encoder\.in_linear\.bias", "params/encoder/in_linear/bias"),
    *llama.weights(r"encoder\.", "params/encoder/stack"),
    *flow.weights(r"decoder\.", "params/decoder"),
)
"""Conversion rules for the published names."""
