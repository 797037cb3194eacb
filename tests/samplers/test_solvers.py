import functools

import numpy as np
import pytest

from jaxaudio.errors import ConfigError
from jaxaudio.samplers import (
    SOLVERS,
    ddim,
    ddpm,
    deis,
    dpmpp,
    edm,
    edm_heun,
    evaluations,
    flow,
    heun,
    lms,
    plan_of,
    plms,
    pndm,
    steps_within,
    unipc,
    usual_schedule,
    vp,
    zero_terminal_snr,
)
from tests.samplers.exact import GAUSS, MIXTURE, NOISE, TABLE, error, run, smooth

bind = functools.partial

ORDERS = {
    "ddim": (ddim, 1),
    "euler": ("euler", 1),
    "flow-euler": ("flow-euler", 1),
    "dpmpp-1": ("dpmpp-1", 1),
    "dpmpp-2m": (dpmpp, 2),
    "dpmpp-2m-heun": (bind(dpmpp, form="heun"), 2),
    "dpmpp-2m-exact": (bind(dpmpp, form="exact"), 2),
    "dpmpp-2s": ("dpmpp-2s", 2),
    "dpm-2m": ("dpm-2m", 2),
    "dpm2": ("dpm2", 2),
    "heun": (heun, 2),
    "flow-heun": ("flow-heun", 2),
    "flow-midpoint": ("flow-midpoint", 2),
    "flow-rk4": ("flow-rk4", 4),
    "deis": (deis, 2),
    "lms-2": (bind(lms, order=2), 2),
    "lms-3": (bind(lms, order=3), 3),
    # As published they drop to order 1 at the end; by the corrector they have one more than the predictor.
    "unipc-2": (bind(unipc, lower_final=False), 3),
    "unipc-3": (bind(unipc, order=3, lower_final=False), 4),
    "unipc-3-bh1": (bind(unipc, order=3, form="bh1", lower_final=False), 4),
}


@pytest.mark.parametrize("family", ["vp", "edm"])
@pytest.mark.parametrize("name", ORDERS)
def test_order_of_convergence(name, family):
    solver, order = ORDERS[name]
    coarse, fine = (error(solver, smooth(steps, family), MIXTURE) for steps in (160, 320))
    assert np.log2(coarse / fine) > order - 0.3
    # The normal is kind to some solvers, so only the mixture bounds the order from above.
    if not name.startswith(("unipc", "flow-rk4")):
        assert np.log2(coarse / fine) < order + 0.5


@pytest.mark.parametrize(
    ("name", "solver"), {"dpmpp": bind(dpmpp, order=3, form="exact"), "deis": bind(deis, order=3)}.items()
)
def test_third_order_where_the_first_steps_weigh_little(name, solver):
    grids = [smooth(steps, largest=1000.0, smallest=0.3) for steps in (160, 320)]
    assert 2.7 < np.log2(error(solver, grids[0]) / error(solver, grids[1])) < 3.5


@pytest.mark.parametrize("family", ["vp", "edm", "flow"])
@pytest.mark.parametrize("problem", [GAUSS, MIXTURE], ids=["normal", "mixture"])
def test_single_steps_of_third_order(family, problem):
    grids = [smooth(steps, family) for steps in (159, 318)]  # whole groups
    assert np.log2(error("dpmpp-3s", grids[0], problem) / error("dpmpp-3s", grids[1], problem)) > 2.7
    if problem is MIXTURE:
        assert np.log2(error("dpmpp-3s", grids[0], problem) / error("dpmpp-3s", grids[1], problem)) < 3.5


