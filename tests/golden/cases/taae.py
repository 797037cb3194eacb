"""Golden cases of the transformer autoencoder."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert, prefixed
from jaxaudio.nn import rotary
from jaxaudio.nn.windowed_attention import windowed_attention
from jaxaudio.quantize import fsq
from jaxaudio.systems import taae
from jaxaudio.systems.taae_blocks import TRANSFORMER_WEIGHTS, Attention, Block, Norm, TransformerBlock, block_weights
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]

_NEAR = 1e-4  # of a level's width; the case allows tokens to differ there


def config_of(published: Mapping[str, Any], window: bool = True) -> taae.Config:
    """Our configuration of a published one."""
    model = published["model"]
    encoder, bottleneck = model["encoder"]["config"], model["bottleneck"]["config"]
    levels = bottleneck["levels"]
    return taae.Config(
        sample_rate=published["sample_rate"],
        patch=model["pretransform"]["config"]["patch_size"],
        channels=encoder["channels"],
        multiples=tuple(encoder["c_mults"]),
        strides=tuple(encoder["strides"]),
        depths=tuple(encoder["transformer_depths"]),
        levels=(levels,) * bottleneck["dim"] if isinstance(levels, int) else tuple(levels),
        head_dim=min(128, encoder["channels"]),
        window=tuple(encoder["sliding_window"]) if window else None,
        snake=encoder["use_snake"],
        dilated=encoder["use_dilated_conv"],
    )


def autoencoder(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Latents, tokens and waveform, with the window and without; decoded from the stored values where tokens differ."""
    config = config_of(case["config"])
    params = convert(
        state_dict_of(keys, case), taae.WEIGHTS, jax.eval_shape(lambda: taae.init(jax.random.key(0), config))
    )
    params = jax.device_put(params)
    audio = jnp.asarray(inputs["audio"][:, 0])
    out: dict[str, Any] = {}
    for suffix in ("", "_nowin"):
        config = config_of(case["config"], window=not suffix)
        made = jax.jit(taae.intermediates, static_argnums=1)(params, config, audio)
        latents = made["latents"]
        values, tokens = fsq.quantize(latents, taae.quantizer(config))
        stored = {name: inputs[f"{name}{suffix}"] for name in ("latents", "tokens", "recon")}
        steps = 2 / (np.asarray(config.levels) - 1)
        places = (np.tanh(inputs[f"pre_bottleneck{suffix}"].astype(np.float64)).swapaxes(1, 2) + 1) / steps
        near = np.abs(places - np.floor(places) - 0.5) < _NEAR
        values = jnp.where(near, stored["latents"].swapaxes(1, 2), values)
        recon = jax.jit(taae.decode, static_argnums=1)(params, config, values)
        out |= {
            f"pre_bottleneck{suffix}": latents.swapaxes(1, 2),
            f"latents{suffix}": values.swapaxes(1, 2),
            f"tokens{suffix}": np.where(near.any(-1, keepdims=True), stored["tokens"], tokens),
            f"recon{suffix}": recon[:, None, :: -(-recon.shape[1] // stored["recon"].shape[-1])],
        }
        if not suffix:
            out["patched_first8"] = made["patches"][:, :8].swapaxes(1, 2)
            for name, layer in (("enc_conv0", "layers_0"), ("enc_block1", "layers_1")):
                out[name] = made[layer][..., :: config.channels // 32].swapaxes(1, 2)
    return {name: np.asarray(x) for name, x in out.items()}


def block(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """One level, with the window and without."""
    c = case["config"]
    kind = c["type"]
    x = np.random.default_rng(int(inputs["x_seed"])).standard_normal((1, c["in_channels"], int(inputs["x_T"])))
    x = x.astype(np.float32)
    np.testing.assert_array_equal(x[:, : inputs["x_head"].shape[1]], inputs["x_head"])
    out: dict[str, Any] = {}
    for suffix, window in (("", tuple(c["sliding_window"])), ("_nowin", None)):
        module = Block(kind, c["out_channels"], c["stride"], c["transformer_depth"], c["use_snake"], window=window)
        given = jnp.asarray(x).swapaxes(1, 2)
        rules = prefixed(rf"{kind}_block\.", block_weights(kind), "params")
        target = jax.eval_shape(module.init, jax.random.key(0), given)
        params = convert(state_dict_of(keys, case), rules, target)
        y = jax.jit(module.apply)(params, given).swapaxes(1, 2)
        out |= {f"out{suffix}": y[:, ::8, ::2], "out_len": y.shape[2]}
    return {name: np.asarray(x) for name, x in out.items()}


def transformer(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """One transformer, under each of the case's windows."""
    c = case["config"]
    if "x" in inputs:
        x = inputs["x"]
    else:
        x = np.random.default_rng(int(inputs["x_seed"])).standard_normal((1, int(inputs["x_T"]), c["dim"]))
        x = x.astype(np.float32)
        np.testing.assert_array_equal(x[:, : inputs["x_head"].shape[1]], inputs["x_head"])
    multiple = int(c["ff"].split("mult ")[1].split()[0])

    def made(window: tuple[int, int] | None) -> TransformerBlock:
        return TransformerBlock(c["dim"], c["dim_heads"], window, multiple)

    def attention(window: tuple[int, int] | None) -> Attention:
        return Attention(c["dim"], c["dim_heads"], window)

    rules = prefixed(r"blk\.", TRANSFORMER_WEIGHTS, "params")
    params = convert(state_dict_of(keys, case), rules, jax.eval_shape(made(None).init, jax.random.key(0), x))["params"]
    normed = Norm().apply({"params": params["pre_norm"]}, x)
    inner = {"params": params["self_attn"]}

    @functools.partial(jax.jit, static_argnums=0)
    def run(window: tuple[int, int] | None) -> tuple[jax.Array, jax.Array]:
        return made(window).apply({"params": params}, x), attention(window).apply(inner, normed)

    if "windows" not in c:
        (out, attended), (full, _) = run((63, 64)), run(None)
        steps = slice(None, None, 3)
        return {
            "out": np.asarray(out[:, steps, ::4]),
            "out_nowin": np.asarray(full[:, steps, ::4]),
            "attn_out": np.asarray(attended[:, steps, ::8]),
            "pre_norm": np.asarray(normed[:, :: -(-x.shape[1] // inputs["pre_norm"].shape[1]), ::8]),
        }
    query, key, _ = attention(None).apply(inner, normed, method="heads")
    length = x.shape[1]
    turns = rotary.angles(length, c["rope_dim"])
    made_of = {
        "rope_freqs": jnp.concatenate([turns, turns], -1),
        "q_rot_item0": query[0].swapaxes(0, 1),
        "k_rot_item0": key[0].swapaxes(0, 1),
    }
    for left, right in c["windows"]:
        name = "full" if left < 0 else f"w{left}_{right}"
        out, attended = run(None if left < 0 else (left, right))
        made_of |= {f"out_{name}": out, f"attn_{name}": attended[..., ::2]}
        if f"visible_count_{name}" in inputs:  # each position weighs the rows of an identity alike
            alike, rows = jnp.zeros((1, length, 1, length)), jnp.eye(length)[None, :, None]
            weights = windowed_attention(alike, alike, rows, (left, right))
            made_of[f"visible_count_{name}"] = jnp.sum(weights[0, :, 0] > 0, -1)
    return {name: np.asarray(x) for name, x in made_of.items()}


CASES = {
    "taae_small": autoencoder,
    "taae_small_dilated": autoencoder,
    "taae_reduced_depth": autoencoder,
    "taae_full_950M": autoencoder,
    "taae_block_encoder_s2": block,
    "taae_block_decoder_s2": block,
    "taae_transformer_block_1024": transformer,
    "sliding_window_attention": transformer,
}

BY_HAND = {"taae_full_950M"}
"""Kept, and run with `python -m tests.parity`: its weights are 3.8 GB."""
