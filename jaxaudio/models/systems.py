"""What a model folder may hold: the systems, their configurations and the shapes of their weights."""

import dataclasses
import functools
import importlib
import typing
from collections.abc import Mapping
from typing import Any

from jaxaudio.errors import CheckpointError

HOMES = {
    "audiosep": "jaxaudio.systems.audiosep",
    "lassnet": "jaxaudio.systems.lassnet",
    "clap": "jaxaudio.text.clap",
}

Tree = dict[str, Any]


def module(system: str) -> Any:
    """The module of a system; CheckpointError for one that this version does not know."""
    if system not in HOMES:
        raise CheckpointError(f"this version knows no system {system!r}, only {', '.join(HOMES)}; upgrade jaxaudio.")
    return importlib.import_module(HOMES[system])


def config_from_json(system: str, fields: Any) -> Any:
    """A system's configuration from the plain values of `dataclasses.asdict`.

    Raises:
      CheckpointError: a field that the configuration does not have, or a value that does not fit.
    """
    try:
        return _build(module(system).Config, fields)
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"the configuration does not fit {system} ({error}); get the model again, or upgrade jaxaudio."
        ) from error


def shapes(system: str, config: Any, text: Mapping[str, Any]) -> Tree:
    """The tree of `jax.ShapeDtypeStruct` that the weights of a model must have.

    Separators keep theirs under "separator". A CLAP model, alone or as the query encoder of AudioSep, is under "query".
    """
    import jax

    def shapes_of(home: Any, config: Any) -> Any:
        return jax.eval_shape(lambda: home.init(jax.random.key(0), config))

    if system == "clap":
        return {"query": shapes_of(module("clap"), config)}
    tree = {"separator": shapes_of(module(system), config)}
    if text.get("kind") == "clap":
        tree["query"] = shapes_of(module("clap"), config_from_json("clap", text["config"]))
    return tree


@functools.cache
def process(system: str, config: Any) -> Any:
    """The jitted separator: (params, mixture (rows, time), condition (queries, width)) -> (rows, queries, time)."""
    import jax
    import jax.numpy as jnp

    separate = module(system).separate

    def run(params: Tree, mixture: jax.Array, condition: jax.Array) -> jax.Array:
        return separate(params, config, mixture, jnp.broadcast_to(condition, (len(mixture), *condition.shape)))

    return jax.jit(run)


def footprint(config: Any, samples: int) -> int:
    """Bytes of activations, roughly, while one query is asked of `samples` samples.

    A dozen arrays live at once at the finest resolution, where a U-Net has nearly all of its memory.
    """
    rows, columns = getattr(config, "patch", (1, 1))
    positions = (1 + samples / config.hop) * (config.n_fft / 2) / (rows * columns)
    return round(12 * 4 * positions * config.channels[0])


def _build(cls: Any, fields: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(fields) - {field.name for field in dataclasses.fields(cls)})
    if unknown:
        raise TypeError(f"unknown: {', '.join(unknown)}")

    def value(name: str, given: Any) -> Any:
        return _build(hints[name], given) if dataclasses.is_dataclass(hints[name]) else _frozen(given)

    return cls(**{name: value(name, given) for name, given in fields.items()})


def _frozen(value: Any) -> Any:
    """JSON has no tuples, and configurations must be hashable."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
