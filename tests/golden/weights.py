"""Deterministic weights for golden cases: a pure function of a state-dict key and its shape, in torch-key space.

The recorded outputs were computed on exactly these values, so the recipe must not change.
"""

import zlib
from collections.abc import Mapping

import jax
import numpy as np

_SCALES = {"weight", "gamma", "scale", "g", "weight_g", "alpha"}


def fill(key: str, shape: tuple[int, ...], gain: float = 1.0) -> np.ndarray:
    """Pseudo-random float32 weights for one key: scaled matrices, norms near one, small biases, zero counters."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    shape = tuple(int(size) for size in shape)
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if not shape:
        return np.asarray(1 + 0.1 * rng.standard_normal(), np.float32)
    if len(shape) > 1:
        fan_in = max(1, int(np.prod(shape[1:])))
        return (gain / np.sqrt(fan_in) * rng.standard_normal(shape)).astype(np.float32)
    if key.endswith("running_var"):
        return (0.75 + 0.5 * rng.random(shape)).astype(np.float32)
    if key.rsplit(".", 1)[-1] in _SCALES:
        return (1 + 0.1 * rng.standard_normal(shape)).astype(np.float32)
    return (0.05 * rng.standard_normal(shape)).astype(np.float32)


def state_dict_of(keys: Mapping[str, tuple[int, ...]], case: Mapping) -> dict[str, np.ndarray]:
    """The filled state dict of a golden case, without the keys that the original module computes by itself.

    `gain_overrides` is a map or a list of (substring, gain); the last one that occurs in a key wins. Inside
    `double_precision` the same numbers are float64.
    """
    overrides = case.get("gain_overrides") or {}
    overrides = list(overrides.items() if isinstance(overrides, Mapping) else overrides)
    left_out = {*(case.get("unfilled_keys") or ()), *(case.get("kept_buffers") or ())}

    def gain(key: str) -> float:
        return next((g for part, g in reversed(overrides) if part in key), case.get("gain") or 1.0)

    return widened({key: fill(key, shape, gain(key)) for key, shape in keys.items() if key not in left_out})


def widened(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same, as float64 where jax has 64-bit arrays."""
    widest = jax.dtypes.canonicalize_dtype(np.float64)
    return {name: x.astype(widest) if x.dtype == np.float32 else x for name, x in arrays.items()}
