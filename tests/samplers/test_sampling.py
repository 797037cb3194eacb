import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.samplers import (
    SOLVERS,
    Masked,
    analytic,
    ddim,
    flow,
    item_noise,
    plan_of,
    sample,
    start,
    usual_schedule,
    vp,
    zero_terminal_snr,
)
from tests.precision import double_precision
from tests.samplers.exact import GAUSS, MIXTURE, NOISE, TABLE, expected, run, solution

bind = functools.partial
told = analytic.told_level
KEY = jax.random.key(3)
SHAPE = (3, 4, 2)


def gauss(family="vp", prediction="epsilon"):
    return analytic.predictor(analytic.Gaussian(jnp.full((4, 2), 0.3), jnp.full((4, 2), 0.6)), family, prediction)


@pytest.mark.parametrize(
    ("name", "family", "prediction"),
    [("unipc-3", "vp", "v"), ("pndm", "vp", "score"), ("flow-rk4", "flow", "velocity"), ("dpmpp-2s", "edm", "x0")],
)
def test_the_loop_computes_what_the_coefficients_say(name, family, prediction):
    grid = usual_schedule(name, 7, family=family)
    with double_precision():
        predict = analytic.predictor(MIXTURE, family, prediction)
        x = jnp.asarray(grid.sigma[0] * NOISE)
        made = jax.jit(lambda x: sample(predict, x, grid, solver=told(name), prediction=prediction))(x)
        assert made.dtype == jnp.float64
    np.testing.assert_allclose(made, run(plan_of(name, grid), grid.sigma[0] * NOISE, MIXTURE), rtol=1e-9, atol=1e-9)


def test_the_closed_forms_are_right():
    with double_precision():
        for problem in (GAUSS, MIXTURE):
            data, noise = analytic.expected(problem, jnp.asarray(NOISE), jnp.asarray(0.6), jnp.asarray(0.8))
            wanted = expected(problem, NOISE, 0.6, 0.8)
            np.testing.assert_allclose(data, wanted[0], rtol=1e-9)
            np.testing.assert_allclose(noise, wanted[1], rtol=1e-9, atol=1e-12)
            grid = vp(TABLE, 5)
            made = jax.jit(lambda x, p=problem, g=grid: analytic.solution(p, x, g))(jnp.asarray(NOISE))
            np.testing.assert_allclose(made, solution(problem, NOISE, grid), rtol=1e-7, atol=1e-7)


def test_drawn_data_has_its_moments():
    drawn = analytic.draw(analytic.Mixture(np.zeros(3), np.full(3, 0.5), np.full(3, 2.0), 0.25), KEY, 40_000)
    np.testing.assert_allclose(drawn.mean(0), 0.5, atol=0.03)
    np.testing.assert_allclose(drawn.var(0), 0.25 + 4 * 0.25 * 0.75, atol=0.04)


@pytest.mark.parametrize("name", ["ddpm", "dpmpp-2m-sde"])
def test_an_item_does_not_depend_on_its_batch(name):
    grid = usual_schedule(name, 6)

    @jax.jit
    def generate(items):
        x = item_noise(KEY, (len(items), *SHAPE[1:]), items=items)
        masked = Masked(jnp.zeros(()), jnp.asarray([0.0, 1.0]), fresh=True, paste=False)
        return sample(gauss(), x, grid, KEY, solver=told(name), items=items, masked=masked)

    whole = generate(jnp.arange(5))
    np.testing.assert_array_equal(generate(jnp.arange(2, 4)), whole[2:4])
    np.testing.assert_array_equal(generate(jnp.array([4])), whole[4:])
    assert np.abs(whole[0] - whole[1]).max() > 0.01