def test_single_steps_of_third_order_look_only_into_their_group():
    """The published update with its intermediate points at 1/3 and 2/3 (Lu et al. 2022 a, algorithm 2, about data)."""
    grid = smooth(3, largest=1.5, smallest=0.5)
    lam, h = grid.log_snr, grid.log_snr[3] - grid.log_snr[0]
    alpha, sigma = grid.alpha, grid.sigma
    np.testing.assert_allclose((lam[1:3] - lam[0]) / h, [1 / 3, 2 / 3])

    def data(x, k):
        return GAUSS.mean + alpha[k] * GAUSS.std**2 / ((alpha[k] * GAUSS.std) ** 2 + sigma[k] ** 2) * (
            x - alpha[k] * GAUSS.mean
        )

    x = sigma[0] * NOISE
    m0 = data(x, 0)
    x1 = sigma[1] / sigma[0] * x - alpha[1] * np.expm1(-h / 3) * m0
    d1 = data(x1, 1) - m0
    x2 = sigma[2] / sigma[0] * x - alpha[2] * np.expm1(-2 * h / 3) * (m0 + 0.5 * 2 * d1)  # slope over 2/3 of the step
    d2 = data(x2, 2) - m0
    slope, bend = 6 * d1 - 1.5 * d2, -9 * d1 + 4.5 * d2  # of the parabola through 0, d1 and d2
    phi = np.expm1(-h)
    wanted = sigma[3] / sigma[0] * x - alpha[3] * phi * m0 + alpha[3] * (phi / h + 1) * slope
    wanted -= 2 * alpha[3] * ((phi + h) / h**2 - 0.5) * bend
    np.testing.assert_allclose(run(plan_of("dpmpp-3s", grid), x, GAUSS), wanted, rtol=1e-12, atol=1e-12)
    by_pairs = run(plan_of("dpmpp-3s", grid), x, GAUSS) - run(plan_of("dpmpp-2s", grid), x, GAUSS)
    assert np.max(np.abs(by_pairs)) > 1e-4


def test_the_published_third_order_is_of_second():
    grids = [smooth(steps, smallest=0.3) for steps in (160, 320)]
    assert 1.8 < np.log2(error("dpmpp-3m", grids[0]) / error("dpmpp-3m", grids[1])) < 2.5


@pytest.mark.parametrize(("solver", "least"), [(plms, 1.7), (pndm, 1.7)])
def test_pndm_on_a_table_with_even_log_snr(solver, least):
    """Of second order, as its authors say: the weights of an even grid in a step that is not."""
    ratio = np.geomspace(0.05, 20, 961)
    errors = [error(solver, vp(1 / (1 + ratio**2), s, spacing="trailing", final="min"), GAUSS) for s in (60, 120)]
    assert np.log2(errors[0] / errors[1]) > least


@pytest.mark.parametrize("problem", [GAUSS, MIXTURE], ids=["normal", "mixture"])
def test_the_best_at_8_evaluations_beats_ddim_at_50(problem):
    customary = error("ddim", usual_schedule("ddim", 50), problem)
    same_grid = error("ddim", vp(TABLE, 50, spacing="straight", final="min"), problem)
    steps = steps_within("flow-midpoint", 8)
    assert evaluations("flow-midpoint", steps) == 8
    best = error("flow-midpoint", vp(TABLE, steps, spacing="straight", final="min"), problem)
    assert best < customary
    assert best < same_grid


def test_one_update_under_many_names():
    grid = vp(TABLE, 12, spacing="trailing", final="min")
    wanted = run(plan_of("ddim", grid), NOISE, MIXTURE)
    for name in ("euler", "dpmpp-1", "flow-euler"):
        np.testing.assert_allclose(run(plan_of(name, grid), NOISE, MIXTURE), wanted, rtol=1e-9, atol=1e-9)
    ancestral = plan_of("euler-ancestral", grid).update
    np.testing.assert_allclose(plan_of("ddpm", grid).update, ancestral)
    np.testing.assert_allclose(bind(ddpm, variance="large")(grid).update[:, 0, :2], ancestral[:, 0, :2])
    np.testing.assert_allclose(edm_heun(edm(6)).update, heun(edm(6)).update)


@pytest.mark.parametrize(
    "solver",
    ["ddpm", bind(ddpm, variance="large"), bind(ddim, eta=0.5), "euler-ancestral", "dpmpp-2m-sde", "edm"],
    ids=["ddpm", "ddpm of large variance", "ddim of eta 0.5", "euler-ancestral", "dpmpp-2m-sde", "edm"],
)
@pytest.mark.parametrize("made", [vp(TABLE, 200, spacing="karras"), edm(200)], ids=["vp", "edm"])
def test_stochastic_solvers_give_the_datas_moments(solver, made):
    rng = np.random.default_rng(1)
    x = made.sigma[0] * rng.standard_normal((20_000, 1, 1, 1))
    found = run(
        plan_of(solver, made), x, GAUSS._replace(mean=np.full((1, 1, 1), 0.4), std=np.full((1, 1, 1), 0.7)), rng
    )
    assert abs(found.mean() - 0.4) < 0.02  # four standard errors
    assert abs(found.std() - 0.7) < 0.03


