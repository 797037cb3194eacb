import numpy as np
import pytest

from jaxaudio.data import evaluation
from jaxaudio.errors import AudioError, MissingError, UsageError
from jaxaudio.metrics.separation import aggregate

from .sounds import write_wav

ROWS = {
    "audiocaps": 'idx,caption,labels,src_wav,noise_wav\n0,"A dog, barking",Dog,Ya.wav,Yb.wav\n',
    "clotho": "idx,caption,src_wav,noise_wav1,noise_wav1\n0,A machine.,a.wav,b.wav,c.wav\n",
    "esc50": "idx,caption,src_wav,noise_wav\n0,chirping birds,a.wav,b.wav\n",
    "music": "idx,caption,src_wav,noise_wav\n0,accordion,a.wav,b.wav\n",
    "audioset": 'idx,caption,src_wav,noise_wav\n1,"Male speech, man",'
    '"evaluation/data/audioset/class_id=1/class_id=1,index=000,source.wav",'
    '"evaluation/data/audioset/class_id=1/class_id=1,index=000,mixture.wav"\n',
    "vggsound": "file_id,mix_wav,s0_wav,s0_text,s1_wav,s1_text\na+++b,data/mix_wav/a+++b.wav,data/s0_wav/a+++b.wav,"
    "playing accordion,data/s1_wav/a+++b.wav,sea lion barking\n",
}
FILES = {
    "audioset": ("class_id=1/class_id=1,index=000,mixture.wav", "class_id=1/class_id=1,index=000,source.wav"),
    "vggsound": ("data/mix_wav/a+++b.wav", "data/s0_wav/a+++b.wav"),
}
CAPTIONS = ["A dog, barking", "A machine.", "chirping birds", "accordion", "Male speech, man", "playing accordion"]


@pytest.mark.parametrize(("name", "caption"), list(zip(ROWS, CAPTIONS)))
def test_audiosep_sets(tmp_path, name, caption):
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / f"{name}_eval.csv").write_text(ROWS[name])
    with pytest.raises(MissingError, match="no data/"):
        list(evaluation.audiosep(name, tmp_path, sample_rate=8000))
    mixture, target = FILES.get(name, ("mixture-0.wav", "segment-0.wav"))
    mixed = write_wav(tmp_path / "data" / name / mixture, seed=1)
    with pytest.raises(AudioError, match="no audio file"):
        list(evaluation.audiosep(name, tmp_path, sample_rate=8000))
    alone = write_wav(tmp_path / "data" / name / target, seed=2)
    (one,) = evaluation.audiosep(name, tmp_path, sample_rate=8000)
    np.testing.assert_array_equal(one.mixture, mixed)
    np.testing.assert_array_equal(one.target, alone)
    assert one.caption == one.label == caption
    assert one.other == ("sea lion barking" if name == "vggsound" else "")


def test_unknown_set(tmp_path):
    with pytest.raises(UsageError, match="audiocaps"):
        list(evaluation.audiosep("nonsense", tmp_path))
    with pytest.raises(MissingError, match="esc50_eval"):
        list(evaluation.audiosep("esc50", tmp_path))


def test_dcase2024_t9(tmp_path):
    (tmp_path / "lass_synthetic_validation.csv").write_text("source,noise,snr,caption\n101,102,-5,a dog barks\n")
    source = write_wav(tmp_path / "lass_validation" / "101.wav", seed=1)
    write_wav(tmp_path / "lass_validation" / "102.wav", seed=2)
    (one,) = evaluation.dcase2024_t9(tmp_path, sample_rate=8000)
    np.testing.assert_allclose(one.target, source)
    ratio = 10 * np.log10(np.mean(one.target**2) / np.mean((one.mixture - one.target) ** 2))
    assert ratio == pytest.approx(-5, abs=1e-4) and one.caption == "a dog barks"


def test_voicebank_demand_pairs(tmp_path):
    clean = write_wav(tmp_path / "clean_testset_wav" / "p232_001.wav", seed=1)
    (tmp_path / "noisy_testset_wav").mkdir()
    with pytest.raises(AudioError, match="no noisy version"):
        list(evaluation.voicebank_demand(tmp_path, sample_rate=8000))
    noisy = write_wav(tmp_path / "noisy_testset_wav" / "p232_001.wav", seed=2)
    (one,) = evaluation.voicebank_demand(tmp_path, sample_rate=8000)
    np.testing.assert_array_equal(one.mixture, noisy)
    np.testing.assert_array_equal(one.target, clean)
    assert one.label == "speech"


def test_own_list(tmp_path):
    write_wav(tmp_path / "mix.wav", seed=1)
    write_wav(tmp_path / "dog.wav", seed=2)
    (tmp_path / "list.csv").write_text("mixture,target,caption,other\nmix.wav,dog.wav,a dog,a cat\n")
    (one,) = evaluation.listed(tmp_path / "list.csv", sample_rate=8000)
    assert (one.caption, one.other, one.label) == ("a dog", "a cat", "a dog")
    write_wav(tmp_path / "dog.wav", samples=399)
    with pytest.raises(AudioError, match="differ in length"):
        list(evaluation.listed(tmp_path / "list.csv", sample_rate=8000))
    (tmp_path / "bad.csv").write_text("mix,target\na,b\n")
    with pytest.raises(UsageError, match="needs the columns"):
        list(evaluation.listed(tmp_path / "bad.csv", sample_rate=8000))


def test_rate_is_converted(tmp_path):
    write_wav(tmp_path / "mix.wav", samples=1000, rate=44100)
    (tmp_path / "list.csv").write_text("mixture,target,caption\nmix.wav,mix.wav,a dog\n")
    (one,) = evaluation.listed(tmp_path / "list.csv", sample_rate=22050)
    assert len(one.mixture) == len(one.target) == 500


def test_aggregation_rules_are_known():
    assert set(evaluation.AGGREGATION) <= set(evaluation.AUDIOSEP_SETS)
    for rule in evaluation.AGGREGATION.values():
        assert aggregate([1.0], ["a"], rule) == 1
