"""HiFi-GAN and BigVGAN at small sizes: lengths, activations, checkpoints."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert, flatten, fold_weight_norm, prefixed, to_torch
from jaxaudio.errors import ConfigError
from jaxaudio.nn import bigvgan, hifigan, snake, vocos

SMALL = hifigan.Config(mels=4, channels=16, rates=(5, 2), widths=(16, 4), block_widths=(3, 7), dilations=(1, 3))


def filled(module, config):
    rng = np.random.default_rng(0)
    target = jax.eval_shape(lambda: module.init(jax.random.key(0), config))
    return jax.tree.map(
        lambda s: jnp.asarray(rng.standard_normal(s.shape) / max(1, np.prod(s.shape[:-1])) ** 0.5, s.dtype), target
    )


MEL = jnp.asarray(np.random.default_rng(1).standard_normal((2, 9, 4)), jnp.float32)


@pytest.mark.parametrize("module", [hifigan, bigvgan])
def test_a_frame_is_a_hop(module):
    params = filled(module, SMALL)
    whole = module.generate(params, SMALL, MEL, crop=False)
    cropped = module.generate(params, SMALL, MEL)
    assert whole.shape == (2, 92) and cropped.shape == (2, 90)
    np.testing.assert_allclose(cropped, whole[:, :90], atol=1e-6)
    assert np.all(np.abs(whole) <= 1) and whole.std() > 0


@pytest.mark.parametrize(
    "config, added", [(hifigan.AUDIOLDM_16K, 32), (hifigan.AUDIOLDM_48K, 16), (bigvgan.FLOWSEP, 32)]
)
def test_published_vocoders_add_samples_that_are_cropped(config, added):
    module = bigvgan if config is bigvgan.FLOWSEP else hifigan
    params = jax.eval_shape(lambda: module.init(jax.random.key(0), config))
    mel = jax.ShapeDtypeStruct((1, 7, config.mels), jnp.float32)

    whole = jax.eval_shape(lambda p, x: module.generate(p, config, x, crop=False), params, mel)
    assert whole.shape == (1, 7 * config.hop + added)


@pytest.mark.parametrize("module", [hifigan, bigvgan])
def test_bfloat16_stays_close_and_returns_float32(module):
    params = filled(module, SMALL)
    exact = module.generate(params, SMALL, MEL)
    rough = module.generate(params, dataclasses.replace(SMALL, dtype="bfloat16"), MEL)
    assert rough.dtype == jnp.float32
    assert np.linalg.norm(rough - exact) < 0.05 * np.linalg.norm(exact)


def test_the_filter_passes_half_the_band():
    taps = snake.low_pass_filter()
    np.testing.assert_allclose([taps.sum(), np.abs(taps - taps[::-1]).max()], [1, 0], atol=1e-15)
    response = np.abs(np.fft.rfft(taps, 256))
    assert response[:20].min() > 0.99 and response[115:].max() < 0.01


def test_the_smooth_activation_is_interpolate_activate_filter_decimate():
    rng = np.random.default_rng(0)
    x, alpha, beta = rng.standard_normal((2, 10, 3)), rng.standard_normal(3) * 0.3, rng.standard_normal(3) * 0.3
    taps = snake.low_pass_filter()
    padded = np.pad(x, ((0, 0), (5, 5), (0, 0)), mode="edge")
    doubled = np.zeros((2, 2 * padded.shape[1] - 1 + 11, 3))
    for t in range(padded.shape[1]):
        doubled[:, 2 * t : 2 * t + 12] += 2 * taps[:, None] * padded[:, t, None]
    doubled = doubled[:, 15:-15]
    assert doubled.shape[1] == 20
    active = doubled + np.sin(np.exp(alpha) * doubled) ** 2 / np.exp(beta)
    active = np.pad(active, ((0, 0), (5, 6), (0, 0)), mode="edge")
    expected = np.stack([(active[:, 2 * t : 2 * t + 12] * taps[:, None]).sum(1) for t in range(10)], 1)
    params = {"params": {"act": {"alpha": alpha.astype(np.float32), "beta": beta.astype(np.float32)}}}
    y = snake.SmoothSnake().apply(params, jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(y, expected, atol=1e-5)


def test_snake_of_plain_parameters():
    y = snake.SnakeBeta(log_scale=False).apply(
        {"params": {"alpha": jnp.array([2.0]), "beta": jnp.array([0.5])}}, jnp.array([[0.3]])
    )
    np.testing.assert_allclose(y[0], 0.3 + np.sin(0.6) ** 2 / 0.5, rtol=1e-6)


def keys_of(config):
    """HiFi-GAN's keys and shapes, without weight norm."""
    weights = {"conv_pre": (config.channels, config.mels, 7), "conv_post": (1, config.channels >> len(config.rates), 7)}
    keys = {}
    for i, width in enumerate(config.widths):
        weights[f"ups.{i}"] = (config.channels >> i, config.channels >> (i + 1), width)
        keys[f"ups.{i}.bias"] = (config.channels >> (i + 1),)
        for j, block in enumerate(config.block_widths):
            size = config.channels >> (i + 1)
            at = f"resblocks.{i * len(config.block_widths) + j}"
            weights |= {f"{at}.convs{n}.{k}": (size, size, block) for n in (1, 2) for k in range(len(config.dilations))}
    keys |= {f"{key}.bias": shape[:1] for key, shape in weights.items() if not key.startswith("ups")}
    return {**keys, **{f"{key}.weight": shape for key, shape in weights.items()}}


