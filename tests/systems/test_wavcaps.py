"""WavCaps' captioners: what a caption depends on, its rules, the loss by hand, published keys, and what is refused."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert, count, flatten
from jaxaudio.errors import AudioError, CheckpointError, ConfigError, UsageError
from jaxaudio.nn import audio_encoder, htsat, panns
from jaxaudio.systems.captioning import wavcaps
from jaxaudio.text import bart
from jaxaudio.text.decode import Beam
from tests.systems.tiny import filled

HTSAT = htsat.Config(mel_bins=8, spec_size=16, embed_dim=8, depths=(2,), heads=(2,), window=2, mlp_ratio=2.0, repeat=2)
BART = bart.Config(
    vocab_size=14,
    d_model=8,
    encoder_layers=1,
    decoder_layers=1,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=16,
    decoder_ffn_dim=16,
    max_position_embeddings=40,
)
SMALL = wavcaps.Config(sound=HTSAT, words=BART)
CNN = wavcaps.Config(sound=panns.Config(widths=(4, 6), head="frames", embedding=10, classes=0), words=BART)
RNG = np.random.default_rng(0)
MEL = jnp.asarray(RNG.normal(size=(3, 30, 8)), jnp.float32)
IDS = jnp.asarray([[0, 5, 6, 2, 1], [0, 7, 8, 9, 2], [0, 4, 2, 1, 1]])
MASK = IDS != 1


def weights_of(config):
    """Weights of any value with which words depend on what is heard, and plain statistics."""
    made = filled(lambda key: wavcaps.init(key, config))
    params = jax.tree.map(lambda x: 1.5 * x, made["params"])
    stats = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.full_like(x, path[-1].key == "var"), made["batch_stats"]
    )
    return {"params": params, "batch_stats": stats}


PARAMS = weights_of(SMALL)
encode = jax.jit(wavcaps.encode, static_argnums=1)
caption_logits = jax.jit(wavcaps.caption_logits, static_argnums=1)


@pytest.mark.parametrize(("config", "millions"), [(wavcaps.HTSAT_BART, 167.60), (wavcaps.CNN14_BART, 217.83)])
def test_sizes(config, millions):
    """Those of the published modules without tagging heads; 139.47 million are BART's, with the bias of its logits."""
    tree = jax.eval_shape(lambda: wavcaps.init(jax.random.key(0), config))
    assert count(tree["params"]["decoder"]) / 1e6 == pytest.approx(139.47, abs=0.01)
    assert count(tree["params"]) / 1e6 == pytest.approx(millions, abs=0.01)


def test_a_caption_is_of_its_own_sound():
    made, statistics = encode(PARAMS, SMALL, MEL)
    assert made["memory"].shape == made["frames"].shape == (3, 16, 8)
    assert jax.tree.all(jax.tree.map(np.array_equal, statistics, PARAMS["batch_stats"]))
    whole = wavcaps.caption(PARAMS, SMALL, made["memory"], 8)
    assert len({tuple(row) for row in np.asarray(whole.tokens).tolist()}) > 1
    for i in range(3):
        other, _ = encode(PARAMS, SMALL, jnp.where(jnp.arange(3)[:, None, None] == i, MEL, -2 * MEL))
        np.testing.assert_allclose(other["memory"][i], made["memory"][i], atol=1e-5)
        tokens = wavcaps.caption(PARAMS, SMALL, other["memory"], 8).tokens
        np.testing.assert_array_equal(tokens[i], whole.tokens[i])
    best = wavcaps.caption(PARAMS, SMALL, made["memory"], 8, beam=Beam(width=1))
    np.testing.assert_array_equal(best.tokens[:, 0], whole.tokens)
    # What is chosen step by step is what the whole caption's logits say, up to the forced end.
    logits = caption_logits(PARAMS, SMALL, made["memory"], wavcaps.shifted(SMALL, whole.tokens))
    likeliest = np.argmax(logits[:, 1:-1], -1)  # the first may not be the end
    said = np.asarray(whole.lengths)[:, None] > 1 + np.arange(6)
    np.testing.assert_array_equal(np.where(said, likeliest, 0), np.where(said, whole.tokens[:, 1:-1], 0))