def test_one_program_serves_every_call():
    traces = []

    @functools.partial(jax.jit, static_argnames=("solver", "steps"))
    def generate(x, shift, solver, steps):
        traces.append(steps)
        predict = analytic.predictor(analytic.Gaussian(shift, jnp.ones(())), "vp")
        return sample(predict, x, usual_schedule(solver, steps), solver=told(solver))

    x = item_noise(KEY, SHAPE)
    results = [generate(x, jnp.float32(shift), solver="dpmpp-2m", steps=6) for shift in (0.0, 1.0, 0.0)]
    assert traces == [6]
    np.testing.assert_array_equal(results[0], results[2])
    slope = jax.grad(lambda shift: generate(x, shift, solver="dpmpp-2m", steps=6).mean())(jnp.float32(0.5))
    np.testing.assert_allclose(slope, (results[1] - results[0]).mean(), rtol=1e-4)


def test_times_are_told_as_the_schedule_has_them():
    seen = []

    def predict(x, t):
        seen.append((t.dtype, t.shape))
        return x

    sample(predict, jnp.ones((1, 2)), vp(TABLE, 3), solver="ddim")
    sample(predict, jnp.ones((1, 2)), vp(TABLE, 3, spacing="linspace"), solver="euler")
    assert seen[0] == (jnp.int32, ())
    assert seen[-1] == (jnp.float32, ())


def test_states_on_request():
    grid = usual_schedule("heun", 4)
    x = item_noise(KEY, SHAPE)
    run_it = bind(sample, gauss(), x, grid, solver=told("heun"))
    end, steps = run_it(trajectory="steps")
    _, points = run_it(trajectory="evaluations")
    assert (len(steps), len(points)) == (5, 8)
    np.testing.assert_array_equal(steps, points[np.array([0, 2, 4, 6, 7])])
    np.testing.assert_array_equal(steps[0], x)
    np.testing.assert_array_equal(steps[-1], end)


def test_progress_is_told_under_jit():
    said = []
    grid = usual_schedule("flow-heun", 3)
    run_it = jax.jit(
        lambda x: sample(
            gauss("flow", "v"), x, grid, prediction="v", solver=told("flow-heun"), progress=lambda *a: said.append(a)
        )
    )
    run_it(jnp.ones(SHAPE)).block_until_ready()
    jax.effects_barrier()
    assert sorted(said) == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_tape_replaces_the_key():
    grid = usual_schedule("ddpm", 5)
    x = item_noise(KEY, SHAPE)
    drawn = sample(gauss(), x, grid, KEY, solver=told("ddpm"))
    tape = jnp.stack([item_noise(KEY, SHAPE, stream=k + 1) for k in range(5)])
    np.testing.assert_allclose(sample(gauss(), x, grid, solver=told("ddpm"), noise=tape), drawn, atol=1e-6)
    with pytest.raises(UsageError, match="key"):
        sample(gauss(), x, grid, solver=told("ddpm"))


def test_bfloat16_networks_have_float32_states():
    grid = usual_schedule("ddim", 4)
    exact = sample(gauss(), item_noise(KEY, SHAPE), grid, solver=told("ddim"))
    rough = sample(
        lambda x, t: gauss()(x, t).astype(jnp.bfloat16),
        item_noise(KEY, SHAPE).astype(jnp.bfloat16),
        grid,
        solver=told("ddim"),
    )
    assert rough.dtype == jnp.float32
    np.testing.assert_allclose(rough, exact, atol=0.05)


def test_a_network_that_says_nothing_at_pure_noise():
    grid = vp(zero_terminal_snr(TABLE), 5, spacing="trailing")
    x = item_noise(KEY, SHAPE)
    assert np.isfinite(sample(gauss(prediction="v"), x, grid, solver=told("ddim"), prediction="v")).all()
    with pytest.raises(ConfigError, match="predicts v"):
        sample(gauss(), x, grid, solver=told("ddim"))


