"""Ordered rules that turn a torch state dict into a parameter tree, with nothing left over on either side."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxaudio.errors import CheckpointError

State = Mapping[str, np.ndarray]

_LENGTHS = ("weight_g", "parametrizations.weight.original0")
_ROW = re.compile(r"(.*)\[(\d+)\]")


class Rule(NamedTuple):
    """Says where the tensors whose key matches go.

    Attributes:
      pattern: regular expression that must match the whole key.
      path: target path with "/" between names, a template for `re.Match.expand` (`\\1`, `\\g<name>`); None drops the
        tensor. Several targets (for a tensor that is split) are a tuple of paths, with an `op` that returns a tuple.
        A path that ends with "[3]" is row 3 of its leaf, as where the layers of a deep stack lie in one array.
      op: layout change, torch array -> our array.
    """

    pattern: str
    path: str | tuple[str, ...] | None
    op: Callable[[np.ndarray], Any] = lambda x: x


def linear(x: np.ndarray) -> np.ndarray:
    """Linear weight (out, in) -> kernel (in, out)."""
    return x.T


def conv1d(x: np.ndarray) -> np.ndarray:
    """Conv1d weight (out, in, width) -> kernel (width, in, out)."""
    return x.transpose(2, 1, 0)


def conv2d(x: np.ndarray) -> np.ndarray:
    """Conv2d weight (out, in, height, width) -> kernel (height, width, in, out)."""
    return x.transpose(2, 3, 1, 0)


def conv_transpose1d(x: np.ndarray) -> np.ndarray:
    """ConvTranspose1d weight (in, out, width) -> kernel (width, in, out)."""
    return x.transpose(2, 0, 1)


def conv_transpose2d(x: np.ndarray) -> np.ndarray:
    """ConvTranspose2d weight (in, out, height, width) -> kernel (height, width, in, out)."""
    return x.transpose(2, 3, 0, 1)


def split_qkv(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Fused query-key-value weight (3 * out, in) or bias (3 * out,) -> three kernels (in, out) or biases."""
    return tuple(part.T for part in np.split(x, 3, axis=0))


def prefixed(prefix: str, rules: Sequence[Rule], path: str = "") -> tuple[Rule, ...]:
    """The same rules for keys behind `prefix` (a regular expression), with targets below `path`."""

    def target(old: str) -> str:
        return f"{path}/{old}" if path else old

    def move(rule: Rule) -> Rule:
        if rule.path is None:
            return Rule(prefix + rule.pattern, None)
        if isinstance(rule.path, str):
            return Rule(prefix + rule.pattern, target(rule.path), rule.op)
        return Rule(prefix + rule.pattern, tuple(target(p) for p in rule.path), rule.op)

    return tuple(move(rule) for rule in rules)


def batch_norm(key: str, path: str) -> tuple[Rule, ...]:
    """The rules of one BatchNorm, or of several that a pattern matches.

    Args:
      key: regular expression of the module's key.
      path: target below "params" and "batch_stats", as in `Rule`.
    """
    return (
        Rule(rf"{key}\.weight", f"params/{path}/scale"),
        Rule(rf"{key}\.bias", f"params/{path}/bias"),
        Rule(rf"{key}\.running_mean", f"batch_stats/{path}/mean"),
        Rule(rf"{key}\.running_var", f"batch_stats/{path}/var"),
        Rule(rf"{key}\.num_batches_tracked", None),
    )


def convert(state: State, rules: Sequence[Rule], target: Any) -> Any:
    """Builds a tree like `target` from a torch state dict.

    Args:
      state: {key: array}; weight normalisation that the rules do not ask for is folded into the weights.
      rules: tried in order; the first whose pattern matches the whole key decides.
      target: nested dict of arrays or `jax.ShapeDtypeStruct`s, e.g. from `jax.eval_shape`.

    Returns:
      Nested dict of numpy arrays with the shapes and dtypes of `target`.

    Raises:
      CheckpointError: keys that no rule matches, leaves that stay empty or are filled with two different arrays, shapes
        that differ. All of them are collected and listed.
    """
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    state = fold_weight_norm(state, lambda key: any(pattern.fullmatch(key) for pattern, _ in compiled))
    leaves = flatten(target)
    filled: dict[str, np.ndarray] = {}
    problems: list[str] = []
    for key, value in state.items():
        match, rule = next(((m, r) for pattern, r in compiled if (m := pattern.fullmatch(key))), (None, None))
        if match is None or rule is None:
            problems.append(f"unknown key {key} {tuple(np.shape(value))}")
            continue
        if rule.path is None:
            continue
        paths = (rule.path,) if isinstance(rule.path, str) else rule.path
        values = rule.op(np.asarray(value))
        for template, array in zip(paths, values if isinstance(rule.path, tuple) else (values,), strict=True):
            path = match.expand(template)
            shape = _shape(leaves, path)
            if shape is None:
                problems.append(f"{key} goes to {path}, which the model does not have")
            elif path in filled and not np.array_equal(filled[path], array):  # tied tensors may be stored twice
                problems.append(f"{key} goes to {path}, which is filled already")
            elif array.shape != shape:
                problems.append(f"{key} gives {path} shape {array.shape}, the model has {shape}")
            filled[path] = array
    stacked = {match[1] for path in filled if (match := _ROW.fullmatch(path)) and match[1] in leaves}
    wanted = [row for path in leaves for row in (_rows(leaves, path) if path in stacked else [path])]
    problems += [f"nothing fills {path} {_shape(leaves, path)}" for path in wanted if path not in filled]
    if problems:
        shown = "; ".join(problems[:8]) + (f"; and {len(problems) - 8} more" if len(problems) > 8 else "")
        raise CheckpointError(f"The checkpoint does not fit the model: {shown}.\nIs it a checkpoint of another system?")
    filled |= {path: np.stack([filled[row] for row in _rows(leaves, path)]) for path in stacked}
    return unflatten({path: np.asarray(filled[path], leaf.dtype, order="C") for path, leaf in leaves.items()})