def test_published_rules():
    config = dataclasses.replace(SMALL, first=0, no_repeat=2)
    memory = encode(PARAMS, SMALL, MEL)[0]["memory"]
    for row in np.asarray(wavcaps.caption(PARAMS, config, memory, 12, beam=wavcaps.BEAM).tokens[:, 0]).tolist():
        said = row[: row.index(BART.eos_token_id) + 1]  # every caption ends
        pairs = list(itertools.pairwise(said))
        assert said[0] == 0 and len(pairs) == len(set(pairs))
        assert set(row[len(said) :]) <= {BART.pad_token_id}


def test_the_loss_is_smoothed_cross_entropy_of_the_real_tokens():
    extra = {"batch_stats": PARAMS["batch_stats"]}
    run = jax.jit(lambda ids, mask: wavcaps.loss(PARAMS["params"], extra, batch(ids, mask), config=SMALL))

    def batch(ids, mask):
        return {"mel": MEL, "ids": ids, "mask": mask}

    value, (metrics, new) = run(IDS, MASK)
    memory = encode(PARAMS, SMALL, MEL)[0]["memory"]
    given = np.asarray([[2, 0, 5, 6, 2], [2, 0, 7, 8, 9], [2, 0, 4, 2, 1]])
    np.testing.assert_array_equal(wavcaps.shifted(SMALL, IDS), given)
    logits = np.asarray(caption_logits(PARAMS, SMALL, memory, jnp.asarray(given), MASK), np.float64)
    shares = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    total, right = 0.0, 0
    for row, column in np.argwhere(np.asarray(MASK)):
        wanted = np.full(14, 0.1 / 14)
        wanted[IDS[row, column]] += 0.9
        total -= wanted @ shares[row, column]
        right += int(shares[row, column].argmax() == IDS[row, column])
    real = int(MASK.sum())
    assert value == pytest.approx(total / real, rel=1e-5)
    assert metrics["accuracy"] == pytest.approx(right / real)
    assert jax.tree.all(jax.tree.map(np.array_equal, new, extra))
    # What stands after the end does not matter.
    assert run(jnp.where(MASK, IDS, 11), MASK)[0] == pytest.approx(float(value), rel=1e-6)


def test_training_draws_for_each_item_by_its_index():
    extra = {"batch_stats": PARAMS["batch_stats"]}
    batch = {"mel": MEL, "ids": IDS, "mask": MASK, "index": jnp.asarray([4, 7, 5])}
    run = jax.jit(lambda batch, key: wavcaps.loss(PARAMS["params"], extra, batch, key, config=SMALL))
    value, (_, new) = run(batch, jax.random.key(0))
    assert run(jax.tree.map(lambda x: x[::-1], batch), jax.random.key(0))[0] == pytest.approx(float(value), rel=1e-4)
    assert run(batch, jax.random.key(1))[0] != value
    mean = new["batch_stats"]["encoder"]["bn0"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * MEL.mean((0, 1)), atol=1e-6)