def test_a_shortcut_model_is_told_its_step():
    """A network that knows the whole displacement of any step arrives exactly, in one step or in many."""
    goal = jnp.asarray(np.random.default_rng(0).standard_normal(SHAPE), jnp.float32)
    power = 1.7

    def predict(x, t, step):
        # The path x = goal + t ** power * (start - goal), whose mean velocity over a step is known.
        left = (t - step) ** power / t**power
        return (x - goal) * (1 - left) / step

    for steps in (1, 2, 4, 7):
        made = sample(predict, item_noise(KEY, SHAPE), flow(steps), solver="shortcut", prediction="velocity")
        np.testing.assert_allclose(made, goal, atol=1e-5)


@pytest.mark.parametrize("name", ["ddim", "unipc", "heun", "euler-ancestral"])
@pytest.mark.parametrize("fresh", [False, True])
def test_inpainting_keeps_what_is_known(name, fresh):
    known = item_noise(jax.random.key(9), SHAPE)
    mask = jnp.zeros(SHAPE).at[:, :2].set(1.0)
    grid = usual_schedule(name, 8)
    x = item_noise(KEY, SHAPE) * (grid.sigma[0])
    run_it = bind(sample, gauss(), x, grid, KEY, solver=told(name))
    made = run_it(masked=Masked(known, mask, fresh=fresh))
    np.testing.assert_array_equal(made[:, :2], known[:, :2])
    # This network sees each element by itself, so the rest must come out as without a mask.
    np.testing.assert_allclose(made[:, 2:], run_it()[:, 2:], atol=1e-5)
    loose = run_it(masked=Masked(known, mask, fresh=fresh, paste=False))
    assert 0 < np.abs(loose[:, :2] - known[:, :2]).mean() < np.abs(made[:, 2:] - known[:, 2:]).mean()


def test_masks_of_everything_and_nothing():
    known, x, grid = jnp.ones(SHAPE), item_noise(KEY, SHAPE), usual_schedule("ddim", 4)
    run_it = bind(sample, gauss(), x, grid, KEY, solver=told("ddim"))
    np.testing.assert_array_equal(run_it(masked=Masked(known, jnp.ones(()))), known)
    np.testing.assert_allclose(run_it(masked=Masked(known, jnp.zeros(()))), run_it(), atol=1e-6)


def test_starting_from_data():
    known, grid = item_noise(jax.random.key(9), SHAPE), usual_schedule("ddim", 10)
    same, none = start(known, grid, 0.0, KEY)
    for solver in SOLVERS:
        np.testing.assert_array_equal(sample(gauss(), same, none, KEY, solver=solver), known)
    for strength, steps in ((0.01, 1), (0.25, 2), (0.5, 5), (1.0, 10)):
        x, rest = start(known, grid, strength, KEY)
        assert rest.steps == steps
        noise = item_noise(KEY, SHAPE)
        np.testing.assert_allclose(x, grid.alpha[-steps - 1] * known + grid.sigma[-steps - 1] * noise, rtol=1e-5)
    far = [
        jnp.abs(sample(gauss(), *start(known, grid, s, KEY), solver=told("ddim")) - known).mean()
        for s in (0.1, 0.5, 1.0)
    ]
    assert far == sorted(far)
    for strength in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="strength"):
            start(known, grid, strength, KEY)
    with pytest.raises(ConfigError, match="key"):
        start(known, grid, 0.5)
    with pytest.raises(ConfigError, match="lower it"):
        start(known, grid, 1.0, KEY, original=True)


def test_every_solver_runs():
    """Names work in `sample` itself, networks of discrete times included."""
    for name in SOLVERS:
        if name == "shortcut":
            continue
        run_it = bind(sample, lambda x, t: 0.1 * x, schedule=usual_schedule(name, 4), key=KEY, prediction="velocity")
        assert jax.eval_shape(bind(run_it, solver=name), jnp.ones(SHAPE)).shape == SHAPE


def test_ddim_with_options():
    grid = usual_schedule("ddim", 4)
    x = item_noise(KEY, SHAPE)
    half = sample(gauss(), x, grid, KEY, solver=told(bind(ddim, eta=0.5)))
    assert np.abs(half - sample(gauss(), x, grid, solver=told("ddim"))).max() > 0.01
