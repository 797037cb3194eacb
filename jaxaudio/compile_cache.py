"""Compiled programs kept on disk, so that only the first call ever waits for the compiler."""

import os
from pathlib import Path

OFF = "off"


def cache_folder() -> Path | None:
    """Where compiled programs go: the first of these that is set; None when it says "off".

    `JAXAUDIO_CACHE` (then `<it>/xla`), JAX's own `JAX_COMPILATION_CACHE_DIR`, `XDG_CACHE_HOME` (then
    `<it>/jaxaudio/xla`), and else `~/.cache/jaxaudio/xla`.
    """
    if own := os.environ.get("JAXAUDIO_CACHE"):
        return None if own == OFF else Path(own).expanduser() / "xla"
    if given := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "jaxaudio" / "xla"


def enable_compile_cache(path: str | os.PathLike | None = None) -> Path | None:
    """Keeps everything that JAX compiles from now on in a folder, and reuses what is there.

    The command line does this by itself; a library must not do it unasked. Does no device work.

    Args:
      path: the folder, made when missing; by default `cache_folder()`.

    Returns:
      The folder, or None where there is none to be had: it is switched off, or cannot be written. That costs time and
      nothing else, so it is no error.
    """
    folder = cache_folder() if path is None else Path(path)
    if folder is None:
        return None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None

    import jax

    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
