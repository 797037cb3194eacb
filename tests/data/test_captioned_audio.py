import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.data.captioned_audio import clips, splits
from jaxaudio.errors import AudioError, JaxAudioError, MissingError, UsageError

from .sounds import write_wav


def test_text_files_beside_the_sounds(tmp_path):
    audio = write_wav(tmp_path / "deep" / "a.wav", channels=2)
    (tmp_path / "deep" / "a.txt").write_text("a dog barks\n\n a hound is barking \n")
    (one,) = clips(tmp_path)
    assert one.id == "deep/a" and one.captions == ("a dog barks", "a hound is barking") and one.labels == ()
    assert one.sample_rate == 8000 and one.source == "deep/a"
    np.testing.assert_allclose(one.audio, audio, atol=1e-7)


def test_folder_names_and_splits(tmp_path):
    for name in ("dog_barking/1.wav", "dog_barking/2.flac", "train/rain/1.wav", "test/rain/1.ogg", "notes.md"):
        if name.endswith("md"):
            (tmp_path / name).write_text("not audio")
        else:
            write_wav(tmp_path / name)
    found = splits(tmp_path)
    assert {split: [entry.captions[0] for entry in entries] for split, entries in found.items()} == {
        "train": ["dog barking", "dog barking", "rain"],
        "test": ["rain"],
    }
    assert [one.labels for one in clips(tmp_path, "test")] == [("rain",)]


def test_sound_without_caption(tmp_path):
    write_wav(tmp_path / "a.wav")
    with pytest.raises(UsageError, match=r"a\.wav has no caption; write one into a\.txt"):
        splits(tmp_path)


LISTS = {
    "captions.csv": 'file_name,caption_1,caption_2,labels,split\na.wav,"a dog, far away",a hound,dog; animal,train\n'
    "b.wav,rain,drizzle,,test\n",
    "captions.json": json.dumps(
        {"data": [{"wav": "a.wav", "caption": "a dog, far away"}, {"wav": "b.wav", "caption": "r"}]}
    ),
    "captions.jsonl": '{"path": "a.wav", "captions": ["a dog, far away", "x"], "licence": "CC0-1.0"}\n\n',
}


@pytest.mark.parametrize("name", LISTS)
def test_lists(tmp_path, name):
    for sound in "ab":
        write_wav(tmp_path / f"{sound}.wav")
    (tmp_path / name).write_text(LISTS[name])
    by_folder, by_name = list(clips(tmp_path)), list(clips(tmp_path / name))
    assert by_folder[0].id == by_name[0].id == "a.wav"
    assert by_folder[0].captions[0] == "a dog, far away"
    if name == "captions.csv":
        assert by_folder[0].captions[1] == "a hound" and by_folder[0].labels == ("dog", "animal")
        assert [one.captions for one in clips(tmp_path, "test")] == [("rain", "drizzle")]
    if name == "captions.jsonl":
        assert by_folder[0].licence == "CC0-1.0" and by_folder[0].captions[1] == "x"


def test_json_map_of_file_to_caption(tmp_path):
    write_wav(tmp_path / "a.wav")
    (tmp_path / "mine.json").write_text('{"a.wav": "a dog"}')
    assert [one.captions for one in clips(tmp_path / "mine.json")] == [("a dog",)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "captions.csv",
            "path,caption\na.wav,dog\nmissing.wav,cat\n",
            r"captions\.csv:3: no audio file .*missing\.wav",
        ),
        ("captions.csv", "path,caption\na.wav,a dog, barking\n", r"captions\.csv:2: expected .*quote"),
        ("captions.csv", "path,title\na.wav,dog\n", r"captions\.csv:2: no caption; name it with one of caption"),
        ("captions.csv", "name,caption\na.wav,dog\n", r"captions\.csv:2: no path"),
        ("captions.csv", "path,caption\n", "no sounds in"),
        ("captions.csv", "path,caption\na.wav,\n", "no caption"),
        ("captions.json", '{"data": [\n{"wav": }]}', r"captions\.json:2: not JSON"),
        ("captions.json", '["a.wav"]', "item 1: not JSON"),
        ("captions.json", "[3]", "item 1: expected an object"),
        ("captions.jsonl", '{"wav": "a.wav", "caption": "dog"}\nnonsense\n', r"captions\.jsonl:2: not JSON"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, name, text, message):
    write_wav(tmp_path / "a.wav")
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        list(clips(tmp_path))


def test_what_is_not_there(tmp_path):
    with pytest.raises(MissingError, match="no file or folder"):
        list(clips(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="no sounds in"):
        list(clips(tmp_path))
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(UsageError, match="not a list of sounds"):
        list(clips(tmp_path / "a.txt"))


def test_unreadable_files_fail_or_are_counted(tmp_path):
    folder = tmp_path / "dog"
    audio = write_wav(folder / "good.wav", samples=500)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("this is not audio")
    (folder / "cut.flac").write_bytes(b"fLaC\x00\x00")
    with pytest.raises(AudioError, match="convert it to WAV or FLAC"):
        list(clips(tmp_path))
    with pytest.warns(UserWarning, match="3 of 4 clips left out"):
        (one,) = clips(tmp_path, on_error="skip")
    np.testing.assert_array_equal(one.audio, audio)
    with pytest.raises(UsageError, match="no clip could be read of 4"):
        list(clips(tmp_path, on_error="skip", min_samples=501))


@settings(max_examples=40, deadline=None)
@given(
    data=st.one_of(st.binary(max_size=80), st.text(max_size=80).map(str.encode)),
    suffix=st.sampled_from([".csv", ".json", ".jsonl"]),
)
def test_any_bytes_as_a_list_give_a_clear_error(tmp_path_factory, data, suffix):
    listing = tmp_path_factory.mktemp("fuzz") / f"list{suffix}"
    listing.write_bytes(data)
    with pytest.raises(JaxAudioError) as caught:
        list(clips(listing))
    assert len(str(caught.value).splitlines()) <= 2
