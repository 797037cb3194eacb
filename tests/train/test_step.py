"""One step: accumulation, averaging, clipping, freezing, the guard against what is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxaudio.errors import ConfigError
from jaxaudio.train import adamw, create, ema_warm_up, make_step
from tests.train import tiny


def batch(rows=8, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, tiny.WIDTH)).astype(np.float32)
    return {"x": jnp.asarray(x), "y": jnp.sin(jnp.asarray(x.sum(1)))}


def start(tx=None, ema=False):
    params, extra = tiny.init(jax.random.key(1), 16)
    return create(params, extra, tx or optax.sgd(0.1), jax.random.key(2), ema=ema)


def norm_of(tree):
    return np.sqrt(sum(np.sum(np.square(x)) for x in jax.tree.leaves(tree)))


def assert_close(a, b, rtol=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-7), a, b)


def test_the_step_is_gradient_descent_on_the_loss():
    state, data = start(), batch()
    loss = tiny.make_loss(0.0)
    new, metrics = jax.jit(make_step(loss, optax.sgd(0.1), learning_rate=lambda n: 0.5 + n))(state, data)
    wrapped = {**data, "index": jnp.arange(8)}
    value, grads = jax.value_and_grad(lambda p: loss(p, state.extra, wrapped, state.key, None)[0])(state.params)
    assert_close(new.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads))
    assert int(new.step) == 1 and float(new.extra["stats"]["seen"]) == 1
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    np.testing.assert_allclose(metrics["error"], value, rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], norm_of(grads), rtol=1e-6)
    assert float(metrics["lr"]) == 0.5 and float(metrics["skipped"]) == 0


@pytest.mark.parametrize("accumulate", [2, 8])
def test_accumulation_equals_the_big_batch(accumulate):
    # The noise is drawn per item, so that even a random loss does not notice the splitting.
    loss, tx = tiny.make_loss(0.3), adamw(1e-2)
    whole, metrics = jax.jit(make_step(loss, tx))(start(tx), batch())
    parts, split = jax.jit(make_step(loss, tx, accumulate=accumulate))(start(tx), batch())
    assert_close(parts.params, whole.params, 1e-5)
    assert_close(
        {k: split[k] for k in ("loss", "error", "grad_norm")}, {k: metrics[k] for k in ("loss", "error", "grad_norm")}
    )
    assert float(parts.extra["stats"]["seen"]) == accumulate


def test_a_batch_that_does_not_split_is_an_error():
    with pytest.raises(ConfigError, match=r"8 .* into 3 micro-batches"):
        make_step(tiny.make_loss(0.0), optax.sgd(0.1), accumulate=3)(start(), batch())


def test_steps_draw_different_noise_and_the_same_again():
    step = jax.jit(make_step(tiny.make_loss(1.0), optax.sgd(0.0)))
    first, a = step(start(), batch())
    _, b = step(first, batch())
    _, again = step(start(), batch())
    assert float(a["loss"]) != float(b["loss"]) and float(a["loss"]) == float(again["loss"])


@pytest.mark.parametrize("clip_norm", [1e-3, 1e3])
def test_clipping(clip_norm):
    state = start()
    step = make_step(tiny.make_loss(0.0), optax.sgd(1.0), clip_norm=clip_norm)
    new, metrics = jax.jit(step)(state, batch())
    moved = norm_of(jax.tree.map(jnp.subtract, state.params, new.params))
    norm = metrics["grad_norm"]
    np.testing.assert_allclose(moved, norm * min(1, clip_norm / (norm + 1e-6)), rtol=1e-3)


def test_average_with_constant_and_warmed_up_decay():
    for decay, expected in (
        (0.9, [0.9, 0.9]),
        (ema_warm_up(0.999), [2 / 11, 3 / 12]),
        (ema_warm_up(0.2), [2 / 11, 0.2]),
    ):
        step = jax.jit(make_step(tiny.make_loss(0.0), optax.sgd(0.1), ema_decay=decay))
        state, average = start(ema=True), start().params["w"]
        for d in expected:
            state, _ = step(state, batch())
            average = d * average + (1 - d) * state.params["w"]
            np.testing.assert_allclose(state.ema["w"], average, rtol=1e-5, atol=1e-7)


def test_the_state_can_be_donated_with_an_average():
    step = jax.jit(make_step(tiny.make_loss(0.0), optax.sgd(0.1), ema_decay=0.9), donate_argnums=0)
    state = start(ema=True)
    new, _ = step(state, batch())
    assert state.params["w"].is_deleted() and int(step(new, batch())[0].step) == 2


def test_only_trainable_parameters_move_even_with_weight_decay():
    tx = adamw(1e-2, weight_decay=0.5)
    state = start(tx)
    new, metrics = jax.jit(make_step(tiny.make_loss(0.0), tx, trainable="^v$"))(state, batch())
    np.testing.assert_array_equal(new.params["w"], state.params["w"])
    assert not np.array_equal(new.params["v"], state.params["v"])
    full = jax.jit(make_step(tiny.make_loss(0.0), tx))(state, batch())[1]
    assert 0 < float(metrics["grad_norm"]) < float(full["grad_norm"])


@pytest.mark.parametrize("pattern", ["nothing", "("])
def test_a_trainable_pattern_that_finds_nothing_is_an_error(pattern):
    with pytest.raises(ConfigError, match="trainable"):
        make_step(tiny.make_loss(0.0), optax.sgd(0.1), trainable=pattern)(start(), batch())


def test_a_step_that_is_not_finite_changes_only_the_counter():
    tx = adamw(1e-2)
    state, bad = start(tx, ema=True), batch()
    bad["x"] = bad["x"].at[0, 0].set(jnp.nan)
    guarded = jax.jit(make_step(tiny.make_loss(0.0), tx, ema_decay=0.9))
    new, metrics = guarded(state, bad)
    assert float(metrics["skipped"]) == 1 and int(new.step) == 1
    for name in ("params", "opt_state", "ema", "extra"):
        jax.tree.map(np.testing.assert_array_equal, getattr(new, name), getattr(state, name))
    after, metrics = guarded(new, batch())
    assert float(metrics["skipped"]) == 0 and not np.array_equal(after.params["w"], state.params["w"])
    loose, _ = jax.jit(make_step(tiny.make_loss(0.0), tx, skip_nonfinite=False))(state, bad)
    assert np.isnan(loose.params["w"]).any()


def test_frozen_parameters_are_handed_through():
    def loss(params, extra, batch, key, frozen):
        return jnp.mean(jnp.square(params["w"] * frozen["gain"])), ({}, extra)

    state = create({"w": jnp.ones(3)}, {}, optax.sgd(0.5), jax.random.key(0))
    new, metrics = jax.jit(make_step(loss, optax.sgd(0.5)))(state, {"x": jnp.zeros(2)}, {"gain": jnp.float32(2.0)})
    np.testing.assert_allclose(metrics["loss"], 4.0)
    np.testing.assert_allclose(new.params["w"], 1 - 0.5 * 8 / 3, rtol=1e-6)
