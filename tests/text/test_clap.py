import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio import dsp
from jaxaudio.convert.rules import count
from jaxaudio.errors import AudioError, CheckpointError, UsageError
from jaxaudio.nn import htsat
from jaxaudio.text import clap, roberta
from tests.golden.weights import fill

SMALL = clap.Config(
    audio=htsat.Config(mel_bins=16, spec_size=32, patch_size=2, embed_dim=8, depths=(2, 2), heads=(2, 4), window=4),
    text=dataclasses.replace(
        roberta.ROBERTA_BASE,
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=40,
    ),
    mel=dsp.MelConfig(sample_rate=48000, n_fft=256, hop=120, n_mels=16, fmin=50, fmax=14000),
    clip_samples=7200,
    features=12,
)


def laion_shapes():
    """Keys and shapes as LAION's checkpoints name them, for the small configuration."""
    shapes = {"logit_scale_a": (), "logit_scale_t": ()}

    def affine(name, out, width, bias=True):
        shapes[f"{name}.weight"] = (out, *np.atleast_1d(width))
        if bias:
            shapes[f"{name}.bias"] = (out,)

    def norm(name, width):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    a = "audio_branch."
    shapes |= {f"{a}spectrogram_extractor.stft.conv_{part}.weight": (129, 1, 256) for part in ("real", "imag")}
    shapes[f"{a}logmel_extractor.melW"] = (129, 16)
    norm(f"{a}bn0", 16)
    shapes |= {f"{a}bn0.running_mean": (16,), f"{a}bn0.running_var": (16,), f"{a}bn0.num_batches_tracked": ()}
    affine(f"{a}patch_embed.proj", 8, (1, 2, 2))
    norm(f"{a}patch_embed.norm", 8)
    for stage, (width, heads) in enumerate(((8, 2), (16, 4))):
        for i in range(2):
            block = f"{a}layers.{stage}.blocks.{i}."
            norm(f"{block}norm1", width)
            norm(f"{block}norm2", width)
            shapes[f"{block}attn.relative_position_bias_table"] = (49, heads)
            shapes[f"{block}attn.relative_position_index"] = (16, 16)
            affine(f"{block}attn.qkv", 3 * width, width)
            affine(f"{block}attn.proj", width, width)
            affine(f"{block}mlp.fc1", 4 * width, width)
            affine(f"{block}mlp.fc2", width, 4 * width)
    shapes[f"{a}layers.0.blocks.1.attn_mask"] = (16, 16, 16)
    affine(f"{a}layers.0.downsample.reduction", 16, 32, bias=False)
    norm(f"{a}layers.0.downsample.norm", 32)
    norm(f"{a}norm", 16)
    affine(f"{a}tscam_conv", 527, (16, 4, 3))
    affine(f"{a}head", 527, 527)
    t = "text_branch."
    for table, rows in (("word", 50), ("position", 40), ("token_type", 1)):
        shapes[f"{t}embeddings.{table}_embeddings.weight"] = (rows, 16)
    norm(f"{t}embeddings.LayerNorm", 16)
    shapes[f"{t}embeddings.position_ids"] = (1, 40)
    for i in range(1):
        layer = f"{t}encoder.layer.{i}."
        for name in ("query", "key", "value"):
            affine(f"{layer}attention.self.{name}", 16, 16)
        affine(f"{layer}attention.output.dense", 16, 16)
        norm(f"{layer}attention.output.LayerNorm", 16)
        affine(f"{layer}intermediate.dense", 24, 16)
        affine(f"{layer}output.dense", 16, 24)
        norm(f"{layer}output.LayerNorm", 16)
    affine(f"{t}pooler.dense", 16, 16)
    for side in ("text", "audio"):
        affine(f"{side}_projection.0", 12, 16)
        affine(f"{side}_projection.2", 12, 12)
        affine(f"{side}_transform.sequential.0", 12, 12)
        affine(f"{side}_transform.sequential.3", 12, 12)
    return shapes


LAION = {key: fill(key, shape) for key, shape in laion_shapes().items()}

TO_HUGGING_FACE = (
    ("audio_branch.", "audio_model.audio_encoder."),
    ("text_branch.", "text_model."),
    ("bn0", "batch_norm"),
    ("norm1", "layernorm_before"),
    ("norm2", "layernorm_after"),
    ("attn.proj", "attention.output.dense"),
    ("attn.rel", "attention.self.rel"),
    ("mlp.fc1", "intermediate.dense"),
    ("mlp.fc2", "output.dense"),
    ("projection.0", "projection.linear1"),
    ("projection.2", "projection.linear2"),
)


def hugging_face_state():
    """The same weights under the names of Hugging Face's ClapModel, query, key and value apart."""
    state = {}
    for key, value in LAION.items():
        if any(part in key for part in ("tscam", "head", "_transform", "extractor", "attn_mask")):
            continue
        for old, new in TO_HUGGING_FACE:
            key = key.replace(old, new)
        if "attn.qkv" in key:
            for name, third in zip(("query", "key", "value"), np.split(value, 3)):
                state[key.replace("attn.qkv", f"attention.self.{name}")] = third
        else:
            state[key] = value
    return state | {"text_model.embeddings.token_type_ids": np.zeros((1, 40), np.int64)}


@pytest.fixture(scope="module")
def params():
    return clap.from_state(LAION, SMALL)


audio_embedding = jax.jit(clap.audio_embedding, static_argnames=("config", "sample_rate", "rule"))
text_embedding = jax.jit(clap.text_embedding, static_argnames=("config",))
encode_audio = jax.jit(clap.encode_audio, static_argnames=("config",))


