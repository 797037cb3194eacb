"""Golden cases of SD-Codec: ours under the original's names, channels and lengths."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert, to_torch
from jaxaudio.nn import wave_autoencoder, weight_norm
from jaxaudio.systems import sdcodec
from tests.golden.cases.dac import Arrays, first, settled
from tests.golden.weights import state_dict_of


def config_of(published: Mapping[str, Any]) -> sdcodec.Config:
    """From the arguments of SD-Codec's constructor."""
    encoder, decoder, books = (published[f"{name}_params"] for name in ("enc", "dec", "quant"))
    assert decoder["strides"] == encoder["strides"][::-1]
    assert all(len({*books[name]}) == 1 for name in ("n_codebooks", "codebook_size", "codebook_dim"))
    waves = wave_autoencoder.Config(
        channels=encoder["d_model"],
        rates=tuple(encoder["strides"]),
        latent=published["latent_dim"],
        decoder_channels=decoder["d_model"],
        crop="down",
    )
    return sdcodec.Config(
        waves=waves,
        tracks=tuple(published["tracks"]),
        levels=books["n_codebooks"][0],
        shared=books["shared_codebooks"],
        size=books["codebook_size"][0],
        width=books["codebook_dim"][0],
    )


def _target(config: sdcodec.Config) -> Any:
    return jax.eval_shape(lambda: sdcodec.init(jax.random.key(0), config))


def sdcodec_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Latents, codes of every track and waveforms; masks, swaps and gradients where they are stored."""
    config, state = config_of(case["config"]), state_dict_of(keys, case)
    params = convert(state, sdcodec.WEIGHTS, _target(config))
    start = "ev_" if "ev_feats" in inputs else ""
    stored = {name.removeprefix(start): x for name, x in inputs.items()}
    audio = jnp.asarray(inputs["audio"][:, 0])

    @jax.jit
    def run(params: Any, audio: jax.Array) -> Any:
        p = params["params"]
        feats = wave_autoencoder.encode(p, config.waves, audio)
        made = sdcodec.quantize_latents(p["quantizer"], config, feats)
        few = sdcodec.quantize_latents(p["quantizer"], config, feats, 4)
        parts = [made[t].z for t in config.tracks]
        wanted = [sum(parts), *parts, sum(few[t].z for t in config.tracks)]
        return feats, made, wave_autoencoder.decode_raw(p, config.waves, jnp.concatenate(wanted))

    feats, made, heard = run(params, audio)
    length = audio.shape[1]
    recon = np.asarray(heard)[:, :length]
    step = feats.shape[2] // stored["feats"].shape[1]
    out = {
        "feats": first(feats)[:, ::step],
        "n_decoded": np.asarray(heard.shape[1]),
        "recon": recon[None, :-1],
        "recon_mix_nq4": recon[None, -1:],
    }
    for track, part in made.items():
        step = feats.shape[2] // stored[f"{track}_z"].shape[1]
        out |= _quantized(track, part, stored, step)
        out[f"{track}_latents"] = first(part.latents)[:, ::4]
        out[f"{track}_codebook"] = np.mean(part.codebook)
    out = {start + name: x for name, x in out.items()}
    if "fw_mix" in inputs:
        out |= _forward(config, state, keys, inputs)
    return {name: np.asarray(x) for name, x in out.items()}


def _quantized(name: str, part: Any, stored: Arrays, step: int) -> dict[str, Any]:
    codes = settled(first(part.codes), stored[f"{name}_codes"], stored[f"{name}_gap"])
    return {
        f"{name}_codes": codes,
        f"{name}_z": first(part.z)[:, ::step],
        f"{name}_commit": np.mean(part.commitment),
    }


def _forward(config: sdcodec.Config, state: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, Any]:
    """The whole forward pass with one track left out, with and without swaps."""
    rules = weight_norm.split_rules(sdcodec.WEIGHTS)
    params = convert(state, rules, jax.eval_shape(lambda p: sdcodec.normalized(p), _target(config)))
    mixture, valid = jnp.asarray(inputs["fw_mix"][:, 0]), ("sfx", "speech")  # stated in words only
    present = jnp.tile(jnp.array([float(t in valid) for t in config.tracks]), (len(mixture), 1))

    rows = jnp.tile(jnp.array([0, *(1 + config.tracks.index(t) for t in valid)]), (len(mixture), 1))

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(params: Any, mixture: jax.Array, swaps: jax.Array) -> Any:
        made = sdcodec.reconstruct(params, config, mixture, present, swaps=swaps, rows=rows)
        return 10 * jnp.mean(jnp.square(made.audio)) + 0.25 * made.commitment + made.codebook, made

    out: dict[str, Any] = {}
    for start in (f"fw_swap{swap}_train{train}_" for swap in (0, 1) for train in (0, 1)):
        order = _orders(params, config, mixture, valid, inputs[f"{start}recon"][:, 0, 0])
        (loss, made), slopes = run(params, mixture, order)
        grads = to_torch(slopes, rules, keys)
        out |= {
            f"{start}recon": made.audio[:, :, None],
            f"{start}commit": made.commitment,
            f"{start}codebook": made.codebook,
            f"{start}ppl_speech": made.perplexity[config.tracks.index("speech")],
            f"{start}loss": loss,
        }
        wanted = [name for name in inputs if name.startswith(f"{start}grad:")]
        out |= {name: grads[name.split(":")[1]] for name in wanted}
    return {name: x for name, x in out.items() if name in inputs}


def _orders(
    params: Any, config: sdcodec.Config, mixture: jax.Array, valid: tuple[str, ...], heard: np.ndarray
) -> jax.Array:
    """(tracks, batch) which item's latents each track gave to the stored mixtures: found as what fits."""
    count = len(mixture)
    pairs = [(i, j) for i in range(count) for j in range(count)]

    @jax.jit
    def decoded(params: Any, mixture: jax.Array) -> jax.Array:
        p = weight_norm.fuse(params["params"])
        made = sdcodec.quantize({"params": p}, config, mixture)
        z = jnp.stack([made[valid[0]].z[i] + made[valid[1]].z[j] for i, j in pairs])
        return wave_autoencoder.decode_raw(p, config.waves, z)[:, : heard.shape[-1]]

    audio = np.asarray(decoded(params, mixture))
    found = [pairs[int(np.argmin(np.square(audio - x).sum(1)))] for x in heard]
    orders = {t: [pair[k] for pair in found] for k, t in enumerate(valid)}
    return jnp.array([orders.get(t, list(range(count))) for t in config.tracks])


