"""What a model folder may hold: the systems, their configurations and the shapes of their weights."""

import dataclasses
import functools
import importlib
import typing
from collections.abc import Mapping
from typing import Any, NoReturn

from jaxaudio.errors import CheckpointError, UsageError

HOMES = {
    "audiosep": "jaxaudio.systems.audiosep",
    "lassnet": "jaxaudio.systems.lassnet",
    "clap": "jaxaudio.text.clap",
    "audioldm": "jaxaudio.systems.audioldm",
    "flowsep": "jaxaudio.systems.flowsep",
    "dac": "jaxaudio.systems.dac",
    "sdcodec": "jaxaudio.systems.sdcodec",
    "taae": "jaxaudio.systems.taae",
    "sitok": "jaxaudio.systems.sitok",
    "captioning": "jaxaudio.systems.captioning",
    "wavcaps": "jaxaudio.systems.captioning.wavcaps",
    "ase": "jaxaudio.systems.ase",
    "soundlm": "jaxaudio.systems.soundlm",
}

LATENT = ("audioldm", "flowsep")
"""Those that sample latents: their weights are a "generator"."""

CODECS = ("dac", "sdcodec", "taae", "sitok")
"""Those that make tokens: their weights are a "codec"."""

CAPTIONERS = ("captioning", "wavcaps")
"""Those that say what they hear: their weights are a "captioner"."""

_PARTS = {"t5": "jaxaudio.text.t5"}  # of models, but none by themselves

Tree = dict[str, Any]


def module(system: str) -> Any:
    """The module of a system or of a part; CheckpointError for one that this version does not know."""
    home = HOMES.get(system) or _PARTS.get(system)
    if home is None:
        unknown(system)
    return importlib.import_module(home)


def unknown(system: str) -> NoReturn:
    """Raises CheckpointError for a system that this version does not know."""
    raise CheckpointError(f"this version knows no system {system!r}, only {', '.join(HOMES)}; upgrade jaxaudio.")


def stem(system: str) -> str:
    """What the names of a system's own weights begin with."""
    kinds = {"query": ("clap", "ase"), "generator": (*LATENT, "soundlm"), "codec": CODECS, "captioner": CAPTIONERS}
    return next((name for name, systems in kinds.items() if system in systems), "separator")


def reads(system: str) -> str:
    """The kind of text encoder of a system whose folder does not say, such as that of a training run."""
    kinds = {"captioning": "words", "wavcaps": "bart", "ase": "bert"}
    if system in kinds:
        return kinds[system]
    return "own" if system == "lassnet" else "none" if system in CODECS else "mini"


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

    Separators keep theirs under "separator", those that make sounds of words under "generator", codecs under "codec",
    captioners under "captioner". A CLAP model, alone or as the text encoder of another, is under "query", as are a T5
    and ASE.
    A CLAP that only reads has no audio branch.
    """
    import jax

    def shapes_of(home: Any, config: Any) -> Any:
        return jax.eval_shape(lambda: home.init(jax.random.key(0), config))

    tree = {stem(system): shapes_of(module(system), config)}
    kind = text.get("kind")
    if system != "clap" and kind in ("clap", "t5"):
        tree["query"] = shapes_of(module(kind), config_from_json(kind, text["config"]))
        if kind == "clap" and not text.get("audio", True):
            params = tree["query"]["params"]
            tree["query"] = {"params": {name: params[name] for name in ("text_branch", "text_projection")}}
    return tree


def in_dtype(config: Any, dtype: str) -> Any:
    """A configuration of which every part computes in "float32" or "bfloat16".

    Raises:
      UsageError: another type, or a system that has no choice.
    """
    if dtype not in ("float32", "bfloat16"):
        raise UsageError(f"no model computes in {dtype!r}; give float32 or bfloat16.")
    parts = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    changes = {
        name: dtype if name == "dtype" else in_dtype(part, dtype)
        for name, part in parts.items()
        if name == "dtype" or (dataclasses.is_dataclass(part) and not isinstance(part, type))
    }
    return dataclasses.replace(config, **changes)


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
        choices = [kind for kind in (hints[name], *typing.get_args(hints[name])) if dataclasses.is_dataclass(kind)]
        if not choices or given is None:
            return _frozen(given)
        # Where there are several, its names tell which one it is; if none has them all, the first says so.
        own = (kind for kind in choices if set(given) <= {field.name for field in dataclasses.fields(kind)})
        return _build(next(own, choices[0]), given)

    return cls(**{name: value(name, given) for name, given in fields.items()})


def _frozen(value: Any) -> Any:
    """JSON has no tuples, and configurations must be hashable."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
