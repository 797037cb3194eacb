"""Golden cases of DAC: ours under the original's names, channels and lengths."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert, to_torch
from jaxaudio.nn import receptive, wave_autoencoder, weight_norm
from jaxaudio.systems import dac, dac_files
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]

TIE = 1e-5
"""Margin between two entries below which the stored code is as good as the other."""


def config_of(published: Mapping[str, Any]) -> dac.Config:
    """From the arguments of DAC's constructor."""
    assert published["decoder_rates"] == published["encoder_rates"][::-1]
    rates, channels = tuple(published["encoder_rates"]), published["encoder_dim"]
    waves = wave_autoencoder.Config(
        channels=channels,
        rates=rates,
        latent=published.get("latent_dim") or channels << len(rates),
        decoder_channels=published["decoder_dim"],
    )
    return dac.Config(
        sample_rate=published["sample_rate"],
        waves=waves,
        levels=published["n_codebooks"],
        size=published["codebook_size"],
        width=published["codebook_dim"],
        dropout=published["quantizer_dropout"],
    )


def first(x: jax.Array) -> np.ndarray:
    """(batch, time, channels) -> (batch, channels, time)."""
    return np.asarray(x).swapaxes(1, 2)


def settled(codes: np.ndarray, stored: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Codes (batch, levels, frames); the stored one where a tie, or one at a level before it, decided it."""
    sure = np.minimum.accumulate(gap, axis=1) > TIE
    return np.where(sure, codes, stored)


def dac_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Latents, codes and waveforms with all levels and three; windows and a training step where they are stored."""
    config, state = config_of(case["config"]), state_dict_of(keys, case)
    params = convert(state, dac.WEIGHTS, jax.eval_shape(lambda: dac.init(jax.random.key(0), config)))

    @functools.partial(jax.jit, static_argnums=2)
    def run(params: Any, audio: jax.Array, levels: int) -> Any:
        p = params["params"]
        made = dac.quantize(params, config, audio, levels)
        feats = wave_autoencoder.encode(p, config.waves, audio)
        return feats, made, wave_autoencoder.decode_raw(p, config.waves, made.z)

    audio = jnp.asarray(inputs["audio"][:, 0])
    feats, made, heard = run(params, audio, config.levels)
    few = run(params, audio, 3)
    step = config.waves.latent // inputs["feats"].shape[1]
    length = audio.shape[1]
    out = {
        "feats": first(feats)[:, ::step],
        "codes": settled(first(made.codes), inputs["codes"], inputs["gap"]),
        "latents": first(made.latents)[:, ::4],
        "z": first(made.z)[:, ::step],
        "commit": np.mean(made.commitment),
        "codebook": np.mean(made.codebook),
        "n_decoded": np.asarray(heard.shape[1]),
        "recon": np.asarray(heard)[:, None, :length],
        "recon_nq3": np.asarray(few[2])[:, None, :length],
        "codes_nq3": settled(first(few[1].codes), inputs["codes_nq3"], inputs["gap"][:, :3]),
    }
    if "cmp_audio" in inputs:
        out |= _windows(params, config, inputs)
    if "train_audio" in inputs:
        out |= _training(config, state, keys, inputs)
    return out


def _windows(params: Any, config: dac.Config, inputs: Arrays) -> dict[str, np.ndarray]:
    """DAC's own windows; their length is not stored, but follows from the frames that they make."""
    frames, length = int(inputs["cmp_chunk_length"]), inputs["cmp_audio"].shape[1]
    layers = wave_autoencoder.encoder_layers(config.waves)
    size = next(n for n in range(config.hop, length, config.hop) if receptive.valid_length(layers, n) == frames)
    made = dac_files.compress(params, config, inputs["cmp_audio"], seconds=size / config.sample_rate)
    return {
        "cmp_codes": first(made.codes),
        "cmp_chunk_length": np.asarray(made.frames),
        "cmp_input_db": made.loudness,
        "cmp_padding": np.asarray(int(made.padded)),
        "cmp_original_length": np.asarray(made.length),
        "cmp_recon": dac_files.decompress(params, config, made)[:, None],
    }


def _training(config: dac.Config, state: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    rules = weight_norm.split_rules(dac.WEIGHTS)
    target = jax.eval_shape(lambda: dac.normalized(dac.init(jax.random.key(0), config)))
    audio, draw = jnp.asarray(inputs["train_audio"][:, 0]), jnp.asarray(inputs["train_dropout_draw"])
    dropped = jnp.arange(len(draw)) < int(len(draw) * config.dropout)  # the original drops for the first of a batch
    limits = jnp.where(dropped, draw, config.levels + 1)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(params: Any, audio: jax.Array) -> Any:
        made = dac.reconstruct(params, config, audio, limits)
        return 10 * jnp.mean(jnp.square(made.audio)) + 0.25 * made.commitment + made.codebook, made

    (loss, made), slopes = run(convert(state, rules, target), audio)
    grads = to_torch(slopes, rules, keys)
    return {
        "train_recon": np.asarray(made.audio)[:, None],
        "train_commit": np.asarray(made.commitment),
        "train_codebook": np.asarray(made.codebook),
        "train_loss": np.asarray(loss),
        **{name: grads[name.split(":")[1]] for name in inputs if name.startswith("train_grad:")},
    }


CASES = dict.fromkeys(
    ("dac_small", "dac_16khz_8kbps", "dac_24khz_8kbps", "dac_44khz_8kbps", "dac_44khz_16kbps"), dac_case
)

BY_HAND = {"dac_16khz_8kbps", "dac_24khz_8kbps", "dac_44khz_8kbps", "dac_44khz_16kbps"}
"""Kept, and run with `python -m tests.parity`: the releases differ from `dac_small` in
numbers alone, which conversion tells by their shapes."""
