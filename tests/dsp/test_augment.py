"""Another microphone over spectrograms: what it may change and what not."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.dsp.augment import another_microphone

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.uniform(-30, 0, (3, 40, 16)), jnp.float32)


def test_a_quiet_microphone_only_colours():
    made = another_microphone(jax.random.key(0), X, share=1.0, colour=6.0, noise=(-200.0, -200.0))
    curves = np.asarray(made - X)
    np.testing.assert_allclose(curves, np.broadcast_to(curves[:, :1], curves.shape), atol=1e-3)  # alike in all frames
    assert np.abs(np.diff(curves[:, 0], axis=1)).max() < 20  # and smooth
    assert 1 < curves[:, 0].std() < 12 and not np.allclose(curves[0, 0], curves[1, 0], atol=0.1)
    same = another_microphone(jax.random.key(0), X, share=1.0, colour=0.0, noise=(-200.0, -200.0))
    np.testing.assert_allclose(same, X, atol=1e-3)


def test_noise_fills_silence_and_leaves_what_is_loud():
    x = X.at[:, 20:].set(-100.0).at[:, 3].set(0.0)
    made = another_microphone(jax.random.key(1), x, share=1.0, colour=0.0, noise=(-40.0, -40.0))
    quiet = np.asarray(made[:, 20:])
    assert -45 < 10 * np.log10(np.mean(10 ** (quiet / 10))) < -35
    np.testing.assert_allclose(made[:, 3], 0, atol=0.05)


def test_an_item_draws_by_itself():
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(2), i))(jnp.arange(3))
    whole = another_microphone(keys, X)
    np.testing.assert_allclose(whole[1:2], another_microphone(keys[1:2], X[1:2]), atol=1e-5)
    np.testing.assert_allclose(whole, another_microphone(jax.random.key(2), X), atol=1e-5)


def test_only_a_share_is_changed():
    many = jnp.broadcast_to(X[:1], (200, *X.shape[1:]))
    changed = np.any(np.asarray(another_microphone(jax.random.key(3), many, share=0.3) != many), axis=(1, 2))
    assert 0.15 < changed.mean() < 0.45
