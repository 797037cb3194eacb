"""Kernels as directions and lengths."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import Rule, conv1d, conv_transpose1d, convert, flatten
from jaxaudio.nn import weight_norm


def tree():
    rng = np.random.default_rng(0)
    kernels = {name: jnp.asarray(rng.standard_normal((3, 4, 5)), jnp.float32) for name in ("up", "plain")}
    return {"a": {name: {"kernel": k, "bias": k[0, 0]} for name, k in kernels.items()}, "alpha": jnp.ones(4)}


def test_splitting_and_fusing_give_back_the_kernels():
    split = weight_norm.split(tree(), "a/up")
    shapes = {path: leaf.shape for path, leaf in flatten(split).items() if path.endswith("_g")}
    assert shapes == {"a/up/weight_g": (1, 4, 1), "a/plain/weight_g": (1, 1, 5)}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), weight_norm.fuse(split), tree())
    assert weight_norm.fuse(tree()).keys() == tree().keys()


def test_the_length_is_that_of_each_channel():
    split = weight_norm.split(tree(), "a/up")
    split["a"]["up"]["weight_g"] = jnp.arange(1.0, 5)[None, :, None]
    split["a"]["plain"]["weight_v"] = 7 * split["a"]["plain"]["weight_v"]
    fused = weight_norm.fuse(split)["a"]
    norms = np.linalg.norm(np.asarray(fused["up"]["kernel"]), axis=(0, 2))
    np.testing.assert_allclose(norms, [1, 2, 3, 4], rtol=1e-6)
    np.testing.assert_allclose(fused["plain"]["kernel"], tree()["a"]["plain"]["kernel"], rtol=1e-6)


def test_rules_keep_what_others_fold():
    rules = (Rule(r"up\.weight", "up/kernel", conv_transpose1d), Rule(r"plain\.weight", "plain/kernel", conv1d))
    rng = np.random.default_rng(1)
    state = {
        "up.weight_g": rng.standard_normal((4, 1, 1)),
        "up.weight_v": rng.standard_normal((4, 5, 3)),
        "plain.parametrizations.weight.original0": rng.standard_normal((5, 1, 1)),
        "plain.parametrizations.weight.original1": rng.standard_normal((5, 4, 3)),
    }
    target = {name: {"kernel": jax.ShapeDtypeStruct((3, 4, 5), np.float32)} for name in ("up", "plain")}
    folded = convert(state, rules, target)
    split = jax.eval_shape(lambda t: weight_norm.split(t, "up"), target)
    kept = convert(state, weight_norm.split_rules(rules), split)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), weight_norm.fuse(kept), folded)
