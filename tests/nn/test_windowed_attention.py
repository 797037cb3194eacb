import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.nn.windowed_attention import in_blocks, windowed_attention


def plain(query, key, value, window):
    ahead = np.arange(query.shape[1]) - np.arange(query.shape[1])[:, None]
    seen = (ahead >= -window[0]) & (ahead <= window[1]) if window else np.ones_like(ahead, bool)
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(seen, logits, -np.inf)), value)


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize(
    ("length", "window"), [(5, (2, 1)), (300, (63, 64)), (150, (5, 0)), (70, (0, 0)), (9, (40, 3))]
)
def test_a_position_sees_its_window_alone(length, window, blocks):
    rng = np.random.default_rng(0)
    given = [jnp.asarray(rng.standard_normal((2, length, 2, 4)), jnp.float32) for _ in range(3)]

    def ours(*given):
        return in_blocks(*given, *window) if blocks else windowed_attention(*given, window)

    def both(f):
        def summed(given):
            y = f(*given)
            return jnp.sum(jnp.sin(3 * y)), y

        return jax.jit(jax.value_and_grad(summed, has_aux=True))

    ((_, y), slopes), ((_, expected), theirs) = (
        both(f)(given) for f in (ours, functools.partial(plain, window=window))
    )
    np.testing.assert_allclose(y, expected, atol=1e-5)
    for a, b in zip(slopes, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_without_a_window_everything_is_seen():
    rng = np.random.default_rng(1)
    given = [jnp.asarray(rng.standard_normal((1, 20, 2, 4)), jnp.float32) for _ in range(3)]
    np.testing.assert_allclose(windowed_attention(*given, None), plain(*given, None), atol=1e-6)
