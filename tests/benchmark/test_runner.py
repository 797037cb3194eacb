"""The benchmark itself, on problems whose answer is known."""

import json

import jax
import numpy as np
import pytest

from jaxaudio import benchmark, samplers
from jaxaudio.benchmark import Cell, Grid, cost, log, runner
from jaxaudio.errors import UsageError
from jaxaudio.metrics import frechet
from jaxaudio.samplers import analytic

GRID = Grid(solvers=("ddim", "heun", "ddpm", "shortcut", "unipc-bh1"), steps=(4,), batch=(8,))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out = tmp_path_factory.mktemp("benchmark")
    return out, benchmark.run(benchmark.find("gaussian"), GRID, out, items=60, rounds=3)


def by_solver(rows):
    return {row["solver"]: row for row in rows}


def test_a_row_says_what_was_measured(measured):
    out, rows = measured
    assert [row["solver"] for row in rows] == list(GRID.solvers)
    assert log.read(out)[-1]["status"] == "ok"
    row = by_solver(rows)["heun"]
    assert (row["nfe"], row["steps"], row["guidance"], row["items"], row["seed"]) == (7, 4, 1.0, 60, 0)
    assert 0 < row["latency_p50_s"] <= row["latency_p90_s"]
    assert row["samples_per_s"] == pytest.approx(8 / row["latency_p50_s"])
    assert row["samples_per_s_per_device"] == row["samples_per_s"]
    assert row["compile_s"] > 0 and row["trace_s"] > 0 and row["runs"] == 3
    assert row["peak_of"] == "host" and 50 < row["peak_mb"] < 1e5 and row["temp_mb"] > 0
    assert row["device"] == jax.devices()[0].device_kind


def test_what_is_not_defined_is_a_row_that_says_so(measured):
    row = by_solver(measured[1])["shortcut"]
    assert row["status"] == "undefined" and "not defined for 'vp'" in row["note"]
    assert "quality" not in row


def test_errors_are_against_the_closed_form(measured):
    """Worked out anew in float64 from the plans' coefficients."""
    rows = by_solver(measured[1])
    problem = benchmark.problems.GAUSSIAN
    table = samplers.signal_power(samplers.scaled_linear_betas())
    items = np.arange(64)  # whole batches
    noise = np.asarray(samplers.item_noise(jax.random.key(0), (64, 4, 2), items=items), np.float64)
    for solver in ("ddim", "heun", "unipc-bh1"):
        schedule = samplers.usual_schedule(solver, 4)
        plan = samplers.plan_of(solver, schedule)
        slots = [noise * max(1, plan.sigma[0]), *[np.zeros_like(noise)] * (plan.update.shape[1] - 1)]
        for update, alpha, sigma in zip(plan.update, plan.alpha, plan.sigma):
            data, eps = (np.asarray(part) for part in analytic.expected(problem, slots[0], alpha, sigma))
            output = {"x0": data, "epsilon": eps}[plan.quantity]
            values = [*slots, output]
            slots = [sum(w * v for w, v in zip(row, values) if w) for row in update]
        a, s = np.sqrt(table[-1]), np.sqrt(1 - table[-1])  # from the table's last time, wherever the grid begins
        b, r = schedule.alpha[-1], schedule.sigma[-1]
        gain = np.sqrt(((b * problem.std) ** 2 + r**2) / ((a * problem.std) ** 2 + s**2))
        wanted = b * problem.mean + gain * (noise - a * problem.mean)
        error = np.linalg.norm(slots[0] - wanted) / np.linalg.norm(wanted)
        assert rows[solver]["quality"]["error"] == pytest.approx(error, rel=1e-3)
        each = np.linalg.norm((slots[0] - wanted).reshape(64, -1), axis=1)
        median = np.median(each) / np.sqrt(np.mean(np.sum(wanted.reshape(64, -1) ** 2, 1)))
        assert rows[solver]["quality"]["error/median"] == pytest.approx(median, rel=1e-3)
        truth = frechet.Moments(np.ravel(problem.mean), np.diag(np.ravel(problem.std) ** 2))
        far = frechet.between(frechet.moments(slots[0].reshape(64, -1)), truth)
        assert rows[solver]["quality"]["frechet/data"] == pytest.approx(far, rel=1e-2)


