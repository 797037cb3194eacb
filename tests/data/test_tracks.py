"""Batches of sources."""

import dataclasses

import numpy as np
import pytest

from jaxaudio.data.clips import Clip
from jaxaudio.data.tracks import TrackConfig, TrackPipeline
from jaxaudio.errors import ConfigError, UsageError

RATE = 1000


def constants(values):
    return [
        Clip(id=str(i), audio=np.full(700, value, np.float32), sample_rate=RATE, captions=())
        for i, value in enumerate(values)
    ]


CLIPS = {"speech": constants([0.1, 0.2]), "music": constants([0.3, 0.4, 0.5])}


def config(**changes):
    return TrackConfig(**{"batch": 6, "sample_rate": RATE, "seconds": 0.5, **changes})


def test_each_track_has_its_own_clips_and_levels():
    pipeline = TrackPipeline(CLIPS, config(spread=0.0))
    batches = [pipeline[k] for k in range(20)]
    sources = np.concatenate([batch["sources"] for batch in batches])
    assert sources.shape == (120, 2, 500)
    for track, values in enumerate(([0.1, 0.2], [0.3, 0.4, 0.5])):
        assert set(np.round(sources[:, track, 0], 2)) == set(np.float32(values).round(2))
    np.testing.assert_array_equal(batches[0]["levels"], np.tile(np.float32([-17, -24]), (6, 1)))
    np.testing.assert_array_equal(batches[0]["mix_level"], np.full(6, np.float32(-27)))


def test_one_source_is_as_often_there_as_the_counts_say():
    pipeline = TrackPipeline(CLIPS, config(counts=(3.0, 1.0)))
    valid = np.concatenate([pipeline[k]["valid"] for k in range(100)])
    count = valid.sum(1)
    assert set(count) == {1, 2} and 0.7 < np.mean(count == 1) < 0.8
    assert 0.4 < valid[count == 1, 0].mean() < 0.6


def test_balanced_classes_are_as_often_there_whatever_they_hold():
    """A voice with one clip of four is heard half of the time, and each clip of the other a sixth."""
    many = [
        dataclasses.replace(clip, labels=("a" if i else "b",)) for i, clip in enumerate(constants([0.1, 0.2, 0.3, 0.4]))
    ]
    for balance, share in ((True, 0.5), (False, 0.25)):
        pipeline = TrackPipeline({"speech": many}, config(balance=balance))
        heard = np.concatenate([pipeline[k]["sources"] for k in range(60)])[:, 0, 0].round(2)
        assert set(heard) == set(np.float32([0.1, 0.2, 0.3, 0.4]))
        assert abs(np.mean(heard == np.float32(0.1)) - share) < 0.08


def test_a_share_of_the_sounds_is_left_at_its_speed():
    tone = np.sin(2 * np.pi * 100 / RATE * np.arange(700)).astype(np.float32)
    pipeline = TrackPipeline(
        {"music": [Clip(id="tone", audio=tone, sample_rate=RATE, captions=())]},
        config(seconds=0.4, speed=(1.5, 1.5), steady=0.25),
    )
    sounds = np.concatenate([pipeline[k]["sources"] for k in range(40)])[:, 0]
    assert sounds.shape == (240, 400)
    hertz = np.argmax(np.abs(np.fft.rfft(sounds)), -1) * RATE / 400
    assert set(hertz) == {100, 150} and abs(np.mean(hertz == 100) - 0.25) < 0.1
    assert np.sqrt(np.mean(sounds[:, -20:] ** 2)) > 0.5  # to the end


def test_levels_are_drawn_around_their_middle():
    pipeline = TrackPipeline(CLIPS, config(spread=2.0))
    levels = np.concatenate([pipeline[k]["levels"] for k in range(50)])
    assert levels[:, 0].min() < -18.8 and levels[:, 0].max() > -15.2 and np.ptp(levels[:, 1]) <= 4


def test_batches_go_on_from_any_step_and_shares_make_them_up():
    pipeline = TrackPipeline(CLIPS, config())
    batches = iter(pipeline)
    batches.set_state({"step": 3})
    taken = next(batches)
    np.testing.assert_array_equal(taken["sources"], pipeline[3]["sources"])
    parts = [TrackPipeline(CLIPS, config(), share=(i, 2))[3] for i in range(2)]
    for name, whole in taken.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole)


def test_what_cannot_be():
    with pytest.raises(UsageError, match="'music' has no clips"):
        TrackPipeline({**CLIPS, "music": []}, config())
    with pytest.raises(ConfigError, match=r"0 to 1, not 1\.5"):
        config(steady=1.5)
    with pytest.raises(ConfigError, match="'horns' has no level"):
        TrackPipeline({"horns": CLIPS["music"]}, config())
    with pytest.raises(ConfigError, match="does not divide"):
        TrackPipeline(CLIPS, config(), share=(0, 4))
    for changes in ({"counts": (0.0, 1.0)}, {"batch": 0}, {"seconds": 0.0}):
        with pytest.raises(ConfigError):
            config(**changes)