def quantizers(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """The quantisers alone, with several numbers of levels."""
    config = config_of(case["config"])
    params = convert(
        state_dict_of(keys, case), sdcodec.WEIGHTS, {"params": {"quantizer": _target(config)["params"]["quantizer"]}}
    )
    feats = jnp.asarray(inputs["feats"]).swapaxes(1, 2)
    counts = {name.split("_")[1].removeprefix("nq") for name in inputs if "_nq" in name}
    out = {}
    for count in counts:
        levels = None if count == "None" else int(count)
        made = jax.jit(lambda p, n=levels: sdcodec.quantize_latents(p, config, feats, n))(params["params"]["quantizer"])
        for track, part in made.items():
            name = f"{track}_nq{count}"
            out |= _quantized(name, part, inputs, feats.shape[2] // inputs[f"{name}_z"].shape[1])
    return {name: np.asarray(x) for name, x in out.items()}


CASES = {
    **dict.fromkeys(("sdcodec_small", "sdcodec_16k_full"), sdcodec_case),
    **dict.fromkeys(("sdcodec_rvq_shared1", "sdcodec_rvq_shared4", "sdcodec_rvq_shared8"), quantizers),
}

BY_HAND = {"sdcodec_16k_full", "sdcodec_rvq_shared1", "sdcodec_rvq_shared8"}
"""Kept, and run with `python -m tests.parity`: the others say the same in less time."""
