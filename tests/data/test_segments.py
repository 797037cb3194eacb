"""Batches of single sounds."""

import dataclasses

import numpy as np
import pytest

from jaxaudio.data.clips import Clip
from jaxaudio.data.segments import SegmentConfig, SegmentPipeline
from jaxaudio.errors import ConfigError, UsageError

RATE = 1000


def tone(index, seconds=1.0, caption="ab", label="x"):
    """A constant of its own, so that a row tells which clip it is of."""
    return Clip(
        id=str(index),
        audio=np.full(int(seconds * RATE), 0.01 * (index + 1), np.float32),
        sample_rate=RATE,
        captions=(caption,),
        labels=(label,),
    )


def config(**changes):
    return SegmentConfig(**{"batch": 4, "sample_rate": RATE, "seconds": 0.5, "level_db": (0.0, 0.0), **changes})


def which(batch):
    return np.rint(100 * np.abs(batch["waveform"]).max(1)).astype(int) - 1


def test_every_clip_once_an_epoch_and_the_same_from_any_step():
    pipeline = SegmentPipeline([tone(i) for i in range(8)], config())
    first = [which(pipeline[k]) for k in range(2)]
    assert sorted(np.concatenate(first)) == list(range(8))
    batches = iter(pipeline)
    taken = [next(batches) for _ in range(3)]
    np.testing.assert_array_equal(taken[1]["waveform"], pipeline[1]["waveform"])
    again = iter(pipeline)
    again.set_state({"step": 2})
    np.testing.assert_array_equal(next(again)["waveform"], taken[2]["waveform"])
    assert again.get_state() == {"step": 3} and taken[0]["waveform"].shape == (4, 500)


def test_gains_stay_in_their_range_and_differ():
    pipeline = SegmentPipeline([tone(0)] * 4, config(level_db=(-6.0, 0.0)))
    gains = np.concatenate([pipeline[k]["waveform"][:, 0] for k in range(8)]) / 0.01
    assert 0.5 <= gains.min() < 0.6 and 0.9 < gains.max() <= 1


def test_another_speed_is_another_pitch():
    t = np.arange(2 * RATE) / RATE
    clip = dataclasses.replace(tone(0), audio=np.sin(2 * np.pi * 100 * t).astype(np.float32))
    pipeline = SegmentPipeline([clip], config(batch=1, seconds=1.0, speed=(1.2, 1.2)))
    spectrum = np.abs(np.fft.rfft(pipeline[0]["waveform"][0] * np.hanning(RATE)))
    assert np.argmax(spectrum) == pytest.approx(120, abs=1)


def test_utterances_are_whole_and_spelt():
    clips = [tone(0, 0.3, "ab"), tone(1, 0.9, "ab"), tone(2, 0.4, ""), tone(3, 0.5, "abcdef"), tone(4, 0.2, "c")]
    pipeline = SegmentPipeline(
        clips, config(batch=2, most_labels=3), spell=lambda text: [ord(letter) - 96 for letter in text]
    )
    batch = pipeline[0]
    rows = {int(i): row for row, i in enumerate(which(batch))}
    assert set(rows) == {0, 4}
    np.testing.assert_array_equal(batch["labels"][[rows[0], rows[4]]], [[1, 2, 0], [3, 0, 0]])
    np.testing.assert_array_equal(batch["label_lengths"][[rows[0], rows[4]]], [2, 1])
    np.testing.assert_array_equal(batch["length"][[rows[0], rows[4]]], [300, 200])
    assert not batch["waveform"][rows[4], 200:].any() and batch["waveform"][rows[4], :200].all()


def test_balanced_classes_come_as_often():
    clips = [tone(i, label="many") for i in range(18)] + [tone(99, label="few")]
    pipeline = SegmentPipeline(clips, config(balance=True))
    few = np.concatenate([which(pipeline[k]) == 99 for k in range(50)])
    assert 0.4 < few.mean() < 0.6


def test_shares_make_up_the_batch():
    clips = [tone(i) for i in range(8)]
    whole = SegmentPipeline(clips, config())[1]["waveform"]
    parts = [SegmentPipeline(clips, config(), share=(i, 2))[1]["waveform"] for i in range(2)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    with pytest.raises(ConfigError, match="does not divide"):
        SegmentPipeline(clips, config(), share=(0, 3))


def test_what_cannot_be():
    with pytest.raises(UsageError, match="no clip is left"):
        SegmentPipeline([tone(0, 2.0)], config(), spell=lambda text: [1])
    with pytest.raises(UsageError, match="no clip is left"):
        SegmentPipeline([], config())
    for changes in ({"batch": 0}, {"seconds": 0}, {"speed": (1.2, 0.8)}, {"speed": (0.0, 1.0)}):
        with pytest.raises(ConfigError):
            config(**changes)
