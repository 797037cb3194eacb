"""Latents on disk, and the batches drawn from them."""

import numpy as np
import pytest

from jaxaudio.data import Clip
from jaxaudio.data.latents import LatentPipeline, balance, read_latents, windows_of, write_latents
from jaxaudio.errors import CheckpointError, ConfigError, MissingError

RATE = 100


def clip(name, seconds, label, value):
    audio = np.full(round(seconds * 2 * RATE), value, np.float32)  # at twice the rate
    return Clip(id=name, audio=audio, sample_rate=2 * RATE, captions=(f"{name} one", f"{name} two"), labels=(label,))


CLIPS = [clip("short", 1.0, "a", 0.5), clip("long", 5.0, "b", 0.25), clip("other", 2.0, "b", 0.125)]


def encode(x):
    """Two positions per window, of one frequency and one channel: the means of its halves."""
    assert x.shape == (4, 2 * RATE) and x.dtype == np.float32
    return x.reshape(4, 2, 1, RATE).mean(-1, keepdims=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("latents") / "train"
    told = []
    made = write_latents(
        out, CLIPS, encode, sample_rate=RATE, seconds=2.0, batch=4, about={"vae": 7}, progress=lambda *x: told.append(x)
    )
    assert told == [(1, 3), (2, 3), (3, 3)]
    return out, made


def captions(texts):
    return {"length": np.array([len(text) for text in texts])}


def test_every_clip_is_cut_into_windows_that_reach_its_end(written):
    _, made = written
    assert [record["id"] for record in made.records] == ["short", *["long"] * 4, "other"]
    assert made.values.shape == (6, 2, 1, 1) and made.values.dtype == np.float16 and made.about == {"vae": 7}
    np.testing.assert_allclose(made.values[0, :, 0, 0], [0.5, 0.0], atol=0.01)  # filled up with silence
    np.testing.assert_allclose(made.values[4, :, 0, 0], 0.25, atol=0.01)
    np.testing.assert_allclose(made.scale, 1 / np.std(made.values.astype(np.float64)), rtol=1e-3)
    again = read_latents(written[0])
    np.testing.assert_array_equal(again.values, made.values)


def test_windows_overlap_by_a_half_and_leave_silence_out():
    np.testing.assert_array_equal(windows_of(np.ones(3), 4), [[1, 1, 1, 0]])
    np.testing.assert_array_equal(windows_of(np.arange(3), 8, repeat=True), [[0, 1, 2, 0, 1, 2, 0, 1]])
    x = np.arange(1.0, 12.0)
    np.testing.assert_array_equal(windows_of(x, 4), [x[0:4], x[2:6], x[4:8], x[6:10], x[7:11]])
    x = np.concatenate([np.ones(4), np.zeros(8)])
    np.testing.assert_array_equal(windows_of(x, 4), [np.ones(4), [1, 1, 0, 0]])
    assert len(windows_of(np.zeros(12), 4)) == 1


def test_a_batch_depends_on_its_number_alone(written):
    pipeline = LatentPipeline(written[1], 6, captions, seed=3)
    stream = iter(pipeline)
    first = [next(stream) for _ in range(3)]
    stream.set_state({"step": 1})
    for wanted, again in zip(first[1:], [next(stream), next(stream)], strict=True):
        np.testing.assert_array_equal(wanted["latent"], again["latent"])
        np.testing.assert_array_equal(wanted["length"], again["length"])
    assert stream.get_state() == {"step": 3}
    assert not np.array_equal(first[0]["latent"], first[1]["latent"])
    assert first[0]["latent"].dtype == np.float32 and first[0]["latent"].shape == (6, 2, 1, 1)


def test_processes_take_parts_of_the_same_batch(written):
    whole = LatentPipeline(written[1], 6, captions)[5]
    parts = [LatentPipeline(written[1], 6, captions, share=(i, 2))[5] for i in range(2)]
    for name in ("latent", "length"):
        np.testing.assert_array_equal(whole[name], np.concatenate([part[name] for part in parts]))
    with pytest.raises(ConfigError, match="does not divide"):
        LatentPipeline(written[1], 5, captions, share=(0, 2))


def test_a_label_is_drawn_by_the_root_of_its_windows(written):
    p = balance(written[1])
    np.testing.assert_allclose(p[1:], p[1])
    np.testing.assert_allclose(p[1:].sum() / p[0], np.sqrt(5))
    np.testing.assert_allclose(balance(written[1], most=1)[1:].sum(), 0.5)
    drawn = LatentPipeline(written[1], 4000, captions)[0]
    short = np.abs(drawn["latent"][:, 1, 0, 0]) < 0.1 * written[1].scale
    assert abs(short.mean() - p[0]) < 4 * np.sqrt(p[0] / 4000)


def test_what_is_missing_or_truncated_is_told(written, tmp_path):
    with pytest.raises(MissingError, match="no latents in"):
        read_latents(tmp_path)
    for name in ("latents.json", "values.f16"):
        (tmp_path / name).write_bytes((written[0] / name).read_bytes())
    (tmp_path / "values.f16").write_bytes((written[0] / "values.f16").read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="truncated"):
        read_latents(tmp_path)
    with pytest.raises(ConfigError, match="empty"):
        write_latents(tmp_path / "none", [], encode, sample_rate=RATE, seconds=2.0)
    assert not (tmp_path / "none").exists() and not list(tmp_path.glob(".none*"))
