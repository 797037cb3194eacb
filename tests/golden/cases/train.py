"""Golden cases of training: ours under the original's tensor names."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import optax

from jaxaudio.train.optim import Optimizer, constant_warm_up, linear_warm_up


def audiosep_lr_schedule(case: Mapping, keys: Mapping, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The two factors at given steps, and the rates that the first 14 steps of an optimiser really used."""
    steps, warm_up, reduce = (inputs[name] for name in ("steps", "warm_up_steps", "reduce_lr_steps"))
    chosen = Optimizer(lr=case["config"]["learning_rate"], schedule="constant_warm_up", warm_up_steps=4)
    tx = optax.scale_by_learning_rate(chosen.learning_rate(14))
    state, used = tx.init(jnp.zeros(())), []
    for _ in range(14):
        update, state = tx.update(jnp.ones(()), state)
        used.append(-update)
    return {
        "constant_warm_up_scale_f64": np.asarray(constant_warm_up(steps, int(warm_up))),
        "linear_warm_up_scale_f64": np.asarray(linear_warm_up(steps, int(warm_up), int(reduce))),
        "lambda_lr_warm4_first14_f64": np.asarray(used),
    }


CASES = {"audiosep_lr_schedule": audiosep_lr_schedule}
