"""How neural codecs are trained: spectral distances, the quantiser's losses and discriminators (DAC, section 3.4)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.dsp.distances import (
    Resolution,
    log_bin_distance,
    log_mel_distance,
    mel_distance,
    resolution_distance,
    stft_distance,
)
from jaxaudio.dsp.mel import MelConfig
from jaxaudio.metrics.separation import si_sdr
from jaxaudio.nn import spectral_discriminators as critics
from jaxaudio.nn.discriminators import Features
from jaxaudio.nn.spectral_discriminators import DAC, ENCODEC, BandConfig, SpectrumConfig
from jaxaudio.text.ctc import mean_ctc_loss
from jaxaudio.train.adversarial import (
    DISCRIMINATOR,
    GENERATOR,
    Adversarial,
    feature_distance,
    hinge_loss,
    least_squares_generator_losses,
    least_squares_losses,
)

Batch = dict[str, Any]
Made = dict[str, Array]


class Term(NamedTuple):
    """A part of the generator's loss.

    Attributes:
      weight: factor on it.
      value: `(made, batch) -> ()`, a mean over the batch.
    """

    weight: float
    value: Callable[[Made, Batch], Array]


def compared(weight: float, distance: Callable[[Array, Array], Array]) -> Term:
    """The mean of a distance (reference, estimate) -> (batch,), as `dsp.distances` has them."""
    return Term(weight, lambda made, batch: jnp.mean(distance(made["reference"], made["estimate"])))


def given(weight: float, name: str) -> Term:
    """What the generator computed itself, e.g. "commitment"."""
    return Term(weight, lambda made, batch: made[name])


def recognised(weight: float, blank: int) -> Term:
    """CTC of made["logits"] (batch, steps, symbols) against batch["labels"] and batch["label_lengths"]."""

    def value(made: Made, batch: Batch) -> Array:
        logits = made["logits"]
        lengths = jnp.full(len(logits), logits.shape[1])
        return mean_ctc_loss(logits, lengths, batch["labels"], batch["label_lengths"], blank)

    return Term(weight, value)


def dac_terms(sample_rate: int) -> dict[str, Term]:
    """DAC's terms and weights (base.yml), which SD-Codec shares, with mel filters of this rate."""
    return {
        "mel": compared(15.0, lambda a, b: mel_distance(a, b, sample_rate)),
        "commitment": given(0.25, "commitment"),
        "codebook": given(1.0, "codebook"),
    }