def test_training_leaves_blocks_out_for_each_item_alone():
    sound = dataclasses.replace(HTSAT, drop_path=0.8, augment=False)
    variables = {name: tree["encoder"] for name, tree in PARAMS.items()}
    keys, mel = jax.random.split(jax.random.key(1), 48), jnp.broadcast_to(MEL[:1], (48, *MEL.shape[1:]))
    run = jax.jit(lambda key: htsat.apply(variables, sound, mel, key=key)[0])
    drawn = run(keys)
    # The first block is never left out; of the last one both parts are in 0.8 of all cases each.
    np.testing.assert_allclose(drawn["layers_0_blocks_0"] - drawn["layers_0_blocks_0"][:1], 0, atol=1e-5)
    last = np.abs(drawn["layers_0_blocks_1"] - drawn["layers_0_blocks_0"]).max((1, 2, 3))
    assert np.mean(last == 0) == pytest.approx(0.64, abs=0.2)
    # By its own key, whatever its place.
    turned = run(keys[::-1])
    np.testing.assert_allclose(turned["embedding"][::-1], drawn["embedding"], rtol=1e-4, atol=1e-4)
    striped = jax.jit(lambda key: htsat.apply(variables, HTSAT, mel[:3], key=key)[0]["image"])(keys[:3])
    assert not np.allclose(striped[0], striped[1])


def test_frames_are_repeated():
    made, _ = encode(PARAMS, SMALL, MEL)
    assert made["fine_grained"].shape == (3, 2 * 8, 8)
    by_hand = made["norm"].reshape(3, 2, 2, 4, 8).mean(2).reshape(3, 8, 8)  # (strips, bands, time) to time
    np.testing.assert_allclose(made["fine_grained"], np.repeat(by_hand, 2, axis=1), atol=1e-6)
    np.testing.assert_allclose(made["embedding"], by_hand.mean(1), atol=1e-6)


def test_hearing_crops_what_is_too_long():
    audio = jnp.asarray(RNG.normal(size=(1, 325000)), jnp.float32) * 0.1
    mel = wavcaps.hear(wavcaps.HTSAT_BART, audio)
    assert mel.shape == (1, 1001, 64)
    np.testing.assert_array_equal(mel, wavcaps.hear(wavcaps.HTSAT_BART, audio[:, :320000]))
    drawn = wavcaps.hear(wavcaps.HTSAT_BART, audio, key=jax.random.key(0))
    assert drawn.shape == mel.shape and not np.allclose(drawn, mel)
    assert jax.eval_shape(lambda: wavcaps.hear(wavcaps.CNN14_BART, audio)).shape == (1, 1016, 64)


def test_published_keys_fill_everything():
    """Cnn14-BART's names, of two blocks and one layer on each side."""
    shapes = {"encoder.audio_enc.fc1.weight": (10, 6), "encoder.audio_enc.fc1.bias": (10,)}
    for name, size in [("bn0", 64), *((f"conv_block{b}.bn{i}", 2 + 2 * b) for b in (1, 2) for i in (1, 2))]:
        shapes |= {f"encoder.audio_enc.{name}.{x}": (size,) for x in ("weight", "bias", "running_mean", "running_var")}
        shapes[f"encoder.audio_enc.{name}.num_batches_tracked"] = ()
    for block, sides in ((1, (1, 4)), (2, (4, 6))):
        shapes[f"encoder.audio_enc.conv_block{block}.conv1.weight"] = (sides[1], sides[0], 3, 3)
        shapes[f"encoder.audio_enc.conv_block{block}.conv2.weight"] = (sides[1], sides[1], 3, 3)
    for buffer in ("mel_trans.stft.conv_real.weight", "mel_trans.stft.conv_imag.weight", "log_trans.melW"):
        shapes[f"encoder.audio_enc.audio_feats_extractor.{buffer}"] = (1,)
    shapes |= {"enc_to_dec_proj.weight": (8, 10), "enc_to_dec_proj.bias": (8,), "decoder.final_logits_bias": (1, 14)}
    shapes |= dict.fromkeys(("decoder.model.shared.weight", "decoder.lm_head.weight"), (14, 8))
    for side in ("encoder", "decoder"):
        shapes[f"decoder.model.{side}.embed_tokens.weight"] = (14, 8)
        shapes[f"decoder.model.{side}.embed_positions.weight"] = (42, 8)
        layer = f"decoder.model.{side}.layers.0"
        attention = ("self_attn", *(("encoder_attn",) if side == "decoder" else ()))
        norms = [f"decoder.model.{side}.layernorm_embedding", f"{layer}.final_layer_norm"]
        norms += [f"{layer}.{name}_layer_norm" for name in attention]
        shapes |= {f"{name}.{kind}": (8,) for name in norms for kind in ("weight", "bias")}
        linear = {f"{layer}.{a}.{p}": (8, 8) for a in attention for p in ("q_proj", "k_proj", "v_proj", "out_proj")}
        linear |= {f"{layer}.fc1": (16, 8), f"{layer}.fc2": (8, 16)}
        shapes |= {f"{name}.weight": shape for name, shape in linear.items()}
        shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    state = {key: RNG.normal(size=shape).astype(np.float32) for key, shape in shapes.items()}
    tied = [key for key in state if key.endswith(("embed_tokens.weight", "lm_head.weight"))]
    state |= dict.fromkeys(tied, state["decoder.model.shared.weight"])
    target = jax.eval_shape(lambda: wavcaps.init(jax.random.key(0), CNN))
    made = flatten(convert(state, wavcaps.weights(CNN), target))
    np.testing.assert_array_equal(made["params/enc_to_dec_proj/kernel"], state["enc_to_dec_proj.weight"].T)
    np.testing.assert_array_equal(made["params/encoder/fc1/bias"], state["encoder.audio_enc.fc1.bias"])
    with pytest.raises(CheckpointError, match=r"unknown key decoder\.other"):
        convert({**state, "decoder.other": np.zeros(1)}, wavcaps.weights(CNN), target)


