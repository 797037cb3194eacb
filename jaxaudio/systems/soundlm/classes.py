"""The classes of sounds that the priors are told."""

from typing import Protocol

import jax.numpy as jnp
from jax import Array

from jaxaudio.errors import UsageError

URBANSOUND8K_CLASSES = (
    "air_conditioner",
    "car_horn",
    "children_playing",
    "dog_bark",
    "drilling",
    "engine_idling",
    "gun_shot",
    "jackhammer",
    "siren",
    "street_music",
)


class Named(Protocol):
    """What has names of classes, in the order of their numbers: the configuration of a prior."""

    @property
    def names(self) -> tuple[str, ...]:
        """See above."""
        ...


def class_ids(config: Named, names: tuple[str, ...] | list[str]) -> Array:
    """Classes (batch,) int32 by their names; UsageError for a name that there is not."""
    missing = [name for name in names if name not in config.names]
    if missing:
        raise UsageError(f"no class {missing[0]!r}; there are {', '.join(config.names) or 'none'}.")
    return jnp.asarray([config.names.index(name) for name in names], jnp.int32)
