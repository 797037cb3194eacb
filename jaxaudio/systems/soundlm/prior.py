"""The prior over the codes of sounds (Liu et al., 2021, arXiv:2107.09998, section 3.2): a PixelSNAIL for a class."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import pixelsnail, pixelsnail_cache
from jaxaudio.nn.pixelsnail_cache import Sampled
from jaxaudio.systems.soundlm.classes import URBANSOUND8K_CLASSES, class_ids
from jaxaudio.text.decode import Sampling

Params = Any

__all__ = [
    "MINI",
    "URBANSOUND8K",
    "URBANSOUND8K_CLASSES",
    "Config",
    "class_ids",
    "init",
    "logits",
    "loss",
    "sample",
    "weights",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A network over a grid of codes.

    Attributes:
      network: its shape; its grid is (bands, frames), or (frames, bands) in the order of time.
      names: of the classes, as many as the network has.
      order: in which codes follow each other. "frequency", as published: the lowest band from its beginning to its end,
        then the next. "time": the first frame from its lowest band to its highest, then the next; then the first codes
        of a sound are its beginning, and `sample` continues it.
    """

    network: pixelsnail.Config
    names: tuple[str, ...] = URBANSOUND8K_CLASSES
    order: Literal["frequency", "time"] = "frequency"

    def __post_init__(self) -> None:
        if len(self.names) != self.network.classes:
            raise ConfigError(f"{len(self.names)} names for {self.network.classes} classes; give one for each.")
        if self.order not in ("frequency", "time"):
            raise ConfigError(f"Codes in the order of {self.order!r}; give 'frequency' or 'time'.")

    @property
    def grid(self) -> tuple[int, int]:
        """(bands, frames) of a sound."""
        size = (self.network.height, self.network.width)
        return size if self.order == "frequency" else size[::-1]


URBANSOUND8K = Config(network=pixelsnail.Config())
"""The published one: 4 s of sound as 20 x 86 codes. Its checkpoint has 103 million parameters, 87 of which are used."""

MINI = Config(
    network=pixelsnail.Config(
        height=16,
        width=128,
        codes=256,
        channels=64,
        hidden=64,
        kernel=3,
        blocks=2,
        layers=2,
        heads=4,
        embedding=64,
        dropout=0.1,
    )
)
"""Small enough to be trained on a laptop, for the codes of `vqvae.MINI`."""


def init(key: Array, config: Config) -> Params:
    """Random parameters, with weight normalisation as in published training."""
    return pixelsnail.normalized(pixelsnail.init(key, config.network))


def logits(params: Params, config: Config, codes: Array, classes: Array, *, key: Array | None = None) -> Array:
    """What each code may be, by all codes before it in `config.order`.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      codes: (batch, bands, frames) int, of whole sounds.
      classes: (batch,) int.
      key: () or (batch,), draws dropout, in training.

    Returns:
      (batch, bands, frames, codes).

    Raises:
      UsageError: codes of another grid.
    """
    if codes.ndim != 3 or codes.shape[1:] != config.grid:
        raise UsageError(f"codes of shape {tuple(codes.shape)}; give (batch, {config.grid[0]}, {config.grid[1]}).")
    made = pixelsnail.logits(params, config.network, _turned(config, codes), classes, key=key)
    return _turned(config, made)


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Array],
    key: Array | None = None,
    frozen: Any = None,
    *,
    config: Config,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """Mean cross entropy of the codes.

    Args:
      params: the parameters.
      extra: handed back as it is.
      batch: "codes" (batch, bands, frames), "class" (batch,) and, where it is known, "index" (batch,).
      key: draws dropout, for each item by its index.
      frozen: not used.
      config: of the prior.

    Returns:
      (loss in nats per code, ({"accuracy": share of the codes that are the likeliest}, extra)).
    """
    del frozen
    codes = batch["codes"]
    if key is not None:
        index = batch.get("index", jnp.arange(codes.shape[0]))
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    scores = logits(params, config, codes, batch["class"], key=key)
    share = jnp.take_along_axis(jax.nn.log_softmax(scores), codes[..., None], -1)
    accuracy = jnp.mean((jnp.argmax(scores, -1) == codes).astype(scores.dtype))
    return -jnp.mean(share), ({"accuracy": accuracy}, extra)


def sample(
    params: Params,
    config: Config,
    classes: Array,
    key: Array | None = None,
    *,
    sampling: Sampling = pixelsnail_cache.PLAIN,
    prefix: Array | None = None,
    keep_logits: bool = False,
) -> Sampled:
    """Draws sounds of classes.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      classes: (batch,) int, see `class_ids`.
      key: draws the codes; (batch,) keys make each sound depend on its own alone. Not needed at temperature 0.
      sampling: how codes are drawn.
      prefix: what is kept: in the order of frequency the codes (batch, bands, frames) of the lowest bands, in the order
        of time those of the first frames; or any number of the first codes, (batch, n) in that order.
      keep_logits: return the logits, too.

    Returns:
      See `pixelsnail_cache.Sampled`, with (bands, frames) for (height, width).

    Raises:
      UsageError: there is no key for what is drawn by chance, or the prefix does not fit.
    """
    if prefix is not None and prefix.ndim == 3:
        rows = _turned(config, prefix)
        if rows.shape[2] != config.network.width:
            whole = "frames" if config.order == "frequency" else "bands"
            raise UsageError(f"a prefix of shape {tuple(prefix.shape)}; give all {config.network.width} {whole} of it.")
        prefix = rows.reshape(rows.shape[0], -1)
    made = pixelsnail_cache.sample(
        params, config.network, classes, key, sampling=sampling, prefix=prefix, keep_logits=keep_logits
    )
    kept = None if made.logits is None else _turned(config, made.logits)
    return Sampled(_turned(config, made.ids), _turned(config, made.log_probs), kept)


def _turned(config: Config, x: Array) -> Array:
    """Between (batch, bands, frames, ...) and the network's grid, in either direction."""
    return x if config.order == "frequency" else x.swapaxes(1, 2)


def weights(config: Config, prefix: str = "", path: str = "") -> tuple[Rule, ...]:
    """Conversion rules for the published names; see `pixelsnail.weights`."""
    return pixelsnail.weights(config.network, prefix, path)
