"""Discriminators at small sizes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.nn import discriminators
from jaxaudio.nn.discriminators import PatchConfig, WaveConfig, WaveDiscriminators

SMALL = WaveConfig(
    periods=(2, 3), period_channels=(4, 6), scales=2, scale_layers=((4, 15, 1, 1), (8, 41, 2, 2), (8, 5, 1, 1))
)
WAVE = jnp.asarray(np.random.default_rng(0).standard_normal((2, 400)), jnp.float32)


def filled(init, config):
    """Weights without compiling their initialisers."""
    rng = np.random.default_rng(0)
    target = jax.eval_shape(lambda: init(jax.random.key(0), config))
    return jax.tree.map(lambda s: jnp.asarray(0.1 + 0.3 * rng.standard_normal(s.shape), s.dtype), target)


def test_every_period_and_scale_has_a_score():
    variables = filled(discriminators.init_waves, SMALL)
    scores, features = jax.eval_shape(WaveDiscriminators(SMALL).apply, variables, WAVE)
    assert [score.shape for score in scores] == [(2, 134), (2, 135), (2, 200), (2, 101)]
    assert [len(layers) for layers in features] == [3, 3, 4, 4]
    assert features[0][0].shape == (2, 67, 2, 4) and features[2][1].shape == (2, 200, 8)


def test_spectral_norm_approaches_the_largest_singular_value():
    variables = filled(discriminators.init_waves, SMALL)
    module = WaveDiscriminators(SMALL)

    @jax.jit
    def improve(spectral):
        return module.apply({**variables, **spectral}, WAVE, True, mutable=["spectral"])[1]

    spectral = {"spectral": variables["spectral"]}
    for _ in range(60):
        spectral = improve(spectral)
    layer = variables["params"]["msd"]["discriminators_0"]["convs_2"]["weight_orig"]
    matrix = np.asarray(layer).transpose(2, 1, 0).reshape(layer.shape[-1], -1)
    found = spectral["spectral"]["msd"]["discriminators_0"]["convs_2"]
    np.testing.assert_allclose(found["u"] @ matrix @ found["v"], np.linalg.norm(matrix, 2), rtol=1e-3)
    still = module.apply({**variables, **spectral}, WAVE, False, mutable=["spectral"])[1]
    jax.tree.map(np.testing.assert_array_equal, still, spectral)


def test_weight_norm_starts_at_its_direction():
    variables = discriminators.init_waves(jax.random.key(0), SMALL)
    layer = variables["params"]["mpd"]["discriminators_1"]["convs_0"]
    np.testing.assert_allclose(layer["weight_g"], np.sqrt((layer["weight_v"] ** 2).sum((0, 1, 2))), rtol=1e-6)


def test_patches():
    config = PatchConfig(channels=4, layers=2)
    variables = filled(discriminators.init_patches, config)
    variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    patches = discriminators.PatchGAN(config)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 32, 16, 1)), jnp.float32)
    logits, new = jax.jit(lambda x: patches.apply(variables, x, True, mutable=["batch_stats"]))(x)
    assert logits.shape == (3, 6, 2, 1)
    assert set(variables["params"]) == {"main_0", "main_2", "main_3", "main_5", "main_6", "main_8"}
    assert not np.allclose(new["batch_stats"]["main_3"]["mean"], variables["batch_stats"]["main_3"]["mean"])
    # A patch sees 22 positions per axis: what lies farther away does not change it.
    judge = jax.jit(lambda x: patches.apply(variables, x))
    moved = judge(x.at[:, -1].add(1.0))
    np.testing.assert_array_equal(moved[:, 0], judge(x)[:, 0])
    assert not np.allclose(moved[:, -1], judge(x)[:, -1])
