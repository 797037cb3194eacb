"""Starting from something that is there already: variations and style transfer."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxaudio.errors import ConfigError
from jaxaudio.samplers.sampling import item_noise
from jaxaudio.samplers.schedules import Schedule


def start(
    known: jax.Array,
    schedule: Schedule,
    strength: float,
    key: jax.Array | None = None,
    *,
    noise: jax.Array | None = None,
    items: jax.Array | None = None,
    original: bool = False,
) -> tuple[jax.Array, Schedule]:
    """Noises data to where the last part of a schedule begins; sampling that part varies it (Meng et al. 2022).

    Args:
      known: (batch, ...) data.
      schedule: of S steps.
      strength: from 0 to 1, the part of the steps that is taken: round(strength * S), at least one unless it is 0. 0
        returns the data with no steps to take; 1 keeps of it only what the first level holds.
      key: draws the noise, as `item_noise` does.
      noise: of the shape of `known`, in place of the key's.
      items: (batch,) numbers of the items, where the batch is part of a larger one.
      original: as AudioLDM's own style transfer, which rounds down, and noises one step further than the first level
        that it denoises.

    Returns:
      (x, the schedule's last steps), for `sample`.

    Raises:
      ConfigError: a strength outside [0, 1]; with `original`, one that takes every step, at which it fails.
    """
    if not 0 <= strength <= 1:
        raise ConfigError(f"strength {strength}: give a number from 0 (the same again) to 1 (all anew).")
    exact = strength * schedule.steps
    steps = int(exact) if original else max(round(exact), int(strength > 0))
    if original and steps == schedule.steps:
        raise ConfigError(f"AudioLDM's own transfer has no level for strength {strength}: lower it, or original=False.")
    if steps == 0 and not original:
        return known, schedule.last(0)
    first = schedule.steps - steps - int(original)
    alpha, sigma = float(schedule.alpha[first]), float(schedule.sigma[first])
    if noise is None:
        if key is None:
            raise ConfigError("Noise is drawn to start from: give a key, jax.random.key(seed).")
        noise = item_noise(key, known.shape, items=items, dtype=_floating(known.dtype))
    return alpha * known + sigma * noise, schedule.last(steps)


def _floating(dtype: Any) -> Any:
    return jnp.promote_types(dtype, jnp.float32)
