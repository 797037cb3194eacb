"""From checkpoints to models that answer; what does not fit is refused and leaves nothing behind."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxaudio
from jaxaudio.convert.rules import Rule, flatten
from jaxaudio.errors import CheckpointError, MissingError, UsageError
from jaxaudio.models import folder as folders, publish
from jaxaudio.nn import htsat
from jaxaudio.systems import lassnet
from jaxaudio.text import bert, clap
from tests.models import tiny

NOISE = (np.random.default_rng(0).standard_normal(9000) / 5).astype(np.float32)

LASSNET = lassnet.Config(
    sample_rate=8000,
    n_fft=64,
    hop=32,
    text=dataclasses.replace(tiny.ENCODER.encoder),
    condition_size=8,
    channels=(4, 8),
    bottleneck=8,
    chunk=(0.1, 0.3, 0.1),
)

ROBERTA = ["<s>", "<pad>", "</s>", "a", "d", "o", "g", "Ġ", "Ã", "¶"]
CLAP = clap.Config(
    audio=htsat.Config(embed_dim=8, depths=(1, 1), heads=(1, 2)),
    text=bert.Config(
        vocab_size=len(ROBERTA),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=34,
        type_vocab_size=1,
        pad_token_id=1,
    ),
    clip_samples=48000,
    features=16,
)


@pytest.fixture
def vocabularies(tmp_path):
    """A folder with what any of the systems needs."""
    folder = tmp_path / "vocabularies"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(tiny.WORDS) + "\n")
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(ROBERTA)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def checkpoint(path, tree, seed=0):
    """A checkpoint whose keys are the paths of the tree."""
    save_file(flatten(tiny.filled(jax.eval_shape(tree), seed)), path)
    return path


@pytest.fixture
def as_it_is(monkeypatch):
    """Conversion of checkpoints that are in our own layout: what the systems' rules do is tested with the systems."""

    def plan(config, text):
        monkeypatch.setattr(publish, "_plan", lambda system, state: (config, text, (Rule(r"(.*)", r"\1"),)))

    return plan


def test_lassnet_answers_with_its_own_encoder(tmp_path, vocabularies, as_it_is):
    as_it_is(LASSNET, {"kind": "own"})
    tree = {"separator": lambda: lassnet.init(jax.random.key(0), LASSNET)}
    file = checkpoint(tmp_path / "a.safetensors", lambda: {name: make() for name, make in tree.items()})
    card = publish.convert_checkpoint("lassnet", file, tmp_path / "out", tokenizer=vocabularies)
    assert card.about["checkpoint_sha256"] == folders.sha256(file)
    model = jaxaudio.load(tmp_path / "out")
    assert model.encoder.tokenizer.end == ()  # no [SEP], as the original
    ids, mask = model.encoder.tokenizer.encode("a dog")
    np.testing.assert_allclose(model.embed("a dog"), lassnet.embed(model.params, LASSNET, ids, mask), atol=1e-6)
    estimate, residual = model.separate(NOISE[:, None], ["a dog", "rain"], sample_rate=8000, residual=True)
    assert estimate.shape == (2, 9000, 1)
    np.testing.assert_allclose(estimate + residual, np.stack([NOISE[:, None]] * 2), atol=1e-6)


def test_clap_hears_and_reads(tmp_path, vocabularies, as_it_is):
    as_it_is(CLAP, {"kind": "clap"})
    file = checkpoint(tmp_path / "a.safetensors", lambda: {"query": clap.init(jax.random.key(0), CLAP)})
    publish.convert_checkpoint("clap", file, tmp_path / "out", tokenizer=vocabularies)
    model = jaxaudio.load(tmp_path / "out")
    texts = model.embed(["a dog", "dög"])
    sound = model.embed_audio(np.stack([NOISE, NOISE], 1), sample_rate=44100)
    assert texts.shape == (2, 16)
    assert sound.shape == (16,)
    np.testing.assert_allclose(np.linalg.norm([*texts, sound], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.embed_audio(NOISE, sample_rate=44100), sound, atol=1e-5)
    assert not hasattr(model, "separate")


def test_without_a_tokenizer_the_way_to_provide_one_is_told(tmp_path, as_it_is):
    as_it_is(tiny.CONFIG, {"kind": "clap", "config": dataclasses.asdict(CLAP)})
    tree = {
        "separator": tiny.weights(),
        "query": tiny.filled(jax.eval_shape(lambda: clap.init(jax.random.key(0), CLAP))),
    }
    save_file(flatten(tree), tmp_path / "a.safetensors")
    publish.convert_checkpoint("audiosep", tmp_path / "a.safetensors", tmp_path / "out")
    model = jaxaudio.load(tmp_path / "out")
    with pytest.raises(MissingError, match=r"vocab.json and merges.txt, or tokenizer.json.*\n.*--tokenizer DIR"):
        model.separate(NOISE, "a dog", sample_rate=8000)


def test_a_run_becomes_a_model(tmp_path):
    from jaxaudio.train.checkpoint import save_params

    config = {"system": "audiosep", "config": dataclasses.asdict(tiny.CONFIG)}
    save_params(tmp_path / "best", tiny.weights(), config)
    card = publish.export_training(tmp_path / "best", tmp_path / "out", licence="CC0-1.0", dtype=np.float16)
    assert (card.licence, card.text, card.name) == ("CC0-1.0", {"kind": "mini"}, "out")
    with pytest.raises(UsageError, match="not the best or final folder"):
        publish.export_training(tmp_path / "out", tmp_path / "again")


@pytest.mark.parametrize(
    ("system", "key", "message"),
    [
        (
            "audiosep",
            "module.audio_branch.patch_embed.proj.weight",
            "audiosep; it looks like one of clap",
        ),
        ("clap", "ss_model.base.bn0.weight", "clap; it looks like one of audiosep"),
        ("lassnet", "anything", "no checkpoint of lassnet. Give one of"),
        ("audiosep", "ss_model.base.bn0.weight", "neither of 32 kHz nor of 16 kHz"),
        ("clap", "module.audio_branch.patch_embed.proj.weight", "of width 3, neither"),
        ("lassnet", "module.UNet.surplus", "unknown key module.UNet.surplus"),
    ],
)
def test_checkpoints_of_another_kind(tmp_path, system, key, message):
    save_file({key: np.zeros((3,), np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=message):
        publish.convert_checkpoint(system, tmp_path / "a.safetensors", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_what_is_missing_or_in_the_way(tmp_path):
    with pytest.raises(MissingError, match="no checkpoint"):
        publish.convert_checkpoint("lassnet", tmp_path / "a.pt", tmp_path / "out")
    with pytest.raises(UsageError, match="already exists"):
        publish.convert_checkpoint("lassnet", tmp_path / "a.pt", tmp_path)
    with pytest.raises(UsageError, match="no published system 'demucs'"):
        publish.convert_checkpoint("demucs", tmp_path / "a.pt", tmp_path / "out")
    with pytest.raises(MissingError, match=r"does not hold vocab\.txt"):
        publish.convert_checkpoint("lassnet", tmp_path / "a.pt", tmp_path / "out", tokenizer=tmp_path)
