"""Published checkpoints of AudioLDM and FlowSep, under every key that they have, become models that read words."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tokenizers
from safetensors.numpy import save_file

import jaxaudio
from jaxaudio.convert.rules import flatten, prefixed
from jaxaudio.errors import CheckpointError, MissingError, UsageError
from jaxaudio.models import encoders, latent_checkpoints as checkpoints, publish, systems
from jaxaudio.nn import autoencoder, hifigan, htsat, latent_audio, latent_model, unet
from jaxaudio.systems import audioldm, flowsep
from jaxaudio.text import bert, clap, t5
from tests.models import tiny
from tests.models.published import keys_of, narrow
from tests.models.test_publish import ROBERTA

AUDIO = latent_audio.Config(vae=autoencoder.Config(channels=4, groups=4), vocoder=hifigan.Config(channels=32))
CLAP = clap.Config(
    audio=htsat.Config(embed_dim=8, depths=(2, 2, 12, 2), heads=(1, 1, 1, 1)),
    text=bert.Config(
        vocab_size=len(ROBERTA),
        hidden_size=8,
        num_hidden_layers=12,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=34,
        type_vocab_size=1,
        pad_token_id=1,
    ),
    features=512,
)
T5 = t5.Config(vocab_size=9, d_model=6, d_kv=2, d_ff=4, num_heads=2)
WIDTHS = (32, 64, 96, 128)
S = audioldm.Config(audio=AUDIO, unet=unet.UNetConfig(film=512, channels=WIDTHS))
M = dataclasses.replace(S, unet=dataclasses.replace(S.unet, channels=(64, 128, 192, 256)))
FLOW = flowsep.Config(
    audio=dataclasses.replace(AUDIO, vocoder_kind="bigvgan"),
    unet=unet.UNetConfig(inputs=16, outputs=16, channels=WIDTHS, transformers=(None, 6)),
)


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(checkpoints, "VARIANTS", {"audioldm": {"s": S, "m": M}, "flowsep": {"v2": FLOW}})
    monkeypatch.setattr(checkpoints, "CLAPS", (CLAP,))


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory):
    folder = tmp_path_factory.mktemp("roberta")
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(ROBERTA)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def filled(home, config, seed=0):
    return tiny.filled(jax.eval_shape(lambda: home.init(jax.random.key(0), config)), seed)


@pytest.fixture(scope="module")
def tree():
    return {"generator": filled(audioldm, S), "query": filled(clap, CLAP, 1)}


@pytest.fixture(scope="module")
def original(tree):
    """The tensors of an audioldm-s .ckpt."""
    keys = keys_of("audioldm_s_unet_original") | keys_of("audioldm_vae_original") | keys_of("audioldm_hifigan_original")
    state = narrow(tree["generator"], latent_model.weights(S), keys | {"scale_factor": ()})
    branch = keys_of("clap_htsat_base_roberta", "query_encoder.", "cond_stage_model.")
    state |= narrow(tree["query"], prefixed(r"cond_stage_model\.model\.", clap.weights(CLAP)), branch)
    beside = {"betas": np.zeros(1000), "cond_stage_model.mel_transform.mel_scale.fb": np.zeros(3), "logvar": np.ones(9)}
    beside["model_ema.diffusion_modeltime_embed0bias"] = np.full(128, 7.0, np.float32)
    return {key: np.ascontiguousarray(x) if x.ndim else x for key, x in (state | beside).items()}


def test_the_original_file(tree, original, vocabulary, tmp_path):
    save_file(original, tmp_path / "s.safetensors")
    card = publish.convert_checkpoint("audioldm", tmp_path / "s.safetensors", tmp_path / "s", tokenizer=vocabulary)
    assert (card.system, card.config, card.sample_rate) == ("audioldm", S, 16000)
    model = jaxaudio.load(tmp_path / "s")
    made, wanted = flatten(model.params), flatten(tree["generator"])
    assert made.keys() == wanted.keys()
    average = "unet/params/time_embedding/linear_1/bias"
    np.testing.assert_array_equal(made.pop(average), np.full(128, 7.0))
    for name, x in made.items():
        np.testing.assert_array_equal(x, wanted[name], err_msg=name)
    assert model.params["scale"].shape == ()
    film = model.condition(["a dog", ""])["film"]
    assert film.shape == (2, 512)
    np.testing.assert_allclose(np.linalg.norm(film, axis=1), 1, atol=1e-5)
    ids, mask = encoders.open_tokenizer(card).encode("", allow_empty=True)
    np.testing.assert_array_equal(ids[mask == 1], [0, 2])  # <s></s>, as the original's
    np.testing.assert_allclose(film[1], clap.text_embedding(tree["query"], CLAP, ids, mask)[0], atol=1e-5)


def test_a_diffusers_folder(tree, vocabulary, tmp_path):
    folder = tmp_path / "diffusers"
    for name, case, weights, params in (
        ("unet/diffusion_pytorch_model", "audioldm_s_unet_diffusers", unet.weights(S.unet), {"unet"}),
        ("vae/diffusion_pytorch_model", "audioldm_vae_diffusers", autoencoder.weights(AUDIO.vae), {"vae"}),
        ("vocoder/model", "speecht5_hifigan_transformers", hifigan.WEIGHTS, {"vocoder"}),
    ):
        (folder / name).parent.mkdir(parents=True)
        state = narrow(tree["generator"][params.pop()], weights, keys_of(case))
        save_file({k: np.ascontiguousarray(x) for k, x in state.items()}, folder / f"{name}.safetensors")
    (folder / "text_encoder").mkdir()
    state = narrow(tree["query"], clap.weights(CLAP), keys_of("clap_text_with_projection"))
    save_file({k: np.ascontiguousarray(x) for k, x in state.items()}, folder / "text_encoder" / "model.safetensors")
    (folder / "tokenizer").mkdir()
    for file in vocabulary.iterdir():
        (folder / "tokenizer" / file.name).write_bytes(file.read_bytes())
    (folder / "vae" / "config.json").write_text('{"scaling_factor": 0.9}')
    (folder / "scheduler").mkdir()
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.write_text('{"beta_start": 0.002, "beta_end": 0.02, "beta_schedule": "scaled_linear"}')

    card = publish.convert_checkpoint("audioldm", folder, tmp_path / "s", diffusers_compat=True)
    assert card.config.betas == (0.002, 0.02)
    assert card.config.unet == dataclasses.replace(S.unet, diffusers_compat=True)
    assert card.text["audio"] is False
    model = jaxaudio.load(tmp_path / "s")
    assert float(model.params["scale"]) == np.float32(0.9)
    wanted = flatten(tree["generator"])
    for name, x in flatten(model.params).items():
        if name != "scale":
            np.testing.assert_array_equal(x, wanted[name], err_msg=name)
    assert model.condition("a dog")["film"].shape == (1, 512)
    with pytest.raises(UsageError, match="has no CLAP that could choose"):
        model.generate("a dog", best_of=2)

    for text, message in (
        ('{"beta_schedule": "linear"}', "says beta_schedule 'linear', AudioLDM has 'scaled_linear'"),
        ('{"prediction_type": "v_prediction"}', "says prediction_type"),
        ("[", "cannot be read"),
    ):
        scheduler.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            publish.convert_checkpoint("audioldm", folder, tmp_path / "again")
    scheduler.unlink()
    (folder / "vae" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="says no scaling_factor"):
        publish.convert_checkpoint("audioldm", folder, tmp_path / "again")
    with pytest.raises(UsageError, match="flowsep is published as one file"):
        publish.convert_checkpoint("flowsep", folder, tmp_path / "again")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="has no unet, vae and vocoder"):
        publish.convert_checkpoint("audioldm", tmp_path / "empty", tmp_path / "again")
    assert not (tmp_path / "again").exists()


@pytest.fixture(scope="module")
def flan(tmp_path_factory):
    """A folder with a T5's configuration, weights and tokenizer."""
    folder = tmp_path_factory.mktemp("t5")
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("▁dog", -3.0), ("a", -3.0)]
    backend = tokenizers.Tokenizer(tokenizers.models.Unigram(vocab, unk_id=2))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.save(str(folder / "tokenizer.json"))
    fields = dataclasses.asdict(T5) | {"feed_forward_proj": "gated-gelu", "model_type": "t5"}
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def test_flowsep_with_its_t5_inside_or_apart(flan, tmp_path):
    params, text = filled(flowsep, FLOW), filled(t5, T5, 1)
    prefix = "cond_stage_models.0.model."
    keys = {
        key: shape for key, shape in keys_of("flowsep_full_ckpt_keys.json").items() if not key.startswith("model_ema")
    }
    words = {key.removeprefix(prefix): shape for key, shape in keys.items() if key.startswith(prefix)}
    state = {key: shape for key, shape in keys.items() if not key.startswith(prefix)}
    state = narrow(params, latent_model.weights(FLOW), state)
    words = narrow(text, t5.WEIGHTS, words)
    state, words = ({k: np.ascontiguousarray(x) if x.ndim else x for k, x in s.items()} for s in (state, words))
    save_file(state | {prefix + key: x for key, x in words.items()}, tmp_path / "whole.safetensors")
    save_file(state, tmp_path / "apart.safetensors")
    with pytest.raises(CheckpointError, match="lacks the text encoder; give --text DIR"):
        publish.convert_checkpoint("flowsep", tmp_path / "apart.safetensors", tmp_path / "no")
    with pytest.raises(MissingError, match="holds no weights"):
        publish.convert_checkpoint("flowsep", tmp_path / "apart.safetensors", tmp_path / "no", text=flan)
    whole = publish.convert_checkpoint("flowsep", tmp_path / "whole.safetensors", tmp_path / "a", text=flan)
    save_file(words, flan / "model.safetensors")
    found = [
        checkpoints.find("flowsep", tmp_path / f"{name}.safetensors", lambda state: None, text=flan)
        for name in ("whole", "apart")
    ]
    assert found[0].state.keys() == found[1].state.keys()
    assert found[0][1:] == found[1][1:]
    assert whole.text["tokens"] == 50

    model = jaxaudio.load(tmp_path / "a")
    told = model.embed(["dog", "a dog"])
    (contexts,), (masks,) = told["contexts"], told["masks"]
    assert (contexts.shape, masks.shape) == ((2, 50, 6), (2, 50))
    ids, mask = model.encoder.tokenizer.encode("a dog")
    # Compiled, as the model has it: 24 layers of separate operations round otherwise, by 1e-5 on some processors.
    read = jax.jit(lambda ids, mask, text: t5.encode(text, T5, ids, mask)["last_hidden_state"])
    hidden = read(ids, mask, text)
    real = int(mask.sum())
    assert masks[1].sum() == real
    np.testing.assert_allclose(contexts[1, :real], hidden[0, :real], atol=1e-5)
    # What FlowSep is told where it is to do without: 50 positions of "", all of them read.
    nothing = model.encoder([""])
    ids, mask = np.zeros((1, 50), np.int32), np.zeros((1, 50), np.int32)
    ids[0, 0], mask[0, 0] = 1, 1
    np.testing.assert_array_equal(nothing["masks"][0], np.ones((1, 50)))
    np.testing.assert_allclose(nothing["contexts"][0], read(ids, mask, text), atol=1e-5)


