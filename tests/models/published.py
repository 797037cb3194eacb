"""Checkpoints with every key that the published ones have, of models with the same blocks and few channels."""

import json
import re
from pathlib import Path

import numpy as np

from jaxaudio.convert.rules import flatten, to_torch

GOLDEN = Path(__file__).parents[1] / "golden"
_PRIMES = (2, 3, 5, 7)


def keys_of(case, prefix="", instead=""):
    """{key: shape} of a recorded case, a prefix of its keys exchanged."""
    file = GOLDEN / case
    keys = json.loads((file if file.suffix else file / "keys.json").read_text())
    return {instead + key.removeprefix(prefix): tuple(shape) for key, shape in keys.items() if key.startswith(prefix)}


def narrow(tree, rules, keys):
    """The tree's arrays under those of the keys that its rules know: what `convert` is to undo."""
    leaves = flatten(tree)
    compiled = [(re.compile(rule.pattern), rule) for rule in rules]
    shapes = {}
    for key, shape in keys.items():
        match, rule = next(((m, r) for pattern, r in compiled if (m := pattern.fullmatch(key))), (None, None))
        assert match is not None, key
        if rule.path is None:
            continue
        if isinstance(rule.path, tuple):  # a fused projection
            leaf = _shape(leaves, match.expand(rule.path[0]))
            shapes[key] = (len(rule.path) * leaf[-1], *leaf[:-1])
            continue
        leaf = _shape(leaves, match.expand(rule.path))
        probe = tuple(1 if i > 1 and size == 1 else prime for i, (size, prime) in enumerate(zip(shape, _PRIMES)))
        moved = rule.op(np.empty(probe, np.float32)).shape  # tells where each axis of torch's goes
        shapes[key] = tuple(1 if prime == 1 else leaf[moved.index(prime)] for prime in probe)
    return to_torch(tree, rules, shapes)


def _shape(leaves, path):
    """Of a leaf, or of a row of one in which layers are stacked."""
    stack = re.fullmatch(r"(.*)\[\d+\]", path)
    return leaves[stack[1]].shape[1:] if stack else leaves[path].shape
