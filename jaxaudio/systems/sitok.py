"""SiTok: speech as 12.5 tokens per second that text and sound can both be made of (arXiv:2602.06602, 2026).

A causal Llama encodes four frames of a spectrogram at a time, a codebook of 65,536 entries names what it finds, and a
second Llama turns noise into the spectrogram again. A third, small one reads the text off the tokens while they are
trained, which keeps in them what was said. No code is published. From the paper: the spectrogram's rate and bands, the
layers, widths and heads of the L model, the codebooks, the path of the flow, the CTC head and its weight, the shortcut
and light-head variants. Inferred: everything whose docstring says so.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio import samplers
from jaxaudio.dsp.mel import log_mel
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import llama, velocity as flow, vocos
from jaxaudio.precision import wide
from jaxaudio.quantize import vq
from jaxaudio.samplers.windows import windowed
from jaxaudio.systems.sitok_config import (
    MINI as MINI,
    SITOK_B as SITOK_B,
    SITOK_L as SITOK_L,
    SITOK_L4 as SITOK_L4,
    SITOK_LIGHT as SITOK_LIGHT,
    SITOK_S as SITOK_S,
    SITOK_XL as SITOK_XL,
    Config as Config,
)

Params = Any


def init(key: Array, config: Config) -> Params:
    """Random {"params": {"encoder", "decoder", "reader"}, "codebooks": {"codebook"}[, "vocoder"]}; see `jax.eval_shape`
    for shapes.
    """
    keys = jax.random.split(key, 9)
    c, width = config, config.width

    def linear(key: Array, inputs: int, outputs: int) -> Params:
        return nn.Dense(outputs).init(key, jnp.zeros((1, inputs)))["params"]

    params = {
        "encoder": {
            "in_linear": linear(keys[0], c.stack * c.front_end.n_mels, width),
            "stack": llama.init(keys[1], c.encoder),
            "out_linear": linear(keys[2], width, c.dim),
        },
        "decoder": flow.init(keys[3], c.decoder),
    }
    if c.labels:
        params["reader"] = {
            "in_linear": linear(keys[4], c.dim, width),
            "stack": llama.init(keys[5], c.reader),
            "out_linear": linear(keys[6], width, c.slots * c.labels),
        }
    books = {"codebook": jax.random.normal(keys[7], (c.books, c.size, c.dim))}
    vocoder = {"vocoder": vocos.init(keys[8], c.vocoder)} if c.vocoder else {}
    return {"params": params, "codebooks": books, **vocoder}


def mel(config: Config, waveform: Array) -> Array:
    """Normalised log-mels of waveforms (batch, samples): (batch, samples // hop, mels)."""
    return (log_mel(waveform, config.front_end) - config.mean) / config.variance**0.5


def waveform(params: Params, config: Config, mel: Array) -> Array:
    """What the vocoder makes of normalised log-mels (batch, frames, mels): (batch, frames * hop).

    Raises:
      ConfigError: the configuration has no vocoder.
    """
    if config.vocoder is None:
        raise ConfigError("this SiTok has no vocoder; give its configuration one, and its weights.")
    return vocos.generate(params["vocoder"], config.vocoder, mel * config.variance**0.5 + config.mean)


def real(frames: Array | None, mel: Array) -> Array:
    """(batch, frames) whether a frame of `mel` is one of the item's first so many; all of them for None."""
    every = jnp.arange(mel.shape[1])
    return jnp.ones(mel.shape[:2], bool) if frames is None else every < jnp.asarray(frames)[:, None]


def encode(params: Params, config: Config, mel: Array, frames: Array | None = None) -> Array:
    """Tokens of spectrograms. A token hears no frame after its own.

    Args:
      params: of `init`, trained.
      config: that they belong to.
      mel: (batch, frames, mels) of `mel`.
      frames: (batch,) int, how many are real; what follows is not heard. A token that they fill in part hears zeros.

    Returns:
      (batch, tokens) int32, or (batch, tokens, books) if there are several; 0 to size - 1, and 0 past an item's end.
    """
    return analysis(params, config, mel, frames)["codes"]


def analysis(params: Params, config: Config, mel: Array, frames: Array | None = None) -> dict[str, Array]:
    """Like `encode`, but everything on the way.

    Returns:
      {"continuous": (batch, tokens, dim) of the encoder; "rests": (books, batch, tokens, dim) what each codebook was
      to quantise; "z": (batch, tokens, dim) the sum of their entries, through which gradients pass; "codes"}.
    """
    mel = jnp.where(real(frames, mel)[..., None], mel, 0)
    p = params["params"]["encoder"]
    y = llama.apply(p["stack"], config.encoder, llama.project(p["in_linear"], stacked(config, mel)))
    continuous = llama.project(p["out_linear"], y)
    made = quantized(params, config, continuous)
    if frames is not None:
        done = jnp.arange(continuous.shape[1]) >= -(-jnp.asarray(frames)[:, None] // config.stack)
        made["codes"] = jnp.where(done if config.books == 1 else done[..., None], 0, made["codes"])
    return {"continuous": continuous, **made}


def stacked(config: Config, mel: Array) -> Array:
    """What the encoder takes at once: (batch, frames, mels) -> (batch, tokens, stack * mels), zeros after the end."""
    batch, frames, mels = mel.shape
    mel = jnp.pad(mel, ((0, 0), (0, -frames % config.stack), (0, 0)))
    return mel.reshape(batch, -1, config.stack * mels)


def quantized(params: Params, config: Config, x: Array) -> dict[str, Array]:
    """The "rests", "z" and "codes" of `analysis` for what the encoder said, (batch, tokens, dim)."""
    rest, rests, codes = wide(x), [], []
    for book in range(config.books):
        rows = params["codebooks"]["codebook"][book]
        rests.append(rest)
        codes.append(vq.nearest(rest, rows))
        rest = rest - vq.lookup(rows, codes[-1])
    named = codes[0] if config.books == 1 else jnp.stack(codes, -1)
    return {"rests": jnp.stack(rests), "z": vq.straight_through(x, lookup(params, config, named)), "codes": named}


def lookup(params: Params, config: Config, codes: Array) -> Array:
    """The numbers (batch, tokens, dim) that codes (batch, tokens[, books]) stand for.

    Raises:
      UsageError: codes of another number of codebooks.
    """
    codes = codes[..., None] if config.books == 1 and codes.ndim == 2 else codes
    if codes.ndim != 3 or codes.shape[-1] != config.books:
        raise UsageError(f"This SiTok has {config.books} codebooks: codes of shape {codes.shape} are not its own.")
    rows = [vq.lookup(params["codebooks"]["codebook"][i], codes[..., i]) for i in range(config.books)]
    return sum(rows[1:], rows[0])


def read(params: Params, config: Config, z: Array) -> Array:
    """CTC logits (batch, tokens * slots, labels) of quantised vectors z (batch, tokens, dim)."""
    p = params["params"]["reader"]
    y = llama.project(p["out_linear"], llama.apply(p["stack"], config.reader, llama.project(p["in_linear"], z)))
    return y.reshape(z.shape[0], -1, config.labels)


def heard(params: Params, config: Config, z: Array, mask: Array) -> flow.Context:
    """What the decoder works out of tokens before there is any noise.

    Args:
      params: of `init`, trained.
      config: that they belong to.
      z: (batch, tokens, dim) of `lookup` or `analysis`; zeros for no tokens, as guidance needs.
      mask: (batch, frames) whether a frame is real; they are at most tokens * stack.
    """
    told = jnp.repeat(z, config.stack, 1)[:, : mask.shape[1]]
    return flow.context(params["params"]["decoder"], config.decoder, told, mask=mask)


def velocity(
    params: Params, config: Config, x: Array, t: Array, context: flow.Context, step: Array | None = None
) -> Array:
    """Where x (batch, frames, mels) moves at t in [0, 1], from noise to data.

    Args:
      params: of `init`, trained.
      config: that they belong to.
      x: t * mel + (1 - t) * noise.
      t: scalar or (batch,).
      context: of `heard`.
      step: size of the step, scalar or (batch,), for shortcut models; 0 by default.
    """
    return flow.velocity(params["params"]["decoder"], config.decoder, x, t, context, step)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a spectrogram is sampled; hashable, so that it can be a static argument.

    Attributes:
      steps: how many; see `samplers.evaluations` for what they cost.
      solver: a name of `samplers.SOLVERS` that is defined for flows; "shortcut" for models that are told the step.
      guidance: strength of classifier-free guidance against no tokens; 1 for none.
      rescale: how much of the deviation that guidance adds is taken back.
      shift: above 1 for more steps near the noise.
    """

    steps: int = 16
    solver: str = "flow-euler"
    guidance: float = 1.0
    rescale: float = 0.0
    shift: float = 1.0


def predictor(
    params: Params, config: Config, codes: Array, mask: Array, guidance: float = 1.0, rescale: float = 0.0
) -> Callable[..., Array]:
    """The decoder as `samplers.sample` takes it: `(x, t[, step])` to a velocity towards the noise.

    Args:
      params: of `init`, trained.
      config: that they belong to.
      codes: see `decode`.
      mask: see `heard`.
      guidance: see `Sampling`.
      rescale: see `Sampling`.
    """
    z = lookup(params, config, codes)
    towards, away = (heard(params, config, told, mask).frames for told in (z, jnp.zeros_like(z)))
    size, overlap = config.windows

    def predict(x: Array, t: Array, step: Array | None = None) -> Array:
        def network(x: Array, t: Array, told: tuple[Array, Array]) -> Array:
            return -velocity(params, config, x, t, flow.Context(*told), step)  # samplers count towards the noise

        def guided(x: Array, t: Array, towards: Array, away: Array, mask: Array) -> Array:
            told = (towards, mask), (away, mask)
            return samplers.classifier_free(network, *told, guidance, rescale=rescale, where=mask[..., None])(x, t)

        return windowed(guided, mask.shape[1], size, overlap, towards, away, mask, unit=config.patch)(x, t)

    return predict


def decode(
    params: Params,
    config: Config,
    codes: Array,
    key: Array | None = None,
    *,
    sampling: Sampling = Sampling(),
    frames: Array | None = None,
    noise: Array | None = None,
    items: Array | None = None,
    **options: Any,
) -> Any:
    """Makes spectrograms of tokens.

    Args:
      params: of `init`, trained.
      config: that they belong to.
      codes: (batch, tokens[, books]) of `encode`.
      key: decides the noise; each item's follows from it and the item's number alone.
      sampling: how.
      frames: (batch,) int, how many each item has; tokens * stack by default. The others of a batch do not matter to
        an item, unless the longest needs more than one window.
      noise: in the place of the key's, (batch, tokens * stack, mels).
      items: (batch,) numbers of the items, where the batch is part of a larger one.
      **options: `trajectory` or `progress` of `samplers.sample`.

    Returns:
      (batch, tokens * stack, mels), normalised; zeros past an item's end. With what `trajectory` asks for.

    Raises:
      UsageError: neither key nor noise, or the solver "shortcut" for a decoder that is not told steps.
    """
    told_step = sampling.solver == "shortcut"
    if told_step and not config.steps:
        raise UsageError("This decoder is not told step sizes: take 'flow-euler', or a model with `steps`.")
    shape = (codes.shape[0], codes.shape[1] * config.stack, config.front_end.n_mels)
    if noise is None:
        if key is None:
            raise UsageError("Sampling draws noise: give it a key, jax.random.key(seed).")
        noise = samplers.item_noise(key, shape, items=items)
    mask = real(frames, noise)
    predict = predictor(params, config, codes, mask, sampling.guidance, sampling.rescale)
    grid = samplers.flow(sampling.steps, shift=sampling.shift, reverse=True)
    made = samplers.sample(
        predict, noise, grid, key, solver=sampling.solver, prediction="velocity", items=items, **options
    )
    if options.get("trajectory"):
        return made[0] * mask[..., None], made[1]
    return made * mask[..., None]