def test_what_does_not_fit_is_told_in_one_line(original, tmp_path):
    def refused(state, message, error=CheckpointError, system="audioldm", **options):
        save_file(state, tmp_path / "x.safetensors")
        with pytest.raises(error, match=message) as told:
            publish.convert_checkpoint(system, tmp_path / "x.safetensors", tmp_path / "no", **options)
        assert "\n" not in str(told.value)
        assert not (tmp_path / "no").exists()

    def without(prefix):
        return {key: x for key, x in original.items() if not key.startswith(prefix)}

    refused(original, "is no audioldm m: its U-Net has 8 inputs, 32 channels, .*; it looks like s", variant="m")
    refused(original, "audioldm has no variant 'xl'; give one of s, m", UsageError, variant="xl")
    refused(original, "no checkpoint of flowsep; it looks like one of audioldm", system="flowsep")
    refused(original, "no checkpoint of clap; it looks like one of audioldm", system="clap")
    refused(original, "has no variants", UsageError, system="audiosep", variant="s")
    refused(without("first_stage_model.vocoder."), r"lacks the vocoder \(first_stage_model.vocoder\); give the whole")
    refused(without(("first_stage_model.", "scale")), "lacks the autoencoder .* and the vocoder .* and the scale")
    refused(without("model."), "audioldm|no U-Net")
    refused(without("cond_stage_model."), "lacks the text encoder; give --text DIR, a folder with its CLAP")
    refused(without("cond_stage_model."), "there is no folder nowhere", MissingError, text="nowhere")
    refused({"a": np.zeros(3)}, "no checkpoint of audioldm. Give one of")


@pytest.mark.parametrize("name", ["s", "m", "l", "48k", "t5"])
def test_published_variants_are_told_apart(name, monkeypatch):
    monkeypatch.undo()
    config = checkpoints.VARIANTS["audioldm"][name]
    case = {"s": "audioldm_s", "m": "audioldm_m", "l": "audioldm_l", "48k": "audioldm_48k"}.get(
        name, "audioldm_16k_crossattn_t5"
    )
    state = {key: np.broadcast_to(np.float32(0), shape) for key, shape in keys_of(f"{case}_unet_original").items()}
    assert checkpoints._variant("audioldm", state, None, False) == config
    assert systems.config_from_json("audioldm", json.loads(json.dumps(dataclasses.asdict(config)))) == config
