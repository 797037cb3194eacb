import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio import dsp
from jaxaudio.dsp import FbankConfig
from jaxaudio.errors import UsageError
from tests.dsp.make_references import FBANKS, noise

fbank = jax.jit(dsp.fbank, static_argnames="config")

_NAMES = {"window_type": "window", "preemphasis_coefficient": "preemphasis", "use_log_fbank": "use_log"}
_WINDOWS = {"hanning": "hann"}


def config_of(options):
    ours = {_NAMES.get(name, name): value for name, value in options.items()}
    if "window" in ours:
        ours["window"] = _WINDOWS.get(ours["window"], ours["window"])
    return FbankConfig(**ours)


@pytest.mark.parametrize("name", FBANKS)
def test_equals_torchaudio(references, name):
    ours, theirs = fbank(noise(1, 3000), config_of(FBANKS[name])), references[f"fbank/{name}"]
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, atol=2e-4 * np.abs(theirs).max())


def test_dither_is_drawn_from_the_key():
    x, config = jnp.zeros(1000), FbankConfig(dither=1e-3)
    first, again = (fbank(x, config, key=jax.random.key(1)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(np.asarray(first) - fbank(x, config, key=jax.random.key(2))).max() > 0.1
    with pytest.raises(UsageError, match="key"):
        fbank(x, config)


@pytest.mark.parametrize("options", [{}, {"use_power": False}, {"use_energy": True}, {"use_log": False}])
def test_silence_is_finite_with_its_gradient(options):
    value, gradient = jax.jit(jax.value_and_grad(lambda x: fbank(x, FbankConfig(**options)).sum()))(jnp.zeros(800))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_jit_batch_and_float64(x64):
    x = noise(14, 2, 1200).astype(np.float64)
    batch = fbank(x, FbankConfig())
    assert batch.dtype == jnp.float64
    np.testing.assert_allclose(batch[1], dsp.fbank(x[1], FbankConfig()), rtol=1e-9)


def test_what_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="pad"):
        fbank(jnp.zeros(399), FbankConfig())
    with pytest.raises(UsageError, match="half"):
        fbank(jnp.zeros(800), FbankConfig(high_freq=9000.0))
    with pytest.raises(UsageError, match="mirror"):
        fbank(jnp.zeros(90), FbankConfig(snip_edges=False))
