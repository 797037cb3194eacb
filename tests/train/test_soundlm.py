"""The sound language model's stages as tasks: each trains, is measured on held-out sound, and is what `load` reads."""

import jax
import numpy as np

from jaxaudio.data import Clip, MixtureConfig
from jaxaudio.data.latents import LatentPipeline, read_latents, write_latents
from jaxaudio.dsp.front_ends import level
from jaxaudio.models import load
from jaxaudio.systems import soundlm
from jaxaudio.train import Experiment, Optimizer, fit, generation, load_params
from jaxaudio.train.soundlm import codec_task, coded, prior_task
from tests.models.tiny_soundlm import CONFIG, RATE, weights

HOP = CONFIG.hop


def clips(count=4):
    t = np.arange(1024) / RATE
    tones = [np.sin(2 * np.pi * 60 * (i + 1) * t).astype(np.float32) / 3 for i in range(count)]
    return [
        Clip(id=str(i), audio=tone, sample_rate=RATE, captions=(f"tone {i}",), labels=(str(i),))
        for i, tone in enumerate(tones)
    ]


def experiment(out, steps):
    return Experiment(
        build=lambda e: None,
        out=str(out),
        steps=steps,
        batch_size=4,
        model=CONFIG,
        optimizer=Optimizer(lr=1e-2),
        log_every=5,
        save_every=steps,
    )


def text(captions):
    rows = np.stack([np.eye(CONFIG.prior.vectors, dtype=np.float32)[int(caption[-1])] for caption in captions])
    return {"sentence": rows}


def test_codec_then_prior(tmp_path):
    run = experiment(tmp_path / "codec", 30)
    mixtures = MixtureConfig(batch=4, sample_rate=RATE, seconds=16 * HOP / RATE, place="random")
    unseen = np.stack([clip.audio[: 16 * HOP] for clip in clips()])
    task = codec_task(run, data=generation.waveforms(clips(), mixtures), evaluation=unseen)
    params, extra = task.init(jax.random.key(run.seed))
    before = task.evaluate({"params": params, **extra})
    after = fit(run, task).metrics
    assert after["error"] < 0.7 * before["error"] and after["mel_error"] < before["mel_error"]
    assert 1 <= after["perplexity"] <= CONFIG.codec.codes
    codec, about = load_params(tmp_path / "codec" / "final")
    assert about["stage"] == "vqvae"

    made = write_latents(
        tmp_path / "codes",
        clips(),
        lambda x: np.asarray(soundlm.encode({"codec": codec}, CONFIG, level(x))),
        sample_rate=RATE,
        seconds=CONFIG.window,
    )
    assert made.values.shape == (4, 2, 32)
    codes = read_latents(tmp_path / "codes")._replace(scale=1.0)
    pipeline = LatentPipeline(codes, 4, text)
    batch = coded(pipeline[0])
    assert batch["codes"].dtype == np.int32 and batch["codes"].max() < CONFIG.codec.codes
    run = experiment(tmp_path / "prior", 40)
    task = prior_task(
        run,
        data=generation.Mapped(iter(pipeline), coded),
        stages={"codec": codec, "vocoder": weights()["vocoder"]},
        evaluation=batch,
        about={"text": {"kind": "mini"}},
    )
    after = fit(run, task).metrics
    # Four tones are known by heart soon, and which of them it is by their names alone.
    assert after["loss"] < 0.5 * np.log(CONFIG.codec.codes) and after["gain"] > 0
    model = load(tmp_path / "prior" / "final")
    assert model.decode(batch["codes"][0]).shape == (1024,)
