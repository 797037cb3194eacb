"""TaDiCodec beyond its golden case: padding, text, prompts, and what chance decides."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert, count
from jaxaudio.errors import CheckpointError, UsageError
from jaxaudio.samplers.objectives import item_normal, item_streams
from jaxaudio.systems import tadicodec
from tests.systems.tiny import filled

CONFIG = dataclasses.replace(
    tadicodec.TADICODEC,
    front_end=dataclasses.replace(tadicodec.TADICODEC.front_end, n_mels=10),
    width=16,
    encoder_layers=1,
    decoder_layers=2,
    heads=2,
    factor=4,
    bits=5,
    words=9,
)
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
MEL = jnp.asarray(RNG.standard_normal((2, 24, 10)), jnp.float32)
TEXT = jnp.asarray(RNG.integers(0, 9, (2, 5)))
MASK = jnp.asarray([[1] * 24, [1] * 16 + [0] * 8])
DECODE = jax.jit(tadicodec.decode, static_argnames=("config", "sampling"))
SAMPLING = tadicodec.Sampling(steps=2)


@functools.cache
def params():
    return filled(lambda key: tadicodec.init(key, CONFIG))


def test_the_published_shape_and_its_conversion():
    shapes = jax.eval_shape(functools.partial(tadicodec.init, KEY, tadicodec.TADICODEC))
    layer = 4 * 1024**2 + 3 * 1024 * 4096
    norms, perceptrons = (2 * 16 + 1) * 1024 * 1025, 3 * (2 * 1024 * 4096 + 4096 + 1024)
    ends = 2 * 129 * 1024 + 1025 * 128 + 1025 * 14 + 15 * 1024 + 32100 * 1024
    assert count(shapes) == 24 * layer + norms + perceptrons + ends
    tree = jax.eval_shape(functools.partial(tadicodec.init, KEY, CONFIG))
    state = {"bsq.basis": np.arange(5), "text_emb.weight": np.ones((9, 16), np.float32)}
    with pytest.raises(CheckpointError, match="nothing fills params/decoder/cond_mlp/0/bias"):
        convert(state, tadicodec.WEIGHTS, tree)


def test_padding_is_not_heard():
    encode = jax.jit(tadicodec.encode, static_argnames="config")
    codes = encode(params(), CONFIG, MEL, MASK)
    np.testing.assert_array_equal(codes[1, :4], encode(params(), CONFIG, MEL[1:, :16])[0])
    noisy = encode(params(), CONFIG, jnp.where(MASK[..., None] == 1, MEL, 9.0), MASK)
    np.testing.assert_array_equal(codes[:, :4], noisy[:, :4])


def test_items_are_sampled_by_themselves_and_the_prompt_and_the_text_are_heard():
    codes, prompt = jnp.asarray(RNG.integers(0, 32, (2, 6))), MEL[:, :5]
    run = functools.partial(DECODE, params(), CONFIG, sampling=SAMPLING)
    noise = jnp.asarray(RNG.standard_normal((2, 19, 10)), jnp.float32)
    given = {"prompt": prompt, "mask": MASK, "text": TEXT, "noise": noise}
    made = run(codes, **given)
    alone = run(codes[1:, :4], prompt=prompt[1:], text=TEXT[1:], noise=noise[1:, :11])
    np.testing.assert_allclose(made[1, :11], alone[0], atol=1e-4)
    for name, other in (("prompt", prompt + 1), ("text", (TEXT + 1) % 9)):
        assert np.abs(run(codes, **{**given, name: other}) - made).max() > 1e-3
    with pytest.raises(UsageError, match="token ids"):
        tadicodec.decode(params(), CONFIG, codes, KEY)
    with pytest.raises(UsageError, match="give it a key"):
        tadicodec.decode(params(), CONFIG, codes, text=TEXT)


def test_the_loss_is_the_objective_with_what_chance_decides():
    batch = {"mel": MEL, "mask": MASK, "text": TEXT, "text_mask": jnp.ones((2, 5)), "index": jnp.arange(2)}
    loss = functools.partial(tadicodec.loss, config=CONFIG, drop=1.0, promptless=1.0)
    value, (metrics, extra) = jax.jit(loss)(params()["params"], {}, batch, KEY)
    streams = item_streams(KEY, jnp.arange(2), 5)
    t = jax.vmap(lambda k: jax.random.uniform(k, (), jnp.float32, 1e-5))(streams[:, 0])
    expected, made = jax.jit(functools.partial(tadicodec.objective, config=CONFIG))(
        params(),
        mel=MEL,
        mask=MASK,
        t=t,
        noise=item_normal(streams[:, 1], MEL),
        prompts=jnp.zeros(2),
        kept=jnp.zeros(2, bool),
        text=TEXT,
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["flow_loss"], made["flow_loss"], rtol=1e-5)
    np.testing.assert_array_equal(made["asked"], MASK)
    assert extra == {}
    # Prompts are up to 0.4 of the frames, and asked for by none.
    prompted = functools.partial(tadicodec.loss, config=CONFIG, drop=0.0, promptless=0.0)
    assert abs(float(jax.jit(prompted)(params()["params"], {}, batch, KEY)[0]) - float(value)) > 1e-4
