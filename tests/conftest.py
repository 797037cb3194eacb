"""What every test shares: the CPU, one compilation cache, and the marker of the quick subset."""

import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")
# Most of the suite's time is compilation: processes of one run, and later runs, share it.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(tempfile.gettempdir()) / "jaxaudio-tests-xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Small shapes run once or twice: a third less to compile is worth more than fast code.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=1".strip()

HERE = Path(__file__).parent
# What the oldest supported versions must pass: each way in which jax, flax, optax and orbax are used, once.
QUICK = (
    "convert/test_rules.py",
    "dsp/test_kaldi.py",
    "dsp/test_mel.py",
    "dsp/test_stft.py",
    "metrics/test_separation.py",
    "models/test_separator.py",
    "nn/test_attention.py",
    "nn/test_layers.py",
    "nn/test_llama.py",
    "nn/test_resnet.py",
    "nn/test_weight_norm.py",
    "samplers/test_guidance.py",
    "samplers/test_sampling.py",
    "samplers/test_schedules.py",
    "text/test_bert.py",
    "text/test_decode.py",
    "text/test_mini.py",
    "train/test_checkpoint.py",
    "train/test_optim.py",
    "train/test_step.py",
)


def pytest_collection_modifyitems(items):
    for item in items:
        path = item.path.relative_to(HERE).as_posix()
        if path.startswith(QUICK):
            item.add_marker(pytest.mark.quick)


def forget() -> None:
    """Drops every compiled program: each keeps some maps of memory, and a process dies of more than 65,530."""
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
        gc.collect()


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_compiled():
    yield
    forget()
