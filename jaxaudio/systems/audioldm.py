"""AudioLDM: sound from words by latent diffusion (Liu et al., 2023, arXiv:2301.12503).

A U-Net denoises the latent of a mel spectrogram, told by the embedding of a text (or of a sound) from CLAP, or by the
tokens of FLAN-T5; an autoencoder and a vocoder make a waveform of it. What is there already can be varied, restyled,
filled in and widened without further training (sections 3.4 and 5.3 of the paper).
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxaudio import samplers
from jaxaudio.errors import ConfigError
from jaxaudio.nn import latent_audio, latent_model, unet
from jaxaudio.nn.unet import UNetConfig
from jaxaudio.samplers.objectives import diffusion_loss, item_normal, item_streams
from jaxaudio.samplers.windows import windowed

Params = Any
Condition = dict[str, Any]
"""What the U-Net is told: {"film": (batch, width)} or {"contexts": [...], "masks": [...]}, see `nn.unet.UNet`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """An AudioLDM without its text encoder.

    Attributes:
      audio: waveform to latent and back.
      unet: the latent model.
      betas: first and last noise variance of the 1,000 training times, whose roots grow linearly.
      prediction: what the U-Net says: the noise, as published, or "v", which weighs the noisiest times more.
      window: seconds that it was trained on; longer sounds are made of windows.
      overlap: seconds in which neighbouring windows fade into each other.
    """

    audio: latent_audio.Config = latent_audio.AUDIOLDM_16K
    unet: UNetConfig = unet.AUDIOLDM_S_UNET
    betas: tuple[float, float] = (0.0015, 0.0195)
    prediction: Literal["epsilon", "v"] = "epsilon"
    window: float = 10.24
    overlap: float = 2.56

    @property
    def sample_rate(self) -> int:
        """Samples per second."""
        return self.audio.sample_rate

    @property
    def variances(self) -> np.ndarray:
        """(1000,) the noise variances."""
        return samplers.scaled_linear_betas(1000, *self.betas)


AUDIOLDM_S = Config()
"""audioldm-s-full, -s-full-v2 and -s-text-ft, with CLAP's HTSAT-tiny."""

AUDIOLDM_M = Config(unet=unet.AUDIOLDM_M_UNET)
"""audioldm-m-full and -m-text-ft, with CLAP's HTSAT-base."""

AUDIOLDM_L = Config(unet=unet.AUDIOLDM_L_UNET)
"""audioldm-l-full, with CLAP's HTSAT-tiny."""

AUDIOLDM_48K = Config(audio=latent_audio.AUDIOLDM_48K, unet=unet.AUDIOLDM_48K_UNET)
"""audioldm_48k, with CLAP's HTSAT-base."""

AUDIOLDM_T5 = Config(unet=unet.AUDIOLDM_CROSSATTN_T5_UNET)
"""audioldm_16k_crossattn_t5: told by the tokens of FLAN-T5-large."""

MINI = Config(
    audio=latent_audio.MINI,
    unet=UNetConfig(
        inputs=16,
        outputs=16,
        channels=(64, 128),
        blocks=1,
        attention=(False, False),
        film=384,
        film_scale=20.0,
    ),
    prediction="v",
    window=5.12,
    overlap=1.28,
)
"""Small enough to train on two cores; told by the sentence embedding of `text.mini`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a latent is sampled; hashable, so that it can be a static argument.

    Attributes:
      steps: exactly so many; see `samplers.evaluations` for what they cost.
      solver: a name of `samplers.SOLVERS`.
      guidance: strength of classifier-free guidance; 1 for none.
      rescale: from 0 to 1, how much of the loudness that guidance adds is taken back.
      interval: lowest and highest training time at which to guide; None for everywhere.
      spacing: where the steps lie, a name of `samplers.SPACINGS` or `samplers.LEVELS`, ending at the lowest level that
        was trained; None for the solver's published grid. "log-snr" is better where steps are few.
    """

    steps: int = 25
    solver: str = "dpmpp-2m"
    guidance: float = 2.5
    rescale: float = 0.0
    interval: tuple[float, float] | None = None
    spacing: str | None = None


ORIGINAL = Sampling(steps=200, solver="ddim")
"""The published number of steps; the original draws noise at each of them as well (eta = 1)."""


init = latent_model.init
"""(key, config) -> random parameters; see `nn.latent_model.init`."""


def schedule(config: Config, sampling: Sampling) -> samplers.Schedule:
    """The noise levels that a sampling passes."""
    changes = {} if sampling.spacing is None else {"spacing": sampling.spacing, "final": "min"}
    return samplers.usual_schedule(
        sampling.solver, sampling.steps, family="vp", table=samplers.signal_power(config.variances), **changes
    )


def predict(params: Params, config: Config, x: Array, t: Array, condition: Condition) -> Array:
    """What `Config.prediction` says of x (batch, positions, frequencies, channels), t () or (batch,), 0 to 999."""
    return unet.predict(params["unet"], config.unet, x, t, **condition)


encode, decode = latent_model.encode, latent_model.decode
"""Waveforms to latents and back; see `nn.latent_audio`."""


