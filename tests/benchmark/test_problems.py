"""Trained systems, as small as they can be, and who judges them."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxaudio
from jaxaudio import benchmark
from jaxaudio.benchmark import Cell, Grid, Setting, judges, problems, runner
from jaxaudio.data.clips import Clip
from jaxaudio.errors import ConfigError, MissingError, UsageError
from jaxaudio.metrics import concepts, frechet_distance, named
from jaxaudio.systems import audioldm, flowsep
from tests.metrics.test_concepts import CONFIG as LISTENER
from tests.models import tiny_latent

WIDTH = tiny_latent.UNET.film


def condition(texts):
    """A vector per text, zero for none."""
    rows = [np.random.default_rng(list(text.encode())).standard_normal(WIDTH) * bool(text) for text in texts]
    return {"film": np.asarray(rows, np.float32)}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge") / "listener"
    concepts.save(folder, concepts.init(jax.random.key(0), LISTENER), LISTENER, dtype=np.float32)
    return judges.classifier(folder, "listener")


def clips(count=6, rate=1600):
    rng = np.random.default_rng(0)
    return [
        Clip(
            id=str(i),
            audio=rng.standard_normal(900 + 100 * i).astype(np.float32) / 5,
            sample_rate=rate,
            captions=("a sound",),
            labels=(("rain", "wind", "snow")[i % 3],),
        )
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def generator(judge):
    params = tiny_latent.weights(audioldm, tiny_latent.GENERATOR)
    judge = judges.with_real(judge, clips(), seconds=0.32, count=4)
    made = problems.of_audioldm("tiny", params, tiny_latent.GENERATOR, condition, Setting(judges=(judge,)))
    return made._replace(reference_steps=40, reference_items=3)


def test_a_problem_samples_as_the_system_does(generator):
    """The same noise, guidance and solver as `audioldm.generate`."""
    cell = Cell(system="tiny", solver="dpmpp-2m", steps=3, guidance=2.0, batch=2)
    schedule, solver, _ = runner.plan(generator, cell)
    run = jax.jit(runner.sampling(generator, cell, schedule, solver))
    inputs, key = generator.inputs(np.arange(2)), jax.random.key(3)
    assert generator.inputs(np.arange(3, 5))["condition"]["film"].shape == (2, WIDTH)  # prompts over and over
    found = run(generator.params, inputs, np.arange(2), key)
    sampling = audioldm.Sampling(steps=3, guidance=2.0)
    wanted = jax.jit(
        lambda p, i: audioldm.generate(
            p, tiny_latent.GENERATOR, i["condition"], i["negative"], key, samples=256, sampling=sampling
        )
    )(generator.params, inputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_trained_systems_row(generator, tmp_path):
    grid = Grid(solvers=("ddim", "unipc", "ddpm"), steps=(4,), spacings=("log-snr",), batch=(2,))
    rows = {row["solver"]: row for row in benchmark.run(generator, grid, tmp_path, items=6, rounds=1)}
    assert rows["ddim"]["guidance"] == 2.5 and len(rows["ddim"]["weights"]) == 12
    figures = {"distance", "distance/median", "agreement/listener", "named/listener", "frechet/listener"}
    assert set(rows["ddim"]["quality"]) == figures
    assert set(rows["ddpm"]["quality"]) == figures - {"distance", "distance/median"}
    assert 0 < rows["unipc"]["quality"]["distance"] < rows["ddim"]["quality"]["distance"]
    (kept,) = tmp_path.glob("solution-*.npz")
    stored = np.load(kept)
    assert stored["states"].shape == (2, 4, *generator.shape)  # 3 items in batches of 2
    assert stored["sigma"][1] == 0 < stored["sigma"][0]
    before = kept.stat().st_mtime_ns
    runner.own_solution(generator, tmp_path, 2.5, 4, 2, 0)
    assert kept.stat().st_mtime_ns == before  # not solved again
    # Many steps arrive at it.
    grid = dataclasses.replace(grid, solvers=("unipc",), steps=(40,))
    (row,) = benchmark.run(generator, grid, tmp_path, items=6, rounds=1)
    assert row["quality"]["distance"] < 0.2 * rows["unipc"]["quality"]["distance"]
    # What is asked for tells rows apart.
    other = generator._replace(asked="another judge")
    (again,) = benchmark.run(other, grid, tmp_path, items=6, rounds=1)
    assert len(benchmark.read(tmp_path)) == 5 and again["asked"] == "another judge" != row["asked"]


def test_a_separators_problem(tmp_path):
    params = tiny_latent.weights(flowsep, tiny_latent.FLOW)
    mixtures = np.random.default_rng(0).standard_normal((2, 300)).astype(np.float32)
    setting = Setting(mixtures=mixtures, prompts=("rain", "wind", "a bell"))
    problem = problems.of_flowsep("flow", params, tiny_latent.FLOW, condition, setting)
    inputs = problem.inputs(np.arange(2))
    cell = Cell(system="flow", solver="flow-euler", steps=2, batch=2)
    schedule, solver, plan = runner.plan(problem, cell)
    assert plan.evaluations == 2
    found = jax.jit(runner.sampling(problem, cell, schedule, solver))(params, inputs, np.arange(2), jax.random.key(0))
    sampling = flowsep.Sampling(steps=2)
    wanted = jax.jit(
        lambda p, i: flowsep.separate(
            p, tiny_latent.FLOW, i["mixture"], i["condition"], i["negative"], jax.random.key(0), sampling=sampling
        )
    )(params, inputs)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ConfigError, match="usual spacing"):
        runner.plan(problem, dataclasses.replace(cell, spacing="log-snr"))


def test_settings_are_told_apart(judge):
    real = judges.with_real(judge, clips(), seconds=0.32, count=4)
    settings = [
        Setting(),
        Setting(prompts=("rain",)),
        Setting(prompts=("rain",), labels=("wind",)),
        Setting(prompts=("rain",), judges=(judge,)),
        Setting(prompts=("rain",), judges=(real,)),
        Setting(prompts=("rain",), mixtures=np.zeros((1, 9))),
        Setting(prompts=("rain",), seconds=3),
    ]
    assert len({setting.digest() for setting in settings}) == len(settings)
    assert Setting(judges=(real,)).digest() == Setting(judges=(real,)).digest()


def test_the_demo_is_separated_where_nothing_is_given():
    assert problems._demo(800).shape[0] == 1


def test_models_in_folders(tmp_path):
    tiny_latent.write(tmp_path / "tiny", tmp_path)
    problem = benchmark.find(str(tmp_path / "tiny"))
    assert (problem.name, problem.shape, problem.guidance) == ("tiny", (16, 4, 2), 2.5)
    inputs = problem.inputs(np.arange(2))
    model = jaxaudio.load(tmp_path / "tiny")
    np.testing.assert_allclose(inputs["negative"]["film"][0], model.condition("")["film"][0], rtol=1e-6)
    with pytest.raises(UsageError, match="which has no sampler"):
        benchmark.find("separation-mini")


def test_what_a_judge_says(judge):
    rng = np.random.default_rng(1)
    audio = rng.standard_normal((3, 700)).astype(np.float32)
    asked = ["rain", "bell", "something else"]
    found = judge.scores(audio, 1600, asked)
    mel = concepts.log_mels(LISTENER, audio)
    params = concepts.init(jax.random.key(0), LISTENER)
    probability, right = named(concepts.logits(params, LISTENER, mel)[:2], [0, 2])
    assert found["agreement/listener"] == pytest.approx(probability.mean(), rel=1e-4)
    assert found["named/listener"] == right.mean()
    assert "frechet/listener" not in found
    assert set(judge.scores(audio, 1600, ["else"] * 3)) == set()
    real = judges.with_real(judge, clips(), seconds=0.64)
    far = real.scores(audio, 1600, asked)["frechet/listener"]
    sounds = [clip.audio for clip in clips() if clip.labels[0] != "snow"]  # what it does not know is left out
    assert np.isfinite(far) and len(sounds) == 4
    assert real._replace(real=None) == judge
    near = judges.with_real(judge, [c for c in clips() if c.labels[0] != "snow"], seconds=0.64).real
    np.testing.assert_allclose(near.mean, real.real.mean, atol=0.2)


def test_frechet_distance_of_the_real_to_itself_is_small(judge):
    real = judges.with_real(judge, clips(12), seconds=0.64)
    audio = np.stack([np.resize(c.audio, LISTENER.samples) for c in clips(12)])
    noise = np.zeros_like(audio)
    noise[:, ::50] = 1  # clicks
    labels = ["rain"] * 12
    assert real.scores(audio, 1600, labels)["frechet/listener"] < real.scores(noise, 1600, labels)["frechet/listener"]
    assert frechet_distance(judge.embed(audio), judge.embed(audio)) < 1e-6


def test_what_judges_refuse(judge, tmp_path):
    with pytest.raises(UsageError, match="nothing that listener knows"):
        judges.with_real(judge, [c for c in clips() if c.labels == ("snow",)], seconds=0.64)
    with pytest.raises(MissingError):
        judges.open_judge(str(tmp_path))
    with pytest.raises(UsageError, match="cannot judge"):
        judges.open_judge("separation-mini")
    with pytest.raises(UsageError, match="2 prompts and 1 labels"):
        Setting(prompts=("a", "b"), labels=("a",)).asked()
    assert Setting(judges=(judge,)).asked()[0] == LISTENER.labels
