import itertools

import numpy as np
import pytest

from jaxaudio.errors import ConfigError
from jaxaudio.samplers import QUANTITIES, convert

RNG = np.random.default_rng(0)
DATA, NOISE = RNG.standard_normal((2, 3, 5))


def all_of(alpha, sigma):
    return {
        "x0": DATA,
        "epsilon": NOISE,
        "v": alpha * NOISE - sigma * DATA,
        "velocity": NOISE - DATA,
        "score": -NOISE / sigma,
    }


@pytest.mark.parametrize(("alpha", "sigma"), [(0.6, 0.8), (1.0, 3.0), (0.3, 0.7), (1.0, 80.0)])
@pytest.mark.parametrize(("source", "target"), list(itertools.product(QUANTITIES, repeat=2)))
def test_any_to_any(source, target, alpha, sigma):
    known = all_of(alpha, sigma)
    made = convert(known[source], alpha * DATA + sigma * NOISE, alpha, sigma, source=source, target=target)
    np.testing.assert_allclose(made, known[target], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("source", ["x0", "v", "velocity"])
def test_data_at_pure_noise(source):
    made = convert(all_of(0.0, 1.0)[source], NOISE, 0.0, 1.0, source=source, target="x0")
    np.testing.assert_allclose(made, DATA, atol=1e-12)


def test_unknown_names():
    with pytest.raises(ConfigError, match="epsilon"):
        convert(DATA, DATA, 0.6, 0.8, source="eps", target="x0")