FORMULAS = {"S": lambda s: s, "S + 1": lambda s: s + 1, "S + 9": lambda s: s + 9, "2 S": lambda s: 2 * s}
FORMULAS |= {"2 S - 1": lambda s: 2 * s - 1, "4 S": lambda s: 4 * s}


@pytest.mark.parametrize("name", SOLVERS)
def test_evaluations_are_as_the_table_says(name):
    entry = SOLVERS[name]
    for steps in (4, 5, 7, 18, 60):
        assert evaluations(name, steps) == FORMULAS[entry.nfe](steps)
        for family in entry.families:
            made = plan_of(name, usual_schedule(name, steps, family=family))
            assert made.evaluations == evaluations(name, steps)
            assert made.ends.sum() == steps
            assert made.ends[-1]
            assert made.stochastic == entry.stochastic
            assert np.all(made.t <= 1000)


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 1000])
def test_few_and_all_steps_work(name, steps):
    if name == "pndm" and steps < 4:
        with pytest.raises(ConfigError, match="4 steps"):
            plan_of(name, usual_schedule(name, steps))
        return
    if name == "unipc-bh1" and steps == 1000:  # with every time in use, none is left to end at
        return
    for family in SOLVERS[name].families:
        grid = usual_schedule(name, steps, family=family)
        made = plan_of(name, grid)
        assert made.ends.sum() == steps
        if steps == 1000 and family == "vp" and not made.stochastic:
            assert error(name, grid, GAUSS) < 0.05


@pytest.mark.parametrize("steps", [0, 10_000])
@pytest.mark.parametrize("name", ["ddim", "plms", "unipc"])
def test_impossible_steps(name, steps):
    with pytest.raises(ConfigError, match="give a whole number"):
        evaluations(name, steps)


def test_pairs_that_are_not_defined():
    with pytest.raises(ConfigError, match="bh1 is not defined on a schedule that ends without noise"):
        plan_of("unipc-bh1", usual_schedule("unipc-bh1", 10, final="zero"))
    with pytest.raises(ConfigError, match="not defined for 'flow'"):
        plan_of("lms", flow(5))
    with pytest.raises(ConfigError, match="not defined for 'edm'"):
        usual_schedule("plms", 5, family="edm")
    with pytest.raises(ConfigError, match="dpmpp-2m"):
        plan_of("dpmpp", flow(5))
    with pytest.raises(ConfigError, match="eta"):
        ddim(flow(5), eta=1.5)
    with pytest.raises(ConfigError, match="order 0"):
        unipc(flow(5), order=0)
    with pytest.raises(ConfigError, match="order 0"):
        lms(edm(5), order=0)
    with pytest.raises(ConfigError, match="2 evaluations"):
        steps_within("pndm", 2)
    silent = vp(zero_terminal_snr(TABLE), 8, spacing="trailing")
    for name in ("euler", "heun", "lms", "deis", "dpm-2m", "plms", "dpm2"):
        with pytest.raises(ConfigError, match="signal"):
            plan_of(name, silent)


@pytest.mark.parametrize(
    "name", [name for name, entry in SOLVERS.items() if "flow" in entry.families and not entry.stochastic]
)
def test_a_start_of_pure_noise_is_no_obstacle(name):
    grid = vp(zero_terminal_snr(TABLE), 40, spacing="trailing")
    if "vp" in SOLVERS[name].families:
        assert error(name, grid, GAUSS) < 0.1
    assert error(name, flow(40), GAUSS) < 0.03


def test_lms_coefficients_are_integrals():
    from scipy.integrate import quad

    grid = edm(8, sigma_min=0.1, sigma_max=10.0)
    rho, k = grid.sigma, 5
    past = rho[k - np.arange(4)]
    for i, weight in enumerate([lms(grid).update[k, 0, -2], *lms(grid).update[k, 0, 1:4]]):
        others = np.delete(past, i)
        exact, _ = quad(lambda s: np.prod((s - others) / (past[i] - others)), rho[k], rho[k + 1])  # noqa: B023
        np.testing.assert_allclose(weight, exact, rtol=1e-9)
