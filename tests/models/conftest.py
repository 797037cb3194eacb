import pytest

import jaxaudio
from tests.models import tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """A model folder; copy it before changing anything in it."""
    root = tmp_path_factory.mktemp("tiny")
    tiny.write_model(root / "tiny", root)
    return root / "tiny"


@pytest.fixture(scope="session")
def model(tiny_folder):
    return jaxaudio.load(tiny_folder)
