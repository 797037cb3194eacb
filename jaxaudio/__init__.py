"""Natural-language audio in JAX: separate, generate, caption and tokenise sound.

    import jaxaudio

    model = jaxaudio.load("separation-mini")
    dog = model.separate(audio, "a dog barking", sample_rate=44100)

Importing this package imports neither JAX nor anything else that is slow; each room loads when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxaudio.compile_cache import enable_compile_cache
    from jaxaudio.models import load

__all__ = ["__version__", "enable_compile_cache", "load"]

_HOMES = {"enable_compile_cache": "jaxaudio.compile_cache", "load": "jaxaudio.models"}
_ROOMS = ("convert", "data", "dsp", "errors", "io", "metrics", "models", "picture", "samplers", "text", "train")


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"jaxaudio.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("jaxaudio")
    raise AttributeError(f"module 'jaxaudio' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