TAAE_RESOLUTIONS = tuple(Resolution(n, n // 4, n) for n in (2048, 1024, 512, 256, 128, 64, 32))
"""Of the spectral distance that stable-audio-tools' codecs are trained with."""


def taae_terms(
    sample_rate: int, *, phonemes: int = 0, resolutions: tuple[Resolution, ...] = TAAE_RESOLUTIONS
) -> dict[str, Term]:
    """The terms of Stable Codec's public training module, less the one that needs a pretrained speech model.

    The published weights are not public: these are ours, and so is the order of signals, for the original divides the
    error by the norm of what is made.

    Args:
      sample_rate: in Hz.
      phonemes: classes of the head that reads them, the blank last; 0 for none.
      resolutions: of the A-weighted spectral distance.
    """

    def spectral(reference: Array, estimate: Array) -> Array:
        return resolution_distance(
            reference, estimate, resolutions=resolutions, sample_rate=sample_rate, a_weighted=True
        )

    terms = {
        "stft": compared(1.0, spectral),
        "l1": compared(0.2, lambda a, b: jnp.mean(jnp.abs(a - b), -1)),
        "l2": compared(0.1, lambda a, b: jnp.mean(jnp.square(a - b), -1)),
    }
    return {**terms, "ctc": recognised(1.0, phonemes - 1)} if phonemes else terms


def spectral_terms(front_end: MelConfig, windows: Sequence[int] = (512, 2048)) -> dict[str, Term]:
    """Of codecs that speak in spectra, with the weights of vocoders: they learn fast without discriminators.

    Args:
      front_end: of the log-mels that are compared, as HiFi-GAN does.
      windows: lengths of the transforms that are compared bin by bin besides, see `log_bin_distance`.
    """
    return {
        "mel": compared(45.0, lambda a, b: log_mel_distance(a, b, front_end)),
        "stft": compared(15.0, lambda a, b: log_bin_distance(a, b, windows)),
    }


class Critic(NamedTuple):
    """Discriminators and what both sides minimise.

    Attributes:
      config: their shape.
      discriminator: (real scores, fake scores) -> ().
      generator: (fake scores) -> ().
      features: (real, fake) -> (), how far apart the discriminators find the two.
      generator_weight: factor on `generator`.
      feature_weight: factor on `features`.
    """

    config: BandConfig | SpectrumConfig
    discriminator: Callable[[list[Array], list[Array]], Array]
    generator: Callable[[list[Array]], Array]
    features: Callable[[Features, Features], Array]
    generator_weight: float = 1.0
    feature_weight: float = 2.0


def least_squares_critic(config: BandConfig = DAC) -> Critic:
    """As DAC and SD-Codec are trained: sums over discriminators, and over all of their layers but the last."""

    def discriminator(real: list[Array], fake: list[Array]) -> Array:
        of_real, of_fake = least_squares_losses(real, fake)
        return sum(of_real[1:] + of_fake, of_real[0])

    def generator(fake: list[Array]) -> Array:
        each = least_squares_generator_losses(fake)
        return sum(each[1:], each[0])

    def features(real: Features, fake: Features) -> Array:
        return feature_distance([maps[:-1] for maps in real], [maps[:-1] for maps in fake])

    return Critic(config, discriminator, generator, features)


def hinge_critic(config: SpectrumConfig = ENCODEC, *, relative: bool = False) -> Critic:
    """As Stable Codec is trained: means over discriminators and their layers, with the weights of its recipe's kind.

    Args:
      config: shape of the discriminators.
      relative: divide each layer's distance by the mean size of what it makes of recorded sound ("normalize_losses").
    """

    def mean(values: list[Array]) -> Array:
        return jnp.mean(jnp.stack(values))

    def discriminator(real: list[Array], fake: list[Array]) -> Array:
        return mean([2 * hinge_loss(a, b) for a, b in zip(real, fake, strict=True)])

    def generator(fake: list[Array]) -> Array:
        return mean([-jnp.mean(score) for score in fake])

    def distance(a: Array, b: Array) -> Array:
        apart = jnp.mean(jnp.abs(a - b))
        return apart / (jnp.mean(jnp.abs(a)) + 1e-3) if relative else apart

    def features(real: Features, fake: Features) -> Array:
        return mean(
            [mean([distance(*pair) for pair in zip(*maps, strict=True)]) for maps in zip(real, fake, strict=True)]
        )

    return Critic(config, discriminator, generator, features, generator_weight=0.1, feature_weight=5.0)


def codec_losses(
    generate: Callable[[Any, Any, Batch, Array, Any], tuple[Made, Any]],
    terms: Mapping[str, Term],
    critic: Critic,
    *,
    adversary_start: int = 0,
) -> Adversarial:
    """The losses of a codec, for `make_gan_step`.

    Args:
      generate: `(params, extra, batch, key, frozen) -> (made, extra)`, the codec's forward pass in training. `made`
        holds "reference" and "estimate" (rows, time), what was to be made and what was, and whatever the terms read.
      terms: of the generator's loss beside the adversarial ones, by name.
      critic: the discriminators.
      adversary_start: number of steps before the discriminators learn and count; until then they cost nothing.

    Returns:
      Losses whose metrics are the terms without their weights, "adversary" and "features".
    """

    def judge(params: Any, x: Array) -> tuple[list[Array], Features]:
        return critics.judge({"params": params}, critic.config, x)

    def discriminator_loss(params: Any, extra: Any, made: Made, batch: Batch, key: Array, frozen: Any):
        real, fake = (judge(params, made[name])[0] for name in ("reference", "estimate"))
        return critic.discriminator(real, fake), ({}, extra)

    def generator_loss(made: Made, params: Any, extra: Any, batch: Batch, key: Array, frozen: Any):
        metrics = {name: term.value(made, batch) for name, term in terms.items()}
        total = sum((term.weight * metrics[name] for name, term in terms.items()), jnp.zeros(()))
        if params is None:
            return total, (metrics, extra)
        (_, real), (scores, fake) = (judge(params, made[name]) for name in ("reference", "estimate"))
        metrics |= {"adversary": critic.generator(scores), "features": critic.features(real, fake)}
        total += critic.generator_weight * metrics["adversary"] + critic.feature_weight * metrics["features"]
        return total, (metrics, extra)

    return Adversarial(generate, discriminator_loss, generator_loss, adversary_start)


def init_codec(key: Array, init: Callable[[Array], tuple[Any, Any]], critic: Critic) -> tuple[Any, Any]:
    """Random (params, extra) for `create_gan`; `init(key)` makes the codec's variables and its collections."""
    of_generator, of_critic = jax.random.split(key)
    critic_params = critics.init(of_critic, critic.config)["params"]
    variables, extra = init(of_generator)
    return {GENERATOR: variables["params"], DISCRIMINATOR: critic_params}, {GENERATOR: extra, DISCRIMINATOR: {}}


def measures(reference: Array, estimate: Array, sample_rate: int) -> dict[str, Array]:
    """What codecs are compared by, of waveforms (..., time): each (...).

    Returns:
      "si_sdr" in dB, means removed; "mel" and "stft", the distances that DAC and SD-Codec report.
    """
    still = [x - jnp.mean(x, -1, keepdims=True) for x in (reference, estimate)]
    return {
        "si_sdr": si_sdr(*still),
        "mel": mel_distance(reference, estimate, sample_rate),
        "stft": stft_distance(reference, estimate),
    }
