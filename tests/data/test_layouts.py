import json
import warnings

import numpy as np
import pytest

from jaxaudio.data import layouts
from jaxaudio.data.layouts.captions import youtube_names
from jaxaudio.errors import AudioError, MissingError, UsageError

from .sounds import write_wav


def read(name, root, split):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return {one.id: one for one in layouts.clips(name, root, split)}


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_audiocaps(tmp_path):
    header = "audiocap_id,youtube_id,start_time,caption\n"
    write(tmp_path / "train.csv", header + '91139,r1nicOVtvkQ,130,"A woman talks, then a dog barks"\n')
    rows = "".join(f"{10 + i},-abc_DEF123,30,caption {i}\n" for i in range(5)) + "20,-abc_DEF123,60,other\n"
    write(tmp_path / "dataset" / "test.csv", header + rows)
    audio = write_wav(tmp_path / "audio" / "train" / "91139.wav")
    write_wav(tmp_path / "audio" / "test" / "Y-abc_DEF123_30_40.wav")
    write_wav(tmp_path / "audio" / "test" / "-abc_DEF123_60.flac")
    train = read("audiocaps", tmp_path, "train")
    np.testing.assert_allclose(train["91139"].audio, audio, atol=1e-7)
    assert train["91139"].captions == ("A woman talks, then a dog barks",)
    test = read("audiocaps", tmp_path, "test")
    assert test["10"].captions == tuple(f"caption {i}" for i in range(5))
    assert test["20"].captions == ("other",) and test["10"].source == test["20"].source == "-abc_DEF123"


@pytest.mark.parametrize("nested", [False, True])
def test_clotho(tmp_path, nested):
    captions = "file_name," + ",".join(f"caption_{i}" for i in range(1, 6)) + "\n"
    write(
        tmp_path / "clotho_captions_development.csv", captions + '"Rain, drops.wav",a,b,c,"d, e",f\nx.wav,1,2,3,4,5\n'
    )
    about = "file_name,keywords,sound_id,sound_link,start_end_samples,manufacturer,license\n"
    about += '"Rain, drops.wav",rain;caf\xe9; water,123,http://x,"[0, 9]",me,CC-BY\n'
    (tmp_path / "clotho_metadata_development.csv").write_bytes(about.encode("latin-1"))
    folder = tmp_path / ("clotho_audio_development/development" if nested else "development")
    write_wav(folder / "Rain, drops.wav", rate=44100)
    write_wav(folder / "x.wav")
    found = read("clotho", tmp_path, "development")
    one = found["development/Rain, drops"]
    assert one.captions == ("a", "b", "c", "d, e", "f") and one.labels == ("rain", "café", "water")
    assert (one.source, one.licence, one.sample_rate) == ("123", "CC-BY", 44100)
    assert found["development/x"].labels == ()


def test_wavcaps(tmp_path):
    def rows(*ids):
        return [{"id": one, "caption": f"about {one}", "duration": 1.0} for one in ids]

    listings = tmp_path / "json_files"
    write(listings / "SoundBible" / "sb_final.json", json.dumps(rows("2219")))
    write(
        listings / "FreeSound" / "fsd_final.json", json.dumps({"num_captions_per_audio": 1, "data": rows("2219", "7")})
    )
    write(listings / "AudioSet_SL" / "as_final.json", json.dumps({"data": rows("Yb0RFKhbpFJA.wav", "Ytest.wav")}))
    write(
        listings / "blacklist" / "blacklist_exclude_test_ac.json",
        json.dumps({"AudioSet": ["Ytest.wav"], "FreeSound": ["7"]}),
    )
    sound_bible = write_wav(tmp_path / "Zip_files" / "SoundBible" / "2219.flac", seed=1)
    free_sound = write_wav(tmp_path / "Zip_files" / "FreeSound" / "mnt" / "2219.flac", seed=2)
    write_wav(tmp_path / "Zip_files" / "FreeSound" / "7.flac")
    write_wav(tmp_path / "Zip_files" / "AudioSet_SL" / "Yb0RFKhbpFJA.flac")
    found = read("wavcaps", tmp_path, "train")
    assert set(found) == {"SoundBible/2219", "FreeSound/2219", "AudioSet_SL/Yb0RFKhbpFJA"}
    np.testing.assert_allclose(found["SoundBible/2219"].audio, sound_bible, atol=1e-7)
    np.testing.assert_allclose(found["FreeSound/2219"].audio, free_sound, atol=1e-7)
    assert found["AudioSet_SL/Yb0RFKhbpFJA"].captions == ("about Yb0RFKhbpFJA.wav",)


