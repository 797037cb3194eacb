"""Training against discriminators: the losses, and one step of both sides."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxaudio.errors import ConfigError
from jaxaudio.train.state import TrainState
from jaxaudio.train.step import Metrics, Step, batch_index, clipped, finish

GENERATOR, DISCRIMINATOR = "generator", "discriminator"


def hinge_loss(real: Array, fake: Array) -> Array:
    """What a discriminator minimises (Lim and Ye, 2017): half of mean max(0, 1 - real) + mean max(0, 1 + fake)."""
    return 0.5 * (jnp.mean(jax.nn.relu(1 - real)) + jnp.mean(jax.nn.relu(1 + fake)))


def vanilla_loss(real: Array, fake: Array) -> Array:
    """The same for cross-entropy: half of mean softplus(-real) + mean softplus(fake)."""
    return 0.5 * (jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake)))


def least_squares_losses(real: list[Array], fake: list[Array]) -> tuple[list[Array], list[Array]]:
    """LSGAN (Mao et al., 2017): of each discriminator mean (1 - real)^2, and mean fake^2; it minimises their sum."""
    return [jnp.mean(jnp.square(1 - x)) for x in real], [jnp.mean(jnp.square(x)) for x in fake]


def least_squares_generator_losses(fake: list[Array]) -> list[Array]:
    """What the generator minimises against each discriminator: mean (1 - fake)^2."""
    return [jnp.mean(jnp.square(1 - x)) for x in fake]


def feature_loss(real: list[list[Array]], fake: list[list[Array]]) -> Array:
    """Twice the sum, over discriminators and their layers, of the mean absolute difference of features (HiFi-GAN)."""
    return 2 * feature_distance(real, fake)


def feature_distance(real: list[list[Array]], fake: list[list[Array]]) -> Array:
    """The sum alone, as DAC has it."""
    pairs = [(a, b) for many, others in zip(real, fake, strict=True) for a, b in zip(many, others, strict=True)]
    return sum((jnp.mean(jnp.abs(a - b)) for a, b in pairs), jnp.zeros(()))


def adaptive_weight(of_reconstruction: Array, of_adversary: Array, weight: float = 0.5) -> Array:
    """The weight at which the adversary pulls on the last layer as the reconstruction does (Esser et al., 2021, eq. 7).

    Args:
      of_reconstruction: gradient of the reconstruction loss with respect to the last layer's kernel.
      of_adversary: gradient of the generator's adversarial loss, the same shape.
      weight: factor on the result.

    Returns:
      (), at most 10,000 `weight`; nothing flows back through it.
    """
    norms = [jnp.sqrt(jnp.sum(jnp.square(g))) for g in (of_reconstruction, of_adversary)]
    return jax.lax.stop_gradient(weight * jnp.clip(norms[0] / (norms[1] + 1e-4), 0, 1e4))


Judgement = tuple[Array, tuple[Metrics, Any]]


class Adversarial(NamedTuple):
    """What is trained: three pure functions, called in this order, and when the second of them begins.

    Attributes:
      generate: `(params, extra, batch, key, frozen) -> (made, extra)` runs the generator; `made` is what both losses
        read, any tree of floating-point arrays.
      discriminator_loss: `(params, extra, made, batch, key, frozen) -> (value, (metrics, extra))`, of the
        discriminator's parameters, for fixed `made`.
      generator_loss: `(made, params, extra, batch, key, frozen) -> (value, (metrics, extra))`, of `made`, against the
        updated discriminator; before `start`, of `made` alone, with None for the parameters.
      start: number of steps before the discriminator is run at all (`make_gan_step` with `alone`).

    Both losses are means over the batch. `extra` is {"generator": collections, "discriminator": collections}, passed on
    from one to the next. `batch` holds "index", as in `make_step`, and "step" (), the number of steps taken.
    """

    generate: Callable[[Any, Any, dict[str, Array], Array, Any], tuple[Any, Any]]
    discriminator_loss: Callable[[Any, Any, Any, dict[str, Array], Array, Any], Judgement]
    generator_loss: Callable[[Any, Any, Any, dict[str, Array], Array, Any], Judgement]
    start: int = 0


def prepared(losses: Adversarial, prepare: Callable[[dict[str, Array]], dict[str, Array]]) -> Adversarial:
    """The same losses on batches that `prepare` completes first, for example with spectrograms of their waveforms."""

    def generate(params: Any, extra: Any, batch: dict[str, Array], key: Array, frozen: Any) -> tuple[Any, Any]:
        return losses.generate(params, extra, prepare(batch), key, frozen)

    def discriminator_loss(
        params: Any, extra: Any, made: Any, batch: dict[str, Array], key: Array, frozen: Any
    ) -> Judgement:
        return losses.discriminator_loss(params, extra, made, prepare(batch), key, frozen)

    def generator_loss(
        made: Any, params: Any, extra: Any, batch: dict[str, Array], key: Array, frozen: Any
    ) -> Judgement:
        return losses.generator_loss(made, params, extra, prepare(batch), key, frozen)

    return losses._replace(generate=generate, discriminator_loss=discriminator_loss, generator_loss=generator_loss)


def gan_optimizer(
    generator: optax.GradientTransformation, discriminator: optax.GradientTransformation
) -> optax.GradientTransformation:
    """One optimiser of {"generator": ..., "discriminator": ...} made of one for each, for `create` and the step.

    An update may hold one of the two alone; the other's state then stays as it is.
    """
    sides = {GENERATOR: generator, DISCRIMINATOR: discriminator}

    def init(params: Any) -> Any:
        return {name: tx.init(params[name]) for name, tx in sides.items()}

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        made, new = {}, dict(state)
        for name, gradients in updates.items():
            made[name], new[name] = sides[name].update(gradients, state[name], None if params is None else params[name])
        return made, new

    return optax.GradientTransformation(init, update)


def make_gan_step(
    losses: Adversarial,
    tx: optax.GradientTransformation,
    *,
    ema_decay: float | Callable[[Array], Array] = 0.0,
    clip_norm: float | None = None,
    discriminator_clip_norm: float | None = None,
    skip_nonfinite: bool = True,
    learning_rate: Callable[[Any], Any] | None = None,
    axis_name: str | None = None,
    alone: bool = False,
) -> Step:
    """Builds `step(state, batch, frozen=None) -> (state, metrics)` that updates the discriminator, then the generator.

    The generator runs once: the discriminator learns from what it made, and the generator's gradient is pulled back
    through that run from the losses that the updated discriminator gives. The state's `params` are {"generator": ...,
    "discriminator": ...}, and so is `extra`; if it holds an average, then of what it has of these (`create_gan`).

    Args:
      losses: see `Adversarial`; both must be means over items for data parallelism to be exact.
      tx: `gan_optimizer` of both sides, which made `state.opt_state`.
      ema_decay: as in `make_step`, of the generator.
      clip_norm: scale the generator's gradient down to this global norm.
      discriminator_clip_norm: the same for the discriminator's.
      skip_nonfinite: where a loss or a gradient of either side is not finite, change nothing but the step counter.
      learning_rate: reported as the metric `lr`, given the number of steps taken.
      axis_name: the mapped axis under pmap: gradients and metrics are averaged over it.
      alone: make the step of before `losses.start`, which neither runs nor trains the discriminator. It is a program of
        its own: XLA for CPUs runs convolutions inside of conditions many times slower.

    Returns:
      A pure function. Its metrics are those of both losses, averaged, and `loss` (the generator's),
      `discriminator_loss`, `grad_norm` and `discriminator_grad_norm` (before clipping), `skipped` and `lr`.
    """

    def averaged(tree: Any) -> Any:
        return tree if axis_name is None else jax.lax.pmean(tree, axis_name)

    def updated(name: str, params: Any, gradients: Any, opt_state: Any, limit: float | None):
        gradients, norm = clipped(gradients, limit)
        update: Any = tx.update({name: gradients}, opt_state, params)
        updates, opt_state = update
        return {**params, name: optax.apply_updates(params[name], updates[name])}, opt_state, norm

    def step(state: TrainState, batch: dict[str, Array], frozen: Any = None) -> tuple[TrainState, Metrics]:
        batch = {**batch, "index": batch_index(batch, axis_name), "step": state.step}
        key = jax.random.fold_in(state.key, state.step)
        params, opt_state = state.params, state.opt_state

        def generate(generator: Any) -> tuple[Any, Any]:
            return losses.generate(generator, state.extra, batch, key, frozen)

        made, pull, extra = jax.vjp(generate, params[GENERATOR], has_aux=True)
        judged = judge_norm = jnp.zeros(())
        judge_metrics: Metrics = {}
        if not alone:
            judge = jax.value_and_grad(losses.discriminator_loss, has_aux=True)
            (judged, (judge_metrics, extra)), gradients = judge(params[DISCRIMINATOR], extra, made, batch, key, frozen)
            judged, judge_metrics, gradients = averaged((judged, judge_metrics, gradients))
            limit = discriminator_clip_norm
            params, opt_state, judge_norm = updated(DISCRIMINATOR, params, gradients, opt_state, limit)

        please = jax.value_and_grad(losses.generator_loss, has_aux=True)
        critic = None if alone else params[DISCRIMINATOR]
        (value, (metrics, extra)), slope = please(made, critic, extra, batch, key, frozen)
        value, metrics, gradients = averaged((value, metrics, pull(slope)[0]))
        params, opt_state, norm = updated(GENERATOR, params, gradients, opt_state, clip_norm)

        metrics = {**judge_metrics, **metrics, "loss": value, "discriminator_loss": judged}
        metrics |= {"grad_norm": norm, "discriminator_grad_norm": judge_norm}
        return finish(
            state,
            (params, opt_state, extra),
            metrics,
            good=jnp.all(jnp.isfinite(jnp.stack([value, judged, norm, judge_norm]))),
            ema_decay=ema_decay,
            skip_nonfinite=skip_nonfinite,
            learning_rate=learning_rate,
        )

    return step


def create_gan(
    params: Any, extra: Any, tx: optax.GradientTransformation, key: Array, *, ema: bool = False
) -> TrainState:
    """Makes the state before the first step, as `create`, with an average of the generator alone.

    Args:
      params: {"generator": ..., "discriminator": ...}.
      extra: mutable collections of both, under the same names.
      tx: `gan_optimizer` of both sides.
      key: typed PRNG key.
      ema: keep a moving average of the generator.

    Raises:
      ConfigError: `params` or `extra` names something else.
    """
    for tree in (params, extra):
        if set(tree) != {GENERATOR, DISCRIMINATOR}:
            raise ConfigError(f"a GAN's trees are {GENERATOR!r} and {DISCRIMINATOR!r}, not {', '.join(tree) or 'none'}")
    average = {GENERATOR: jax.tree.map(jnp.copy, params[GENERATOR])} if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), average, extra, key)
