"""The shipped text encoder: unseen wordings of a sound stay near it, padding does not matter, damage is reported."""

import shutil
from importlib import resources

import jax
import numpy as np
import pytest

from jaxaudio.convert.rules import count
from jaxaudio.errors import CheckpointError, MissingError
from jaxaudio.text import Tokenizer, load_mini, mini

embed = jax.jit(mini.embed, static_argnames="config")


def vectors(*texts):
    params, config, tokenizer = load_mini()
    return np.concatenate([embed(params, config, *tokenizer.encode(text)) for text in texts])  # one shape for most


@pytest.fixture
def copy(tmp_path):
    with resources.as_file(resources.files("jaxaudio") / "assets" / "text-mini") as folder:
        return shutil.copytree(folder, tmp_path / "text-mini")


def test_embeddings_are_float32_unit_vectors_of_the_teachers_width():
    x = vectors("a barking dog", "rain")
    assert x.shape == (2, 384)
    assert x.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("query", "near", "far"),
    [
        ("a barking dog", ("dog barks", "hound", "a puppy yapping"), ("piano", "rain on a window", "a car horn")),
        ("someone plays the violin", ("a fiddle", "violin solo"), ("a drum kit", "thunder", "a cat meowing")),
        ("thunderstorm", ("rolling thunder", "lightning strikes"), ("a flute melody", "typing on a keyboard")),
        ("people clapping", ("applause", "an audience applauds"), ("an engine idling", "a church bell")),
    ],
)
def test_other_wordings_are_nearer_than_other_sounds(query, near, far):
    anchor, *others = vectors(query, *near, *far)
    similar = np.array(others) @ anchor
    assert similar[: len(near)].min() > similar[len(near) :].max() + 0.1


def test_padding_does_not_change_an_embedding():
    params, config, tokenizer = load_mini()
    ids, mask = tokenizer.encode("a dog barks")
    longer = [np.pad(x, ((0, 0), (0, 56))) for x in (ids, mask)]
    np.testing.assert_allclose(embed(params, config, ids, mask), embed(params, config, *longer), atol=1e-6)


def test_a_very_long_and_a_foreign_query_still_embed():
    for text in ("a dog barks at the moon and " * 500, "犬が吠える"):
        assert np.isfinite(vectors(text)).all()


def test_it_fits_in_five_megabytes():
    with resources.as_file(resources.files("jaxaudio") / "assets" / "text-mini") as folder:
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 5e6
    assert isinstance(load_mini().tokenizer, Tokenizer)
    assert count(load_mini().params) < 2.5e6


def test_missing_and_damaged_files_are_reported(copy):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        mini.load(copy)
    weights.write_bytes(whole)
    config = copy / "config.json"
    config.write_text(config.read_text().replace('"width": 384', '"width": 100'))
    with pytest.raises(CheckpointError, match="do not fit"):
        mini.load(copy)
    config.unlink()
    with pytest.raises(MissingError, match="lacks a file"):
        mini.load(copy)