def clip(time, seed=0, batch=1):
    return (0.1 * np.random.default_rng(seed).standard_normal((batch, time))).astype(np.float32)


@pytest.mark.parametrize("other", ["module", "hugging face"])
def test_every_published_naming_gives_the_same_tree(params, other):
    state = hugging_face_state() if other == "hugging face" else {f"module.{k}": v for k, v in LAION.items()}
    for ours, theirs in zip(jax.tree.leaves(params), jax.tree.leaves(clap.from_state(state, SMALL)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_conversion_lists_what_does_not_fit():
    state = dict(LAION)
    state["audio_branch.mystery"] = state.pop("audio_branch.norm.weight")
    with pytest.raises(CheckpointError, match=r"audio_branch\.mystery"):
        clap.from_state(state, SMALL)


def test_published_models_have_their_size():
    """Parameters counted from the published key lists, without buffers and the parts that embeddings do not use."""
    published = {clap.HTSAT_BASE_ROBERTA: 67_824_408, clap.HTSAT_TINY_ROBERTA: 27_534_488}
    for config, audio in published.items():
        tree = jax.eval_shape(lambda config=config: clap.init(jax.random.key(0), config))["params"]
        assert (count(tree["audio_branch"]), count(tree["text_branch"])) == (audio, 124_645_632)


def test_repeatpad_repeats_whole_times_then_pads():
    x = np.arange(1, 4, dtype=np.float32)[None]
    np.testing.assert_array_equal(clap.pad_or_crop(x, length=8), [[1, 2, 3, 1, 2, 3, 0, 0]])
    np.testing.assert_array_equal(clap.pad_or_crop(x, length=3), x)
    np.testing.assert_array_equal(clap.pad_or_crop(x, length=2), [[1, 2]])


def test_stretch_only_cuts():
    x = np.arange(5, dtype=np.float32)[None]
    np.testing.assert_array_equal(clap.pad_or_crop(x, "stretch", length=8), x)
    np.testing.assert_array_equal(clap.pad_or_crop(x, "stretch", length=3), [[0, 1, 2]])


def test_crops_are_drawn_per_clip_and_cover_every_start():
    x = np.tile(np.arange(6, dtype=np.float32), (200, 1))
    crops = np.asarray(clap.pad_or_crop(x, length=4, key=jax.random.key(0)))
    np.testing.assert_array_equal(crops - crops[:, :1], np.tile(np.arange(4), (200, 1)))
    assert set(crops[:, 0]) == {0, 1, 2}


def test_what_has_no_embedding_is_refused():
    with pytest.raises(AudioError, match="empty"):
        clap.pad_or_crop(np.zeros((1, 0), np.float32))
    with pytest.raises(UsageError, match="repeatpad"):
        clap.pad_or_crop(clip(10), "loop")


def test_sounds_have_unit_length_and_do_not_mix(params):
    x = clip(3000, batch=3)
    together = audio_embedding(params, SMALL, x)
    assert together.shape == (3, 12)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(together[1:2], audio_embedding(params, SMALL, x[1:2]), atol=1e-5)


def test_embedding_is_the_chain_of_its_parts(params):
    x = clip(3000)
    mel = clap.log_mel(SMALL, clap.pad_or_crop(x, length=7200))
    assert mel.shape == (1, 61, 16)
    features = encode_audio(params, SMALL, mel)["embedding"]
    weights = params["params"]["audio_projection"]
    hidden = np.maximum(features @ weights["linear1"]["kernel"] + weights["linear1"]["bias"], 0)
    projected = np.asarray(hidden @ weights["linear2"]["kernel"] + weights["linear2"]["bias"])
    expected = projected / np.linalg.norm(projected)
    np.testing.assert_allclose(audio_embedding(params, SMALL, x), expected, atol=1e-5)


def test_other_rates_are_resampled(params):
    low = clip(1000)
    by_us = audio_embedding(params, SMALL, low, sample_rate=16000)
    by_hand = audio_embedding(params, SMALL, dsp.resample(low, 16000, 48000))
    np.testing.assert_allclose(by_us, by_hand, atol=1e-5)


def test_length_rules_agree_on_full_clips_only(params):
    full, short = clip(7200), clip(3000)
    stretch = {"rule": "stretch"}
    np.testing.assert_allclose(
        audio_embedding(params, SMALL, full), audio_embedding(params, SMALL, full, **stretch), atol=1e-6
    )
    change = audio_embedding(params, SMALL, short) - audio_embedding(params, SMALL, short, **stretch)
    assert np.abs(change).max() > 1e-3


def test_silence_embeds_finitely(params):
    assert np.isfinite(audio_embedding(params, SMALL, np.zeros((1, 3000), np.float32))).all()


def test_sentences_have_unit_length_whatever_their_padding(params):
    ids = np.array([[0, 7, 9, 11, 2]])
    short = text_embedding(params, SMALL, ids, np.ones_like(ids))
    padded = np.pad(ids, ((0, 0), (0, 6)), constant_values=1)
    long = text_embedding(params, SMALL, padded, padded != 1)
    np.testing.assert_allclose(np.linalg.norm(short), 1, rtol=1e-5)
    np.testing.assert_allclose(long, short, atol=1e-6)
    noisy = text_embedding(params, SMALL, ids, np.ones_like(ids), key=jax.random.key(0))
    assert jnp.abs(noisy - short).max() > 1e-3