@pytest.mark.parametrize("style", ["plain", "old", "new", "transformers"])
def test_weight_norm_of_either_kind_is_folded(style):
    params, rules = filled(hifigan, SMALL), hifigan.WEIGHTS
    state = to_torch(params, rules, keys_of(SMALL))
    assert len(state) == len(flatten(params))
    g, v = {
        "old": ("weight_g", "weight_v"),
        "new": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    }.get(style, ("", ""))
    if g:
        split = {}
        for key, x in state.items():
            if not key.endswith(".weight"):
                split[key] = x
                continue
            norm = np.sqrt((x**2).sum((1, 2), keepdims=True))
            split |= {key.replace("weight", g): norm, key.replace("weight", v): 3 * x}  # any length of v will do
        state = split
    if style == "transformers":
        state = {key.replace("ups.", "upsampler."): x for key, x in state.items()}
        state |= {"mean": np.zeros(4), "scale": np.ones(4)}
    back = convert({f"vocoder.{k}": x for k, x in state.items()}, prefixed(r"vocoder\.", rules), params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), back, params)


def test_lone_halves_of_a_pair_are_left_alone():
    state = {"a.weight_g": np.ones((2, 1)), "b.weight_v": np.ones((2, 3))}
    assert set(fold_weight_norm(state)) == set(state)


TALK = vocos.Config(sample_rate=8000, mels=4, width=12, hidden=20, layers=2, n_fft=32, hop=10, padding="same")


def test_vocos_gives_a_hop_for_each_frame_or_the_span_between_their_middles():
    params = filled(vocos, TALK)
    same = vocos.generate(params, TALK, MEL)
    assert same.shape == (2, 90) and same.std() > 0
    center = vocos.generate(params, dataclasses.replace(TALK, padding="center"), MEL)
    assert center.shape == (2, 80)
    # Both cut the same signal: "center" half a window in, "same" half a hop less.
    np.testing.assert_allclose(center, same[:, 5:85], atol=1e-6)


def test_vocos_speaks_the_spectrum_of_its_last_layer():
    made = vocos.intermediates(filled(vocos, TALK), TALK, MEL)
    size, phase = np.split(np.asarray(made["out"], np.float64), 2, axis=-1)
    frames = np.fft.irfft(np.minimum(np.exp(size), 100) * np.exp(1j * phase))
    window = np.sin(np.pi * np.arange(32) / 32) ** 2
    signal, weight = np.zeros((2, 8 * 10 + 32)), np.zeros(8 * 10 + 32)
    for i in range(9):
        signal[:, i * 10 : i * 10 + 32] += window * frames[:, i]
        weight[i * 10 : i * 10 + 32] += window**2
    np.testing.assert_allclose(made["waveform"], (signal / np.maximum(weight, 1e-9))[:, 11:-11], atol=1e-5)


def test_the_noise_of_vocos_follows_from_the_number_of_a_frame():
    noisy = dataclasses.replace(TALK, noise=3)
    params = filled(vocos, noisy)
    assert params["params"]["embed"]["kernel"].shape == (7, 4 + 3, 12)
    still = jnp.zeros((2, 40, 4))
    whole = np.asarray(vocos.generate(params, noisy, still))
    np.testing.assert_allclose(whole[0], whole[1], atol=1e-6)
    periods = whole[0, 100:300].reshape(-1, noisy.hop)
    assert np.std(periods, 0).mean() > 0.1 * np.std(whole)  # a still spectrogram does not repeat
    # A part of it, told where it begins, is the same where it does not see its ends: blocks of 7 taps, and the window.
    part = np.asarray(vocos.generate(params, noisy, still[:, 10:], first=10))
    np.testing.assert_allclose(part[:, 130:], whole[:, 230:], atol=1e-5)
    assert np.abs(np.asarray(vocos.generate(params, noisy, still[:, 10:]))[:, 130:] - whole[:, 230:]).max() > 0.01
    each = np.asarray(vocos.generate(params, noisy, still[:, 10:], first=jnp.array([0, 10])))
    np.testing.assert_allclose(each[1, 130:], whole[1, 230:], atol=1e-5)


def test_vocos_in_bfloat16_stays_close_and_returns_float32():
    params = filled(vocos, TALK)
    exact = vocos.generate(params, TALK, MEL)
    rough = vocos.generate(params, dataclasses.replace(TALK, dtype="bfloat16"), MEL)
    assert rough.dtype == jnp.float32
    assert np.linalg.norm(rough - exact) < 0.1 * np.linalg.norm(exact)


def test_a_vocos_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="even"):
        dataclasses.replace(TALK, hop=9)
    with pytest.raises(ConfigError, match="pads"):
        dataclasses.replace(TALK, padding="valid")