def generate(
    params: Params,
    config: Config,
    condition: Condition,
    negative: Condition,
    key: Array,
    *,
    samples: int,
    sampling: Sampling = Sampling(),
    items: Array | None = None,
    **options: Any,
) -> Array:
    """Makes latents of nothing but noise and a condition.

    Args:
      params: of `init` or of a converted checkpoint.
      config: that they belong to.
      condition: of what is wanted, with the batch leading.
      negative: of what is not: the embedding of "", or of a negative prompt.
      key: decides everything random; each item's noise follows from it and the item's number alone.
      samples: length of the sound. Beyond `config.window` seconds it is made of overlapping windows.
      sampling: how.
      items: (batch,) numbers of the items, where the batch is part of a larger one.
      **options: `trajectory` or `progress` of `samplers.sample`.

    Returns:
      (batch, positions, frequencies, channels), for `decode`; and what `trajectory` asks for.
    """
    x = samplers.item_noise(key, config.audio.shape(_batch(condition), samples), items=items)
    return _sample(params, config, condition, negative, x, schedule(config, sampling), sampling, key, items, options)


def vary(
    params: Params,
    config: Config,
    known: Array,
    condition: Condition,
    negative: Condition,
    key: Array,
    *,
    strength: float,
    sampling: Sampling = Sampling(),
    items: Array | None = None,
    **options: Any,
) -> Array:
    """Style transfer: noises the latent of a sound and denoises it under another condition.

    Args:
      params: as of `generate`.
      config: as of `generate`.
      known: the sound's latent, of `encode`.
      condition: of what it is to become.
      negative: as of `generate`.
      key: as of `generate`.
      strength: from 0, the same again, to 1, all but unrelated; see `samplers.start`.
      sampling: of whose steps only the last part is taken.
      items: as of `generate`.
      **options: as of `generate`.

    Returns:
      A latent of the shape of `known`.
    """
    x, rest = samplers.start(known, schedule(config, sampling), strength, key, items=items)
    return _sample(params, config, condition, negative, x, rest, sampling, key, items, options)


def fill(
    params: Params,
    config: Config,
    known: Array,
    mask: ArrayLike,
    condition: Condition,
    negative: Condition,
    key: Array,
    *,
    sampling: Sampling = Sampling(),
    items: Array | None = None,
    **options: Any,
) -> Array:
    """Inpainting and super-resolution: makes what a mask leaves open, and keeps the rest.

    The original lets the kept part drift, and never puts it back after the last step; here it is exact.

    Args:
      params: as of `generate`.
      config: as of `generate`.
      known: the sound's latent, of `encode`.
      mask: 1 where it is kept, 0 where it is made, broadcastable to `known`; see
        `latent_audio.outside` and `frequency_mask`.
      condition: of what is made.
      negative: as of `generate`.
      key: as of `generate`.
      sampling: how.
      items: as of `generate`.
      **options: as of `generate`.

    Returns:
      A latent of the shape of `known`.
    """
    x = samplers.item_noise(key, known.shape, items=items)
    options |= {"masked": samplers.Masked(known, jnp.asarray(mask))}
    return _sample(params, config, condition, negative, x, schedule(config, sampling), sampling, key, items, options)


def frequency_mask(config: Config, keep: float) -> np.ndarray:
    """(1, 1, frequencies, 1): 1 for the lowest `keep` (0 to 1) of the mel bands, 0 for those to be made.

    Raises:
      ConfigError: another number.
    """
    if not 0 < keep < 1:
        raise ConfigError(f"keep {keep:g} of the bands: give a number between 0 and 1; the original keeps 0.75.")
    mask = np.zeros((1, 1, config.audio.frequencies, 1), np.float32)
    mask[:, :, : max(1, int(config.audio.frequencies * keep))] = 1
    return mask


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
    """Denoising loss of the U-Net, with the condition dropped per item (the original drops it per batch).

    Args:
      params: of the U-Net alone.
      extra: {}.
      batch: "latent" (batch, positions, frequencies, channels) of `encode`; "condition" and "negative", trees with the
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
    t = jax.vmap(lambda k: jax.random.randint(k, (), 0, 1000))(streams[:, 1])
    condition = samplers.dropped(streams[:, 2], drop, batch["condition"], batch["negative"])
    network = functools.partial(predict, {"unet": params}, config, condition=condition)
    value, metrics = diffusion_loss(network, data, noise, t, config.variances, prediction=config.prediction)
    return value, (metrics, extra)


weights, folder_weights = latent_model.weights, latent_model.folder_weights
"""Conversion rules for the .ckpt and for a diffusers folder; see `nn.latent_model`."""


def _batch(condition: Condition) -> int:
    return jax.tree.leaves(condition)[0].shape[0]


def _sample(
    params: Params,
    config: Config,
    condition: Condition,
    negative: Condition,
    x: Array,
    plan: samplers.Schedule,
    sampling: Sampling,
    key: Array,
    items: Array | None,
    options: dict[str, Any],
) -> Any:
    def network(x: Array, t: Array, condition: Condition) -> Array:
        return predict(params, config, x, t, condition)

    guided: Callable[[Array, Array], Array] = samplers.classifier_free(
        network, condition, negative, sampling.guidance, rescale=sampling.rescale, interval=sampling.interval
    )
    whole = windowed(guided, x.shape[1], *latent_model.windows(config))
    options = {"prediction": config.prediction, **options}
    return samplers.sample(whole, x, plan, key, solver=sampling.solver, items=items, **options)
