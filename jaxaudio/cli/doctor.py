"""`jaxaudio doctor`."""

import dataclasses
import importlib.util
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Any

from jaxaudio.cli import show
from jaxaudio.cli.parse import parse

_CORE = ("jaxaudio", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "soundfile", "soxr", "tokenizers")
_EXTRAS = {
    "data": ("tensorflow_datasets", "array_record", "grain"),
    "torch": ("torch",),
    "tensorboard": ("tensorboardX",),
}
_PLUGIN = re.compile(r"jax[-_](cuda\d+|rocm\d+|metal)[-_]?(plugin|pjrt)?$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor:
    """Looks at this installation: versions, devices, caches, extras, memory, and what can run.

    Ends with what is wrong and the command that mends it; the exit status is 1 if anything is.
    """

    json: bool = False
    """Print JSON."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    options = parse(Doctor, words, "doctor")
    packages = installed()
    problems = mismatches(packages)
    devices, trouble = _devices()
    problems += trouble
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": packages,
        "devices": devices,
        "memory_gib": _memory(),
        "disk_free_gib": round(shutil.disk_usage(Path.home()).free / 2**30, 1),
        "compile_cache": _cache(),
        "extras": {
            extra: "installed" if _present(modules) else f"pip install 'jaxaudio[{extra}]'"
            for extra, modules in _EXTRAS.items()
        },
        "can": _abilities(),
        "problems": problems,
    }
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)
    return 1 if problems else 0


def installed() -> dict[str, str | None]:
    """Versions of what matters; of accelerator plugins, those that are there."""

    def of(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    names = {(one.metadata["Name"] or "").lower() for one in distributions()}
    plugins = sorted(name for name in names if _PLUGIN.match(name) or name == "libtpu")
    return {name: of(name) for name in (*_CORE, *plugins)}


def mismatches(packages: dict[str, str | None]) -> list[str]:
    """What does not go together among the installed versions, each with the command that mends it."""
    problems = []
    jax, jaxlib = packages.get("jax"), packages.get("jaxlib")
    if jax and jaxlib != jax:
        problems.append(f"jax {jax} with jaxlib {jaxlib}: pip install 'jax=={jax}' 'jaxlib=={jax}'")
    for name, found in packages.items():
        plugin = _PLUGIN.match(name)
        if plugin and found != jaxlib:
            problems.append(f"{name} {found} with jaxlib {jaxlib}: pip install 'jax[{plugin[1]}]=={jax}'")
    missing = [name for name in _CORE if packages.get(name) is None]
    if missing:
        problems.append(f"not installed: {', '.join(missing)}: pip install {' '.join(missing)}")
    return problems


def _devices() -> tuple[list[str], list[str]]:
    """The devices, and why there are fewer than could be."""
    try:
        import jax

        devices = [f"{device.platform} {device.id}: {device.device_kind}" for device in jax.devices()]
        backend = jax.default_backend()
    except Exception as error:  # a broken plugin can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return [], [f"JAX finds no device ({reason}): unset JAX_PLATFORMS, or pip install -U jax"]
    if backend == "cpu" and shutil.which("nvidia-smi") and os.environ.get("JAX_PLATFORMS", "") != "cpu":
        return devices, ["there is an NVIDIA driver, but JAX uses the CPU: pip install -U 'jax[cuda12]'"]
    return devices, []


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def _cache() -> dict[str, Any]:
    from jaxaudio.compile_cache import cache_folder

    folder = cache_folder()
    if folder is None:
        return {"folder": None}
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return {
        "folder": str(folder),
        "programs": len(files),
        "mib": round(sum(x.stat().st_size for x in files) / 2**20, 1),
    }


def _present(modules: Sequence[str]) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


def _abilities() -> dict[str, str]:
    """What can be done here, and what it would take where it cannot."""
    from jaxaudio.models.registry import shipped

    models = list(shipped())
    separate = f"yes: {', '.join(models)}" if models else "with a model of your own: jaxaudio models convert ..."
    torch, data = _present(_EXTRAS["torch"]), _present(_EXTRAS["data"])
    pickles = "yes" if torch else "from .safetensors; for .ckpt and .pt: pip install 'jaxaudio[torch]'"
    return {
        "separate": separate,
        "separate with AudioSep, LASS-Net": "after jaxaudio models convert",
        "convert checkpoints": pickles,
        "build data sets and train": "yes" if data else "pip install 'jaxaudio[data]'",
    }


def _show(found: dict[str, Any]) -> None:
    packages = [(name, value or "not installed") for name, value in found["packages"].items()]
    show.table("versions", ("package", "version"), [("python", found["python"]), *packages])
    cache = found["compile_cache"]
    kept = f"{cache['folder']} ({cache['programs']} files, {cache['mib']} MiB)" if cache["folder"] else "off"
    rows = [
        *((f"device {i}", device) for i, device in enumerate(found["devices"])),
        ("memory", f"{found['memory_gib']} GiB"),
        ("disk", f"{found['disk_free_gib']} GiB free"),
        ("compiled programs", kept),
        *((f"extra '{name}'", state) for name, state in found["extras"].items()),
    ]
    show.table("this machine", ("", ""), rows)
    show.table("what can run", ("", ""), list(found["can"].items()))
    for problem in found["problems"]:
        print(f"wrong: {problem}", file=sys.stderr)
    if not found["problems"]:
        print("nothing is wrong")
