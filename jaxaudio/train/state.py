"""The one training state of the library."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """Everything that a training run carries from step to step, and all that a checkpoint must hold besides the data
    position.

    Attributes:
      step: () int32, number of steps taken.
      params: the trainable tree.
      opt_state: the optimiser's state for `params`.
      ema: exponential moving average of `params`, or None.
      extra: mutable collections such as {"batch_stats": ...}; {} when there are none.
      key: typed PRNG key of the run; step n draws from `fold_in(key, n)`.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    ema: Any
    extra: Any
    key: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """What inference uses: the averaged parameters where there are any, with the mutable collections."""
        return {"params": self.params if self.ema is None else self.ema, **self.extra}


def create(
    params: Any, extra: Any, tx: optax.GradientTransformation, key: jax.Array, *, ema: bool = False
) -> TrainState:
    """Makes the state before the first step.

    Args:
      params: the trainable tree; it is not copied, and a step that donates its state consumes it.
      extra: mutable collections, {} for none.
      tx: the optimiser.
      key: typed PRNG key.
      ema: keep a moving average. It starts as a copy, since one buffer cannot be donated twice.
    """
    average = jax.tree.map(jnp.copy, params) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), params, tx.init(params), average, extra, key)
