"""A Llama that tells where noise moves on its way to a spectrogram: the decoder of TaDiCodec and SiTok.

Not causal. The time steers every norm; what is to be heard is added to the frames, after a small perceptron, and text
may stand before them (`DiffLlamaPrefix` of Wang et al., 2025, arXiv:2508.16790).
"""

import dataclasses
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule, linear, prefixed
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import llama

Params = Any

_INNER = 4  # channels inside the perceptrons, over the width
_NEAREST = 0.05  # to the data, where a prediction of it becomes a velocity (arXiv:2511.13720, section 4)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Shape of the network.

    Attributes:
      stack: its layers, with adaptive norms.
      channels: of a frame.
      told: channels of what is to be heard, per frame.
      text: channels of a prefix; 0 for none.
      time_scale: the time, from 0 to 1, is multiplied by this before it becomes sines and cosines.
      steps: whether it is told the size of the step too, as shortcut models are.
      once: so many layers more that hear what is to be heard alone, and so run once for all evaluations; with plain
        learnt norms.
      patch: neighbouring frames that are one position of the stack.
      prediction: what the last layer says: "velocity", or "x0", the data, of which the velocity follows. A narrow
        network need not carry the noise through to say that (Li and He, 2025, arXiv:2511.13720).
    """

    stack: llama.Config
    channels: int
    told: int
    text: int = 0
    time_scale: float = 1.0
    steps: bool = False
    once: int = 0
    patch: int = 1
    prediction: str = "velocity"

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise ConfigError(f"A position is one or more frames, not {self.patch}.")
        if self.prediction not in ("velocity", "x0"):
            raise ConfigError(f"A velocity network predicts 'velocity' or 'x0', not {self.prediction!r}.")
        if self.stack.norm != "adaptive" or self.stack.causal:
            raise ConfigError("A velocity network has adaptive norms and is not causal.")

    @property
    def trunk(self) -> llama.Config:
        """The layers that run once."""
        return dataclasses.replace(self.stack, layers=self.once, norm="scale")


class Context(NamedTuple):
    """What stays the same over the evaluations of one sound.

    Attributes:
      frames: (batch, frames, width) added to the frames.
      mask: (batch, frames), nonzero where real; None where all are.
      text: (batch, words, width), or None.
      text_mask: (batch, words), where there is text.
    """

    frames: Array
    mask: Array | None = None
    text: Array | None = None
    text_mask: Array | None = None


class _Perceptron(nn.Module):
    """Names as torch counts a Sequential; `still` ends in zeros, so that it says nothing at first."""

    width: int
    still: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.silu(nn.Dense(_INNER * self.width, name="0")(x))
        last = nn.initializers.zeros if self.still else nn.linear.default_kernel_init
        return nn.Dense(self.width, kernel_init=last, name="2")(x)


def sinusoids(t: Array, width: int) -> Array:
    """(batch, width) sines, then cosines, of t (batch,) at frequencies that fall from 1 to 1 / 10000, both included."""
    half = width // 2
    angles = t[:, None] * jnp.exp(jnp.arange(half, dtype=t.dtype) * (-math.log(10000) / (half - 1)))
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], -1)


def init(key: Array, config: Config) -> Params:
    """Random parameters, by the published names."""
    keys = jax.random.split(key, 8)
    width = config.stack.width
    params = {
        "stack": llama.init(keys[0], config.stack),
        "in_linear": nn.Dense(width).init(keys[1], jnp.zeros((1, config.patch * config.channels)))["params"],
        "out_linear": nn.Dense(config.patch * config.channels).init(keys[2], jnp.zeros((1, width)))["params"],
        "diff_step_mlp": _Perceptron(width).init(keys[3], jnp.zeros((1, width)))["params"],
        "cond_mlp": _Perceptron(width).init(keys[4], jnp.zeros((1, config.told)))["params"],
    }
    if config.text:
        params["text_mlp"] = _Perceptron(width).init(keys[5], jnp.zeros((1, config.text)))["params"]
    if config.steps:
        params["step_size_mlp"] = _Perceptron(width, still=True).init(keys[6], jnp.zeros((1, width)))["params"]
    if config.once:
        params["trunk"] = llama.init(keys[7], config.trunk)
    return params


def context(
    params: Params,
    config: Config,
    told: Array,
    *,
    mask: Array | None = None,
    text: Array | None = None,
    text_mask: Array | None = None,
) -> Context:
    """What the network can work out before there is any noise.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      told: (batch, frames, told) what is to be heard; zeros where that was dropped. Of a patch the first counts.
      mask: (batch, frames), nonzero where a frame is real.
      text: (batch, words, text) prefix, where the configuration has one.
      text_mask: (batch, words), all ones where left out; zeros hide the prefix.
    """
    patch = config.patch
    frames = _perceive(params["cond_mlp"], config, told[:, ::patch])
    if config.once:
        frames = llama.apply(params["trunk"], config.trunk, frames, mask=None if mask is None else mask[:, ::patch])
    frames = jnp.repeat(frames, patch, 1)[:, : told.shape[1]]
    if not config.text or text is None:
        return Context(frames, mask)
    text_mask = jnp.ones(text.shape[:2]) if text_mask is None else text_mask
    return Context(frames, mask, _perceive(params["text_mlp"], config, text), text_mask)


def _perceive(params: Params, config: Config, x: Array) -> Any:
    return _Perceptron(config.stack.width).apply({"params": params}, x)


def velocity(params: Params, config: Config, x: Array, t: Array, heard: Context, step: Array | None = None) -> Array:
    """Where x moves as time runs from noise (0) to data (1).

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, frames, channels).
      t: in [0, 1], scalar or (batch,).
      heard: of `context`.
      step: the size of the step that will be taken, scalar or (batch,), where the configuration has `steps`; 0, the
        limit of small ones, by default.

    Returns:
      (batch, frames, channels).

    Raises:
      UsageError: a step for a network that does not know them.
    """
    return intermediates(params, config, x, t, heard, step, hidden=False)["velocity"]


def intermediates(
    params: Params,
    config: Config,
    x: Array,
    t: Array,
    heard: Context,
    step: Array | None = None,
    *,
    hidden: bool = True,
) -> dict[str, Array]:
    """Like `velocity`, but {"velocity", "time": (batch, width), "hidden": (layers, batch, positions, width)}."""
    if step is not None and not config.steps:
        raise UsageError("This network is not told step sizes; fine-tune it as a shortcut model first.")
    c = config.stack
    dtype = jnp.promote_types(x.dtype, jnp.float32)

    def embed(name: str, t: Any) -> Array:
        t = jnp.broadcast_to(jnp.asarray(t, dtype), x.shape[:1])
        return _perceive(params[name], config, sinusoids(config.time_scale * t, c.width))

    time = embed("diff_step_mlp", t)
    if config.steps:
        time = time + embed("step_size_mlp", 0 if step is None else step)
    mask, words, patch = heard.mask, 0, config.patch
    given = x
    if patch > 1:
        if mask is not None:
            given, mask = jnp.where(mask[..., None] != 0, x, 0), mask[:, ::patch]
        given = jnp.pad(given, ((0, 0), (0, -x.shape[1] % patch), (0, 0))).reshape(len(x), -1, patch * config.channels)
    frames = llama.project(params["in_linear"], given) + heard.frames[:, ::patch]
    if heard.text is not None and heard.text_mask is not None:
        words = heard.text.shape[1]
        frames = jnp.concatenate([heard.text, frames], 1)
        real = jnp.ones(given.shape[:2]) if mask is None else mask
        mask = jnp.concatenate([heard.text_mask, real], 1)
    run = llama.intermediates if hidden else lambda *a, **b: {"out": llama.apply(*a, **b)}
    made = run(params["stack"], c, frames, mask=mask, condition=time)
    out = llama.project(params["out_linear"], made["out"][:, words:])
    out = out.reshape(len(x), -1, config.channels)[:, : x.shape[1]]
    if config.prediction == "x0":
        left = jnp.maximum(1 - jnp.asarray(t, dtype), _NEAREST)
        out = (out - x) / left.reshape(-1, 1, 1)
    inside = {"hidden": made["hidden"][:, :, words:]} if hidden else {}
    return {"velocity": out, "time": time, **inside}


def weights(prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names, with `prefix` and `path` as in `llama.weights`."""
    rules = (
        Rule(r"(in_linear|out_linear)\.bias", r"\1/bias"),
        Rule(r"(in_linear|out_linear)\.weight", r"\1/kernel", linear),
    )
    perceptrons = (
        Rule(r"(\w+_mlp)\.(\d)\.weight", r"\1/\2/kernel", linear),
        Rule(r"(\w+_mlp)\.(\d)\.bias", r"\1/\2/bias"),
    )
    return prefixed(prefix, (*llama.weights(path="stack"), *perceptrons, *rules), path)
