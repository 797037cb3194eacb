import importlib
import subprocess
import sys

import pytest

from jaxaudio.data.pipeline import MixtureConfig, MixturePipeline
from jaxaudio.errors import MissingError

from .sounds import clip

HEAVY = ("jax", "grain", "tensorflow_datasets", "tensorflow", "torch", "scipy", "matplotlib")


def test_importing_data_is_light():
    program = f"import sys, jaxaudio.data.build, jaxaudio.metrics; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_data_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(MissingError, match=r"pip install 'jaxaudio\[data\]'"):
        MixturePipeline([clip(0)], MixtureConfig())
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    monkeypatch.delitem(sys.modules, "jaxaudio.data.audio_clips", raising=False)
    with pytest.raises(MissingError, match=r"pip install 'jaxaudio\[data\]'"):
        importlib.import_module("jaxaudio.data.audio_clips")
