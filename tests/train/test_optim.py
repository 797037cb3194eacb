"""Schedules against the original's values, the optimiser against PyTorch's formula in float64."""

import contextlib
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.train import Optimizer, adamw
from jaxaudio.train.optim import constant_warm_up, exponential_decay, linear_warm_up
from tests.golden.cases.train import CASES

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "audiosep_lr_schedule"


@contextlib.contextmanager
def x64():
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


def torch_adamw(params, grads, *, lr, b1, b2, eps, weight_decay, amsgrad):
    """torch.optim.AdamW's documented single-tensor algorithm."""
    p, m, v, v_max = params.copy(), 0.0, 0.0, np.zeros_like(params)
    for n, g in enumerate(grads, 1):
        p = p * (1 - lr * weight_decay)
        m = m + (1 - b1) * (g - m)
        v = b2 * v + (1 - b2) * g * g
        v_max = np.maximum(v_max, v)
        denominator = np.sqrt(v_max if amsgrad else v) / np.sqrt(1 - b2**n) + eps
        p = p - lr / (1 - b1**n) * m / denominator
    return p


def test_schedules_equal_the_original():
    case, keys = (json.loads((GOLDEN / name).read_text()) for name in ("case.json", "keys.json"))
    stored = dict(np.load(GOLDEN / "io_dev.npz"))
    for name, ours in CASES["audiosep_lr_schedule"](case, keys, stored).items():
        np.testing.assert_allclose(ours, stored[name], rtol=3e-7, err_msg=name)


@settings(deadline=None, max_examples=30)
@given(step=st.integers(0, 4_000_000), warm_up=st.integers(1, 50_000), reduce=st.integers(1, 1_000_000))
def test_schedules_between_the_stored_steps(step, warm_up, reduce):
    stage = min(step // warm_up, 3)
    assert float(constant_warm_up(step, warm_up)) == pytest.approx(10.0 ** (stage - 3))
    expected = step / warm_up if step <= warm_up else 0.9 ** (step // reduce)
    assert float(linear_warm_up(step, warm_up, reduce)) == pytest.approx(expected, rel=1e-4, abs=1e-30)
    expected = step / warm_up if step < warm_up else 0.999996 ** (step - warm_up)
    assert float(exponential_decay(step, warm_up, 0.999996)) == pytest.approx(expected, rel=1e-5)


def test_the_exponential_schedule_may_begin_at_once():
    rate = Optimizer(lr=2.0, schedule="exponential", warm_up_steps=0, gamma=0.5).learning_rate(10)
    assert [float(rate(step)) for step in range(3)] == [2.0, 1.0, 0.5]


def test_cosine_starts_at_zero_peaks_after_the_warm_up_and_ends_at_final_lr():
    rate = Optimizer(lr=2.0, schedule="cosine", warm_up_steps=10, final_lr=0.5).learning_rate(110)
    np.testing.assert_allclose([rate(n) for n in (0, 5, 10, 60, 110)], [0, 1, 2, 1.25, 0.5], rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "constant_warm_up", "linear_warm_up", "cosine"])
def test_every_schedule_allows_a_one_step_run(schedule):
    assert np.isfinite(Optimizer(schedule=schedule, warm_up_steps=100).learning_rate(1)(0))


@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_equals_torch(amsgrad, weight_decay):
    rng = np.random.default_rng(0)
    # Gradients that shrink: only then does the maximum of amsgrad differ from the present second moment.
    grads = rng.standard_normal((12, 7)) * np.geomspace(1, 1e-3, 12)[:, None]
    params = rng.standard_normal(7)
    options = {"b1": 0.9, "b2": 0.999, "eps": 1e-8, "weight_decay": weight_decay, "amsgrad": amsgrad}
    expected = torch_adamw(params, grads, lr=1e-2, **options)
    with x64():
        tx = adamw(1e-2, **options)
        ours = jnp.asarray(params)
        state = tx.init(ours)
        for g in grads:
            updates, state = tx.update(jnp.asarray(g), state, ours)
            ours = ours + updates
        assert ours.dtype == jnp.float64
        np.testing.assert_allclose(ours, expected, rtol=1e-13)
    single = jnp.asarray(params, jnp.float32)
    state = tx.init(single)
    for g in grads:
        updates, state = tx.update(jnp.asarray(g, jnp.float32), state, single)
        single = single + updates
    np.testing.assert_allclose(single, expected, rtol=2e-6)
