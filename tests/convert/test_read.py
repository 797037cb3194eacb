"""Checkpoints are read as arrays, whatever they are wrapped in; damage and code are refused."""

import pickle
import sys
import types

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.numpy import save, save_file

from jaxaudio.convert.read import read_checkpoint
from jaxaudio.errors import CheckpointError, MissingError

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_safetensors_are_read_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    save_file({"a.weight": WEIGHT, "b": np.ones(2, np.float16)}, tmp_path / "a.safetensors")
    found = read_checkpoint(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(found["a.weight"], WEIGHT)
    assert found["b"].dtype == np.float16


def test_bfloat16_becomes_float32(tmp_path):
    save_file({"a": WEIGHT.astype(ml_dtypes.bfloat16)}, tmp_path / "a.safetensors")
    found = read_checkpoint(tmp_path / "a.safetensors")["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, WEIGHT)


def test_without_torch_pickles_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.ckpt").write_bytes(b"x")
    with pytest.raises(MissingError, match=r"pip install 'jaxaudio\[torch\]'"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_missing_unknown_and_empty_files(tmp_path):
    with pytest.raises(MissingError, match="no checkpoint"):
        read_checkpoint(tmp_path / "a.pt")
    (tmp_path / "a.onnx").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="cannot tell what"):
        read_checkpoint(tmp_path / "a.onnx")
    save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match="holds no tensors"):
        read_checkpoint(tmp_path / "a.safetensors")


fuzz = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
GOOD = save({"a.weight": WEIGHT})


@fuzz
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path, data):
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "a.safetensors")


@fuzz
@given(size=st.integers(0, len(GOOD) - 1))
def test_truncated_files_are_refused(tmp_path, size):
    (tmp_path / "a.safetensors").write_bytes(GOOD[:size])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        read_checkpoint(tmp_path / "a.safetensors")


class Tensor:
    """As much of a torch tensor as the reader uses."""

    dtype = "float32"

    def __init__(self, x):
        self.x = x

    def detach(self):
        return self

    def numpy(self):
        return self.x


@pytest.fixture
def torch(monkeypatch):
    """Stands in for torch, which the tests do without: `fake.found` is what it loads, or the error that it raises."""
    fake = types.ModuleType("torch")
    fake.Tensor, fake.bfloat16, fake.calls = Tensor, "bfloat16", []

    def load(path, **options):
        fake.calls.append(options)
        found = fake.found(options) if callable(fake.found) else fake.found
        if isinstance(found, Exception):
            raise found
        return found

    fake.load = load
    monkeypatch.setitem(sys.modules, "torch", fake)
    return fake


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "optimizer_states": [{}]},
        lambda state: {"model": state},
        lambda state: {"model": {"state_dict": state}},
    ],
)
def test_state_dicts_are_unwrapped(tmp_path, torch, wrap):
    torch.found = wrap({"module.a": Tensor(WEIGHT), "steps": 3})
    (tmp_path / "a.pt").write_bytes(b"x")
    found = read_checkpoint(tmp_path / "a.pt")
    assert list(found) == ["module.a"]
    np.testing.assert_array_equal(found["module.a"], WEIGHT)
    assert all(options["weights_only"] is True for options in torch.calls)


def test_files_of_old_torches_are_read_unmapped(tmp_path, torch):
    torch.found = lambda options: (
        RuntimeError("mmap can only be used with ...") if options["mmap"] else {"a": Tensor(1)}
    )
    (tmp_path / "a.pth").write_bytes(b"x")
    assert read_checkpoint(tmp_path / "a.pth") == {"a": 1}


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (pickle.UnpicklingError("Weights only load failed. Unsupported global: GLOBAL os.system"), "not executed"),
        (pickle.UnpicklingError("invalid load key"), "truncated or damaged"),
        (RuntimeError("PytorchStreamReader failed finding central directory"), "truncated or damaged"),
        (EOFError(), "truncated or damaged"),
        ([1, 2], "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
    ],
)
def test_what_torch_cannot_read(tmp_path, torch, found, message):
    torch.found = found
    (tmp_path / "a.ckpt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=message) as raised:
        read_checkpoint(tmp_path / "a.ckpt")
    assert "\n" not in str(raised.value)
