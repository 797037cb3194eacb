"""Golden cases of what codecs are trained on and measured by: distances, masks, discriminators."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert
from jaxaudio.dsp import distances, loudness, masks
from jaxaudio.dsp.distances import Resolution
from jaxaudio.metrics import si_sdr
from jaxaudio.metrics.separation import sd_sdr, sdr
from jaxaudio.nn import spectral_discriminators as critics
from jaxaudio.nn.spectral_discriminators import BandConfig, SpectrumConfig
from jaxaudio.systems import taae
from jaxaudio.text.ctc import mean_ctc_loss
from jaxaudio.train.codec import TAAE_RESOLUTIONS, Critic, hinge_critic, least_squares_critic
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]

_LEVEL = -24.0  # LUFS: SD-Codec's level of music


def codec_losses(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Distances by SD-Codec and by audiotools, which differ in rounding alone, at both rates."""
    out: dict[str, Any] = {}
    for rate in (16000, 44100):
        pair = [jnp.asarray(inputs[f"{name}_{rate}"][:, 0]) for name in ("ref", "est")]
        out[f"sd_stft_{rate}"] = out[f"dac_stft_{rate}"] = jnp.mean(distances.stft_distance(*pair))
        out[f"sd_mel_{rate}"] = out[f"dac_mel_{rate}"] = jnp.mean(distances.mel_distance(*pair, rate))
        out[f"sd_mel_default_sr44100_on_{rate}"] = jnp.mean(distances.mel_distance(*pair, 44100))
        out[f"dac_l1_{rate}"] = jnp.mean(jnp.abs(pair[0] - pair[1]))
        still = [x - jnp.mean(x, -1, keepdims=True) for x in pair]
        out[f"neg_sisdr_{rate}"] = out[f"dac_sisdr_{rate}"] = -jnp.mean(si_sdr(*still))
        out[f"neg_sdsdr_{rate}"] = -jnp.mean(sd_sdr(*still))
        out[f"neg_snr_{rate}"] = -jnp.mean(sdr(*still))
    mixture, parts = jnp.asarray(inputs["mask_mix"][:, 0, 0]), jnp.asarray(inputs["mask_sep"][:, :, 0])
    out["mask_out"] = masks.ratio_masked(mixture, parts)[:, :, None, : inputs["mask_out"].shape[-1]]
    sound = jnp.asarray(inputs["lufs_in"][:, 0])
    out["lufs"] = loudness.integrated_loudness(sound, 16000, filters="torchaudio")
    levelled = loudness.normalize_loudness(sound, 16000, _LEVEL, filters="torchaudio")
    out["lufs_gain"] = jnp.max(jnp.abs(levelled), -1) / jnp.max(jnp.abs(sound), -1)
    out["lufs_norm"] = levelled[:, None, ::4]
    return {name: np.asarray(x) for name, x in out.items()}


