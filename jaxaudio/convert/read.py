"""Published checkpoints as plain arrays. Nothing in a file is ever executed."""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxaudio.errors import CheckpointError, MissingError

_WRAPPERS = ("state_dict", "model", "module")  # Lightning and LAION, LASS-Net, DeepSpeed
_PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin"})


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint, {key: array}, keys as stored.

    Of a file that holds more than weights (optimiser, epoch), the state dict alone is returned.

    Args:
      path: .safetensors, read without torch; or .ckpt, .pt, .pth, .bin, read by torch's weights-only loader.

    Returns:
      Arrays in the layout and precision of the file; bfloat16 as float32.

    Raises:
      MissingError: there is no such file, or torch is needed and not installed.
      CheckpointError: the file is truncated or damaged, holds no tensors, or holds code, which is never executed.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"there is no checkpoint {path}; check the path.")
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    elif path.suffix in _PICKLES:
        state = _read_pickle(path)
    else:
        known = ", ".join(sorted({".safetensors", *_PICKLES}))
        raise CheckpointError(f"cannot tell what {path} is; give a checkpoint that ends in {known}.")
    if not state:
        raise CheckpointError(f"{path} holds no tensors; get the published checkpoint.")
    return state


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    try:
        return {key: _plain(x) for key, x in load_file(path).items()}
    except Exception as error:  # its own exceptions, and whatever a header of any content leads to
        raise CheckpointError(f"{path} is truncated or damaged ({_reason(error)}); get it again.") from error


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise MissingError(f"reading {path.name} needs torch; pip install 'jaxaudio[torch]'") from error
    import pickle

    def load(mmap: bool) -> Any:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)

    try:
        try:
            found = load(mmap=True)
        except (RuntimeError, ValueError) as error:
            if "mmap" not in str(error):
                raise
            found = load(mmap=False)  # written by an old torch, which cannot be mapped
    except pickle.UnpicklingError as error:
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            message = f"{path} holds Python objects besides weights, which are not executed; save its state dict alone."
            raise CheckpointError(message) from error
        raise CheckpointError(f"{path} is truncated or damaged; get it again.") from error
    except Exception as error:  # a damaged file can make the loader raise anything
        raise CheckpointError(f"{path} is truncated or damaged ({_reason(error)}); get it again.") from error

    def array(x: Any) -> np.ndarray:
        x = x.detach()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()

    return {str(key): array(x) for key, x in _state(found).items() if isinstance(x, torch.Tensor)}


def _state(found: Any) -> Mapping[Any, Any]:
    while isinstance(found, Mapping):
        inner = next((found[name] for name in _WRAPPERS if isinstance(found.get(name), Mapping)), None)
        if inner is None:
            return found
        found = inner
    return {}


def _plain(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype.name == "bfloat16" else x


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:160].rstrip(".") if text else type(error).__name__