def _shape(leaves: Mapping[str, Any], path: str) -> tuple[int, ...] | None:
    """Shape of a leaf, or of a row of one; None where there is no such thing."""
    if path in leaves:
        return tuple(leaves[path].shape)
    match = _ROW.fullmatch(path)
    if match is None or match[1] not in leaves:
        return None
    count, *shape = leaves[match[1]].shape
    return tuple(shape) if int(match[2]) < count else None


def _rows(leaves: Mapping[str, Any], path: str) -> list[str]:
    """The paths of a leaf's rows."""
    return [f"{path}[{i}]" for i in range(leaves[path].shape[0])]


def fold_weight_norm(state: State, kept: Callable[[str], bool] = lambda _: False) -> dict[str, np.ndarray]:
    """Replaces each pair of a direction v and a length g by the weight g v / |v|, its norm over all axes but the first.

    Args:
      state: {key: array}, with PyTorch's old names (`weight_g`, `weight_v`) or its new ones (`parametrizations...`).
      kept: whether to leave the pair with this key of its g as it is.
    """
    folded = dict(state)
    for key in state:
        if not key.endswith(_LENGTHS) or kept(key):
            continue
        old = key.endswith("weight_g")
        direction = key[:-1] + "v" if old else key[:-1] + "1"
        if direction not in state:
            continue
        g, v = folded.pop(key), folded.pop(direction)
        norm = np.sqrt(np.sum(np.square(v, dtype=np.float64), axis=tuple(range(1, v.ndim)), keepdims=True))
        name = key.removesuffix("_g") if old else key.replace("parametrizations.weight.original0", "weight")
        folded[name] = (v * (g / norm)).astype(v.dtype)
    return folded


def to_torch(tree: Any, rules: Sequence[Rule], keys: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The way back: the arrays of a tree under their torch keys and in torch's layout.

    Args:
      tree: as `convert` returns it, or anything of the same structure, e.g. gradients.
      rules: the rules of `convert`; their operations must only reorder (every one in this module does).
      keys: {key: torch shape}; keys whose target the tree does not have, or that the rules drop, are left out.
    """
    leaves = flatten(tree)
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    state: dict[str, np.ndarray] = {}
    for key, shape in keys.items():
        match, rule = next(((m, r) for pattern, r in compiled if (m := pattern.fullmatch(key))), (None, None))
        if match is None or rule is None or rule.path is None:
            continue
        paths = [match.expand(p) for p in ((rule.path,) if isinstance(rule.path, str) else rule.path)]
        if any(_shape(leaves, path) is None for path in paths):
            continue
        # What the operation does to the places 0, 1, 2, ... tells where every number came from.
        places = rule.op(np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape))
        places = (places,) if isinstance(rule.path, str) else places
        values = [_value(leaves, path) for path in paths]
        flat = np.empty(int(np.prod(shape)), values[0].dtype)
        for place, value in zip(places, values, strict=True):
            flat[place] = value
        state[key] = flat.reshape(shape)
    return state


def _value(leaves: Mapping[str, Any], path: str) -> np.ndarray:
    """A leaf, or a row of one."""
    match = None if path in leaves else _ROW.fullmatch(path)
    return np.asarray(leaves[match[1]][int(match[2])] if match else leaves[path])


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{"a/b": leaf} of a nested dict."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    flat: dict[str, Any] = {}
    for name, child in tree.items():
        flat |= flatten(child, f"{prefix}/{name}" if prefix else str(name))
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        *parents, last = path.split("/")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = leaf
    return tree


def numbered(state: State, pattern: str) -> int:
    """How many of something a state dict has: one more than the largest number that a pattern finds; 0 without any."""
    return max((int(match[1]) + 1 for key in state if (match := re.match(pattern, key))), default=0)


def count(tree: Any) -> int:
    """Number of scalars in a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))
