"""The stages of generation as tasks: each trains, is measured on held-out sound, and leaves what the next one reads."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.data import Clip, MixtureConfig
from jaxaudio.data.latents import LatentPipeline, read_latents, write_latents
from jaxaudio.errors import ConfigError
from jaxaudio.nn import autoencoder, hifigan, latent_audio
from jaxaudio.nn.discriminators import PatchConfig, WaveConfig
from jaxaudio.nn.unet import UNetConfig
from jaxaudio.systems import audioldm, flowsep
from jaxaudio.train import Experiment, Optimizer, fit, generation, load_params

AUDIO = latent_audio.Config(
    vae=autoencoder.Config(channels=4, multipliers=(1, 2), blocks=1, latent=2, groups=2),
    vocoder=hifigan.Config(channels=8, rates=(8, 20), widths=(16, 40), block_widths=(3,), dilations=(1,)),
)
UNET = {"outputs": 2, "channels": (32, 32), "blocks": 1, "attention": (False, False), "film": 4}
WAVES = WaveConfig(periods=(2,), period_channels=(4, 4), scales=1, scale_layers=((4, 15, 4, 1), (4, 41, 4, 2)))
RATE, SAMPLES = 16000, 5120


def clips(count=6):
    t = np.arange(8000) / RATE
    tones = [np.sin(2 * np.pi * 200 * (i + 1) * t).astype(np.float32) / 3 for i in range(count)]
    return [
        Clip(id=str(i), audio=tone, sample_rate=RATE, captions=(f"tone {i}",), labels=(str(i),))
        for i, tone in enumerate(tones)
    ]


def lines(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def embed(captions):
    return np.stack([np.full(4, len(caption), np.float32) for caption in captions])


MIXTURES = MixtureConfig(batch=4, sample_rate=RATE, seconds=SAMPLES / RATE, place="random")


def experiment(out, model, steps=6, **fields):
    return Experiment(
        build=lambda e: None,
        out=str(out),
        steps=steps,
        batch_size=4,
        model=model,
        optimizer=Optimizer(lr=3e-3, b1=0.5, b2=0.9),
        log_every=2,
        save_every=3,
        **fields,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One chain of all stages, a few steps each."""
    root = tmp_path_factory.mktemp("stages")
    sounds = clips()
    unseen = generation.held_out(sounds, 4, SAMPLES, RATE)

    def vae(name="vae", **fields):
        e = experiment(root / name, AUDIO, ema_decay=0.9, discriminator=Optimizer(lr=1e-3), **fields)
        task = generation.autoencoder_task(
            e,
            data=generation.waveforms(sounds, MIXTURES),
            evaluation=unseen,
            patch=PatchConfig(channels=4, layers=1),
            kl_weight=10.0,
            adversary_start=3,
        )
        return task, fit(e, task, quiet=True)

    task, first = vae()
    vae("stopped", steps=3)
    _, resumed = vae("stopped")

    frozen, _ = load_params(root / "vae" / "final")
    e = experiment(root / "vocoder", AUDIO)
    data = generation.waveforms(sounds, MIXTURES)
    vocoder = fit(e, generation.vocoder_task(e, data=data, evaluation=unseen, waves=WAVES, vae=frozen), quiet=True)

    encode = jax.jit(lambda x: latent_audio.encode({"vae": frozen, "scale": jnp.ones(())}, AUDIO, x))
    write_latents(root / "latents", sounds, encode, sample_rate=RATE, seconds=SAMPLES / RATE, batch=4)
    return root, task, first, resumed, vocoder


def test_the_autoencoder_learns_and_leaves_itself_alone(trained):
    root, task, first, _, _ = trained
    weights, about = load_params(root / "vae" / "final")
    assert set(weights) == {"params"} and set(weights["params"]) == {
        "encoder",
        "decoder",
        "quant_conv",
        "post_quant_conv",
    }
    assert about["stage"] == "vae"
    jax.tree.map(np.testing.assert_array_equal, weights["params"], jax.device_get(first.state.ema["generator"]))
    errors = [line["error"] for line in lines(root / "vae") if "error" in line]
    assert errors[-1] < 0.95 * errors[0]
    assert task.evaluate(weights)["mel_error"] == first.metrics["mel_error"]
    assert int(first.state.step) == 6


