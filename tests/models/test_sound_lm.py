"""Words become sounds, code by code, whole or in pieces; a recording goes on and stays as it is; nonsense is told."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxaudio
from jaxaudio.errors import AudioError, ConfigError, UsageError
from jaxaudio.systems import soundlm
from jaxaudio.systems.soundlm import transformer
from tests.models import tiny_soundlm
from tests.models.tiny_soundlm import CONFIG, RATE

rng = np.random.default_rng(3)
SOUND = (rng.standard_normal(700) / 5).astype(np.float32)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    root = tmp_path_factory.mktemp("soundlm")
    tiny_soundlm.write(root / "tiny", root)
    return jaxaudio.load(root / "tiny")


def test_length_seed_and_batch(model):
    dog = model.generate("a dog", seconds=0.5)
    assert (dog.shape, dog.dtype) == ((400,), np.float32)
    assert np.std(dog) > 0 and np.abs(dog).max() <= 1
    np.testing.assert_array_equal(model.generate("a dog", seconds=0.5), dog)
    assert np.abs(model.generate("a dog", seconds=0.5, seed=1) - dog).max() > 1e-3
    together = model.generate(["a dog", "the rain"], seconds=0.5, count=2)
    assert together.shape == (2, 2, 400)
    np.testing.assert_allclose(together[0, 0], dog, atol=1e-6)  # whatever it is made with
    assert len({sound.tobytes() for sound in together.reshape(4, -1)}) == 4
    assert model.generate("").shape == (1024,)  # the window


def test_the_parts_are_those_of_the_pure_functions(model):
    made = model.generate("a dog", seconds=tiny_soundlm.SECONDS, temperature=0, guidance=3)
    told = np.sqrt(model.config.prior.vectors) * model.condition("a dog")[:, None]
    ids = transformer.sample(
        model.params["prior"], CONFIG.prior, told, sampling=soundlm.model.Sampling(temperature=0.0), guidance=3.0
    ).ids
    wave = soundlm.decode(model.params, CONFIG, ids)[0]
    np.testing.assert_allclose(made, np.clip(wave, -1, 1), atol=1e-6)
    np.testing.assert_allclose(model.decode(ids[0]), made, atol=1e-6)


def test_a_long_sound_is_windows_that_are_told_what_went_before(model):
    keys = jax.random.split(jax.random.key(1), 2)
    told = model.condition(["a dog", "cat"])
    codes = np.asarray(soundlm.sample(model.params, CONFIG, told, keys, 70))
    assert codes.shape == (2, 2, 70)
    # The second window, asked for by itself, with what the first one ended with.
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
    condition = soundlm.model.condition(CONFIG, told)
    again = transformer.sample(model.params["prior"], CONFIG.prior, condition, own, prefix=codes[:, :, 16:32]).ids
    np.testing.assert_array_equal(codes[:, :, 32:48], again[:, :, 16:])
    # What was given goes before, and is not told again.
    more = np.asarray(soundlm.sample(model.params, CONFIG, told, keys, 9, prefix=codes[:, :, :5]))
    np.testing.assert_array_equal(more[:, :, :5], codes[:, :, :5])
    assert more.shape == (2, 2, 9)


def test_pieces_of_a_stream_are_the_whole(model):
    whole = model.generate("a dog", seconds=3.3, seed=2)
    pieces = list(model.stream("a dog", seconds=3.3, seed=2))
    assert [len(piece) for piece in pieces] == [768, 512, 512, 512, 336]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5)
    with pytest.raises(UsageError, match="a stream is one sound"):
        next(model.stream("a dog", count=2))


@pytest.mark.parametrize(("rate", "shape"), [(800, (700,)), (1600, (700, 2)), (800, (20,))])
def test_a_recording_goes_on_and_stays(model, rate, shape):
    sound = np.resize(SOUND, shape)
    made = model.extend(sound, "a dog", sample_rate=rate, seconds=0.4, seed=5)
    assert made.shape == (shape[0] + round(0.4 * rate), *shape[1:])
    kept = max(shape[0] - round(0.02 * rate), 0)
    np.testing.assert_array_equal(made[:kept], sound[:kept])
    added = made[shape[0] :]
    assert np.std(added) > 0
    assert np.abs(model.extend(sound, "a dog", sample_rate=rate, seconds=0.4, seed=6)[shape[0] :] - added).max() > 1e-4
    if len(shape) > 1:
        np.testing.assert_array_equal(added[:, 0], added[:, 1])
    # What follows is as loud as what it follows.
    quiet = model.extend(sound / 8, "a dog", sample_rate=rate, seconds=0.4, seed=5)
    np.testing.assert_allclose(np.clip(8 * quiet[shape[0] :], -1, 1), added, atol=2e-4)


def test_what_follows_depends_on_what_went_before(model):
    other = SOUND.copy()
    other[-300:-100] = 0.6 * np.sin(np.arange(200))
    other[:1], other[-1:] = SOUND[:1], SOUND[-1:]
    how = {"sample_rate": RATE, "seconds": 1.0, "temperature": 0, "guidance": 1}
    made, changed = (model.extend(x, "", **how)[700:] for x in (SOUND, other))
    assert np.abs(made - changed).max() > 1e-4
    several = model.extend(SOUND, "", sample_rate=RATE, count=3, best_of=3, ranker=lambda x, _: -np.abs(x).max(1))
    assert several.shape == (3, 700 + 512)
    assert (np.diff(np.abs(several[:, 700:]).max(1)) >= -0.05).all()  # the quietest first; it also heard the fade


def test_progress_ends_at_its_total(model):
    seen = []
    how = {"progress": lambda done, total: seen.append((done, total))}
    model.generate("a dog", seconds=3.3, **how)
    model.extend(SOUND, "a dog", sample_rate=RATE, seconds=1.5, **how)
    assert seen == [(0, 5), (1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (0, 3), (1, 3), (2, 3), (3, 3)]


def test_codes_of_a_recording(model):
    codes = model.encode(SOUND, sample_rate=RATE)
    assert (codes.shape, codes.dtype) == ((2, 22), np.int32)
    assert model.decode(codes).shape == (704,)
    np.testing.assert_array_equal(model.encode(np.stack([SOUND, SOUND], 1) / 3, sample_rate=RATE), codes)
    for bad in (codes[:1], codes + 0.5, codes - 20, np.zeros((2, 0), int), np.full((2, 3), 12)):
        with pytest.raises(UsageError, match=r"give integers \(2, frames\) from 0 to 11"):
            model.decode(bad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 3}, "which has no steps"),
        ({"temperature": -1}, "a temperature of|temperature of"),
        ({"top_p": 0}, "top_p of"),
        ({"top_k": 1.5}, "top_k of"),
        ({"seconds": 601}, "from 0.01 to 600"),
        ({"seed": -1}, "a seed of"),
        ({"best_of": 2}, "no CLAP"),
    ],
)
def test_options_that_cannot_be_are_told(model, options, message):
    with pytest.raises(UsageError, match=message):
        model.generate("a dog", **options)


def test_recordings_that_cannot_be_are_told(model):
    with pytest.raises(AudioError):
        model.extend(np.zeros(0), sample_rate=RATE)
    with pytest.raises(AudioError):
        model.extend(np.full(10, np.nan), sample_rate=RATE)
    with pytest.raises(UsageError, match="at most 600 s"):
        model.extend(np.ones(601), sample_rate=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"codec": dataclasses.replace(CONFIG.codec, codes=13)}, "2 bands of 13 codes, the prior 2 of 12"),
        ({"vocoder": dataclasses.replace(CONFIG.vocoder, sample_rate=900)}, "must agree on mel bands"),
        ({"prior": dataclasses.replace(CONFIG.prior, order="frequency")}, "in the order of time or delay"),
    ],
)
def test_parts_that_do_not_fit_are_told(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIG, **changes)