def stable_codec_losses(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """The distances of auraloss as stable-codec configures them, and its head for phonemes."""
    pair = [jnp.asarray(inputs[name][:, 0]) for name in ("ref", "est")]
    one = [Resolution(1024, 256, 1024)]

    def distance(**options):
        return jnp.mean(distances.resolution_distance(*pair, **options))

    latents, labels = jnp.asarray(inputs["ctc_latents"]), inputs["ctc_targets"]
    symbols, channels = keys["proj_head.5.weight"][0], latents.shape[2]
    config = taae.Config(levels=(17,) * channels, phonemes=symbols)
    shapes = jax.eval_shape(lambda: taae.init(jax.random.key(0), config))["params"]["head"]
    head = convert(state_dict_of(keys, case), taae.WEIGHTS, {"params": {"head": shapes}})
    logits = taae.phonemes(head, config, latents)
    lengths = np.full(len(latents), latents.shape[1])
    out = {
        "ctc_logits": logits,
        "ctc_loss": mean_ctc_loss(logits, lengths, labels, inputs["ctc_target_lengths"], symbols - 1),
        "mrstft": distance(resolutions=TAAE_RESOLUTIONS),
        "mrstft_perceptual": distance(resolutions=TAAE_RESOLUTIONS, sample_rate=16000, a_weighted=True),
        "stft_default": distance(resolutions=one),
        "mel": distance(resolutions=one, sample_rate=16000, bands=128),
        "sisdr": -jnp.mean(si_sdr(*(x - jnp.mean(x, -1, keepdims=True) for x in pair))),
    }
    return {name: np.asarray(x) for name, x in out.items()}


def _critic(case: Mapping, keys: Mapping, config: BandConfig | SpectrumConfig, inputs: Arrays):
    """What the discriminators say of the recorded and of the made sound."""
    rules = critics.BAND_WEIGHTS if isinstance(config, BandConfig) else critics.SPECTRUM_WEIGHTS
    target = jax.eval_shape(lambda: critics.init(jax.random.key(0), config))
    variables = convert(state_dict_of(keys, case), rules, target)
    judge = jax.jit(lambda variables, x: critics.judge(variables, config, x))
    return [judge(variables, jnp.asarray(inputs[name][:, 0])) for name in ("real", "fake")]


def _losses(critic: Critic, real: Any, fake: Any, names: tuple[str, str, str]) -> dict[str, jax.Array]:
    values = critic.discriminator(real[0], fake[0]), critic.generator(fake[0]), critic.features(real[1], fake[1])
    return dict(zip(names, values, strict=True))


def _first(x: jax.Array) -> np.ndarray:
    return np.moveaxis(np.asarray(x), -1, 1)


def band_discriminators(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """DAC's discriminators, or SD-Codec's."""
    c = case["config"]
    config = BandConfig(
        periods=tuple(c["periods"]),
        windows=tuple(c["fft_sizes"]),
        bands=tuple(map(tuple, c["bands"])),
        alignment="centred" if case["reference"].startswith("SDCodec") else "strided",
    )
    real, fake = _critic(case, keys, config, inputs)
    out = _losses(least_squares_critic(config), real, fake, ("disc_loss", "gen_loss", "feat_loss"))
    for i, maps in enumerate(real[1]):
        out[f"d{i}_fmap0"] = _first(maps[0]).ravel()[::997]
        out[f"d{i}_fmap_mid"] = _first(maps[len(maps) // 2]).ravel()[::997]
        out[f"d{i}_out"] = _first(maps[-1])
        out[f"d{i}_fmap_l1mean"] = np.array([np.mean(np.abs(x)) for x in maps])
    return {name: np.asarray(x) for name, x in out.items()}


def spectrum_discriminators(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Encodec's discriminators."""
    c = case["config"]
    config = SpectrumConfig(
        channels=c["filters"],
        windows=tuple(c["n_ffts"]),
        hops=tuple(c["hop_lengths"]),
        scale_power=c.get("spec_scale_pow", 0.0),
    )
    real, fake = _critic(case, keys, config, inputs)
    critic = hinge_critic(config, relative=c.get("normalize_losses", False))
    out = _losses(critic, real, fake, ("dis_loss", "adv_loss", "fm_loss"))
    for i, (score, maps) in enumerate(zip(*real, strict=True)):
        out[f"s{i}_logit"] = np.asarray(score).ravel()[::7]
        out[f"s{i}_fmap0"] = _first(maps[0]).ravel()[::499]
        out[f"s{i}_l1mean"] = np.array([np.mean(np.abs(x)) for x in maps])
    return {name: np.asarray(x) for name, x in out.items()}


CASES = {
    "codec_losses": codec_losses,
    "stable_codec_losses": stable_codec_losses,
    "disc_dac_16k": band_discriminators,
    "disc_dac_44k": band_discriminators,
    "disc_sdcodec_16k": band_discriminators,
    "msstft_encodec_f32": spectrum_discriminators,
    "msstft_taae_like_pow": spectrum_discriminators,
}

BY_HAND = {"disc_dac_44k"}
"""Kept, and run with `python -m tests.parity`: the weights of "disc_dac_16k" on a longer sound."""
