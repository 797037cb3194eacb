import subprocess
import sys

import numpy as np
import pytest

from jaxaudio.data.audio_clips import AudioClips, from_record, is_dataset, open_dataset, to_record, write_dataset
from jaxaudio.data.clips import Clip
from jaxaudio.data.pipeline import MixtureConfig, MixturePipeline
from jaxaudio.errors import AudioError, UsageError

from .sounds import clip


def pcm_clip(number, samples):
    pcm = np.random.default_rng(number).integers(-32768, 32768, samples, dtype=np.int16)
    return Clip(
        id=f"näme {number}",
        audio=pcm.astype(np.float32) / 32768,
        sample_rate=8000 + number,
        captions=("a dog barks", "ein Hund bellt: „wau“")[: number % 3],
        labels=("dog",) if number else (),
        source=f"tape {number}",
        licence="CC0-1.0",
    )


def equal(one, other):
    np.testing.assert_array_equal(one.audio, other.audio)
    assert one.audio.dtype == other.audio.dtype == np.float32
    for name in ("id", "sample_rate", "captions", "labels", "source", "licence"):
        assert getattr(one, name) == getattr(other, name)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "tiny"
    splits = {"train": [pcm_clip(i, 100 + i) for i in range(7)], "held_out": [pcm_clip(9, 1)]}
    counts = write_dataset("tiny_set", {name: iter(clips) for name, clips in splits.items()}, folder)
    assert counts == {"train": 7, "held_out": 1}
    return folder, splits


def test_round_trip_is_exact_and_in_order(dataset):
    folder, splits = dataset
    opened = open_dataset(folder)
    assert opened.keys() == splits.keys()
    for name, clips in splits.items():
        assert len(opened[name]) == len(clips)
        for i, one in enumerate(clips):
            equal(opened[name][i], one)
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]  # nothing is left beside it


def test_a_large_set_needs_no_tensorflow_either(tmp_path, monkeypatch):
    monkeypatch.setattr("tensorflow_datasets.core.shuffle.MAX_MEM_BUFFER_SIZE", 1000)
    clips = [pcm_clip(i, 5000) for i in range(1, 5)]
    write_dataset("large_set", {"train": iter(clips)}, tmp_path / "large")
    for one, other in zip(open_dataset(tmp_path / "large")["train"], clips, strict=True):
        equal(one, other)


def test_plain_tfds_reads_it_without_tensorflow(dataset):
    folder, splits = dataset
    program = f"""
import sys
import tensorflow_datasets as tfds
builder = tfds.builder_from_directory({str(folder)!r})
record = builder.as_data_source("train")[3]
print(builder.info.name, record["audio"].dtype, record["audio"][:3].tolist(), record["captions"], record["sample_rate"])
print([name for name in ("tensorflow", "torch", "jax") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    pcm = (splits["train"][3].audio[:3] * 32768).astype(int).tolist()
    assert done.stdout.splitlines() == [f"tiny_set int16 {pcm} [] 8003", "[]"]


def test_pipeline_over_a_folder_equals_one_over_the_clips(tmp_path):
    quiet = [clip(i, samples=300) for i in range(6)]
    clips = [from_record(to_record(one) | {"captions": one.captions, "labels": one.labels}) for one in quiet]
    write_dataset("quiet", {"train": clips}, tmp_path / "set")
    config = MixtureConfig(batch=3, sample_rate=8000, seconds=0.05)
    stored, given = MixturePipeline(tmp_path / "set", config), MixturePipeline(clips, config)
    for step in range(4):
        for name, value in given[step].items():
            np.testing.assert_array_equal(stored[step][name], value)
    with pytest.raises(UsageError, match="it has train"):
        MixturePipeline(tmp_path / "set", config, split="test")


def test_audio_is_clipped_not_wrapped():
    loud = Clip(id="a", audio=np.array([1.5, 1.0, -1.0, -7.0], np.float32), sample_rate=8, captions=())
    assert to_record(loud)["audio"].tolist() == [32767, 32767, -32768, -32768]


@pytest.mark.parametrize("audio", [[], [np.nan], [np.inf, 0], [[0.0, 0.0]]])
def test_bad_audio_is_refused_and_leaves_nothing(tmp_path, audio):
    bad = Clip(id="bad one", audio=np.array(audio, np.float32), sample_rate=8, captions=())
    with pytest.raises(AudioError, match="bad one"):
        write_dataset("a", {"train": [clip(0), bad]}, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_failures_leave_an_earlier_set_untouched(tmp_path):
    folder = tmp_path / "set"
    write_dataset("a", {"train": [clip(0)]}, folder)
    with pytest.raises(UsageError, match="--force"):
        write_dataset("a", {"train": [clip(1)]}, folder)
    with pytest.raises(UsageError, match="id 'clip1'"):
        write_dataset("a", {"train": [clip(1), clip(1)]}, folder, overwrite=True)
    with pytest.raises(UsageError, match="'test' has no clips"):
        write_dataset("a", {"train": [clip(1)], "test": []}, folder, overwrite=True)
    assert open_dataset(folder)["train"][0].id == "clip0"
    write_dataset("a", {"train": [clip(1)]}, folder, overwrite=True)
    assert open_dataset(folder)["train"][0].id == "clip1"
    assert list(tmp_path.iterdir()) == [folder]


def test_only_a_data_set_is_ever_replaced(tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "text.txt").write_text("words")
    with pytest.raises(UsageError, match="choose another folder"):
        write_dataset("a", {"train": [clip(0)]}, precious, overwrite=True)
    assert (precious / "text.txt").read_text() == "words"
    with pytest.raises(UsageError, match="cannot write"):
        write_dataset("a", {"train": [clip(0)]}, precious / "text.txt" / "set")


def test_full_disk_is_said_plainly(tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("Failed to finalize writing of split: write() failed: No space left on device; writing x")

    monkeypatch.setattr(AudioClips, "download_and_prepare", full)
    with pytest.raises(UsageError, match="no space left; free some space"):
        write_dataset("a", {"train": [clip(0)]}, tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_opening_what_is_not_there(tmp_path, dataset):
    with pytest.raises(UsageError, match="data build"):
        open_dataset(tmp_path)
    assert not is_dataset(tmp_path)
    (tmp_path / "dataset_info.json").write_text("{")
    with pytest.raises(UsageError, match="build it again"):
        open_dataset(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in dataset[0].iterdir():
        data = path.read_bytes()
        (broken / path.name).write_bytes(data[: len(data) // 2] if "train" in path.name else data)
    with pytest.raises(UsageError, match="build it again"):
        open_dataset(broken)["train"][0]


def test_subclass_is_a_tfds_builder(tmp_path):
    class MyBarks(AudioClips):
        """Barks."""

        def clips(self):
            return {"train": (clip(i) for i in range(3))}

    builder = MyBarks(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    assert [one["id"] for one in builder.as_data_source("train")] == [b"clip0", b"clip1", b"clip2"]