def test_random_solvers_have_no_error_but_a_distance_of_sets(measured):
    quality = by_solver(measured[1])["ddpm"]["quality"]
    assert by_solver(measured[1])["ddpm"]["stochastic"] and set(quality) == {"frechet/data"}


def test_moments_of_the_mixture():
    problem = benchmark.problems.MIXTURE
    drawn = np.asarray(analytic.draw(problem, jax.random.key(0), 40_000)).reshape(40_000, -1)
    truth, found = benchmark.problems._moments(problem), frechet.moments(drawn)
    np.testing.assert_allclose(found.mean, truth.mean, atol=0.02)
    np.testing.assert_allclose(found.covariance, truth.covariance, atol=0.03)


def test_finished_cells_are_not_run_again(measured, tmp_path, monkeypatch):
    out, rows = measured
    (tmp_path / "cells.jsonl").write_text((out / "cells.jsonl").read_text() + '{"system": "gaussian", "solv')  # torn
    monkeypatch.setattr(cost, "compiled", lambda *_: pytest.fail("a finished cell was compiled"))
    seen = []
    again = benchmark.run(
        benchmark.find("gaussian"), GRID, tmp_path, items=60, advance=lambda done, total: seen.append((done, total))
    )
    assert again == rows
    assert seen == [(5, 5)]


def test_another_seed_or_count_is_another_cell(measured):
    keys = {runner._key(row) for row in measured[1]}
    assert len(keys) == 5
    assert not keys & {runner._key({**row, "seed": 1}) for row in measured[1]}
    assert not keys & {runner._key({**row, "items": 61}) for row in measured[1]}


def test_a_torn_line_is_cut_off_before_the_next(tmp_path):
    log.append(tmp_path, {"a": 1})
    with open(tmp_path / "cells.jsonl", "a") as file:
        file.write('{"a": 2, "b')
    assert log.read(tmp_path) == [{"a": 1}]
    log.append(tmp_path, {"a": 3})
    assert log.read(tmp_path) == [{"a": 1}, {"a": 3}]
    (tmp_path / "cells.jsonl").write_text('{"a": 1\n{"a": 2}\n')
    with pytest.raises(UsageError, match=r"line 1 of .* is not a cell"):
        log.read(tmp_path)
    (tmp_path / "cells.jsonl").write_text('{"a"')
    log.append(tmp_path, {"a": 4})
    assert log.read(tmp_path) == [{"a": 4}]


def test_bad_places_to_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose another --out"):
        log.append(tmp_path / "file", {})


def test_guidance_without_a_condition_is_not_defined(tmp_path):
    (row,) = benchmark.run(benchmark.find("mixture"), Grid(solvers=("ddim",), steps=(2,), guidance=(3.0,)), tmp_path)
    assert row["status"] == "undefined" and "guidance" in row["note"]


def test_flows_know_no_other_spacing_and_are_exact_at_many_steps(tmp_path):
    grid = Grid(solvers=("flow-rk4",), steps=(32,), spacings=("usual", "log-snr"), batch=(64,))
    usual, spaced = benchmark.run(benchmark.find("gaussian-flow"), grid, tmp_path, items=64, rounds=1)
    assert usual["quality"]["error"] < 1e-3 and usual["nfe"] == 128
    assert spaced["status"] == "undefined"


def test_times_are_taken_in_turns():
    order = []
    times = cost.in_turns([lambda: order.append("a"), lambda: order.append("b")], 3)
    assert order == ["a", "b"] * 3
    assert [len(own) for own in times] == [3, 3]


def test_unknown_systems():
    with pytest.raises(UsageError, match="no system 'audioldm-maxi': give gaussian, mixture") as caught:
        benchmark.find("audioldm-maxi")
    assert "\n" not in str(caught.value)


def test_rows_are_plain_json(measured):
    for line in (measured[0] / "cells.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


def test_a_network_in_bfloat16():
    problem = benchmark.find("gaussian")
    found = []
    for dtype in ("float32", "bfloat16"):
        cell = Cell(system="gaussian", solver="dpmpp-2m", steps=4, dtype=dtype)
        schedule, solver, _ = runner.plan(problem, cell)
        run = runner.sampling(problem, cell, schedule, solver)
        found.append(np.asarray(jax.jit(run)(None, {}, np.arange(4), jax.random.key(0))))
    gap = np.linalg.norm(found[0] - found[1]) / np.linalg.norm(found[0])
    assert 1e-4 < gap < 3e-2
