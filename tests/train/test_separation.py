"""The task that both separators are trained on, with made-up sounds and a network that does nothing."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.data import open_sounds
from jaxaudio.train import Experiment, separation
from tests.data.sounds import clip

CONFIG = SimpleNamespace(sample_rate=8000)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    root: str = "anywhere"
    seconds: float = 0.25
    low_db: int = -6
    high_db: int = 6
    trials: int = 4


def text(captions):
    return {"length": np.array([len(caption) for caption in captions], np.float32)}


def task(monkeypatch, seed=0):
    asked = []

    def open_split(root, split):
        asked.append((root, split))
        return [clip(number, samples=20000) for number in range(8)]

    monkeypatch.setattr(open_sounds, "open_split", open_split)
    made = separation.task(
        Experiment(build=lambda experiment: None, batch_size=3, data=Data(), seed=seed),
        config=CONFIG,
        text=text,
        separate=lambda variables, mixture, length: variables["params"]["gain"] * mixture + 0 * length[:, None],
        loss=lambda params, extra, batch, axis_name: (params["gain"], axis_name),
        init=lambda key: {"params": {"gain": jnp.ones(())}, "batch_stats": {"mean": jnp.zeros(2)}},
        about={"system": "nothing"},
    )
    assert set(asked) == {("anywhere", split) for split in ("train", "heldout_clips", "heldout_concepts")}
    return made


def test_batches_hold_mixtures_targets_and_what_text_makes(monkeypatch):
    batch, again, other = (next(task(monkeypatch, seed).data) for seed in (0, 0, 1))
    assert batch["mixture"].shape == batch["segment"].shape == (3, 2000) and batch["length"].shape == (3,)
    np.testing.assert_array_equal(batch["mixture"], again["mixture"])
    assert np.abs(batch["mixture"] - other["mixture"]).max() > 0


def test_parameters_statistics_and_the_axis_go_where_they_belong(monkeypatch):
    made = task(monkeypatch)
    params, extra = made.init(jax.random.key(0))
    assert set(params) == {"gain"} and set(extra) == {"batch_stats"}
    assert made.loss("data")(params, extra, {})[1] == "data"
    assert made.config == {"system": "nothing"}


def test_the_mixture_itself_improves_nothing_on_either_split(monkeypatch):
    made = task(monkeypatch)
    params, extra = made.init(jax.random.key(0))
    values = made.evaluate({"params": params, **extra})
    for split in ("heldout_clips", "heldout_concepts"):
        np.testing.assert_allclose(values[f"{split}/sdri"], 0, atol=1e-3)
        np.testing.assert_allclose(values[f"{split}/wrong_gap"], 0, atol=1e-3)