def test_audioset(tmp_path):
    write(
        tmp_path / "class_labels_indices.csv",
        'index,mid,display_name\n0,/m/09x0r,"Speech"\n1,/m/05z,"Male speech, man"\n',
    )
    comments = "# Segments csv created Sun Mar  5\n# num_ytids=2\n# YTID, start_seconds, end_seconds, positive_labels\n"
    rows = '--4gqARaEJE, 0.000, 10.000, "/m/09x0r,/m/05z"\n-0ABC, 30.000, 40.000, "/m/05z"\n'
    write(tmp_path / "balanced_train_segments.csv", comments + rows)
    write_wav(tmp_path / "balanced" / "Y--4gqARaEJE.wav")
    write_wav(tmp_path / "balanced" / "-0ABC_30000_40000.wav")
    found = read("audioset", tmp_path, "balanced_train")
    assert found["--4gqARaEJE_0.000"].captions == ("Speech, Male speech, man",)
    assert found["--4gqARaEJE_0.000"].labels == ("Speech", "Male speech, man")
    assert found["-0ABC_30.000"].source == "-0ABC"


def test_vggsound(tmp_path):
    write(
        tmp_path / "vggsound.csv", '---g-f_I2yQ,1,"people marching",test\n--0PQM4-hqg,30,"waterfall burbling",train\n'
    )
    write_wav(tmp_path / "video" / "---g-f_I2yQ_000001.wav")
    write_wav(tmp_path / "video" / "--0PQM4-hqg_000030.wav")
    assert read("vggsound", tmp_path, "test")["---g-f_I2yQ_000001"].captions == ("people marching",)
    assert read("vggsound", tmp_path, "train")["--0PQM4-hqg_000030"].labels == ("waterfall burbling",)


def test_esc50(tmp_path):
    root = tmp_path / "ESC-50-master"
    rows = "1-100032-A-0.wav,1,0,dog,True,100032,A\n5-9032-A-0.wav,5,0,crackling_fire,True,9032,A\n"
    write(root / "meta" / "esc50.csv", "filename,fold,target,category,esc10,src_file,take\n" + rows)
    for name in ("1-100032-A-0.wav", "5-9032-A-0.wav"):
        write_wav(root / "audio" / name)
    assert read("esc50", root, "train")["1-100032-A-0"].labels == ("dog",)
    found = read("esc50", tmp_path, "test")  # the folder around it will do
    assert found["5-9032-A-0"].captions == ("crackling fire",) and found["5-9032-A-0"].source == "9032"


def test_fsd50k(tmp_path):
    truth = tmp_path / "FSD50K.ground_truth"
    write(
        truth / "dev.csv",
        'fname,labels,mids,split\n64760,"Electric_guitar,Guitar,Music","/m/1,/m/2,/m/3",train\n16399,Bark,/m/4,val\n',
    )
    write(truth / "eval.csv", "fname,labels,mids\n37199,Chirp_and_tweet,/m/5\n")
    for part, name in (("dev", "64760"), ("dev", "16399"), ("eval", "37199")):
        write_wav(tmp_path / f"FSD50K.{part}_audio" / f"{name}.wav")
    one = read("fsd50k", tmp_path, "train")["64760"]
    assert one.captions == ("Electric guitar",) and one.labels == ("Electric guitar", "Guitar", "Music")
    assert set(read("fsd50k", tmp_path, "val")) == {"16399"}
    assert read("fsd50k", tmp_path, "eval")["37199"].captions == ("Chirp and tweet",)
    write(tmp_path / "FSD50K.metadata" / "dev_clips_info_FSD50K.json", json.dumps({"64760": {"license": "CC0"}}))
    write(
        tmp_path / "FSD50K.metadata" / "collection" / "collection_dev.csv",
        'fname,labels,mids\n64760,"Electric_guitar,Strum","a,b"\n',
    )
    one = read("fsd50k", tmp_path, "train")["64760"]
    assert one.captions == ("Electric guitar, Strum",) and one.licence == "CC0"


