"""SiTok's encoder on a stream: tokens as soon as their frames are there."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jax.core import Tracer

from jaxaudio.errors import UsageError
from jaxaudio.nn import llama
from jaxaudio.nn.cache import Cache
from jaxaudio.systems import sitok
from jaxaudio.systems.sitok import Config

Params = Any


class Stream(NamedTuple):
    """What an encoder remembers of a stream.

    Attributes:
      pending: (batch, fewer than `stack`, mels) frames that no token was made of yet.
      cache: of its layers.
    """

    pending: Array
    cache: Cache


def begin(config: Config, batch: int, seconds: float) -> Stream:
    """The state before a stream that lasts at most so many seconds."""
    tokens = -(-round(seconds * config.frame_rate) // config.stack)
    return Stream(jnp.zeros((batch, 0, config.front_end.n_mels)), llama.empty(config.encoder, batch, tokens))


def encode(params: Params, config: Config, state: Stream, mel: Array, *, last: bool = False) -> tuple[Array, Stream]:
    """Goes on with a stream; all its tokens together equal those of `sitok.encode` on all its frames.

    Args:
      params: of `sitok.init`, trained.
      config: that they belong to.
      state: of `begin`, or of the call before.
      mel: (batch, any number of frames, mels) what follows.
      last: whether nothing more will: the frames that are left over become a token too.

    Returns:
      (codes, state): tokens of the frames that are complete, as `sitok.encode` gives them; maybe none.

    Raises:
      UsageError: the stream is longer than it was said to be (not noticed under `jax.jit`).
    """
    mel = jnp.concatenate([state.pending, mel], 1)
    ready = mel.shape[1] if last else mel.shape[1] // config.stack * config.stack
    now, pending = mel[:, :ready], mel[:, ready:]
    if not ready:
        empty = jnp.zeros((mel.shape[0], 0, *([config.books] if config.books > 1 else [])), jnp.int32)
        return empty, Stream(pending, state.cache)
    p, x = params["params"]["encoder"], sitok.stacked(config, now)
    traced = isinstance(state.cache.length, Tracer)
    if not traced and int(state.cache.length) + x.shape[1] > state.cache.key.shape[2]:
        raise UsageError("The stream is longer than it was said to be; begin it with more seconds.")
    y, cache = llama.extend(p["stack"], config.encoder, llama.project(p["in_linear"], x), state.cache)
    return sitok.quantized(params, config, llama.project(p["out_linear"], y))["codes"], Stream(pending, cache)
