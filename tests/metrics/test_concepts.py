import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxaudio.dsp.mel import MelConfig
from jaxaudio.errors import CheckpointError, MissingError, UsageError
from jaxaudio.metrics import concepts

CONFIG = concepts.Config(
    labels=("rain", "wind", "bell"),
    mel=MelConfig(sample_rate=1600, n_fft=64, hop=16, n_mels=16, power=1, log="ln", floor=1e-5),
    seconds=0.64,
    channels=(8, 16),
    width=6,
    groups=4,
)


@pytest.fixture(scope="module")
def params():
    return concepts.init(jax.random.key(0), CONFIG)


@pytest.fixture(scope="module")
def sound():
    return np.random.default_rng(0).standard_normal((2, CONFIG.samples)).astype(np.float32)


def test_shapes_and_the_head_is_linear(params, sound):
    mel = concepts.log_mels(CONFIG, sound)
    assert mel.shape == (2, CONFIG.frames, 16) == (2, 64, 16)
    embedded = concepts.embed(params, CONFIG, mel)
    assert embedded.shape == (2, 6)
    head = params["params"]["logits"]
    np.testing.assert_allclose(
        concepts.logits(params, CONFIG, mel), embedded @ head["kernel"] + head["bias"], rtol=1e-5, atol=1e-5
    )
    # Each sound by itself.
    np.testing.assert_allclose(concepts.embed(params, CONFIG, mel[1:])[0], embedded[1], rtol=1e-4, atol=1e-5)


def test_level_does_not_matter_and_short_sounds_are_filled_with_silence(sound):
    np.testing.assert_allclose(
        concepts.log_mels(CONFIG, sound), concepts.log_mels(CONFIG, 0.01 * sound + 0.2), atol=2e-3
    )
    short = np.asarray(concepts.log_mels(CONFIG, sound[:, :400]))
    assert short.shape == (2, 64, 16)
    np.testing.assert_allclose(short[:, 40:], np.log(1e-5), atol=1e-4)
    longer = np.pad(sound, ((0, 0), (0, 100)), constant_values=9)
    np.testing.assert_array_equal(concepts.log_mels(CONFIG, longer), concepts.log_mels(CONFIG, sound))


def test_loss_is_the_smoothed_cross_entropy(params, sound):
    batch = {"audio": sound, "label": np.array([0, 2]), "index": np.arange(2)}
    key = jax.random.key(1)
    value, (metrics, extra) = concepts.loss(params["params"], {}, batch, key, config=CONFIG, smoothing=0.3)
    keys = [jax.random.fold_in(key, i) for i in range(2)]
    mel = concepts.log_mels(CONFIG, sound)
    mel = np.stack([concepts.disturbed(k, m) for k, m in zip(keys, mel)])
    told = np.asarray(jax.nn.log_softmax(concepts.logits(params, CONFIG, mel)))
    wanted = -np.mean([0.8 * told[0, 0] + 0.1 * told[0, 1:].sum(), 0.8 * told[1, 2] + 0.1 * told[1, :2].sum()])
    assert float(value) == pytest.approx(wanted, rel=1e-4)
    assert extra == {} and float(metrics["accuracy"]) in (0, 0.5, 1)


def test_disturbed_spectrograms_stay_close_and_differ_by_key(sound):
    mel = concepts.log_mels(CONFIG, sound)[0]
    a, b = (np.asarray(concepts.disturbed(jax.random.key(i), mel)) for i in range(2))
    assert a.shape == mel.shape and np.all(np.isfinite(a)) and not np.allclose(a, b)
    assert np.median(np.abs(a - mel)) < 1.5


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_folder_gives_back_what_it_was_given(params, tmp_path, dtype):
    concepts.save(tmp_path, params, CONFIG, dtype=dtype, about={"licence": "CC0-1.0"})
    found = concepts.load(tmp_path)
    assert found.config == CONFIG
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(found.params), strict=True):
        assert b.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-7 if dtype is np.float32 else 1e-3, atol=1e-6)
    assert json.loads((tmp_path / "config.json").read_text())["licence"] == "CC0-1.0"


def test_bad_folders_and_labels(params, tmp_path):
    with pytest.raises(MissingError, match="lacks a file"):
        concepts.load(tmp_path)
    concepts.save(tmp_path, params, dataclasses.replace(CONFIG, width=5))
    with pytest.raises(CheckpointError, match="do not fit"):
        concepts.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        concepts.load(tmp_path)
    with pytest.raises(UsageError, match="knows no 'snow'; it knows rain, wind, bell"):
        concepts.named(CONFIG, ["rain", "snow"])
    np.testing.assert_array_equal(concepts.named(CONFIG, ["bell", "rain"]), [2, 0])
