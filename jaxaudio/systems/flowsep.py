"""FlowSep: separate what a sentence describes by rectified flow (Yuan et al., 2024, arXiv:2409.07614).

A U-Net is told the latent of the mixture and the tokens of FLAN-T5, and turns noise into the latent of what the
sentence describes along nearly straight paths; so a handful of evaluations is enough. Where a mask can only weaken what
is there, this makes the sound anew.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxaudio import samplers
from jaxaudio.errors import ConfigError
from jaxaudio.nn import latent_audio, latent_model, unet
from jaxaudio.nn.unet import UNetConfig
from jaxaudio.samplers.objectives import flow_loss, item_normal, item_streams
from jaxaudio.samplers.windows import windowed

Params = Any
Condition = dict[str, Any]
"""{"contexts": [(batch, tokens, width)], "masks": [(batch, tokens)]} of the sentence, see `nn.unet.UNet`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """A FlowSep without its text encoder.

    Attributes:
      audio: waveform to latent and back.
      unet: the latent model; it takes the noisy latent and the mixture's, and its outputs beyond the latent's channels
        are not used.
      smallest: noise that remains at the end of the path.
      window: seconds that it was trained on; longer mixtures are separated in windows.
      overlap: seconds in which neighbouring windows fade into each other.
    """

    audio: latent_audio.Config = latent_audio.FLOWSEP
    unet: UNetConfig = unet.FLOWSEP_UNET
    smallest: float = 1e-4
    window: float = 10.24
    overlap: float = 2.56

    def __post_init__(self) -> None:
        latent = self.audio.vae.latent
        if self.unet.inputs != 2 * latent or self.unet.outputs < latent:
            raise ConfigError(f"FlowSep's U-Net takes {2 * latent} channels, two latents, and gives at least {latent}.")

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.audio.sample_rate


FLOWSEP = Config()
"""FlowSep as published (v2_100k), told by FLAN-T5-large."""

MINI = Config(
    audio=latent_audio.MINI,
    unet=UNetConfig(
        inputs=32,
        outputs=16,
        channels=(64, 128),
        blocks=1,
        attention=(False, False),
        film=384,
        film_scale=20.0,
    ),
    window=5.12,
    overlap=1.28,
)
"""Small enough to train on two cores; told by the sentence embedding of `text.mini`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a latent is sampled; hashable, so that it can be a static argument.

    Attributes:
      steps: exactly so many; see `samplers.evaluations` for what they cost.
      solver: a name of `samplers.SOLVERS` that is defined for flows.
      guidance: strength of classifier-free guidance; 1, as published, for none.
      shift: above 1 for more steps near the noise.
    """

    steps: int = 20
    solver: str = "flow-euler"
    guidance: float = 1.0
    shift: float = 1.0


init = latent_model.init
"""(key, config) -> random parameters; see `nn.latent_model.init`."""


def schedule(sampling: Sampling) -> samplers.Schedule:
    """The path from noise to sound; the network is told how far it has come, from 0 to 1."""
    return samplers.usual_schedule(sampling.solver, sampling.steps, family="flow", shift=sampling.shift, reverse=True)


def velocity(params: Params, config: Config, x: Array, t: Array, mixture: Array, condition: Condition) -> Array:
    """Where x moves as time runs from noise (0) to sound (1).

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      x: (batch, positions, frequencies, channels).
      t: in [0, 1], scalar or (batch,); the network takes it unscaled.
      mixture: latent of the mixture, of x's shape.
      condition: the sentence.
    """
    both = jnp.concatenate([x, mixture], -1)
    return unet.predict(params["unet"], config.unet, both, t, **condition)[..., : x.shape[-1]]


encode, decode = latent_model.encode, latent_model.decode
"""Waveforms to latents and back; see `nn.latent_audio`. The published system draws from the posterior."""


def separate(
    params: Params,
    config: Config,
    mixture: Array,
    condition: Condition,
    negative: Condition,
    key: Array,
    *,
    sampling: Sampling = Sampling(),
    silent: ArrayLike | None = None,
    items: Array | None = None,
    **options: Any,
) -> Array:
    """Makes the latent of what a sentence describes within a mixture.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      mixture: (batch, positions, frequencies, channels) its latent, of `encode`. Beyond `config.window` seconds it is
        separated in overlapping windows.
      condition: the sentence, with the batch leading.
      negative: the empty sentence, or one of what is not wanted; used where `sampling.guidance` is not 1.
      key: decides the noise; each item's follows from it and the item's number alone.
      sampling: how.
      silent: 1 where the wanted sound is known to be silent, 0 elsewhere; see `latent_audio.outside`.
      items: (batch,) numbers of the items, where the batch is part of a larger one.
      **options: `trajectory` or `progress` of `samplers.sample`.

    Returns:
      A latent of the mixture's shape, for `decode`; and what `trajectory` asks for.
    """

    def network(x: Array, t: Array, told: Condition) -> Array:
        rest = {name: value for name, value in told.items() if name != "mixture"}
        return -velocity(params, config, x, t, told["mixture"], rest)  # samplers count towards the noise

    def guided(x: Array, t: Array, mixture: Array) -> Array:
        away, towards = ({**told, "mixture": mixture} for told in (negative, condition))
        return samplers.classifier_free(network, towards, away, sampling.guidance)(x, t)

    predict: Callable[[Array, Array], Array] = windowed(
        guided, mixture.shape[1], *latent_model.windows(config), mixture
    )
    if silent is not None:
        options["masked"] = samplers.Masked(_silence(params, config, mixture.shape[1]), jnp.asarray(silent))
    x = samplers.item_noise(key, mixture.shape, items=items)
    return samplers.sample(
        predict, x, schedule(sampling), key, solver=sampling.solver, prediction="velocity", items=items, **options
    )


def _silence(params: Params, config: Config, positions: int) -> Array:
    """(1, positions, ...) the latent of silence; beyond one window, its middle is drawn out."""
    size = min(positions, latent_model.windows(config)[0])
    z = encode(params, config, jnp.zeros((1, size * config.audio.hop)))
    begin, end = np.arange(positions), size - positions + np.arange(positions)
    return z[:, np.maximum(np.minimum(begin, size // 2), end)]


def loss(
    params: Params,
    extra: Params,
    batch: dict[str, Any],
    key: Array,
    frozen: Params = None,
    *,
    config: Config,
    drop: float = 0.1,
) -> tuple[Array, tuple[dict[str, Array], Params]]:
    """Rectified-flow loss of the U-Net, with the sentence dropped per item (the original drops it per batch).

    Args:
      params: of the U-Net alone.
      extra: {}.
      batch: "latent" of the wanted sound and "mixture", both of `encode`; "condition" and "negative", trees with the
        batch leading; "index" (batch,) each item's number, by which its time, noise and fate are drawn.
      key: of this step.
      frozen: not used.
      config: of the whole system.
      drop: probability of the negative condition.

    Returns:
      (loss, (metrics, extra)).
    """
    data = batch["latent"]
    streams = item_streams(key, batch["index"], 3)
    noise = item_normal(streams[:, 0], data)
    t = jax.vmap(lambda k: jax.random.uniform(k, (), data.dtype))(streams[:, 1])
    condition = samplers.dropped(streams[:, 2], drop, batch["condition"], batch["negative"])
    network = functools.partial(velocity, {"unet": params}, config, mixture=batch["mixture"], condition=condition)
    value, metrics = flow_loss(network, data, noise, t, smallest=config.smallest)
    return value, (metrics, extra)


weights = latent_model.weights
"""Conversion rules for the published .ckpt; see `nn.latent_model`."""
