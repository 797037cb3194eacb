"""Importing the package is cheap and touches nothing."""

import subprocess
import sys

import pytest

import jaxaudio


def python(code, *words):
    made = subprocess.run([sys.executable, *words, "-c", code], capture_output=True, text=True, check=True)
    return made.stdout.strip() + made.stderr.strip()


def test_import_loads_neither_jax_nor_anything_else_that_is_slow():
    code = (
        "import sys, jaxaudio, jaxaudio.cli\n"
        "slow = {'jax', 'flax', 'numpy', 'tensorflow', 'torch', 'matplotlib', 'tyro', 'rich', 'soundfile', 'orbax'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    assert python(code) == "[]"


def test_no_room_imports_tensorflow_torch_or_matplotlib():
    code = (
        "import sys, jaxaudio\n"
        "rooms = [getattr(jaxaudio, room) for room in jaxaudio._ROOMS]\n"
        "import jaxaudio.models.separator, jaxaudio.systems.audiosep, jaxaudio.text.clap, jaxaudio.cli.separate\n"
        "print(sorted({'tensorflow', 'torch', 'matplotlib', 'tensorflow_datasets', 'grain'} & set(sys.modules)))\n"
        "import jax\n"
        "print(jax._src.xla_bridge.backends_are_initialized())"
    )
    assert python(code) == "[]\nFalse"


def test_public_names_are_there():
    assert callable(jaxaudio.load)
    assert callable(jaxaudio.enable_compile_cache)
    assert jaxaudio.__version__
    assert {"load", "enable_compile_cache", "models", "dsp"} <= set(dir(jaxaudio))
    with pytest.raises(AttributeError, match="no attribute 'loud'"):
        jaxaudio.loud  # noqa: B018


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"JAXAUDIO_CACHE": "/a", "JAX_COMPILATION_CACHE_DIR": "/b"}, "/a/xla"),
        ({"JAX_COMPILATION_CACHE_DIR": "/b", "XDG_CACHE_HOME": "/c"}, "/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/jaxaudio/xla"),
        ({"HOME": "/home/someone"}, "/home/someone/.cache/jaxaudio/xla"),
        ({"JAXAUDIO_CACHE": "off", "JAX_COMPILATION_CACHE_DIR": "/b"}, "None"),
    ],
)
def test_the_compile_cache_is_where_the_environment_says(monkeypatch, environment, folder):
    from jaxaudio.compile_cache import cache_folder

    for name in ("JAXAUDIO_CACHE", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == folder


def test_a_compile_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    assert jaxaudio.enable_compile_cache(tmp_path / "file" / "cache") is None