def test_training_against_a_discriminator_resumes_bit_for_bit(trained):
    _, _, first, resumed, _ = trained
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.device_get((first.state.params, first.state.opt_state, first.state.ema, first.state.extra)),
        jax.device_get((resumed.state.params, resumed.state.opt_state, resumed.state.ema, resumed.state.extra)),
    )


def test_the_vocoder_hears_true_and_decoded_spectrograms(trained):
    root, *_, vocoder = trained
    assert set(vocoder.metrics) == {"mel_true", "mel_decoded"}
    assert all(np.isfinite(x) and x > 0 for x in vocoder.metrics.values())
    weights, _ = load_params(root / "vocoder" / "final")
    wave = hifigan.generate(weights, AUDIO.vocoder, jnp.zeros((1, 5, 64)))
    assert wave.shape == (1, 800)


def test_latent_diffusion_learns_and_is_stored_with_its_stages(trained):
    root = trained[0]
    latents = read_latents(root / "latents")
    config = audioldm.Config(audio=AUDIO, unet=UNetConfig(inputs=2, **UNET))
    stages = generation.read_stages(AUDIO, str(root / "vae" / "final"), str(root / "vocoder" / "final"), latents.scale)
    pipeline = LatentPipeline(latents, 4, generation.conditions(embed))
    e = dataclasses.replace(experiment(root / "ldm", config, steps=12), ema_decay=0.9, best="-loss", eval_every=6)
    task = generation.latent_task(
        e,
        system=audioldm,
        data=iter(pipeline),
        stages=stages,
        evaluation=pipeline[99],
        about={"text": {"kind": "mini"}},
    )
    fit(e, task, quiet=True)
    losses = [line["loss"] for line in lines(root / "ldm") if line["kind"] == "eval"]
    assert losses[1] < losses[0]
    weights, about = load_params(root / "ldm" / "best")
    assert set(weights) == {"unet", "vae", "vocoder", "scale"} and about["text"] == {"kind": "mini"}
    assert float(weights["scale"]) == np.float32(latents.scale)
    made = audioldm.decode(weights, config, jnp.zeros((1, *config.audio.shape(1, SAMPLES)[1:])), SAMPLES)
    assert made.shape == (1, SAMPLES)


def test_rectified_flow_learns_from_mixtures(trained):
    root = trained[0]
    config = flowsep.Config(audio=AUDIO, unet=UNetConfig(inputs=4, **UNET))
    stages = generation.read_stages(AUDIO, str(root / "vae" / "final"), "", 1.5)
    data = generation.mixture_batches(clips(), MIXTURES, generation.conditions(embed))
    e = experiment(root / "flow", config, steps=4)
    prepare = generation.flow_batches(config)
    unseen = next(generation.mixture_batches(clips(), MIXTURES, generation.conditions(embed)))
    ready = jax.jit(prepare)(unseen, stages)
    assert ready["latent"].shape == ready["mixture"].shape == config.audio.shape(4, SAMPLES) and "segment" not in ready
    level = 0.5 / np.abs(unseen["mixture"]).max(1, keepdims=True)
    encode = jax.jit(lambda x: flowsep.encode(stages, config, x))
    np.testing.assert_allclose(ready["mixture"], encode(level * unseen["mixture"]), atol=1e-4)
    task = generation.latent_task(
        e,
        system=flowsep,
        data=data,
        stages=stages,
        evaluation=unseen,
        prepare=prepare,
        about={"text": {"kind": "mini"}},
    )
    result = fit(e, task, quiet=True)
    assert np.isfinite(result.metrics["loss"])
    assert load_params(root / "flow" / "final")[1]["system"] == "flowsep"


def test_what_a_gan_cannot_do_is_refused(tmp_path):
    e = experiment(tmp_path, AUDIO, accumulate=2)
    task = generation.autoencoder_task(
        e, data=None, evaluation=None, patch=PatchConfig(), kl_weight=1.0, adversary_start=1
    )
    with pytest.raises(ConfigError, match="no accumulate"):
        fit(e, task, quiet=True)
