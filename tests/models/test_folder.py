"""Model folders: what is written is read back, what is altered is noticed."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxaudio
from jaxaudio.convert.rules import flatten
from jaxaudio.errors import CheckpointError, MissingError, UsageError
from jaxaudio.models import folder as folders, registry, systems, verify
from jaxaudio.systems import audioldm, audiosep, flowsep, lassnet, sdcodec, sitok, taae
from jaxaudio.text import clap
from tests.models import tiny


@pytest.fixture
def copy(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "copy")


def edit(folder, **changes):
    path = folder / "config.json"
    fields = json.loads(path.read_text())
    fields.update(changes)
    path.write_text(json.dumps(fields))


def test_weights_are_read_back(tiny_folder):
    card = folders.read_card(tiny_folder)
    assert (card.name, card.system, card.sample_rate, card.config) == ("tiny", "audiosep", 8000, tiny.CONFIG)
    assert sorted(card.sha256) == ["model.safetensors", "text/config.json", "text/model.safetensors", "text/vocab.txt"]
    found, wanted = flatten(folders.read_weights(card)["separator"]), flatten(tiny.weights())
    assert found.keys() == wanted.keys()
    for name, x in wanted.items():
        np.testing.assert_array_equal(found[name], x)


def test_half_precision_is_loaded_as_single(tmp_path):
    card = tiny.write_model(tmp_path / "half", tmp_path, dtype=np.float16)
    for x in load_file(tmp_path / "half" / "model.safetensors").values():
        assert x.dtype == (np.float16 if x.ndim > 1 else np.float32)
    wanted = flatten(tiny.weights())
    for name, x in flatten(folders.read_weights(card)["separator"]).items():
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, wanted[name], rtol=1e-3, atol=1e-4)


def test_numbers_beyond_half_precision_are_kept_or_refused(tmp_path, monkeypatch):
    """Running variances of a trained network passed 65,504 once, became infinite, and silenced a channel."""
    weights = tiny.weights()
    weights["batch_stats"]["base"]["bn0"]["var"][3] = 8e4
    monkeypatch.setattr(tiny, "weights", lambda seed: weights)
    card = tiny.write_model(tmp_path / "large", tmp_path, dtype=np.float16)
    found = folders.read_weights(card)["separator"]
    assert found["batch_stats"]["base"]["bn0"]["var"][3] == np.float32(8e4)
    weights["params"]["base"]["pre_conv"]["kernel"][0, 0, 0, 1] = 8e4
    with pytest.raises(CheckpointError, match="pre_conv/kernel holds numbers too large for float16"):
        tiny.write_model(tmp_path / "larger", tmp_path / "again", dtype=np.float16)


def test_only_what_is_asked_for_is_read(tiny_folder):
    tree = folders.read_weights(folders.read_card(tiny_folder), ("separator/batch_stats/",))
    assert list(tree["separator"]) == ["batch_stats"]


@pytest.mark.parametrize("name", ["model.safetensors", "text/model.safetensors", "text/vocab.txt"])
def test_altered_truncated_and_missing_files_are_named(copy, name):
    path = copy / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{name} is truncated or altered: its SHA-256"):
        jaxaudio.load(copy)
    path.write_bytes(data[:100])
    with pytest.raises(CheckpointError, match="truncated or altered"):
        jaxaudio.load(copy)
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"{name} is missing"):
        jaxaudio.load(copy)


def test_weights_of_another_configuration_are_noticed(copy):
    config = dataclasses.asdict(dataclasses.replace(tiny.CONFIG, channels=(4, 8, 8), pools=((2, 2),) * 3))
    edit(copy, config=config)
    with pytest.raises(CheckpointError, match="do not fit their configuration of audiosep"):
        jaxaudio.load(copy)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit_are_listed(copy, change):
    weights = load_file(copy / "model.safetensors")
    name = "separator/params/base/pre_conv/bias"
    bias = weights.pop(name)
    if change == "unknown":
        weights |= {name: bias, "separator/params/base/more": bias}
    if change == "shape":
        weights |= {name: np.concatenate([bias, bias])}
    save_file(weights, copy / "model.safetensors")
    edit(copy, sha256={"model.safetensors": folders.sha256(copy / "model.safetensors")})
    says = {"missing": "bias is missing", "unknown": "base/more is not known", "shape": r"is \[8\], not \[4\]"}
    with pytest.raises(CheckpointError, match=says[change]):
        jaxaudio.load(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "lassnet"}, "does not fit lassnet"),
        ({"system": "other"}, "knows no system 'other'"),
        ({"config": {"hops": 3}}, "unknown: hops"),
        ({"config": 3}, "config.json is not that of a model|does not fit"),
        ({"format": 99}, "newer jaxaudio"),
        ({"sha256": {}}, "names no model.safetensors"),
    ],
)
def test_configurations_that_cannot_be_read(copy, changes, message):
    edit(copy, **changes)
    with pytest.raises(CheckpointError, match=message):
        jaxaudio.load(copy)


def test_a_config_that_is_no_json(copy):
    (copy / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json is not that of a model"):
        jaxaudio.load(copy)


@pytest.mark.parametrize(
    ("system", "config"),
    [
        ("audiosep", audiosep.AUDIOSEP_BASE),
        ("audiosep", audiosep.MINI),
        ("lassnet", lassnet.LASSNET),
        ("clap", clap.HTSAT_TINY_ROBERTA),
        ("audioldm", audioldm.MINI),
        ("flowsep", flowsep.Config()),
        ("sdcodec", sdcodec.SDCODEC_16KHZ),
        ("sdcodec", sdcodec.MINI),
        ("taae", taae.MINI),
        ("sitok", sitok.MINI),
        ("sitok", sitok.SITOK_L),
    ],
)
def test_configurations_survive_json(system, config):
    assert systems.config_from_json(system, json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_names_and_paths(tiny_folder, monkeypatch, tmp_path):
    with pytest.raises(MissingError, match="there is no model nonesuch"):
        jaxaudio.load("nonesuch")
    (tmp_path / "x.ckpt").write_text("")
    with pytest.raises(UsageError, match="jaxaudio models convert SYSTEM"):
        jaxaudio.load(tmp_path / "x.ckpt")
    monkeypatch.setattr(registry, "ASSETS", tiny_folder.parent)
    assert registry.shipped()["tiny"] == registry.find("tiny") == tiny_folder


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    made = {"system": "audiosep", "config": tiny.CONFIG, "text": {"kind": "mini"}, "licence": "x", "source": "y"}
    weights = {"separator": tiny.weights()}
    bad = jax.tree.map(lambda x: x[..., None], weights)
    with pytest.raises(CheckpointError, match="do not fit"):
        folders.write(tmp_path / "a", name="a", weights=bad, **made)
    with pytest.raises(UsageError, match="cannot write"):
        folders.write(tmp_path / "a", name="a", weights=weights, files={"x": tmp_path / "none"}, **made)
    assert not list(tmp_path.iterdir())
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="already exists"):
        folders.write(tmp_path / "a", name="a", weights=weights, **made)


def test_a_training_runs_weights_are_read_where_they_are(tmp_path, tiny_folder):
    from jaxaudio.train.checkpoint import save_params

    encoder = {"kind": "mini", "folder": str(tiny_folder / "text")}
    config = {"system": "audiosep", "config": dataclasses.asdict(tiny.CONFIG), "text": encoder}
    save_params(tmp_path / "best", tiny.weights(), config)
    x = np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    ours = jaxaudio.load(tmp_path / "best").separate(x, "a dog", sample_rate=8000)
    np.testing.assert_array_equal(ours, jaxaudio.load(tiny_folder).separate(x, "a dog", sample_rate=8000))


def test_the_record_tells_this_model_from_another(copy, tmp_path):
    assert verify.verify(copy) == []
    folders_card = verify.add_record(copy)
    assert folders_card.parity is not None
    [check] = verify.verify(copy)
    assert check.passed
    assert check.relative < 1e-5
    other = tiny.write_model(tmp_path / "other", tmp_path, seed=5).folder
    edit(other, parity=folders_card.parity)
    [check] = verify.verify(other)
    assert not check.passed


def test_a_recorded_case_is_compared(tiny_folder, model, tmp_path):
    rng = np.random.default_rng(1)
    mixture = rng.standard_normal((2, 1, 4000)).astype(np.float32)
    condition = rng.standard_normal((2, 16)).astype(np.float32)
    run = jax.jit(audiosep.separate, static_argnums=1)
    waveform = run(model.params, model.config, mixture[:, 0], condition)
    (tmp_path / "case.json").write_text("{}")
    io = {"mixture": mixture, "condition": condition, "waveform": np.asarray(waveform)[:, None]}
    np.savez(tmp_path / "io_dev.npz", **io)
    [check] = verify.verify(tiny_folder, tmp_path)
    assert check.passed
    assert check.name == "io_dev/waveform"
    np.savez(tmp_path / "io_dev.npz", **{**io, "waveform": -io["waveform"]})
    assert not verify.verify(tiny_folder, tmp_path)[0].passed
    np.savez(tmp_path / "io_dev.npz", x=condition)
    with pytest.raises(UsageError, match="no case of audiosep"):
        verify.verify(tiny_folder, tmp_path)
    with pytest.raises(MissingError, match=r"no case\.json"):
        verify.verify(tiny_folder, tmp_path / "none")
