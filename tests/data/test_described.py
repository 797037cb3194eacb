"""Sounds with their sentences: levels, pairs, and the same rows wherever one goes on."""

import numpy as np
import pytest

from jaxaudio.data.clips import Clip
from jaxaudio.data.described import DescribedConfig, DescribedPipeline
from jaxaudio.errors import ConfigError, UsageError

RATE = 1000


def tone(name, hertz, samples=700, captions=None):
    audio = 0.1 * np.sin(2 * np.pi * hertz * np.arange(samples) / RATE).astype(np.float32)
    return Clip(
        id=f"{name} {hertz}",
        audio=audio,
        sample_rate=RATE,
        captions=(f"a {name}", f"the {name}") if captions is None else captions,
        labels=(name,),
        source=f"{name} {hertz}",
        licence="CC0-1.0",
    )


CLIPS = [tone("low", 50), tone("low", 60), tone("low", 70), tone("high", 300), tone("mute", 200, captions=())]


def rows(text):
    return {"caption": list(text)}


def pipeline(**changes):
    config = DescribedConfig(**{"batch": 64, "sample_rate": RATE, "seconds": 0.7, "seed": 3, **changes})
    return DescribedPipeline(CLIPS, config, text=rows, concepts=("high", "low"))


def test_single_sounds_keep_their_captions_and_concepts_are_balanced():
    batch = pipeline(pairs=0.0, level_db=(-6.0, -6.0))[0]
    assert batch["audio"].shape == (64, 700)
    for audio, caption, tags in zip(batch["audio"], batch["caption"], batch["tags"], strict=True):
        name = caption.split()[1]
        assert tags.tolist() == [name == "high", name == "low"]
        loudest = np.abs(np.fft.rfft(audio)).argmax() * RATE / 700
        assert (loudest == 300) == (name == "high")
        assert audio.std() == pytest.approx(0.1 / 2**0.5 * 10 ** (-6 / 20), rel=0.01)
    assert 0.3 < np.mean(batch["tags"][:, 0]) < 0.7


def test_two_sounds_have_both_captions_and_the_level_between_them():
    batch = pipeline(pairs=1.0, ratio_db=(6.0, 6.0), level_db=(0.0, 0.0))[0]
    assert (batch["tags"] == 1).all()
    for audio, caption in zip(batch["audio"], batch["caption"], strict=True):
        assert {word for word in caption.split() if word in ("low", "high")} == {"low", "high"}
        spectrum = np.abs(np.fft.rfft(audio))
        levels = [spectrum[210], max(spectrum[[35, 42, 49]])]
        assert abs(20 * np.log10(levels[0] / levels[1])) == pytest.approx(6, abs=0.1)


def test_it_goes_on_where_it_was():
    first = iter(pipeline())
    batches = [next(first) for _ in range(3)]
    state = first.get_state()
    after = next(first)
    second = iter(pipeline())
    second.set_state(state)
    again = next(second)
    np.testing.assert_array_equal(again["audio"], after["audio"])
    assert again["caption"] == after["caption"]
    np.testing.assert_array_equal(pipeline()[2]["audio"], batches[2]["audio"])
    assert batches[0]["caption"] != batches[1]["caption"]
    first.close()
    second.close()


def test_processes_share_a_batch():
    config = DescribedConfig(batch=8, sample_rate=RATE, seconds=0.5)
    whole = DescribedPipeline(CLIPS, config, text=rows)[1]
    parts = [DescribedPipeline(CLIPS, config, text=rows, share=(i, 2))[1] for i in range(2)]
    np.testing.assert_array_equal(np.concatenate([part["audio"] for part in parts]), whole["audio"])
    assert parts[0]["caption"] + parts[1]["caption"] == whole["caption"]


def test_what_cannot_be_described_is_refused():
    with pytest.raises(UsageError, match="no clip has a caption"):
        DescribedPipeline(CLIPS[4:], DescribedConfig(), text=rows)
    with pytest.raises(ConfigError, match="give 0 to 1"):
        DescribedConfig(pairs=2.0)
    with pytest.raises(ConfigError, match="does not divide"):
        DescribedPipeline(CLIPS, DescribedConfig(batch=3), text=rows, share=(0, 2))
