"""SiTok: batches, streams, losses and shortcuts of a small one. There is no published code to compare with."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import count
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import vocos
from jaxaudio.quantize.vq import EmaState
from jaxaudio.samplers.objectives import flow_point, item_normal, item_streams
from jaxaudio.systems import sitok, sitok_stream, sitok_training
from jaxaudio.text.ctc import ctc_loss
from tests.systems.tiny import filled

CONFIG = dataclasses.replace(
    sitok.MINI,
    front_end=dataclasses.replace(sitok.MINI.front_end, n_fft=1280, hop=320, pad=480, n_mels=12),
    stack=4,
    books=1,
    window=10.0,
    overlap=1.0,
    width=24,
    hidden=32,
    heads=2,
    encoder_layers=2,
    decoder_layers=2,
    size=64,
    dim=4,
    labels=6,
    patch=1,
    prediction="velocity",
)
PATCHED = dataclasses.replace(CONFIG, patch=2, prediction="x0", once=1)
BOOKS = dataclasses.replace(CONFIG, books=3, size=16)
LIGHT = dataclasses.replace(CONFIG, once=1)
KEY = jax.random.key(0)


ENCODE, ANALYSIS, VELOCITY = (
    jax.jit(f, static_argnames="config") for f in (sitok.encode, sitok.analysis, sitok.velocity)
)
DECODE = jax.jit(sitok.decode, static_argnames=("config", "sampling"))
GUIDED = sitok.Sampling(steps=2, guidance=2.0, rescale=0.5)


@functools.cache
def params_of(config):
    """Random, the adaptive norms too, which begin as ones that no time steers."""
    return filled(lambda key: sitok.init(key, config))


def draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


MEL, FRAMES = draw(3, 22, 12), jnp.asarray([22, 9, 16])
BATCH = {
    "mel": MEL,
    "frames": FRAMES,
    "labels": jnp.asarray([[1, 2, 2, 5], [3, 4, 0, 0], [1, 0, 0, 0]]),
    "label_lengths": jnp.asarray([4, 2, 1]),
    "index": jnp.arange(3),
}


def parts(config, **options):
    variables = params_of(config)
    extra = sitok_training.start(variables)
    return jax.jit(functools.partial(sitok_training.loss, config=config, **options)), variables["params"], extra


def test_the_sizes_are_those_that_the_paper_quotes():
    quoted = {"S": 0.63, "B": 0.88, "L": 1.12, "XL": 1.61}
    for name, giga in quoted.items():
        shapes = jax.eval_shape(functools.partial(sitok.init, KEY, getattr(sitok, f"SITOK_{name}")))
        assert math.floor(count(shapes["params"]) / 1e7) == round(100 * giga)
    shapes = jax.eval_shape(functools.partial(sitok.init, KEY, dataclasses.replace(sitok.MINI, labels=0)))
    assert 2 * count(shapes) < 8e6  # bytes, as float16, without the reader


@pytest.mark.parametrize(("config", "bits"), [(sitok.SITOK_L, 200), (sitok.SITOK_L4, 700), (sitok.MINI, 500)])
def test_bits_per_second(config, bits):
    assert config.token_rate * config.books * math.log2(config.size) == bits


def test_the_spectrogram_has_a_frame_per_hop_and_comes_back():
    wave = 0.1 * draw(2, 16000)
    mel = jax.jit(sitok.mel, static_argnums=0)(CONFIG, wave)
    assert mel.shape == (2, 50, 12)
    vocoder = vocos.Config(sample_rate=16000, mels=12, width=8, hidden=8, layers=1, n_fft=640, hop=320, padding="same")
    config = dataclasses.replace(CONFIG, vocoder=vocoder)
    weights = filled(lambda key: vocos.init(key, vocoder))
    heard, natural = (jax.jit(f, static_argnums=1) for f in (sitok.waveform, vocos.generate))
    expected = natural(weights, vocoder, mel * CONFIG.variance**0.5 + CONFIG.mean)
    np.testing.assert_allclose(heard({"vocoder": weights}, config, mel), expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("config", [BOOKS, LIGHT, PATCHED], ids=["books", "light", "patched"])
def test_a_batch_of_unequal_lengths_is_its_items_one_by_one(config):
    params = params_of(config)
    codes = ENCODE(params, config, MEL, FRAMES)
    made = DECODE(params, config, codes, KEY, sampling=GUIDED, frames=FRAMES)
    assert made.shape == (3, 24, 12) and (codes[1, 3:] == 0).all() and (made[1, 9:] == 0).all()
    for i in (1, 2):
        frames = int(FRAMES[i])
        alone = ENCODE(params, config, MEL[i : i + 1, :frames])
        tokens = -(-frames // 4)
        np.testing.assert_array_equal(codes[i, :tokens], alone[0])
        # The noise of an item is the beginning of the longer one that the batch gives it.
        only = {"frames": FRAMES[i : i + 1], "items": jnp.asarray([i])}
        single = DECODE(params, config, alone, KEY, sampling=GUIDED, **only)
        np.testing.assert_allclose(made[i, : 4 * tokens], single[0], atol=2e-5)


def test_tokens_hear_nothing_after_them_and_everything_before():
    params = params_of(CONFIG)

    def heard(by):
        return ANALYSIS(params, CONFIG, MEL.at[:, 9].add(by))["continuous"]

    moved = np.abs(heard(3.0) - heard(0.0)).max((0, 2))
    assert (moved[:2] == 0).all() and (moved[2:] > 1e-4).all()


@pytest.mark.parametrize(("config", "sizes"), [(CONFIG, (1,) * 22), (CONFIG, (3, 0, 9, 10)), (BOOKS, (2, 3, 17))])
def test_a_stream_of_any_pieces_is_the_whole(config, sizes):
    params, state, made = params_of(config), sitok_stream.begin(config, 3, 22 / 50), []
    run = jax.jit(functools.partial(sitok_stream.encode, config=config), static_argnames="last")
    for i, end in enumerate(np.cumsum(sizes)):
        mel = MEL[:, end - sizes[i] : end]
        codes, state = run(params, state=state, mel=mel, last=i == len(sizes) - 1)
        made.append(codes)
    np.testing.assert_array_equal(jnp.concatenate(made, 1), ENCODE(params, config, MEL))


def test_a_stream_that_is_too_long_says_so():
    state = sitok_stream.begin(CONFIG, 1, 0.16)
    _, state = jax.jit(sitok_stream.encode, static_argnums=1)(params_of(CONFIG), CONFIG, state, MEL[:1, :8])
    with pytest.raises(UsageError, match="longer than it was said to be"):
        sitok_stream.encode(params_of(CONFIG), CONFIG, state, MEL[:1, :4])


def test_several_codebooks_quantise_what_is_left():
    params = params_of(BOOKS)
    made = ANALYSIS(params, BOOKS, MEL)
    rows = np.asarray(params["codebooks"]["codebook"])
    rest = np.asarray(made["continuous"])
    for i in range(3):
        np.testing.assert_allclose(made["rests"][i], rest, atol=1e-5)
        codes = np.argmin(((rest[:, :, None] - rows[i]) ** 2).sum(-1), -1)
        np.testing.assert_array_equal(made["codes"][..., i], codes)
        rest = rest - rows[i][codes]
    np.testing.assert_allclose(made["z"], made["continuous"] - rest, atol=1e-5)
    with pytest.raises(UsageError, match="3 codebooks"):
        sitok.lookup(params, BOOKS, made["codes"][..., :2])


def test_a_velocity_that_is_known_leads_where_it_must():
    """A decoder whose velocity is the constant bias of its last layer moves every frame by it."""
    params = params_of(CONFIG)
    decoder = {**params["params"]["decoder"], "out_linear": {"kernel": jnp.zeros((24, 12)), "bias": jnp.arange(12.0)}}
    params = {**params, "params": {**params["params"], "decoder": decoder}}
    noise, codes = draw(1, 8, 12), jnp.zeros((1, 2), jnp.int32)
    for solver in ("flow-euler", "flow-midpoint"):
        made = DECODE(params, CONFIG, codes, sampling=sitok.Sampling(steps=3, solver=solver), noise=noise)
        np.testing.assert_allclose(made, noise + jnp.arange(12.0), atol=1e-4)
    with pytest.raises(UsageError, match="give it a key"):
        sitok.decode(params, CONFIG, codes)


def test_a_decoder_that_predicts_the_data_arrives_there():
    """In a patch the last layer says the first frame, then the second."""
    params = params_of(PATCHED)
    out = {"kernel": jnp.zeros((24, 24)), "bias": jnp.arange(24.0)}
    decoder = {**params["params"]["decoder"], "out_linear": out}
    params = {**params, "params": {**params["params"], "decoder": decoder}}
    noise, codes = draw(1, 8, 12), jnp.zeros((1, 2), jnp.int32)
    made = DECODE(params, PATCHED, codes, sampling=sitok.Sampling(steps=3), noise=noise)
    np.testing.assert_allclose(made, np.tile(np.arange(24.0).reshape(2, 12), (4, 1))[None], atol=1e-4)
    context = sitok.heard(params, PATCHED, jnp.zeros((1, 2, 4)), jnp.ones((1, 7)))
    for t, left in ((0.0, 1.0), (0.75, 0.25), (1.0, 0.05)):  # at the end it is kept from infinity
        moved = VELOCITY(params, PATCHED, noise[:, :7], jnp.asarray([t]), context)
        np.testing.assert_allclose(moved, (made - noise)[:, :7] / left, rtol=1e-4, atol=1e-4)


def test_frames_of_a_patch_that_are_not_real_do_not_matter():
    params = params_of(PATCHED)
    x, mask = draw(2, 9, 12, seed=6), sitok.real(jnp.asarray([9, 5]), MEL[:2, :9])
    z = ANALYSIS(params, PATCHED, MEL[:2, :9])["z"]

    def moved(x, mask, z):
        return VELOCITY(params, PATCHED, x, jnp.asarray([0.3] * len(x)), sitok.heard(params, PATCHED, z, mask))

    whole = moved(x, mask, z)
    np.testing.assert_allclose(moved(x.at[1, 5:].set(9.0), mask, z)[:, :5], whole[:, :5], atol=1e-6)
    np.testing.assert_allclose(moved(x[1:, :5], mask[1:, :5], z[1:]), whole[1:, :5], atol=1e-5)


@pytest.mark.parametrize("config", [CONFIG, dataclasses.replace(PATCHED, once=0)], ids=["plain", "patched"])
def test_windows_agree_with_one_where_the_decoder_sees_no_neighbours(config):
    """Without attention a frame depends on itself alone, so that windows must not show."""
    params = params_of(config)
    stack = params["params"]["decoder"]["stack"]
    attention = jax.tree.map(jnp.zeros_like, stack["layers"]["self_attn"])
    stack = {**stack, "layers": {**stack["layers"], "self_attn": attention}}
    params = {**params, "params": {**params["params"], "decoder": {**params["params"]["decoder"], "stack": stack}}}
    codes = jnp.asarray(np.random.default_rng(0).integers(0, 64, (2, 9)))
    short = dataclasses.replace(config, window=0.32, overlap=0.08)
    # Guidance is rescaled by the spread within a window, so there is none here.
    plain = sitok.Sampling(steps=2, guidance=2.0)
    whole, cut = (DECODE(params, c, codes, KEY, sampling=plain) for c in (config, short))
    np.testing.assert_allclose(cut, whole, atol=1e-4)


@pytest.mark.parametrize("times", [None, (-0.8, 0.5)])
def test_the_loss_is_what_it_says(times):
    config = dataclasses.replace(CONFIG, slots=2)
    loss, params, extra = parts(config, drop=0.0, times=times)
    value, (metrics, _) = loss(params, extra, BATCH, KEY)
    variables = {"params": params, **extra}
    made = ANALYSIS(variables, config, MEL, FRAMES)
    streams = item_streams(KEY, BATCH["index"], 3)
    noise, t = item_normal(streams[:, 0], MEL), jax.vmap(jax.random.uniform)(streams[:, 1])
    if times:
        t = jax.nn.sigmoid(-0.8 + 0.5 * jax.vmap(jax.random.normal)(streams[:, 1]))
    x, goal = flow_point(MEL, noise, t, 0.0)
    mask = sitok.real(FRAMES, MEL)
    moved = VELOCITY(variables, config, x, t, sitok.heard(variables, config, made["z"], mask))
    rows, steps = FRAMES.tolist(), (-(-FRAMES // 4)).tolist()
    flow = np.mean([np.mean((moved - goal)[i, :n] ** 2) for i, n in enumerate(rows)])
    apart = np.mean([np.mean((made["continuous"] - made["z"])[i, :n] ** 2) for i, n in enumerate(steps)])
    logits = sitok.read(variables, config, made["z"])
    assert logits.shape == (3, 12, 6)
    text = ctc_loss(logits, 2 * np.asarray(steps), BATCH["labels"], BATCH["label_lengths"]) / BATCH["label_lengths"]
    np.testing.assert_allclose(metrics["flow_loss"], flow, rtol=1e-4)
    np.testing.assert_allclose(metrics["commitment"], apart, rtol=1e-4)
    np.testing.assert_allclose(metrics["ctc_loss"], np.mean(text), rtol=1e-4)
    np.testing.assert_allclose(value, flow + 0.25 * apart + 0.1 * np.mean(text), rtol=1e-4)


def test_what_is_padded_changes_neither_loss_nor_gradients_nor_codebooks():
    loss, params, extra = parts(BOOKS)
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    noisy = {**BATCH, "mel": jnp.where(sitok.real(FRAMES, MEL)[..., None], MEL, 7.0)}
    first, second = (step(params, extra, batch, KEY) for batch in (BATCH, noisy))
    first[0][1][0].pop("perplexity"), second[0][1][0].pop("perplexity")
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), first, second)


def test_codebooks_follow_their_vectors_and_the_first_step_fills_them():
    loss, params, extra = parts(CONFIG, revive=0.0, decay=0.9)
    made = ANALYSIS({"params": params, **extra}, CONFIG, MEL, FRAMES)
    real = sitok.real(FRAMES, MEL)[:, ::4]
    vectors, codes = np.asarray(made["continuous"])[real], np.asarray(made["codes"])[real]
    books = loss(params, extra, BATCH, KEY)[1][1]["codebooks"]
    counts = np.bincount(codes, minlength=64)
    np.testing.assert_allclose(books["counts"][0], 0.1 * counts, atol=1e-6)
    np.testing.assert_allclose(books["sums"][0].sum(0), 0.1 * vectors.sum(0), rtol=1e-4, atol=1e-5)
    loss, _, _ = parts(CONFIG)
    filled = np.asarray(loss(params, extra, BATCH, KEY)[1][1]["codebooks"]["codebook"][0])
    distance = np.linalg.norm(filled[:, None] - vectors, axis=-1).min(1)
    assert (distance[counts == 0] < 1e-5).all()
    assert set(books) == set(EmaState._fields)


def test_without_tokens_the_flow_says_nothing_to_the_encoder():
    loss, params, extra = parts(CONFIG, drop=1.0, commitment=0.0, ctc_weight=0.0)
    silent = jax.jit(jax.grad(loss, has_aux=True))(params, extra, BATCH, KEY)[0]
    assert all((np.asarray(x) == 0).all() for x in jax.tree.leaves(silent["encoder"]))
    assert np.abs(silent["decoder"]["out_linear"]["bias"]).max() > 0


def test_waveforms_become_frames():
    wave, length = 0.1 * draw(2, 6400), jnp.asarray([6400, 1000])
    made = sitok_training.prepared(CONFIG, {"waveform": wave, "length": length})
    np.testing.assert_array_equal(made["frames"], [20, 4])
    np.testing.assert_allclose(made["mel"], sitok.mel(CONFIG, wave))


def test_the_decoder_alone_learns_from_tokens_or_from_what_they_were_made_of():
    variables = params_of(CONFIG)
    trained = {"decoder": variables["params"]["decoder"]}
    loss = jax.jit(functools.partial(sitok_training.decoder_loss, config=CONFIG))
    value, (metrics, extra) = loss(trained, {}, BATCH, KEY, variables)
    codes = ENCODE(variables, CONFIG, MEL, FRAMES)
    again, _ = loss(trained, {}, {**BATCH, "codes": codes}, KEY, variables)
    np.testing.assert_allclose(value, again, rtol=1e-6)
    whole = parts(CONFIG)[0](variables["params"], sitok_training.start(variables), BATCH, KEY)[1][0]
    np.testing.assert_allclose(metrics["flow_loss"], whole["flow_loss"], rtol=1e-5)
    assert extra == {}


def test_a_shortcut_begins_as_the_flow_and_is_told_its_steps():
    variables, config = sitok_training.with_steps(params_of(CONFIG), CONFIG, KEY)
    assert config.steps
    x, t = draw(3, 22, 12, seed=4), jnp.asarray([0.1, 0.5, 0.9])
    z = ANALYSIS(variables, CONFIG, MEL)["z"]
    context = sitok.heard(variables, config, z, jnp.ones((3, 22)))
    plain = VELOCITY(params_of(CONFIG), CONFIG, x, t, context)
    np.testing.assert_allclose(VELOCITY(variables, config, x, t, context, jnp.float32(0.25)), plain, atol=1e-5)
    codes, shortcut = jnp.zeros((3, 4), jnp.int32), sitok.Sampling(steps=4, solver="shortcut", guidance=1.5)
    euler = dataclasses.replace(shortcut, solver="flow-euler")
    made, same = (DECODE(variables, config, codes, KEY, sampling=sampling) for sampling in (shortcut, euler))
    np.testing.assert_allclose(made, same, atol=1e-4)
    # Once the last layer of its step says something, steps of other sizes are other velocities.
    decoder = variables["params"]["decoder"]
    decoder["step_size_mlp"]["2"]["kernel"] = 0.3 * draw(*decoder["step_size_mlp"]["2"]["kernel"].shape)
    told = [VELOCITY(variables, config, x, t, context, jnp.float32(step)) for step in (0, 0.25)]
    np.testing.assert_allclose(VELOCITY(variables, config, x, t, context), told[0], atol=1e-6)
    assert np.abs(told[0] - told[1]).max() > 1e-2
    with pytest.raises(UsageError, match="is not told step sizes"):
        sitok.decode(params_of(CONFIG), CONFIG, codes, KEY, sampling=shortcut)
    with pytest.raises(ConfigError, match="is not told step sizes"):
        sitok_training.shortcut_loss({}, {}, BATCH, KEY, params_of(CONFIG), config=CONFIG)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_shortcuts_learn_what_two_steps_say(guidance):
    variables, config = sitok_training.with_steps(params_of(CONFIG), CONFIG, KEY)
    decoder = variables["params"]["decoder"]
    loss = functools.partial(sitok_training.shortcut_loss, config=config, drop=0.0, every=2, guidance=guidance)
    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    # A constant velocity is consistent, whatever the guidance.
    still = {**decoder, "out_linear": {"kernel": jnp.zeros((24, 12)), "bias": jnp.ones(12)}}
    (value, (metrics, _)), slopes = step({"decoder": still}, {}, BATCH, KEY, variables)
    np.testing.assert_allclose(metrics["consistency_loss"], 0, atol=1e-8)
    alone = jax.jit(functools.partial(sitok_training.decoder_loss, config=config, drop=0.0))
    alone, _ = alone({"decoder": still}, {}, BATCH, KEY, variables)
    np.testing.assert_allclose(value, alone, rtol=1e-5)
    (value, (metrics, _)), slopes = step({"decoder": decoder}, {}, BATCH, KEY, variables)
    assert metrics["consistency_loss"] > 1e-4
    np.testing.assert_allclose(value, metrics["flow_loss"] + metrics["consistency_loss"], rtol=1e-6)
    assert np.abs(slopes["decoder"]["step_size_mlp"]["2"]["kernel"]).max() > 0


def test_a_few_steps_lower_the_loss():
    loss, params, extra = parts(CONFIG, drop=0.0)
    slopes = jax.jit(jax.value_and_grad(loss, has_aux=True))
    values = []
    for i in range(40):
        (value, (_, extra)), grads = slopes(params, extra, BATCH, jax.random.key(i % 4))
        params = jax.tree.map(lambda p, g: p - 0.05 * g, params, grads)
        values.append(float(value))
    assert np.mean(values[-4:]) < 0.8 * np.mean(values[:4])


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="leave one to iterate"):
        dataclasses.replace(CONFIG, once=2)
    with pytest.raises(ConfigError, match="at least one codebook"):
        dataclasses.replace(CONFIG, books=0)
    with pytest.raises(ConfigError, match="whole patches, 3 frames"):
        dataclasses.replace(CONFIG, patch=3)
    with pytest.raises(ConfigError, match="not 'epsilon'"):
        _ = dataclasses.replace(CONFIG, prediction="epsilon").decoder