def test_a_cnn_gives_the_frames_after_its_layer():
    params = weights_of(CNN)
    mel = jnp.asarray(RNG.normal(size=(2, 20, 64)), jnp.float32)
    made, _ = encode(params, CNN, mel)
    assert made["memory"].shape == (2, 5, 8)
    layer = params["params"]["enc_to_dec_proj"]
    np.testing.assert_allclose(made["frames"], made["embedding"] @ layer["kernel"] + layer["bias"], atol=1e-5)


@pytest.mark.parametrize(
    ("error", "hint", "wrong"),
    [
        (ConfigError, 'head="frames"', lambda: wavcaps.Config(sound=panns.CNN14)),
        (UsageError, "crop", lambda: wavcaps.encode(PARAMS, SMALL, jnp.zeros((1, 33, 8)))),
        (UsageError, "crop", lambda: wavcaps.encode(PARAMS, SMALL, jnp.zeros((1, 30, 9)))),
        (UsageError, "shorter", lambda: wavcaps.encode(weights_of(CNN), CNN, jnp.zeros((1, 164, 64)))),
        (UsageError, "40 positions", lambda: wavcaps.caption(PARAMS, SMALL, jnp.zeros((1, 4, 8)), 41)),
        (UsageError, "length > least", lambda: wavcaps.caption(PARAMS, SMALL, jnp.zeros((1, 4, 8)), 1)),
        (UsageError, r"\(batch, time\)", lambda: wavcaps.hear(SMALL, jnp.zeros(320))),
        (AudioError, "at least one sample", lambda: wavcaps.hear(SMALL, jnp.zeros((1, 0)))),
    ],
)
def test_what_is_refused(error, hint, wrong):
    with pytest.raises(error, match=hint) as caught:
        wrong()
    assert str(caught.value).count("\n") <= 1


def test_encoders_tell_their_widths():
    for config in (htsat.WAVCAPS, wavcaps.CNN14_BART.sound):
        assert audio_encoder.front_end(config) == panns.MEL_32K
    assert audio_encoder.frame_width(htsat.WAVCAPS) == audio_encoder.pooled_width(htsat.WAVCAPS) == 768
    assert audio_encoder.frame_width(wavcaps.CNN14_BART.sound) == 1024
    assert audio_encoder.pooled_width(wavcaps.CNN14_BART.sound) == 2048
