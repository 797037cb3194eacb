"""The loop: exact resume, signals, the best weights, limits, and what the files of a run hold."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from jaxaudio.errors import ConfigError, JaxAudioError, MissingError
from jaxaudio.train import Checkpointer, Experiment, fit, load_experiment, load_params, override, run
from tests.train import tiny
from tests.train.test_checkpoint import assert_equal

# More for a thorough run: JAXAUDIO_TEST_KILLS=20.
KILLS = int(os.environ.get("JAXAUDIO_TEST_KILLS", "3"))


def experiment(out, *words, **fields) -> Experiment:
    return override(dataclasses.replace(tiny.EXPERIMENT, out=str(out), **fields), words)


def train(out, *words, **fields):
    return run(experiment(out, *words, **fields), quiet=True)


NOISY = ("--data.noise", "0.1")


def lines(out):
    return [json.loads(line) for line in (pathlib.Path(out) / "metrics.jsonl").read_text().splitlines()]


def numbers(out):
    """The metrics without those that depend on the clock."""
    return [{k: v for k, v in line.items() if k != "samples_per_second"} for line in lines(out)]


def subprocess_environment():
    root = pathlib.Path(__file__).parents[2]
    return {**os.environ, "PYTHONPATH": str(root), "JAX_PLATFORMS": "cpu"}


def tiny_process(*words):
    command = [sys.executable, "-m", "tests.train.tiny", *words]
    return subprocess.run(command, env=subprocess_environment(), capture_output=True, timeout=900)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(out, *NOISY)


def test_a_run_learns_and_leaves_its_files(whole):
    out, result = whole
    assert (result.reason, result.exit_code, int(result.state.step)) == ("done", 0, 40)
    assert {p.name for p in out.iterdir()} == {"checkpoints", "final", "metrics.jsonl", "config.json"}
    records = lines(out)
    steps = [record["step"] for record in records if record["kind"] == "train"]
    assert steps == list(range(4, 41, 4))
    assert records[-2]["loss"] < records[0]["loss"]
    assert records[-1]["kind"] == "eval" and records[-1]["norm"] == result.metrics["norm"]
    variables, config = load_params(out / "final")
    assert_equal(variables["params"], jax.device_get(result.state.ema))
    assert (config["system"], config["step"]) == ("tiny", 40)
    assert json.loads((out / "config.json").read_text())["optimizer"]["lr"] == 1e-2


@pytest.mark.parametrize("cut", [8, 13])
def test_resume_is_bit_equal(whole, tmp_path, cut):
    """Stopped by a signal at any step, a run goes on as if nothing had been."""
    stopped = train(tmp_path, data=tiny.Data(noise=0.1, term_at=cut))
    assert (stopped.reason, stopped.exit_code) == ("SIGTERM", 143)
    assert int(stopped.state.step) == cut and not (tmp_path / "final").exists()
    resumed = train(tmp_path, *NOISY)
    assert_equal(resumed.state, whole[1].state)
    if cut % 4 == 0:  # elsewhere the interval that was cut has two parts
        assert numbers(tmp_path) == numbers(whole[0])


def test_a_finished_run_only_finishes_again(whole, tmp_path):
    out, result = whole
    before = numbers(out)
    again = train(out, *NOISY)
    assert again.reason == "done" and numbers(out) == before
    assert_equal(again.state, result.state)


def test_killed_at_random_moments_ends_bit_equal(tmp_path):
    """SIGKILL from inside, at seeded moments; with a checkpoint a step, most fall into the writing of one."""
    rng = np.random.default_rng(int(os.environ.get("JAXAUDIO_TEST_SEED", "0")))
    words = [*NOISY, "--steps", str(12 * KILLS)]
    whole = train(tmp_path / "whole", *words)
    out = tmp_path / "killed"
    words += ["--out", str(out), "--keep", "2", "--save-every", "1"]
    for _ in range(KILLS):
        moment = ["--data.kill-at", str(rng.integers(2, 12)), "--data.kill-after", str(rng.uniform(0, 0.15))]
        killed = tiny_process(*words, *moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
        print(moment, sorted(path.name for path in (out / "checkpoints").iterdir()))
    done = tiny_process(*words)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    with Checkpointer(out / "checkpoints") as checkpoints:
        found = checkpoints.restore(jax.eval_shape(lambda: whole.state))
    assert (found.step, found.data["position"]) == (12 * KILLS, {"json": {"position": 12 * KILLS}})
    assert_equal(found.state, whole.state)
    assert not (out / "checkpoints-damaged").exists()
    steps = [record["step"] for record in lines(out) if record["kind"] == "train"]
    assert steps == sorted(set(steps))


def test_sigterm_from_outside_saves_and_returns_143(tmp_path):
    command = [sys.executable, "-m", "tests.train.tiny", "--out", str(tmp_path), "--steps", "1000000"]
    with subprocess.Popen(command, env=subprocess_environment(), stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line.startswith("train step 8"):
                break
        child.send_signal(signal.SIGTERM)
        rest = child.stdout.read()
        assert child.wait(900) == 143, rest
    with Checkpointer(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps()[-1] >= 8


def test_the_best_weights_are_kept(tmp_path):
    seen = []

    def build(e):
        def evaluate(variables):
            seen.append(np.array(variables["params"]["w"]))
            return {"score": [1.0, 5.0, float("nan"), 3.0][len(seen) - 1]}

        return dataclasses.replace(tiny.build(e), evaluate=evaluate)

    train(tmp_path, build=build, eval_every=4, steps=16, best="score")
    variables, config = load_params(tmp_path / "best")
    assert (config["step"], config["metrics"]) == (8, {"score": 5.0})
    np.testing.assert_array_equal(variables["params"]["w"], seen[1])
    train(
        tmp_path,
        build=lambda e: dataclasses.replace(tiny.build(e), evaluate=lambda _: {"score": 4.0}),
        steps=20,
        best="score",
    )
    assert load_params(tmp_path / "best")[1]["step"] == 8
    with pytest.raises(ConfigError, match="no 'other'"):
        train(tmp_path / "x", steps=4, best="-other")


def test_a_signal_at_an_evaluation_postpones_it(tmp_path):
    words = ("--steps", "12", "--eval-every", "4")
    train(tmp_path / "whole", *words)
    train(tmp_path / "cut", *words, data=tiny.Data(term_at=4))
    assert not [record for record in lines(tmp_path / "cut") if record["kind"] == "eval"]
    train(tmp_path / "cut", *words)
    assert numbers(tmp_path / "cut") == numbers(tmp_path / "whole")


def test_limits_of_time(tmp_path):
    result = train(tmp_path, max_minutes=0.0)
    assert (result.reason, result.exit_code, int(result.state.step)) == ("time", 0, 1)
    with Checkpointer(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [1]


def test_saving_by_the_clock(tmp_path):
    train(tmp_path, steps=6, save_every=1000, save_minutes=1e-9, keep=9)
    with Checkpointer(tmp_path / "checkpoints", keep=9) as checkpoints:
        assert checkpoints.steps() == [1, 2, 3, 4, 5, 6]


def test_a_bad_batch_is_skipped_and_counted_and_a_hopeless_run_ends(tmp_path):
    train(tmp_path / "one", data=tiny.Data(bad_at=3), steps=8)
    first, second, _ = lines(tmp_path / "one")
    assert (first["skipped"], second["skipped"]) == (1, 0) and np.isfinite(first["loss"])

    def build(e):
        task = tiny.build(e)
        return dataclasses.replace(task, init=lambda key: jax.tree.map(lambda x: x * np.nan, task.init(key)))

    with pytest.raises(JaxAudioError, match="was finite"):
        train(tmp_path / "all", build=build, log_every=10)


def test_few_steps_are_in_flight(tmp_path, monkeypatch):
    """The host never runs more than a few steps ahead of the devices, metrics or no metrics."""
    waited = []
    monkeypatch.setattr(jax, "block_until_ready", lambda x: waited.append(x) or x)
    train(tmp_path, steps=20, log_every=1000, save_every=1000)
    assert len(waited) >= 18


def test_the_loop_runs_outside_the_main_thread(tmp_path):
    thread = threading.Thread(target=train, args=(tmp_path,), kwargs={"steps": 4})
    thread.start()
    thread.join(900)
    assert (tmp_path / "final").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stepz", "3"], "did you mean --steps"),
        (["--optimizer.rl", "3"], "did you mean --optimizer.lr"),
        (["--steps", "many"], "Error parsing --steps"),
        (["--optimizer.schedule", "zigzag"], "--optimizer.schedule"),
        (["--steps", "0"], "at least 1"),
        (["--accumulate", "3"], "micro-batches"),
        (["--trainable", "nothing"], "matches no parameter"),
        (["--ema-decay", "1.5"], "below 1"),
    ],
)
def test_wrong_overrides(tmp_path, words, message):
    with pytest.raises(ConfigError, match=message):
        train(tmp_path, *words)


def test_overrides_reach_every_level():
    changed = override(
        tiny.EXPERIMENT, ["--steps", "7", "--optimizer.lr", "3e-4", "--data.noise", "0", "--clip-norm", "None"]
    )
    assert (changed.steps, changed.optimizer.lr, changed.data.noise, changed.clip_norm) == (7, 3e-4, 0, None)
    assert changed.optimizer.schedule == "cosine" and changed.build is tiny.build


def test_experiment_files(tmp_path):
    assert load_experiment(tiny.__file__).steps == 40
    with pytest.raises(MissingError, match="no experiment"):
        load_experiment(tmp_path / "none.py")
    for text, message in (
        ("x = 1", "defines no EXPERIMENT"),
        ("1 +", "SyntaxError"),
        ("import nothing_such", "nothing_such"),
    ):
        (tmp_path / "bad.py").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_experiment(tmp_path / "bad.py")


def test_resuming_says_what_has_changed(tmp_path, capsys):
    train(tmp_path, steps=4)
    run(experiment(tmp_path, "--steps", "8", "--optimizer.lr", "0.5"))
    assert "from step 4 with changes: optimizer.lr 0.01 -> 0.5, steps 4 -> 8" in capsys.readouterr().out


def test_byte_positions_of_the_data_are_kept(tmp_path):
    class Bytes(tiny.Batches):
        def get_state(self):
            return json.dumps(super().get_state()).encode()

        def set_state(self, state):
            super().set_state(json.loads(state))

    e = experiment(tmp_path, steps=4)
    fit(e, dataclasses.replace(tiny.build(e), data=Bytes(e)), quiet=True)
    data = Bytes(e)
    e = dataclasses.replace(e, steps=6)
    fit(e, dataclasses.replace(tiny.build(e), data=data), quiet=True)
    assert data.position == 6
