"""SiTok in the benchmark: what its tokens become again, in so many steps."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxaudio import benchmark
from jaxaudio.benchmark import Cell, Setting, runner, speech
from jaxaudio.data.clips import Clip
from jaxaudio.models import systems
from jaxaudio.systems import sitok, sitok_training
from tests.models import tiny_codec
from tests.models.tiny import filled

CONFIG = dataclasses.replace(tiny_codec.SITOK, vocoder=None)


@pytest.fixture(scope="module")
def problem():
    tree = filled(systems.shapes("sitok", CONFIG, {"kind": "none"}), 0)["codec"]
    params, told = sitok_training.with_steps(jax.tree.map(np.asarray, tree), CONFIG, jax.random.key(0))
    rng = np.random.default_rng(0)
    clips = [
        Clip(id=str(i), audio=rng.standard_normal(n).astype(np.float32), sample_rate=8000, captions=("word",))
        for i, n in enumerate((2000, 1500))
    ]
    made = speech.of_sitok("tiny", params, told, Setting(clips=clips, seconds=0.2))
    return made._replace(reference_steps=8, reference_items=2), params, told, clips


def test_it_samples_as_the_system_does(problem):
    """The same noise and step sizes as `sitok.decode`, with the shortcut that other problems have not."""
    made, params, config, clips = problem
    cell = Cell(system="tiny", solver="shortcut", steps=2, batch=2)
    schedule, solver, _ = runner.plan(made, cell)
    key, items = jax.random.key(3), np.arange(2)
    sample = jax.jit(runner.sampling(made, cell, schedule, solver))
    states = sample(params, made.inputs(items), items, key)
    samples = made.shape[0] * 32
    sounds = np.stack([np.pad(clip.audio, (0, 600))[:samples] for clip in clips])
    lengths = np.int32([48, 47])
    assert samples == 48 * 32
    codes = sitok.encode(params, config, sitok.mel(config, sounds), lengths)
    wanted = sitok.decode(
        params, config, codes, key, sampling=sitok.Sampling(steps=2, solver="shortcut"), frames=lengths
    )
    real = np.arange(made.shape[0]) < lengths[:, None]
    np.testing.assert_allclose(np.asarray(states) * real[..., None], wanted, atol=1e-4)


def test_a_row_says_how_far_the_spectrograms_are(problem, tmp_path):
    grid = benchmark.Grid(solvers=("shortcut", "flow-euler"), steps=(2,), batch=(2,))
    rows = benchmark.run(problem[0], grid, tmp_path, items=2, rounds=1)
    assert [row["nfe"] for row in rows] == [2, 2] and all(row["quality"]["mel"] > 0 for row in rows)
    # A decoder that has not been trained with its steps yet takes them as the flow does.
    assert rows[0]["quality"]["mel"] == pytest.approx(rows[1]["quality"]["mel"], rel=1e-5)


def test_the_packages_speech_is_coded_where_nothing_is_given(problem):
    made = speech.of_sitok("tiny", problem[1], problem[2], Setting(seconds=0.1))
    assert made.inputs(np.arange(3))["codes"].shape[0] == 3
