"""Golden cases of the quantisers."""

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.quantize import fsq, rvq, vq
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]

_NEAR = 1e-6  # of a level's width: float32's tanh decides there, and the case says so


def stable_codec(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Levels at several resolutions, the presets, and the values for training under given draws."""
    latents = jnp.asarray(inputs["latents"]).swapaxes(1, 2)
    channels = latents.shape[-1]
    out = {}
    for count in (int(name[1:-6]) for name in inputs if name.startswith("L") and name.endswith("_codes")):
        quantiser = fsq.FSQ(levels=(count,) * channels)
        values, tokens = fsq.quantize(latents, quantiser)
        near = inputs[f"L{count}_bdist"] < _NEAR
        out[f"L{count}_codes"] = np.where(near, inputs[f"L{count}_codes"], values)
        out[f"L{count}_decoded"] = np.where(near, inputs[f"L{count}_decoded"], fsq.decode(tokens, quantiser))
        out[f"L{count}_indices"] = np.where(near.any(-1, keepdims=True), inputs[f"L{count}_indices"], tokens)
    levels, books = (8, 5, 5, 3), 2  # stated in words only
    values, tokens = fsq.quantize(jnp.asarray(_split(inputs["mc_latents"], books)), fsq.FSQ(levels=levels))
    out["mc_codes"], out["mc_indices"] = values.reshape(inputs["mc_codes"].shape), tokens[..., 0]
    out["mc_decoded"] = fsq.decode(tokens, fsq.FSQ(levels=levels)).reshape(values.shape[:2] + (-1,))
    for name, stages in case["config"]["presets"].items():
        quantiser = fsq.PRESETS[name.split("_")[0]]
        stated = tuple((tuple(json.loads(counts)), float(scale)) for counts, scale in stages)
        assert stated == tuple((quantiser.levels, scale) for scale in quantiser.scales)
        out[f"{name}_ids"] = tokens = fsq.encode(latents, quantiser)
        out[f"{name}_decoded"] = fsq.decode(tokens, quantiser).swapaxes(1, 2)
    for name in (key.removesuffix("_u") for key in inputs if key.endswith("_u")):
        masks = (inputs[f"{name}_mask{i}"].reshape(-1) > 0 for i in (1, 2))
        out[f"{name}_codes"] = values = fsq.dithered(latents, fsq.STABLE_CODEC, *masks, inputs[f"{name}_u"][:, :, 0])
        out[f"{name}_indices"] = fsq.nearest(values, fsq.STABLE_CODEC)
    return out


def _split(x: np.ndarray, books: int) -> np.ndarray:
    """(batch, time, books * channels) -> (batch, time, books, channels)."""
    return x.reshape(*x.shape[:-1], books, -1)


def scalar(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """FSQ and ResidualFSQ of vector-quantize-pytorch."""
    state = state_dict_of(keys, case)
    configs = {"fsq_8888": {"levels": (8, 8, 8, 8)}, **case["config"]}  # the first is not in the case's configuration
    out = {}

    def project(x: jax.Array, key: str) -> jax.Array:
        return x @ state[f"{key}.weight"].T + state[f"{key}.bias"] if f"{key}.weight" in state else x

    for name, config in configs.items():
        if "levels" not in config or f"{name}_x" not in inputs:
            continue
        levels, books = tuple(config["levels"]), config.get("num_codebooks", 1)
        if stages := config.get("num_quantizers", 0):
            quantiser = fsq.residual(levels, stages)
        else:
            quantiser = fsq.FSQ(levels=levels, offset=not config.get("preserve_symmetry", False))
        x = project(jnp.asarray(inputs[f"{name}_x"]), f"{name}.project_in")
        values, tokens = fsq.quantize(_split(x, books), quantiser)
        known = fsq.decode(tokens, quantiser).reshape(x.shape)
        out[f"{name}_out" if stages else f"{name}_codes"] = project(values.reshape(x.shape), f"{name}.project_out")
        out[f"{name}_indices"] = tokens.reshape(inputs[f"{name}_indices"].shape)
        out[f"{name}_from_indices"] = project(known, f"{name}.project_out")
    return out


def codebooks(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """VectorQuantize by distance and by angle, ResidualVQ, and one step of moving averages."""
    state, config = state_dict_of(keys, case), case["config"]
    out = {}
    for name in ("vq_euclid", "vq_cosine", "vq_proj8"):
        x, book = jnp.asarray(inputs[f"{name}_x"]), state[f"{name}._codebook.embed"][0]
        if f"{name}.project_in.weight" in state:
            x = x @ state[f"{name}.project_in.weight"].T + state[f"{name}.project_in.bias"]
        codes = vq.nearest(*_of_one_length(x, book), cosine=True) if name == "vq_cosine" else vq.nearest(x, book)
        made = vq.straight_through(x, vq.lookup(book, codes))
        if f"{name}.project_out.weight" in state:
            made = made @ state[f"{name}.project_out.weight"].T + state[f"{name}.project_out.bias"]
        out |= {f"{name}_out": made, f"{name}_indices": codes}
    residual = config["rvq"]
    levels = residual["num_quantizers"]
    quantiser = rvq.Config(dim=residual["dim"], levels=levels, size=residual["codebook_size"], width=0, cosine=False)
    params = {f"quantizers_{i}": {"codebook": state[f"rvq.layers.{i}._codebook.embed"][0]} for i in range(levels)}
    whole = rvq.quantize(params, quantiser, jnp.asarray(inputs["rvq_x"]))
    out |= {
        "rvq_out": whole.z,
        "rvq_indices": whole.codes,
        "rvq_from_indices": rvq.decode(params, quantiser, whole.codes),
    }
    x, book = jnp.asarray(inputs["ema_x"]), state["vq_ema._codebook.embed"][0]
    before = vq.EmaState(book, jnp.ones(len(book)), state["vq_ema._codebook.embed_avg"][0])
    codes = vq.nearest(x, book)
    after = vq.ema_update(before, x, codes, decay=config["vq_ema"]["decay"])
    return out | {
        "ema_embed_before": book[None],
        "ema_out": vq.straight_through(x, vq.lookup(book, codes)),
        "ema_indices": codes,
        "ema_loss": jnp.mean(vq.commitment_loss(x, vq.lookup(book, codes))),
        "ema_embed_after": after.codebook[None],
        "ema_cluster_size_after": after.counts[None],
    }


def _of_one_length(x: jax.Array, book: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """One more axis makes all rows equally long, as training keeps them: the original takes that for granted."""
    squares = np.square(book).sum(-1)
    rest = np.sqrt(squares.max() - squares)
    return jnp.pad(x, ((0, 0), (0, 0), (0, 1))), jnp.concatenate([book, rest[:, None]], 1)


def vector_quantize_pytorch(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Both halves of the case: scalar quantisers, and those with codebooks."""
    return scalar(case, keys, inputs) | codebooks(case, keys, inputs)


CASES = {"stable_codec_fsq": stable_codec, "vector_quantize_pytorch": vector_quantize_pytorch}
