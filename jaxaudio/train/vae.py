"""How the autoencoder of spectrograms is trained: reconstruction, divergence, and a PatchGAN (Esser et al., 2021)."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array

from jaxaudio.nn import autoencoder
from jaxaudio.nn.conv import convolve
from jaxaudio.nn.discriminators import PATCH_GAN, PatchConfig, PatchGAN
from jaxaudio.train.adversarial import (
    DISCRIMINATOR,
    GENERATOR,
    Adversarial,
    adaptive_weight,
    hinge_loss,
    vanilla_loss,
)


def vae_losses(
    config: autoencoder.Config,
    patch: PatchConfig = PATCH_GAN,
    *,
    kl_weight: float = 1000.0,
    adversary_weight: float = 0.5,
    adversary_start: int = 50001,
    objective: Literal["hinge", "vanilla"] = "hinge",
    perceptual: Callable[[Array, Array], Array] | None = None,
    perceptual_weight: float = 1.0,
    logvar: float | Array = 0.0,
    lazy: bool = False,
    axis_name: str | None = None,
) -> Adversarial:
    """The losses of AudioLDM's autoencoder, for `make_gan_step`.

    The generator minimises the sum over a spectrogram of |error| / exp(logvar) + logvar, plus `kl_weight` times the
    MEAN divergence of its latents, plus the adversary at an adaptive weight. A batch holds "mel" (batch, frames, mels,
    1), and may hold "weight", which broadcasts to it and multiplies the error (0 where frames are padding), and
    "noise", the standard normal draw of the latent, in place of a drawn one. `extra` of the generator is {}.

    Args:
      config: the autoencoder's.
      patch: the discriminator's.
      kl_weight: as published; the divergence is a mean and the error a sum.
      adversary_weight: factor on the adaptive weight.
      adversary_start: number of steps before the discriminator learns and counts.
      objective: what the discriminator minimises.
      perceptual: `(target, reconstruction) -> (batch,)`, a distance like LPIPS, which is added to the error at every
        place. Published models used LPIPS, whose weights do not ship with this library.
      perceptual_weight: factor on it.
      logvar: logarithm of the scale of the error; published as a parameter that no optimiser trains.
      lazy: do not run the discriminator before it counts, which saves a third of those steps. The original runs it, and
        its statistics move.
      axis_name: mapped axis under pmap.
    """
    critic = PatchGAN(patch, axis_name)
    of_logits = {"hinge": hinge_loss, "vanilla": vanilla_loss}[objective]

    def averaged(x: Array) -> Array:
        return x if axis_name is None else jax.lax.pmean(x, axis_name)

    def judge(params: Any, extra: Any, x: Array) -> tuple[Array, Any]:
        return critic.apply({"params": params, **extra}, x, True, mutable=["batch_stats"])

    def active(batch: dict[str, Array]) -> Array:
        return (batch["step"] >= adversary_start).astype(jnp.float32)

    def generate(params: Any, extra: Any, batch: dict[str, Array], key: Array, frozen: Any) -> tuple[Any, Any]:
        variables = {"params": params}
        mean, spread = autoencoder.encode(variables, config, batch["mel"])
        if "noise" in batch:
            z = mean + jnp.exp(0.5 * spread) * batch["noise"]
        else:
            z = autoencoder.sample(mean, spread, key, batch["index"])
        made = autoencoder.decode_intermediates(variables, config, z)
        last = {"input": made["last"], **params["decoder"]["conv_out"]}
        return {"mean": mean, "logvar": spread, "z": z, "mel": made["mel"], "last": last}, extra

    def discriminator_loss(
        params: Any, extra: Any, made: Any, batch: dict[str, Array], key: Array, frozen: Any
    ) -> tuple[Array, Any]:
        real, stats = judge(params, extra[DISCRIMINATOR], batch["mel"])
        fake, stats = judge(params, stats, made["mel"])
        metrics = {"logits_real": jnp.mean(real), "logits_fake": jnp.mean(fake)}
        return active(batch) * of_logits(real, fake), (metrics, {**extra, DISCRIMINATOR: stats})

    def generator_loss(
        made: Any, params: Any, extra: Any, batch: dict[str, Array], key: Array, frozen: Any
    ) -> tuple[Array, Any]:
        target = batch["mel"]

        def nll(mel: Array) -> Array:
            error = jnp.abs(target - mel)
            if perceptual is not None:
                error = error + perceptual_weight * perceptual(target, mel)[:, None, None, None]
            each = error / jnp.exp(logvar) + logvar
            return jnp.sum(each * batch.get("weight", 1.0)) / len(mel)

        def displeasure(mel: Array) -> tuple[Array, Any]:
            logits, stats = judge(params, extra[DISCRIMINATOR], mel)
            return -jnp.mean(logits), stats

        mel, last = made["mel"], jax.lax.stop_gradient(made["last"])
        likelihood = nll(mel)
        divergence = jnp.mean(autoencoder.kl(made["mean"], made["logvar"]))
        total = likelihood + kl_weight * divergence
        metrics = {"nll": likelihood, "kl": divergence, "error": jnp.mean(jnp.abs(target - mel))}
        if params is None:
            return total, (metrics, extra)
        pull = jax.vjp(lambda kernel: convolve(last["input"], kernel) + last["bias"], last["kernel"])[1]
        slopes = jax.grad(nll)(mel), jax.grad(displeasure, has_aux=True)(mel)[0]
        weight = adaptive_weight(*(averaged(pull(slope)[0]) for slope in slopes), adversary_weight)
        displeased, stats = displeasure(mel)
        metrics |= {"adversary": displeased, "adversary_weight": weight}
        total = total + weight * active(batch) * displeased
        return total, (metrics, {**extra, DISCRIMINATOR: stats})

    return Adversarial(generate, discriminator_loss, generator_loss, adversary_start if lazy else 0)


def init_vae(key: Array, config: autoencoder.Config, patch: PatchConfig = PATCH_GAN) -> tuple[Any, Any]:
    """Random (params, extra) for `create_gan`."""
    of_generator, of_critic = jax.random.split(key)
    made = autoencoder.init(of_generator, config)
    critic = PatchGAN(patch).init(of_critic, jnp.zeros((1, 64, max(config.mels, 64), 1)))
    params = {GENERATOR: made["params"], DISCRIMINATOR: critic["params"]}
    return params, {GENERATOR: {}, DISCRIMINATOR: {"batch_stats": critic["batch_stats"]}}
