"""Words become sounds of the length that was asked for; edits keep what they are to keep; nonsense is told."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxaudio
from jaxaudio.errors import AudioError, CheckpointError, ConfigError, UsageError
from jaxaudio.models import inputs, latents, systems
from jaxaudio.nn import latent_audio
from jaxaudio.text import mini
from tests.models import tiny, tiny_latent
from tests.models.tiny_latent import RATE

rng = np.random.default_rng(5)
STEREO = (rng.standard_normal((250, 2)) / 5).astype(np.float32)  # 0.3125 s: one window


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    root = tmp_path_factory.mktemp("generator")
    tiny_latent.write(root / "tiny", root)
    return jaxaudio.load(root / "tiny")


def test_the_empty_prompt_is_a_condition_too(generator):
    made = generator.condition(["a dog", "", " \n"])["film"]
    assert made.shape == (3, 16)
    encoder = mini.load(generator.card.folder / "text")
    ids, mask = encoder.tokenizer.encode(["", "a dog"], allow_empty=True)
    np.testing.assert_allclose(made[[1, 0]], mini.embed(encoder.params, encoder.config, ids, mask), atol=1e-5)
    np.testing.assert_array_equal(made[1], made[2])
    other = dataclasses.replace(generator.config, unet=dataclasses.replace(generator.config.unet, film=512))
    with pytest.raises(CheckpointError, match="gives 16, the U-Net takes 512"):
        dataclasses.replace(generator, config=other).condition("a dog")


def test_length_seed_and_batch(generator):
    dog = generator.generate("a dog", seconds=0.2613)
    assert (dog.shape, dog.dtype) == ((209,), np.float32)
    assert np.std(dog) > 0 and np.abs(dog).max() <= 1
    np.testing.assert_array_equal(generator.generate("a dog", seconds=0.2613, batch=1), dog)
    assert np.abs(generator.generate("a dog", seconds=0.2613, seed=1) - dog).max() > 1e-3
    together = generator.generate(["a dog", "the rain"], seconds=0.2613, count=2)
    assert together.shape == (2, 2, 209)
    np.testing.assert_array_equal(together[0, 0], dog)  # to the last bit, whatever it is made with
    assert len({sound.tobytes() for sound in together.reshape(4, -1)}) == 4
    np.testing.assert_array_equal(generator.generate(["a dog", "cat"], seconds=0.2613)[0], dog)
    assert np.abs(generator.generate("cat", seconds=0.2613) - dog).max() > 1e-4
    assert generator.generate("").shape == (256,)  # the window


def test_the_parts_are_those_of_the_pure_functions(generator):
    from jaxaudio.systems import audioldm

    told, away = generator.condition("a dog"), generator.condition("cat")
    z = jax.jit(
        lambda params: audioldm.generate(
            params,
            generator.config,
            told,
            away,
            jax.random.key(3),
            samples=256,
            sampling=audioldm.Sampling(steps=2, guidance=3.0),
        )
    )(generator.params)
    wanted = latent_audio.decode(generator.params, generator.config.audio, z)[0]
    made = generator.generate("a dog", negative="cat", guidance=3, seed=3, progress=None)
    np.testing.assert_allclose(made, wanted, atol=1e-4)


def test_long_sounds_in_windows(generator):
    seen = []
    sound = generator.generate("rain", seconds=0.9, progress=lambda *parts: seen.append(parts))
    assert sound.shape == (720,) and np.isfinite(sound).all()
    done, totals = zip(*seen)
    assert (done[0], done[-1], set(totals)) == (0, totals[0], {totals[0]})
    assert list(done) == sorted(done)


def test_windows_of_the_vocoder_are_what_one_pass_is_and_those_of_the_autoencoder_blend(generator):
    stages, audio = generator.stages, generator.config.audio
    z = rng.standard_normal((1, 40, 4, 2)).astype(np.float32)
    how = {"batch": None, "tick": lambda: None}
    mel = np.zeros((1, 80, 8), np.float32)
    total = np.zeros(80)
    ramp = np.clip(np.minimum(np.arange(1, 33), np.arange(32, 0, -1)) / 17, 0, 1)
    for begin in (0, 8, 16, 24):
        part = latent_audio.decode_mel(generator.params, audio, jnp.asarray(z[:, begin : begin + 16]))
        mel[:, 2 * begin : 2 * begin + 32] += np.asarray(part) * ramp[:, None]
        total[2 * begin : 2 * begin + 32] += ramp
    mel /= total[:, None]
    whole = latent_audio.vocode(generator.params, audio, jnp.asarray(mel))
    np.testing.assert_allclose(stages.decode(z, **how), whole, atol=1e-5)
    waves = rng.standard_normal((1, 640)).astype(np.float32)
    made = stages.encode(waves, **how)
    assert made.shape == (1, 40, 4, 2)
    alone = latent_audio.encode(generator.params, audio, jnp.asarray(waves[:, :256]))
    np.testing.assert_allclose(made[:, :7], alone[:, :7], atol=1e-5)  # until the next window begins


def test_the_best_of_several(generator):
    asked = []

    def loudest(audio, prompts):
        asked.append((audio.shape, prompts))
        return np.abs(audio).mean(1)

    every = generator.generate("a dog", count=4)
    order = np.argsort(-np.abs(every).mean(1))
    best = generator.generate("a dog", count=2, best_of=4, ranker=loudest)
    np.testing.assert_array_equal(best, every[order[:2]])
    assert asked == [((4, 256), ["a dog"] * 4)]
    for options, message in (
        ({"best_of": 4}, "tiny has no CLAP that could choose the best of several"),
        ({"best_of": 4, "ranker": 3}, "3 cannot rank"),
        ({"best_of": 4, "ranker": lambda audio, prompts: [1]}, r"scores of shape \(1,\) for 4 sounds"),
        ({"best_of": 2, "count": 3}, "the 3 best of 2"),
    ):
        with pytest.raises(UsageError, match=message):
            generator.generate("a dog", **options)


def test_style_transfer_keeps_shape_level_and_equal_channels(generator):
    np.testing.assert_array_equal(generator.vary(STEREO, "cat", sample_rate=RATE, strength=0), STEREO)
    twin = np.stack([STEREO[:, 0], STEREO[:, 0], 0 * STEREO[:, 0]], 1)
    made = generator.vary(twin, "cat", sample_rate=1000)
    assert (made.shape, made.dtype) == (twin.shape, np.float32)
    np.testing.assert_allclose(made[:, 0], made[:, 1], atol=1e-6)
    assert not made[:, 2].any()
    assert np.abs(made[:, 0] - twin[:, 0]).max() > 1e-3
    half = generator.vary(twin[:, 0] / 2, "cat", sample_rate=1000)
    np.testing.assert_allclose(half, made[:, 0] / 2, atol=1e-4)
    whole = generator.vary(STEREO[:, 0], "cat", sample_rate=RATE, strength=1, count=2)
    assert whole.shape == (2, 250) and np.isfinite(whole).all()


def test_inpainting_touches_nothing_outside_of_its_spans(generator):
    made = generator.fill(STEREO, "cat", sample_rate=1000, spans=[(0.05, 0.1), (0.2, 9.0)])
    inside = np.zeros(250, bool)
    inside[50:100] = inside[200:] = True
    np.testing.assert_array_equal(made[~inside], STEREO[~inside])
    assert np.mean(made[inside] != STEREO[inside]) > 0.95
    assert made[-1].any() and np.abs(made[50] - STEREO[50]).max() < 0.05  # fades in, but not out at the end
    np.testing.assert_array_equal(inputs.inside([(0.0, 0.5)], 100, 100, 0.02)[[0, 47, 50, 99]], [1, 1, 0, 0])


def test_super_resolution_keeps_what_is_below(generator):
    low = (np.sin(np.arange(125) * 0.4) / 5 + 0.01).astype(np.float32)
    made = generator.upsample(low, sample_rate=400, prompt="a dog", seed=2)
    assert made.shape == (250,)
    before = np.fft.rfft(inputs.resampled(low, 400, RATE, 250))
    after, bins = np.fft.rfft(made), np.fft.rfftfreq(250, 1 / RATE)
    np.testing.assert_allclose(after[bins < 175], before[bins < 175], atol=1e-4)
    assert np.abs(after[bins > 205]).max() > 10 * np.abs(before[bins > 205]).max()
    assert generator.upsample(STEREO, sample_rate=1000, cutoff=200).shape == (250, 2)
    assert not generator.upsample(0 * low, sample_rate=400).any()


def test_half_precision_is_close(generator):
    config = systems.in_dtype(generator.config, "bfloat16")
    assert config.unet.dtype == config.audio.vae.dtype == config.audio.vocoder.dtype == "bfloat16"
    z = rng.standard_normal((1, 8, 4, 2)).astype(np.float32)
    full, half = (
        latents.Stages(c, generator.params).decode(z, batch=None, tick=lambda: None) for c in (generator.config, config)
    )
    assert 0 < np.abs(full - half).max() < 0.1
    assert half.dtype == np.float32
    assert jaxaudio.load(generator.card.folder, dtype="bfloat16").config == config
    with pytest.raises(UsageError, match="no model computes in 'int8'"):
        jaxaudio.load(generator.card.folder, dtype="int8")


@pytest.mark.parametrize("guidance", [0, -3, 100])
def test_any_guidance_gives_a_sound(generator, guidance):
    made = generator.generate("a dog", seconds=0.3, guidance=guidance)
    assert np.isfinite(made).all()
    if guidance == 0:  # the prompt does not count
        np.testing.assert_array_equal(made, generator.generate("the rain", seconds=0.3, guidance=0))


def test_latents_beyond_all_bounds_are_cut_or_told():
    z = jnp.stack([jnp.full((2, 2, 2), 50.0), jnp.full((2, 2, 2), 1e4)])
    np.testing.assert_array_equal(latents.bounded(z)[:, 0, 0, 0], [50, 10])
    with pytest.raises(UsageError, match="lower the guidance"):
        latents.finite(np.array([1.0, np.nan]))


def test_enormous_and_foreign_prompts(generator):
    with pytest.warns(UserWarning, match="first 32 tokens are read"):
        made = generator.generate("dog " * 3000, seconds=0.3)
    assert np.isfinite(made).all()
    assert np.isfinite(generator.generate("собака лает 犬が吠える", seconds=0.3)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({"seconds": x}, r"a duration of .* cannot be; give a number from 0.01 to 600") for x in (0, -1, 601, "x")),
        ({"seconds": float("nan")}, "a duration of nan"),
        *(({"steps": x}, "steps of .* from 1 to 1000") for x in (0, 10000, 2.5)),
        *(({"guidance": x}, "guidance of .* from -100 to 100") for x in (1e9, float("nan"), "x")),
        ({"solver": "magic"}, "No solver 'magic'; there are ddpm"),
        ({"solver": "shortcut"}, "is not defined for 'vp' schedules"),
        ({"spacing": "odd"}, "No spacing 'odd'"),
        ({"seed": -1}, "a seed of -1"),
        ({"seed": 1.5}, "a seed of 1.5"),
        ({"count": 0}, "a count of 0"),
        ({"batch": 0}, "a batch of 0"),
        ({"shift": 2.0}, "is a model of audioldm, which has no shift"),
        ({"colour": 1}, "there is no option 'colour'"),
        ({"negative": ["a", "b"]}, "2 negative prompts for 1"),
        ({"prompt": []}, "no prompt was given"),
        ({"prompt": [3]}, "the prompt 3 is no text"),
    ],
)
def test_what_cannot_be_generated(generator, options, message):
    with pytest.raises(UsageError, match=message) as told:
        generator.generate(**{"prompt": "a dog"} | options)
    assert "\n" not in str(told.value)
    assert issubclass(ConfigError, UsageError)


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("vary", {"strength": 1.01}, "a strength of 1.01 cannot be; give a number from 0 to 1"),
        ("vary", {"strength": -0.1}, "a strength of -0.1"),
        ("vary", {"audio": np.full(9, np.nan)}, "sample 0 of channel 0 is nan"),
        ("vary", {"audio": np.zeros(0)}, "empty"),
        ("vary", {"audio": np.zeros(600 * RATE + 1)}, "the audio has 600 s; give at most 600 s"),
        ("vary", {"sample_rate": 0}, "a sample rate of 0"),
        ("fill", {"spans": []}, "no span was given"),
        ("fill", {"spans": [(0.2, 0.1)]}, "the span 0.2 to 0.1 s cannot be"),
        ("fill", {"spans": [(5, 6)]}, "give two times within the 0.3125 s of audio"),
        ("fill", {"spans": [(-1, 0.1)]}, "the span -1 to 0.1"),
        ("fill", {"spans": [(float("nan"), 1)]}, "the span nan"),
        ("fill", {"spans": [3]}, "3 is no span"),
        ("upsample", {}, "say from where on it is to be made anew"),
        ("upsample", {"cutoff": 5}, "a cutoff of 5 Hz leaves nothing to keep; give one from"),
        ("upsample", {"cutoff": 400}, "leaves nothing to make"),
        ("upsample", {"cutoff": 500}, "a cutoff of 500 cannot be"),
    ],
)
def test_what_cannot_be_edited(generator, method, options, message):
    given = {"audio": STEREO, "sample_rate": RATE} | ({"prompt": "cat"} if method != "upsample" else {}) | options
    with pytest.raises(AudioError if "audio" in options and "600" not in message else UsageError, match=message):
        getattr(generator, method)(**given)


def test_a_training_runs_generator_is_read_where_it_is(generator, tmp_path):
    from jaxaudio.models import publish
    from jaxaudio.train.checkpoint import save_params

    encoder = {"kind": "mini", "folder": str(generator.card.folder / "text")}
    config = {"system": "audioldm", "config": dataclasses.asdict(tiny_latent.GENERATOR), "text": encoder}
    tree = jax.tree.map(np.asarray, generator.params)
    save_params(tmp_path / "best", tree, config)
    made = jaxaudio.load(tmp_path / "best").generate("a dog", seconds=0.3, steps=2)
    np.testing.assert_array_equal(made, generator.generate("a dog", seconds=0.3))
    save_params(tmp_path / "final", {"generator": tree}, config)
    card = publish.export_training(tmp_path / "final", tmp_path / "out", licence="CC0-1.0", about={"note": "x"})
    assert (card.system, card.text, card.about) == ("audioldm", encoder, {"note": "x"})
    assert tiny.ENCODER.width == card.config.unet.film
