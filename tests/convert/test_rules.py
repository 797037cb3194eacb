import numpy as np
import pytest

from jaxaudio.convert.rules import (
    Rule,
    conv2d,
    conv_transpose2d,
    convert,
    count,
    flatten,
    linear,
    prefixed,
    split_qkv,
    to_torch,
    unflatten,
)
from jaxaudio.errors import CheckpointError

RULES = (
    Rule(r"(.*)\.counter", None),
    Rule(r"layers\.(\d)\.qkv\.weight", (r"layer_\1/q/kernel", r"layer_\1/k/kernel", r"layer_\1/v/kernel"), split_qkv),
    Rule(r"conv\.weight", "conv/kernel", conv2d),
    Rule(r"up\.weight", "up/kernel", conv_transpose2d),
    Rule(r"(\w+)\.weight", r"\1/kernel", linear),
)


def _state():
    rng = np.random.default_rng(0)
    shapes = {
        "layers.0.qkv.weight": (6, 3),
        "conv.weight": (4, 3, 2, 5),
        "up.weight": (4, 3, 2, 5),
        "out.weight": (2, 7),
    }
    return {key: rng.standard_normal(shape).astype(np.float32) for key, shape in shapes.items()} | {
        "bn.counter": np.int64(3)
    }


def _target():
    kernels = {"conv": (2, 5, 3, 4), "up": (2, 5, 4, 3), "out": (7, 2)}
    tree = {name: {"kernel": np.zeros(shape, np.float32)} for name, shape in kernels.items()}
    return tree | {"layer_0": {name: {"kernel": np.zeros((3, 2), np.float32)} for name in "qkv"}}


def test_values_land_where_the_rules_say():
    state = _state()
    tree = convert(state, RULES, _target())
    np.testing.assert_array_equal(tree["layer_0"]["k"]["kernel"], state["layers.0.qkv.weight"][2:4].T)
    assert tree["conv"]["kernel"][1, 4, 2, 3] == state["conv.weight"][3, 2, 1, 4]
    assert tree["up"]["kernel"][1, 4, 3, 2] == state["up.weight"][3, 2, 1, 4]
    np.testing.assert_array_equal(tree["out"]["kernel"], state["out.weight"].T)


def test_the_way_back_restores_every_tensor():
    state = _state()
    back = to_torch(convert(state, RULES, _target()), RULES, {key: value.shape for key, value in state.items()})
    assert set(back) == set(state) - {"bn.counter"}
    for key, value in back.items():
        np.testing.assert_array_equal(value, state[key])


def test_everything_left_over_is_named():
    state = _state() | {"new.bias": np.zeros(3), "out2.weight": np.zeros((1, 1))}
    del state["up.weight"]
    with pytest.raises(CheckpointError) as caught:
        convert(state, RULES, _target())
    message = str(caught.value)
    assert "unknown key new.bias (3,)" in message
    assert "out2.weight goes to out2/kernel, which the model does not have" in message
    assert "nothing fills up/kernel (2, 5, 4, 3)" in message


def test_a_wrong_shape_and_a_double_fill_are_errors():
    with pytest.raises(CheckpointError, match=r"gives out/kernel shape \(7, 3\), the model has \(7, 2\)"):
        convert(_state() | {"out.weight": np.zeros((3, 7))}, RULES, _target())
    twice = (Rule(r"other", "out/kernel", linear), *RULES)
    with pytest.raises(CheckpointError, match="filled already"):
        convert(_state() | {"other": np.zeros((2, 7))}, twice, _target())


def test_a_prefix_moves_keys_and_targets():
    moved = prefixed(r"module\.", RULES, "net")
    tree = convert({f"module.{key}": value for key, value in _state().items()}, moved, {"net": _target()})
    assert count(tree) == count(_target())


def test_flatten_and_unflatten_are_inverse():
    tree = _target()
    assert {k: v.shape for k, v in flatten(unflatten(flatten(tree))).items()} == {
        k: v.shape for k, v in flatten(tree).items()
    }


def test_scalars_stay_scalars_on_both_ways():
    rules = (Rule("scale_factor", "scale"),)
    tree = convert({"scale_factor": np.float32(0.9)}, rules, {"scale": np.zeros((), np.float32)})
    assert tree["scale"].shape == () and tree["scale"] == np.float32(0.9)
    back = to_torch(tree, rules, {"scale_factor": ()})
    assert back["scale_factor"].shape == () and back["scale_factor"] == np.float32(0.9)


def test_rows_of_a_stacked_leaf_come_from_a_key_each():
    rules = (Rule(r"layers\.(\d+)\.weight", r"layers/kernel[\1]", linear), Rule(r"(\w+)\.weight", r"\1/kernel", linear))
    rng = np.random.default_rng(1)
    state = {f"layers.{i}.weight": rng.standard_normal((2, 3)).astype(np.float32) for i in range(11)}
    state["out.weight"] = rng.standard_normal((4, 5)).astype(np.float32)
    target = {"layers": {"kernel": np.zeros((11, 3, 2), np.float32)}, "out": {"kernel": np.zeros((5, 4), np.float32)}}
    tree = convert(state, rules, target)
    np.testing.assert_array_equal(tree["layers"]["kernel"][10], state["layers.10.weight"].T)
    back = to_torch(tree, rules, {key: value.shape for key, value in state.items()})
    assert back.keys() == state.keys()
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)
    del state["layers.4.weight"]
    with pytest.raises(CheckpointError, match=r"nothing fills layers/kernel\[4\] \(3, 2\)"):
        convert(state, rules, target)
    target["layers"]["kernel"] = np.zeros((3, 3, 2), np.float32)
    with pytest.raises(CheckpointError, match=r"layers.3.weight goes to layers/kernel\[3\], which the model does not"):
        convert(state, rules, target)
