import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.errors import ConfigError
from jaxaudio.systems import audiosep

CONFIG = audiosep.Config(
    sample_rate=8000,
    n_fft=128,
    hop=32,
    condition_size=6,
    stem=4,
    channels=(4, 6),
    pools=((2, 2), (1, 2)),
    bottleneck=6,
    patch=(2, 4),
)
LENGTH = 1000


@pytest.fixture(scope="module")
def params():
    return audiosep.init(jax.random.key(0), CONFIG)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    segment, other = 0.1 * rng.standard_normal((2, 3, LENGTH))
    condition = rng.standard_normal((3, 6))
    made = {"mixture": segment + other, "segment": segment, "condition": condition}
    return {name: jnp.asarray(value, jnp.float32) for name, value in made.items()}


separate = jax.jit(audiosep.separate, static_argnums=1)


def test_published_sizes():
    """39.03 M in the original's state dict, less the DFT matrices, the statistics and what is never used."""
    shapes = jax.eval_shape(lambda: audiosep.init(jax.random.key(0), audiosep.AUDIOSEP_BASE))
    total = sum(int(np.prod(x.shape)) for x in jax.tree.leaves(shapes["params"]))
    assert total == 25_623_941
    assert shapes["params"]["film"]["decoder_block6"]["conv_block2"]["beta2"]["kernel"].shape == (512, 32)


def test_several_queries_equal_one_after_the_other(params, batch):
    queries = jnp.stack([batch["condition"], batch["condition"][::-1]], 1)
    together = separate(params, CONFIG, batch["mixture"], queries)
    assert together.shape == (3, 2, LENGTH)
    for i in range(2):
        alone = separate(params, CONFIG, batch["mixture"], queries[:, i])
        np.testing.assert_allclose(together[:, i], alone, atol=1e-6)


def test_an_item_does_not_depend_on_its_batch(params, batch):
    alone = separate(params, CONFIG, batch["mixture"][1:2], batch["condition"][1:2])
    np.testing.assert_allclose(separate(params, CONFIG, batch["mixture"], batch["condition"])[1:2], alone, atol=1e-6)


def test_silence_stays_silent(params):
    out = separate(params, CONFIG, jnp.zeros((1, LENGTH)), jnp.ones((1, 6)))
    assert np.abs(out).max() == 0


def test_a_mask_of_one_gives_the_mixture_back_without_its_nyquist_bin(params, batch):
    flat = jax.tree.map(jnp.asarray, params)
    last = flat["params"]["base"]["after_conv"]
    sure = {"kernel": jnp.zeros_like(last["kernel"]), "bias": jnp.tile(jnp.asarray([30.0, 3.0, 0.0]), 8)}
    base = {**flat["params"]["base"], "after_conv": sure}
    out = separate({**flat, "params": {**flat["params"], "base": base}}, CONFIG, batch["mixture"], batch["condition"])
    difference = np.asarray(out - batch["mixture"])
    spectrum = np.abs(np.fft.rfft(difference * np.hanning(LENGTH)))
    assert np.linalg.norm(spectrum[:, : LENGTH // 2 - 20]) < 0.02 * np.linalg.norm(np.fft.rfft(batch["mixture"]))
    # An untouched pass over lower frequencies alone is exact.
    t = np.arange(LENGTH) / 8000
    tone = jnp.asarray(np.sin(2 * np.pi * 440 * t)[None], jnp.float32)
    out = separate({**flat, "params": {**flat["params"], "base": base}}, CONFIG, tone, batch["condition"][:1])
    np.testing.assert_allclose(out[0, 200:800], tone[0, 200:800], atol=1e-3)


@pytest.mark.parametrize("objective", ["l1", "snr"])
def test_training_lowers_the_loss_and_moves_the_statistics(params, batch, objective):
    loss = functools.partial(audiosep.loss, config=CONFIG, objective=objective)
    step = jax.jit(lambda p, e: jax.value_and_grad(loss, has_aux=True)(p, e, batch))
    trained, extra = params["params"], {"batch_stats": params["batch_stats"]}
    values = []
    for _ in range(12):
        (value, (metrics, extra)), grads = step(trained, extra)
        trained = jax.tree.map(lambda p, g: p - 0.01 * jnp.sign(g), trained, grads)
        values.append(float(value))
    assert values[-1] < values[0] - (0.002 if objective == "l1" else 0.3)
    assert set(metrics) == {"l1", "snr"}
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), extra["batch_stats"], params["batch_stats"])
    assert min(jax.tree.leaves(moved)) > 0


def test_the_snr_objective_is_the_snr(params, batch):
    extra = {"batch_stats": params["batch_stats"]}
    value, (metrics, _) = audiosep.loss(params["params"], extra, batch, config=CONFIG, objective="snr")
    made = audiosep.intermediates(params, CONFIG, batch["mixture"], batch["condition"], train=True)["waveform"]
    error = np.mean(np.square(made - batch["segment"]), -1) / np.mean(np.square(batch["segment"]), -1)
    np.testing.assert_allclose(value, np.mean(10 * np.log10(error + 1e-3)), rtol=1e-4)
    np.testing.assert_allclose(metrics["snr"], -value)


def test_hybrid_queries_draw_text_or_audio_by_the_ratio(params, batch):
    extra = {"batch_stats": params["batch_stats"]}
    text, audio = jnp.zeros((3, 6)), jnp.ones((3, 6))

    @functools.partial(jax.jit, static_argnums=1)
    def value(key, ratio):
        return audiosep.loss(
            params["params"],
            extra,
            batch,
            key,
            config=CONFIG,
            text=lambda frozen, batch: text,
            audio=lambda frozen, segment: audio,
            text_ratio=ratio,
        )[0]

    keys = [jax.random.key(i) for i in range(24)]
    of_text, of_audio = value(keys[0], 1.0), value(keys[0], 0.0)
    assert abs(of_text - of_audio) > 1e-5
    drawn = [float(value(key, 0.5)) for key in keys]
    chosen = [abs(v - of_text) < abs(v - of_audio) for v in drawn]
    assert 4 < sum(chosen) < 20
    np.testing.assert_allclose(drawn, np.where(chosen, of_text, of_audio), rtol=1e-5)


def test_audio_queries_need_an_encoder_and_hybrid_ones_a_key(params, batch):
    extra = {"batch_stats": params["batch_stats"]}
    with pytest.raises(ConfigError, match="give an encoder"):
        audiosep.loss(params["params"], extra, batch, config=CONFIG, text_ratio=0.0)
    with pytest.raises(ConfigError, match="give a key"):
        audiosep.loss(params["params"], extra, batch, config=CONFIG, text_ratio=0.5)
