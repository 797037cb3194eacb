"""How vocoders are trained: HiFi-GAN's losses (Kong et al., 2020, section 2.3)."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.dsp.distances import log_bin_distance, log_mel_distance
from jaxaudio.dsp.mel import MelConfig, log_mel
from jaxaudio.nn.discriminators import HIFIGAN, WaveConfig, WaveDiscriminators, init_waves
from jaxaudio.train.adversarial import (
    DISCRIMINATOR,
    GENERATOR,
    Adversarial,
    feature_loss,
    least_squares_generator_losses,
    least_squares_losses,
)


class Judged(NamedTuple):
    """The terms of HiFi-GAN's losses; the lists have one entry per discriminator, the periods' first.

    Attributes:
      real: mean (1 - score)^2 of recorded sound.
      fake: mean score^2 of made sound.
      generator: mean (1 - score)^2 of made sound.
      features: twice the summed distance of each discriminator's features.
      real_scores: (batch, places) each.
      real_features: outputs of every layer.
      extra: {"spectral": ...} after both passes.
    """

    real: list[Array]
    fake: list[Array]
    generator: list[Array]
    features: list[Array]
    real_scores: list[Array]
    real_features: list[list[Array]]
    extra: Any


def judge(config: WaveConfig, params: Any, extra: Any, real: Array, fake: Array) -> Judged:
    """Runs the discriminators on recorded, then on made waveforms (batch, time)."""
    critic = WaveDiscriminators(config)

    def run(extra: Any, x: Array) -> Any:
        return critic.apply({"params": params, **extra}, x, True, mutable=["spectral"])

    (real_scores, real_features), extra = run(extra, real)
    (fake_scores, fake_features), extra = run(extra, fake)
    of_real, of_fake = least_squares_losses(real_scores, fake_scores)
    features = [feature_loss([a], [b]) for a, b in zip(real_features, fake_features, strict=True)]
    pleased = least_squares_generator_losses(fake_scores)
    return Judged(of_real, of_fake, pleased, features, real_scores, real_features, extra)


def vocoder_losses(
    generate: Callable[[Any, Array], Array],
    mel: MelConfig,
    loss_mel: MelConfig,
    config: WaveConfig = HIFIGAN,
    *,
    mel_weight: float = 45.0,
    feature_weight: float = 1.0,
    adversary_start: int = 0,
    resolutions: tuple[int, ...] = (),
    resolution_weight: float = 15.0,
) -> Adversarial:
    """HiFi-GAN's losses, for `make_gan_step`.

    A batch holds "waveform" (batch, time), a multiple of the hop long, and may hold "mel" (batch, frames, mels), made
    by another model, to learn from in place of its log-mel. `extra` of the generator is {}.

    Args:
      generate: `(variables, mel) -> (batch, time)`, e.g. `hifigan.generate` with its configuration bound.
      mel: the front-end of what the vocoder is given.
      loss_mel: that of the spectral loss, e.g. `front_ends.HIFIGAN_16K`.
      config: the discriminators'.
      mel_weight: factor on the mean absolute difference of log-mels.
      feature_weight: factor on the feature loss.
      adversary_start: number of steps before the discriminators learn and count; until then they cost nothing.
      resolutions: lengths of further transforms, in samples, whose log-magnitudes are compared bin by bin; long ones
        hear a hum that bands of mels are too wide for (Yamamoto et al., 2020).
      resolution_weight: factor on the mean of these differences.
    """

    def made_by(params: Any, extra: Any, batch: dict[str, Array], key: Array, frozen: Any) -> tuple[Array, Any]:
        sound = batch["waveform"]
        heard = batch["mel"] if "mel" in batch else log_mel(sound, mel)
        waveform = generate({"params": params}, heard)
        return waveform[:, : sound.shape[1]], extra

    def discriminator_loss(
        params: Any, extra: Any, made: Array, batch: dict[str, Array], key: Array, frozen: Any
    ) -> tuple[Array, Any]:
        judged = judge(config, params, extra[DISCRIMINATOR], batch["waveform"], made)
        total = sum(judged.real[1:] + judged.fake, judged.real[0])
        return total, ({}, {**extra, DISCRIMINATOR: judged.extra})

    def generator_loss(
        made: Array, params: Any, extra: Any, batch: dict[str, Array], key: Array, frozen: Any
    ) -> tuple[Array, Any]:
        spectral = jnp.mean(log_mel_distance(batch["waveform"], made, loss_mel))
        metrics: dict[str, Any] = {"mel": spectral}
        value = mel_weight * spectral
        if resolutions:
            metrics["stft"] = jnp.mean(log_bin_distance(batch["waveform"], made, resolutions))
            value = value + resolution_weight * metrics["stft"]
        if params is None:
            return value, (metrics, extra)
        judged = judge(config, params, extra[DISCRIMINATOR], batch["waveform"], made)
        metrics |= {"features": sum(judged.features), "adversary": sum(judged.generator)}
        value = metrics["adversary"] + feature_weight * metrics["features"] + value
        return value, (metrics, {**extra, DISCRIMINATOR: judged.extra})

    return Adversarial(made_by, discriminator_loss, generator_loss, adversary_start)


def first_frames(key: Array, index: Array) -> Array:
    """(batch,) a number for each item's first frame, whose noise follows from it: as of cuts from long sounds."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, index)
    return jax.vmap(lambda k: jax.random.randint(k, (), 0, 1_000_000))(keys)


def init_vocoder(key: Array, init: Callable[[Array], Any], config: WaveConfig = HIFIGAN) -> tuple[Any, Any]:
    """Random (params, extra) for `create_gan`; `init(key)` makes the generator's variables."""
    of_generator, of_critic = jax.random.split(key)
    critic = init_waves(of_critic, config)
    params = {GENERATOR: init(of_generator)["params"], DISCRIMINATOR: critic["params"]}
    return params, {GENERATOR: {}, DISCRIMINATOR: {k: v for k, v in critic.items() if k != "params"}}
