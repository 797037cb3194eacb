import pathlib

import jax
import numpy as np
import pytest


@pytest.fixture(scope="session")
def references():
    """What librosa, torchaudio and pyloudnorm computed, see make_references.py."""
    with np.load(pathlib.Path(__file__).parent / "references.npz") as file:
        return dict(file)


@pytest.fixture
def x64():
    """Float64 arrays within one test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)
