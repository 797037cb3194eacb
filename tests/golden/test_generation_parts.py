"""Checkpoints of the vocoders as they are published, by their keys."""

import json
from pathlib import Path

import jax
import numpy as np

from jaxaudio.convert.rules import convert, flatten
from jaxaudio.nn import bigvgan
from tests.golden.weights import fill

HERE = Path(__file__).parent


def test_bigvgan_with_weight_norm():
    keys = json.loads((HERE / "bigvgan_keys_weightnorm.json").read_text())
    state = {key: fill(key, tuple(shape)) for key, shape in keys.items()}
    target = jax.eval_shape(lambda: bigvgan.init(jax.random.key(0), bigvgan.FLOWSEP))
    params = flatten(convert(state, bigvgan.WEIGHTS, target))
    g, v = state["ups.1.0.weight_g"], state["ups.1.0.weight_v"]
    kernel = params["params/ups_1/kernel"].transpose(1, 2, 0)
    np.testing.assert_allclose(kernel, g * v / np.sqrt((v**2).sum((1, 2), keepdims=True)), rtol=1e-5)
    np.testing.assert_allclose(np.sqrt((kernel**2).sum((1, 2))), np.abs(g[:, 0, 0]), rtol=1e-5)