def test_music(tmp_path):
    write(tmp_path / "MUSIC_solo_videos.json", json.dumps({"videos": {"acoustic_guitar": ["1mCi6eWXVbg", "-a_3"]}}))
    write(tmp_path / "MUSIC_duet_videos.json", json.dumps({"videos": {"flute acoustic_guitar": ["8DHG_hVSw1o"]}}))
    for name in ("Y1mCi6eWXVbg_0", "Y1mCi6eWXVbg_1", "-a_3", "8DHG_hVSw1o"):
        write_wav(tmp_path / "wav" / f"{name}.wav")
    solo = read("music", tmp_path, "solo")
    assert set(solo) == {"Y1mCi6eWXVbg_0", "Y1mCi6eWXVbg_1", "-a_3"}
    assert {one.source for one in solo.values()} == {"1mCi6eWXVbg", "-a_3"}
    assert solo["-a_3"].captions == ("acoustic guitar",)
    duet = read("music", tmp_path, "duet")["8DHG_hVSw1o"]
    assert duet.captions == ("flute and acoustic guitar",) and duet.labels == ("flute", "acoustic guitar")


@pytest.mark.parametrize("inner", ["", "clean_trainset_28spk_wav"])
def test_voicebank_demand(tmp_path, inner):
    write_wav(tmp_path / "clean_trainset_28spk_wav" / inner / "p226_001.wav", rate=48000)
    one = read("voicebank_demand", tmp_path, "train")["p226_001"]
    assert (one.source, one.labels, one.sample_rate) == ("p226", ("speech",), 48000)
    with pytest.raises(MissingError, match="clean_testset_wav"):
        read("voicebank_demand", tmp_path, "test")


def test_missing_audio_is_counted_or_fails(tmp_path):
    write(tmp_path / "vggsound.csv", "aaa,1,dog barking,train\nbbb,1,cat purring,train\n")
    with pytest.raises(UsageError, match="no clip could be read of 2"):
        list(layouts.clips("vggsound", tmp_path, "train"))
    write_wav(tmp_path / "bbb_000001.wav")
    with pytest.warns(UserWarning, match="1 of 2 clips left out"):
        assert [one.id for one in layouts.clips("vggsound", tmp_path, "train")] == ["bbb_000001"]
    with pytest.raises(AudioError, match="no audio file"):
        list(layouts.clips("vggsound", tmp_path, "train", on_error="fail"))


def test_short_clips_are_left_out_on_request(tmp_path):
    write(tmp_path / "vggsound.csv", "aaa,1,dog,train\nbbb,1,cat,train\n")
    write_wav(tmp_path / "aaa_000001.wav", samples=31999, rate=44100)
    write_wav(tmp_path / "bbb_000001.wav", samples=32000, rate=16000)  # the count is at the clip's own rate
    assert [one.labels for one in layouts.clips("vggsound", tmp_path, "train", min_samples=32000)] == [("cat",)]


@pytest.mark.parametrize("name", layouts.LAYOUTS)
def test_every_layout_says_what_is_missing(tmp_path, name):
    for split in layouts.LAYOUTS[name].splits:
        with pytest.raises(MissingError) as caught:
            next(layouts.clips(name, tmp_path, split))
        assert str(tmp_path) in str(caught.value)
        with pytest.raises(MissingError):
            next(layouts.clips(name, tmp_path / "nowhere", split))


def test_unknown_names():
    with pytest.raises(UsageError, match="known are audiocaps"):
        layouts.clips("nonsense", ".", "train")
    with pytest.raises(UsageError, match="it has train, test"):
        layouts.clips("esc50", ".", "dev")


def test_youtube_names_prefer_the_exact_excerpt():
    names = youtube_names("abc", 30.0, 40.0)
    assert names[0] == "abc_30" and names[-2:] == ["abc", "Yabc"]
    assert {"abc_000030", "Yabc_30_40", "abc_30000_40000", "abc_30.000"} <= set(names)
