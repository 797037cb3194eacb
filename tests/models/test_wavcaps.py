"""WavCaps' published checkpoints as models: nothing is left over, they say and find what the pure functions do."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxaudio
from jaxaudio.convert.rules import convert, flatten
from jaxaudio.errors import AudioError, CheckpointError, MissingError, UsageError
from jaxaudio.models import publish, systems, verify, wavcaps_checkpoints
from jaxaudio.nn import htsat
from jaxaudio.systems import ase
from jaxaudio.systems.captioning import wavcaps
from tests.models import tiny_wavcaps
from tests.models.published import keys_of

RATE = 32000
RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.1, 40000).astype(np.float32)
TONE = (0.3 * np.sin(np.arange(50000) * 0.1)).astype(np.float32)
KINDS = [(system, sound) for system in ("wavcaps", "ase") for sound in ("htsat", "cnn")]


def converted(folder, system, sound):
    file = tiny_wavcaps.checkpoint(folder / "a.safetensors", system, sound)
    words = tiny_wavcaps.tokenizer(folder / "words", system)
    publish.convert_checkpoint(system, file, folder / "out", tokenizer=words)
    return jaxaudio.load(folder / "out")


@pytest.fixture(scope="module")
def captioner(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("captioner"), "wavcaps", "htsat")


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory):
    return converted(tmp_path_factory.mktemp("retrieval"), "ase", "cnn")


@pytest.mark.parametrize(("system", "sound"), KINDS)
def test_published_names_give_the_sizes_and_fill_everything(system, sound):
    found = tiny_wavcaps.state(system, sound)
    publish._check_system(system, found)
    config, text, rules = wavcaps_checkpoints.find(system, found)
    assert config == tiny_wavcaps.config_of(system, sound)
    made = flatten(convert(found, rules, systems.shapes(system, config, text))[tiny_wavcaps.STEMS[system]])
    wanted = flatten(tiny_wavcaps.weights(system, sound))
    assert made.keys() == wanted.keys()
    for name, x in made.items():
        np.testing.assert_array_equal(x, wanted[name], err_msg=name)
    with pytest.raises(CheckpointError, match=r"unknown key decoder\.other"):
        convert({**found, "decoder.other": np.zeros(1)}, rules, systems.shapes(system, config, text))


def without_memory(shapes):
    return {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}


def test_the_published_sizes_are_those_of_the_constants():
    heard = keys_of("wavcaps_htsat", "encoder.audio_enc.")
    blocks = {f"conv_block{i + 1}.bn2.weight": (64 << i,) for i in range(6)} | {"fc1.bias": (1024,)}
    halves = {f"decoder.model.{side}.layers.{i}.fc1.bias": (3072,) for side in ("encoder", "decoder") for i in range(6)}
    words = {"decoder.model.shared.weight": (50265, 768), "decoder.model.decoder.embed_positions.weight": (1026, 768)}
    at = "text_encoder.text_encoder."
    text = {f"{at}encoder.layer.{i}.intermediate.dense.bias": (3072,) for i in range(12)} | {
        f"{at}embeddings.word_embeddings.weight": (30522, 768),
        f"{at}embeddings.position_embeddings.weight": (512, 768),
        "audio_proj.2.bias": (1024,),
    }
    rest = {"wavcaps": halves | words, "ase": text}
    wanted = {
        ("wavcaps", "htsat"): (wavcaps.HTSAT_BART, 10.0),
        ("wavcaps", "cnn"): (wavcaps.CNN14_BART, 30.0),
        ("ase", "htsat"): (ase.HTSAT_BERT, 10.0),
        ("ase", "cnn"): (ase.CNN14_BERT, 30.0),
    }
    for (system, sound), (config, longest) in wanted.items():
        prefix = tiny_wavcaps.PREFIX[system]
        own = {prefix + key: shape for key, shape in (heard if sound == "htsat" else blocks).items()}
        told, said, _ = wavcaps_checkpoints.find(system, without_memory(own | rest[system]))
        assert told == config and said["longest"] == longest


def test_a_captioner_hears_what_its_authors_give_it(captioner, tmp_path):
    assert captioner.sample_rate == RATE and captioner.config.sound == tiny_wavcaps.HTSAT
    heard = captioner.hear(NOISE, sample_rate=RATE)
    assert heard.shape == (10 * RATE,) and not heard[len(NOISE) :].any()
    np.testing.assert_array_equal(heard[: len(NOISE)], NOISE)
    assert captioner.hear(np.tile(TONE, 20), sample_rate=RATE).shape == (10 * RATE,)
    cnn = converted(tmp_path, "wavcaps", "cnn")
    assert cnn.hear(NOISE, sample_rate=RATE).shape == (2 * RATE,)
    assert cnn.hear(np.tile(TONE, 20), sample_rate=RATE).shape == (30 * RATE,)


def test_a_captioner_says_what_the_pure_functions_do(captioner):
    config, params = captioner.config, tiny_wavcaps.weights("wavcaps", "htsat")
    texts = []
    for sound in (np.tile(NOISE, 8), np.tile(TONE, 8)):  # as long as may be: silence sounds alike
        heard = captioner.hear(sound, sample_rate=RATE)
        memory = jax.jit(_memory, static_argnums=1)(params, config, heard[None])
        beams = wavcaps.caption(params, config, memory, beam=wavcaps.BEAM)
        tokens = captioner.vocabulary.tokenizer
        wanted = [tokens.backend.decode([int(i) for i in row if i > 3]).strip() for row in beams.tokens[0]]
        found = captioner.captions(sound, sample_rate=RATE)
        assert [one.text for one in found] == list(dict.fromkeys(wanted))
        np.testing.assert_allclose(found[0].score, beams.scores[0, 0], atol=1e-4)
        assert len(found[0].text) > 0 and beams.tokens.shape == (1, 3, 29)
        texts.append(found[0].text)
    assert texts[0] != texts[1]
    assert captioner.caption(sound, sample_rate=RATE) == texts[1]


def _memory(params, config, audio):
    return wavcaps.encode(params, config, wavcaps.hear(config, audio))[0]["memory"]


def test_draws_and_sentences(captioner):
    how = {"sample_rate": RATE, "samples": 4, "temperature": 1.5}
    one, same = (captioner.captions(NOISE, seed=1, **how) for _ in range(2))
    assert one == same and len(one) > 1
    silence, heard = np.zeros(10 * RATE, np.float32), captioner.hear(NOISE, sample_rate=RATE)
    assert captioner.match("A dog!", [silence])[0, 0] == pytest.approx(0, abs=1e-5)
    score = captioner.match("A dog!", [heard])
    assert score.shape == (1, 1) and abs(score[0, 0]) > 1e-4
    np.testing.assert_array_equal(captioner.match("a dog", [heard]), score)
    with pytest.raises(UsageError, match="knows no word of '!'"):
        captioner.match("!", [heard])
    with pytest.raises(UsageError, match="has no tags"):
        captioner.tag(NOISE, sample_rate=RATE)


def test_pieces_are_read_with_both_starts_and_said_without(captioner):
    pieces = captioner.vocabulary
    ids, mask = pieces.encode(["A dog, barks.", "dog"], 30)
    assert ids[0, :2].tolist() == [2, 0] and ids[0, mask[0].sum() - 1] == 2 and ids.shape == (2, 16)
    assert [pieces.decode(row) for row in ids] == ["a dog barks", "dog"]
    assert pieces.encode(["dog " * 40], 30)[0].shape == (1, 30)
    assert pieces.decode([0, 3, 17, 1, 1]) == "dog"


def test_retrieval_embeds_as_the_pure_functions_do(retrieval):
    config, params = retrieval.config, tiny_wavcaps.weights("ase", "cnn")
    assert retrieval.sample_rate == RATE
    heard = [retrieval.hear(sound, sample_rate=RATE) for sound in (NOISE, TONE)]
    assert all(sound.shape == (10 * RATE,) for sound in heard)
    ids = np.asarray([[2, 4, 5, 3, 0, 0, 0, 0]])
    text = ase.embed_text(params, config, ids, ids != 0)
    np.testing.assert_allclose(retrieval.embed("Glass breaking."), text, atol=1e-5)
    sounds = jax.jit(ase.embed_audio, static_argnums=1)(params, config, jnp.asarray(heard))
    np.testing.assert_allclose(retrieval.embed_audio(TONE, sample_rate=RATE), sounds[1], atol=1e-5)
    scores = retrieval.match(["glass breaking", "rain"], heard)
    assert scores.shape == (2, 2) and np.abs(scores).max() <= 1
    np.testing.assert_allclose(scores[:, :1], np.asarray(sounds) @ np.asarray(text).T, atol=1e-5)
    stereo = np.stack([TONE, TONE], 1)
    np.testing.assert_allclose(retrieval.embed_audio(stereo, sample_rate=RATE), sounds[1], atol=1e-5)
    assert retrieval.hear(np.tile(TONE, 20), sample_rate=RATE).shape == (30 * RATE,)
    assert verify.parity_output(retrieval).shape == (12,)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda m: m.embed("..."), UsageError, "empty"),
        (lambda m: m.embed(""), UsageError, "no words"),
        (lambda m: m.hear(NOISE, sample_rate=0), UsageError, "sample rate"),
        (lambda m: m.hear(NOISE[:0], sample_rate=RATE), AudioError, "empty"),
    ],
)
def test_what_retrieval_refuses(retrieval, call, error, told):
    with pytest.raises(error, match=told) as caught:
        call(retrieval)
    assert "\n" not in str(caught.value)


def test_a_tokenizer_json_does_as_well(tmp_path, captioner, retrieval):
    file = tiny_wavcaps.checkpoint(tmp_path / "ase.safetensors", "ase", "cnn")
    retrieval.encoder.tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    publish.convert_checkpoint("ase", file, tmp_path / "ase", tokenizer=tmp_path)
    again = jaxaudio.load(tmp_path / "ase").encoder.tokenizer
    np.testing.assert_array_equal(again.encode("glass dogs")[0], retrieval.encoder.tokenizer.encode("glass dogs")[0])
    captioner.vocabulary.tokenizer.backend.save(str(tmp_path / "tokenizer.json"))
    file = tiny_wavcaps.checkpoint(tmp_path / "wavcaps.safetensors", "wavcaps", "cnn")
    publish.convert_checkpoint("wavcaps", file, tmp_path / "wavcaps", tokenizer=tmp_path)
    pieces = jaxaudio.load(tmp_path / "wavcaps").vocabulary
    assert pieces.decode(pieces.encode(["a dog barks"], 30)[0][0]) == "a dog barks"


def test_without_a_tokenizer_it_is_asked_for(tmp_path):
    for system, method, wanted in (("wavcaps", "vocabulary", "merges.txt"), ("ase", "encoder", "vocab.txt")):
        file = tiny_wavcaps.checkpoint(tmp_path / f"{system}.safetensors", system, "cnn")
        publish.convert_checkpoint(system, file, tmp_path / system)
        with pytest.raises(MissingError, match=rf"{wanted}.*\n.*convert {system} CHECKPOINT OUT --tokenizer DIR"):
            getattr(jaxaudio.load(tmp_path / system), method)


@pytest.mark.parametrize(("system", "sound"), [("wavcaps", "cnn"), ("ase", "cnn")])
def test_a_tokenizer_of_another_model_is_refused(tmp_path, system, sound):
    file = tiny_wavcaps.checkpoint(tmp_path / "a.safetensors", system, sound)

    def refused(error, told):
        with pytest.raises(error, match=told) as caught:
            publish.convert_checkpoint(system, file, tmp_path / "out", tokenizer=words)
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()

    words = tmp_path / "nothing"
    refused(MissingError, "does not hold vocab")
    words = tiny_wavcaps.tokenizer(tmp_path / "words", system)
    if system == "wavcaps":
        ids = {piece: i for i, piece in enumerate(tiny_wavcaps.PIECES)}
        (words / "vocab.json").write_text(json.dumps(ids | {"zz": len(ids)}))
        refused(CheckpointError, f"has {len(ids) + 1} tokens and the model {len(ids)}; give that of bart-base")
        (words / "vocab.json").write_text(json.dumps(ids | {"<s>": 1, "<pad>": 0}))
        refused(CheckpointError, "are not those of the model; give that of bart-base")
    else:
        (words / "vocab.txt").write_text("\n".join(tiny_wavcaps.WORDS[:-1]) + "\n")
        count = len(tiny_wavcaps.WORDS)
        refused(CheckpointError, f"has {count - 1} tokens and the model {count}; give that of bert-base-uncased")


@pytest.mark.parametrize(
    ("system", "change", "told"),
    [
        ("ase", lambda: tiny_wavcaps.state("wavcaps", "htsat"), "no checkpoint of ase; it looks like one of wavcaps"),
        ("wavcaps", lambda: tiny_wavcaps.state("ase", "htsat"), "no checkpoint of wavcaps; it looks like one of ase"),
        ("clap", lambda: tiny_wavcaps.state("ase", "htsat"), "no checkpoint of clap; it looks like one of ase"),
        ("captioning", lambda: tiny_wavcaps.state("wavcaps", "cnn"), "it looks like one of wavcaps"),
        ("wavcaps", lambda: {"enc_to_dec_proj.weight": np.zeros((3, 3))}, "neither HTS-AT nor Cnn14"),
        (
            "ase",
            lambda: {f"audio_encoder.audio_enc.{name}.x": np.zeros(1) for name in ("resnet", "conv_block1")},
            "neither HTS-AT nor Cnn14",
        ),
        (
            "ase",
            lambda: {"audio_encoder.audio_enc.patch_embed.x": np.zeros(1)},
            r"audio_encoder\.audio_enc\.patch_embed\.proj\.bias is missing",
        ),
    ],
)
def test_checkpoints_of_another_kind(tmp_path, system, change, told):
    save_file({key: np.asarray(x, np.float32) for key, x in change().items()}, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=told) as caught:
        publish.convert_checkpoint(system, tmp_path / "a.safetensors", tmp_path / "out")
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_heads_of_another_width_are_refused():
    found = tiny_wavcaps.state("wavcaps", "cnn") | {"decoder.model.shared.weight": np.zeros((8, 96), np.float32)}
    with pytest.raises(CheckpointError, match="BART is 96 wide"):
        wavcaps_checkpoints.find("wavcaps", found)
    assert htsat.WAVCAPS.patch_size << 3 == htsat.WAVCAPS.repeat
