import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jaxaudio.data.pipeline import MixtureConfig, MixturePipeline, Prepared
from jaxaudio.errors import AudioError, ConfigError, UsageError

from .sounds import clip

ROOT = Path(__file__).parents[2]
CONFIG = MixtureConfig(batch=4, sample_rate=8000, seconds=0.05, seed=7)
CLIPS = [clip(i, samples=300 + 40 * i) for i in range(11)]


def same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name])


def take(batches, count):
    return [next(batches) for _ in range(count)]


def ids(batch):
    return [int(caption.split()[-1]) for caption in batch["caption"]]


def test_batch():
    batch = next(iter(MixturePipeline(CLIPS, CONFIG)))
    assert batch["mixture"].shape == batch["segment"].shape == (4, 400)
    assert batch["mixture"].dtype == batch["segment"].dtype == np.float32
    assert np.abs(batch["mixture"]).max() <= 1
    assert np.all(np.any(batch["mixture"] != batch["segment"], axis=1))


def test_stream_is_a_function_of_seed_and_step():
    pipeline = MixturePipeline(CLIPS, CONFIG)
    batches = take(iter(pipeline), 6)
    for step, batch in enumerate(batches):
        same(batch, pipeline[step])
        same(batch, MixturePipeline(CLIPS, CONFIG)[step])
    other = MixturePipeline(CLIPS, MixtureConfig(batch=4, sample_rate=8000, seconds=0.05, seed=8))[0]
    assert np.any(other["mixture"] != batches[0]["mixture"])


def test_resume_is_bit_equal():
    pipeline = MixturePipeline(CLIPS, CONFIG)
    batches = iter(pipeline)
    take(batches, 5)
    state = json.loads(json.dumps(batches.get_state()))
    expected = take(batches, 4)
    fresh = iter(MixturePipeline(CLIPS, CONFIG))
    fresh.set_state(state)
    for one, other in zip(expected, take(fresh, 4)):
        same(one, other)
    batches.set_state(state)  # going back on a running iterator
    same(expected[0], next(batches))
    assert batches.get_state() == {"step": 6}


