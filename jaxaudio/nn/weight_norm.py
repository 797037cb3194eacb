"""Weight normalisation: a kernel as a direction and lengths (Salimans and Kingma, 2016, arXiv:1602.07868).

Networks hold plain kernels. Here are the trees that training may hold instead, and the ways between them. A node
{"weight_g", "weight_v", ...} stands for {"kernel", ...}, kernel = g v / |v|. The norm is over the axes along which g
has a single number, so the shape of g says all there is to know.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxaudio.convert.rules import Rule

G, V = "weight_g", "weight_v"


def fuse(tree: Any) -> Any:
    """The tree with kernels instead of directions and lengths; any other is returned as it is."""
    if not isinstance(tree, Mapping):
        return tree
    fused = {name: fuse(child) for name, child in tree.items() if name not in (G, V)}
    if G in tree and V in tree:
        g, v = tree[G], tree[V]
        fused["kernel"] = v * (g / _norm(v, _axes(g, v)))
    return fused


def split(tree: Any, transposed: str = r"(?!)", path: str = "") -> Any:
    """The tree with directions and lengths instead of kernels, one length per output channel.

    Args:
      tree: nested dict of parameters.
      transposed: regular expression of the paths ("a/b") of transposed convolutions, which have one length per input
        channel in PyTorch.
      path: of the tree itself.

    Returns:
      A tree that `fuse` turns into the same kernels.
    """
    if not isinstance(tree, Mapping):
        return tree
    parts = {
        name: split(child, transposed, f"{path}/{name}" if path else name)
        for name, child in tree.items()
        if name != "kernel"
    }
    if "kernel" in tree:
        v = tree["kernel"]
        kept = v.ndim - 2 if re.fullmatch(transposed, path) else v.ndim - 1
        parts |= {G: _norm(v, tuple(axis for axis in range(v.ndim) if axis != kept)), V: v}
    return parts


def split_rules(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Conversion rules of a `split` tree, from those of the plain one; both of PyTorch's spellings are known."""
    made: list[Rule] = []
    for rule in rules:
        if isinstance(rule.path, str) and rule.path.endswith("/kernel") and rule.pattern.endswith(r"\.weight"):
            key, path = rule.pattern.removesuffix("weight"), rule.path.removesuffix("kernel")
            for name, number in ((G, 0), (V, 1)):
                made.append(Rule(rf"{key}(?:{name}|parametrizations\.weight\.original{number})", path + name, rule.op))
        else:
            made.append(rule)
    return tuple(made)


def _axes(g: Array, v: Array) -> tuple[int, ...]:
    sizes = (1,) * (v.ndim - g.ndim) + g.shape
    return tuple(axis for axis, size in enumerate(sizes) if size == 1)


def _norm(v: Array, axes: tuple[int, ...]) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(v), axes, keepdims=True))
