"""Learning-rate schedules and the optimiser, equal to PyTorch's where published recipes were written for it."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

Schedule = Callable[[Any], Any]


def constant_warm_up(step: Any, warm_up_steps: int) -> jax.Array:
    """AudioSep's stepwise warm-up factor: 0.001, 0.01 and 0.1 for `warm_up_steps` steps each, then 1.

    Args:
      step: number of optimiser steps already taken, any shape.
      warm_up_steps: length of each of the three stages.
    """
    factor = jnp.where(step < 2 * warm_up_steps, 0.01, jnp.where(step < 3 * warm_up_steps, 0.1, 1.0))
    return jnp.where(step < warm_up_steps, 0.001, factor)


def linear_warm_up(step: Any, warm_up_steps: int, reduce_lr_steps: int) -> jax.Array:
    """AudioSep's other factor: `step / warm_up_steps` up to 1, then 0.9 to the power `step // reduce_lr_steps`."""
    step = jnp.asarray(step)
    return jnp.where(step <= warm_up_steps, step / warm_up_steps, 0.9 ** (step // reduce_lr_steps))


def exponential_decay(step: Any, warm_up_steps: int, gamma: float) -> jax.Array:
    """The codecs' factor: `step / warm_up_steps` up to 1, then `gamma` to the power of the steps since."""
    step = jnp.asarray(step)
    # 0.999996 has two digits left in float32 once 1 is taken away, its logarithm all of them.
    decayed = jnp.exp(math.log(gamma) * jnp.maximum(step - warm_up_steps, 0))
    return jnp.where(step < warm_up_steps, step / max(warm_up_steps, 1), decayed)


class AdamState(NamedTuple):
    """`nu_max` is None without amsgrad."""

    count: jax.Array
    mu: Any
    nu: Any
    nu_max: Any


def scale_by_torch_adam(b1: float, b2: float, eps: float, amsgrad: bool) -> optax.GradientTransformation:
    """Adam's direction as PyTorch computes it.

    It differs from optax in amsgrad: PyTorch keeps the maximum of the *uncorrected* second moment and corrects the
    bias afterwards.
    """

    def init(params: Any) -> AdamState:
        def zeros():
            return jax.tree.map(jnp.zeros_like, params)

        return AdamState(jnp.zeros((), jnp.int32), zeros(), zeros(), zeros() if amsgrad else None)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, AdamState]:
        del params
        count = state.count + 1
        # 1 - b**n through expm1: in float32 the plain form loses five digits at n = 1.
        correct1, correct2 = (-jnp.expm1(count * math.log(b)) for b in (b1, b2))
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, state.nu, updates)
        nu_max = jax.tree.map(jnp.maximum, state.nu_max, nu) if amsgrad else None

        def direction(m, v):
            return (m / correct1 / (jnp.sqrt(v) / jnp.sqrt(correct2) + eps)).astype(m.dtype)

        return jax.tree.map(direction, mu, nu_max if amsgrad else nu), AdamState(count, mu, nu, nu_max)

    return optax.GradientTransformation(init, update)


def adamw(
    learning_rate: float | Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    """AdamW with decoupled weight decay, equal to `torch.optim.AdamW` step for step."""
    decay = optax.add_decayed_weights(weight_decay) if weight_decay else optax.identity()
    return optax.chain(scale_by_torch_adam(b1, b2, eps, amsgrad), decay, optax.scale_by_learning_rate(learning_rate))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW and its schedule, as an experiment names them.

    Attributes:
      lr: peak learning rate.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the denominator.
      weight_decay: decoupled weight decay.
      amsgrad: divide by the largest second moment seen, not the present one.
      schedule: shape of the learning rate; "cosine" warms up linearly and falls to `final_lr` at the last step.
      warm_up_steps: length of the warm-up (of each stage for "constant_warm_up"); at least 1, or 0 for "exponential".
      reduce_lr_steps: "linear_warm_up" multiplies by 0.9 every so many steps.
      gamma: "exponential" multiplies by it at every step after its linear warm-up.
      final_lr: where "cosine" ends.
    """

    lr: float = 1e-3
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    schedule: Literal["constant", "constant_warm_up", "linear_warm_up", "exponential", "cosine"] = "constant"
    warm_up_steps: int = 1
    reduce_lr_steps: int = 1_000_000
    gamma: float = 0.999996
    final_lr: float = 0.0

    def learning_rate(self, steps: int) -> Schedule:
        """The learning rate of each step, counted from 0, in a run of `steps` steps."""
        match self.schedule:
            case "constant":
                return optax.constant_schedule(self.lr)
            case "constant_warm_up":
                return lambda step: self.lr * constant_warm_up(step, self.warm_up_steps)
            case "linear_warm_up":
                return lambda step: self.lr * linear_warm_up(step, self.warm_up_steps, self.reduce_lr_steps)
            case "exponential":
                return lambda step: self.lr * exponential_decay(step, self.warm_up_steps, self.gamma)
            case "cosine":
                warm_up, total = min(self.warm_up_steps, max(steps - 1, 0)), max(steps, 2)
                return optax.warmup_cosine_decay_schedule(0.0, self.lr, warm_up, total, self.final_lr)
        raise ValueError(f"unknown schedule {self.schedule!r}")

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optimiser for a run of `steps` steps."""
        return adamw(
            self.learning_rate(steps),
            b1=self.b1,
            b2=self.b2,
            eps=self.eps,
            weight_decay=self.weight_decay,
            amsgrad=self.amsgrad,
        )