def test_an_epoch_holds_every_clip_once_and_the_next_is_shuffled_anew():
    pipeline = MixturePipeline(CLIPS, CONFIG)
    order = [number for step in range(11) for number in ids(pipeline[step])]  # 44 draws: four epochs
    epochs = [order[start : start + 11] for start in range(0, 44, 11)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4


def test_captions_and_gains_are_drawn_anew():
    pipeline = MixturePipeline(CLIPS, CONFIG)
    captions = {caption for step in range(30) for caption in pipeline[step]["caption"]}
    assert len(captions) == 22
    ratios = []
    for step in range(10):
        batch = pipeline[step]
        noise = batch["mixture"] - batch["segment"]
        ratios += list(np.round(10 * np.log10(np.sum(noise**2, 1) / np.sum(batch["segment"] ** 2, 1)), 2))
    np.testing.assert_allclose(ratios, np.round(ratios), atol=0.011)
    assert len(set(np.round(ratios))) > 8


def interferers(clips, config, steps=12):
    """(target, interferer) of every mixture, found by correlation."""
    bank = {one.id: one.audio / np.linalg.norm(one.audio) for one in clips}
    pipeline = MixturePipeline(clips, config)
    for batch in (pipeline[step] for step in range(steps)):
        for row, number in enumerate(ids(batch)):
            noise = batch["mixture"][row] - batch["segment"][row]
            scores = {name: abs(np.dot(noise, one)) / (np.linalg.norm(noise) + 1e-9) for name, one in bank.items()}
            best = max(scores, key=scores.__getitem__)
            yield clips[number], next(one for one in clips if one.id == best), scores[best]


def test_clips_of_one_label_or_recording_never_meet():
    config = MixtureConfig(batch=6, sample_rate=8000, seconds=0.05, seed=1)
    clips = [
        clip(i, samples=400, source=f"tape{i // 2}") for i in range(10)
    ]  # label i % 5, so 5 and 0 clash, 0 and 1 too
    for target, other, score in interferers(clips, config):
        assert score > 0.99
        assert not set(target.labels) & set(other.labels)
        assert target.source != other.source


def test_one_kind_of_sound_is_not_mixed():
    clips = [clip(i, labels=("rain",)) for i in range(4)]
    batch = MixturePipeline(clips, CONFIG)[0]
    np.testing.assert_array_equal(batch["mixture"], batch["segment"])


def test_reference_draws_repeat_in_every_epoch():
    config = MixtureConfig(batch=4, sample_rate=8000, seconds=0.05, draws="reference")
    clips = [clip(i, samples=400, labels=("rain",)) for i in range(8)]  # the reference mixes them all the same

    def gains(batch):
        noise = batch["mixture"] - batch["segment"]
        return np.round(10 * np.log10(np.sum(noise**2, 1) / np.sum(batch["segment"] ** 2, 1)))

    pipeline = MixturePipeline(clips, config)
    np.testing.assert_array_equal(gains(pipeline[0]), gains(pipeline[2]))
    np.testing.assert_array_equal(gains(pipeline[1]), gains(pipeline[3]))
    assert np.any(gains(pipeline[0]) != gains(pipeline[1]))


def test_balance_makes_rare_labels_as_frequent():
    clips = [clip(i, labels=("rare",) if i == 0 else ("common", f"kind{i}")) for i in range(20)]
    config = MixtureConfig(batch=4, sample_rate=8000, seconds=0.05, balance=True)
    pipeline = MixturePipeline(clips, config)
    numbers = [number for step in range(100) for number in ids(pipeline[step])]
    assert 0.43 < numbers.count(0) / len(numbers) < 0.57  # 400 fair coins: 2.8 standard deviations
    assert len(set(numbers)) == 20


def test_level_and_rate_and_short_clips():
    clips = [clip(i, samples=200, rate=16000) for i in range(4)]
    config = MixtureConfig(batch=4, sample_rate=8000, seconds=0.05, level_db=(-40.0, -40.0), place="repeat")
    segment = MixturePipeline(clips, config)[0]["segment"]
    np.testing.assert_allclose(segment[:, :100], segment[:, 100:200], atol=1e-9)  # 200 samples at half the rate
    assert 0.0005 < np.sqrt(np.mean(segment**2)) < 0.0015  # noise of 0.1, 40 dB down, half its band gone


def test_processes_share_the_rows_of_a_batch():
    whole = MixturePipeline(CLIPS, CONFIG)[3]
    for index in (0, 1):
        part = MixturePipeline(CLIPS, CONFIG, share=(index, 2))[3]
        same(part, {name: value[2 * index : 2 * index + 2] for name, value in whole.items()})
    with pytest.raises(ConfigError, match="3 processes"):
        MixturePipeline(CLIPS, CONFIG, share=(0, 3))


def test_text_makes_the_query_arrays():
    pipeline = MixturePipeline(CLIPS, CONFIG, text=lambda captions: {"ids": np.array([[len(c)] for c in captions])})
    batch = pipeline[0]
    assert batch.keys() == {"mixture", "segment", "ids"} and batch["ids"].shape == (4, 1)


def test_short_clips_can_be_dropped():
    config = MixtureConfig(batch=4, sample_rate=8000, seconds=0.05, min_samples=500)
    pipeline = MixturePipeline(CLIPS, config)
    assert {number for step in range(20) for number in ids(pipeline[step])} == {5, 6, 7, 8, 9, 10}


def test_cache_stays_within_its_bytes():
    prepared = Prepared(CLIPS, 4000, cache_bytes=1500)
    lengths = [len(prepared[i].audio) for i in range(11)]
    assert lengths == [round((300 + 40 * i) / 2) for i in range(11)]
    assert prepared[0] is prepared[0] and prepared[1] is prepared[1]
    assert prepared[10] is not prepared[10]


def test_errors():
    with pytest.raises(UsageError, match="no clip"):
        MixturePipeline([], CONFIG)
    with pytest.raises(UsageError, match="min_samples"):
        MixturePipeline(CLIPS, MixtureConfig(min_samples=10**6))
    with pytest.raises(ConfigError, match="max_mix_num"):
        MixtureConfig(max_mix_num=1)
    with pytest.raises(ConfigError, match="workers"):
        MixtureConfig(workers=-1)
    with pytest.raises(AudioError, match="empty"):
        MixturePipeline([clip(0, samples=0)], CONFIG)[0]


SCRIPT = """
import hashlib, sys
import jax
from jaxaudio.data.pipeline import MixtureConfig, MixturePipeline
from tests.data.test_pipeline import CLIPS

def main():
    for workers in (2, 0):
        config = MixtureConfig(batch=4, sample_rate=8000, seconds=0.05, seed=7, workers=workers)
        batches = iter(MixturePipeline(CLIPS, config))
        batches.set_state({"step": 3})
        digest = hashlib.sha256()
        for batch in (next(batches) for _ in range(5)):
            digest.update(batch["mixture"].tobytes() + batch["segment"].tobytes() + repr(batch["caption"]).encode())
        batches.close()
        print(digest.hexdigest(), batches.get_state())
    print([name for name in ("tensorflow", "torch") if name in sys.modules])

if __name__ == "__main__":
    main()
"""


def test_two_workers_give_the_same_stream(tmp_path):
    script = tmp_path / "script.py"  # workers import the main module, so it must be a file
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    two, none, heavy = done.stdout.strip().splitlines()
    assert two == none and none.endswith("{'step': 8}") and heavy == "[]"
