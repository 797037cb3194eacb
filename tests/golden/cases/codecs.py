"""Golden cases of the codecs and of what they are made of."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert, to_torch
from jaxaudio.dsp.mel import MelConfig, log_mel
from jaxaudio.nn import vocos
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]


def _vocos_configs(published: Mapping[str, Any]) -> tuple[MelConfig, vocos.Config]:
    heard, backbone, head = published["feature_extractor"], published["backbone"], published["head"]
    same = heard["padding"] == "same"
    front_end = MelConfig(
        sample_rate=heard["sample_rate"],
        n_fft=heard["n_fft"],
        hop=heard["hop_length"],
        n_mels=heard["n_mels"],
        scale="htk",
        norm=None,
        center=not same,
        pad=(heard["n_fft"] - heard["hop_length"]) // 2 if same else 0,
        power=1,
        log="ln",
        floor=1e-7,
    )
    config = vocos.Config(
        sample_rate=heard["sample_rate"],
        mels=backbone["input_channels"],
        width=backbone["dim"],
        hidden=backbone["intermediate_dim"],
        layers=backbone["num_layers"],
        n_fft=head["n_fft"],
        hop=head["hop_length"],
        padding=head["padding"],
        embeddings=backbone.get("adanorm_num_embeddings", 0),
    )
    return front_end, config


def vocos_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Features, both halves of the network, the waveform, and the gradients of a loss on it.

    Bands that are a hundred-thousandth of the loudest hold the rounding of a float32 transform and nothing else, whose
    logarithm is anybody's: the network is given the stored features, and ours are compared above that.
    """
    front_end, config = _vocos_configs(case["config"])
    target = jax.eval_shape(lambda: vocos.init(jax.random.key(0), config))
    params = convert(state_dict_of(keys, case), vocos.WEIGHTS, target)
    condition = jnp.full((1,), 2) if config.embeddings else None  # the case's bandwidth_id

    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(params: Any, mel: jax.Array, audio: jax.Array) -> Any:
        made = vocos.intermediates(params, config, mel, condition)
        error = made["waveform"] - audio[:, : made["waveform"].shape[1]]
        return jnp.mean(jnp.abs(error)) + jnp.mean(jnp.square(error)), made

    audio, stored = jnp.asarray(inputs["audio"]), inputs["features"]
    (loss, made), slopes = jax.jit(run)(params, jnp.asarray(stored).swapaxes(1, 2), audio)
    mel = np.asarray(log_mel(audio, front_end)).swapaxes(1, 2)
    grads = to_torch(slopes, vocos.WEIGHTS, keys)
    out = {
        "features": np.where(stored > np.max(stored) + np.log(1e-5), mel, stored),
        "backbone": made["backbone"],
        "backbone_shape": made["backbone"].shape,
        "head_out": made["out"],
        "recon": made["waveform"],
        "loss": loss,
        "mag_clip_fraction": np.mean(np.asarray(made["out"][..., : config.n_fft // 2 + 1]) > np.log(1e2)),
        "grad_norms": [np.linalg.norm(grads[key]) for key in case["grad_norm_order"]["grad_norms"]],
        **{f"grad:{key}": x for key, x in grads.items()},
    }
    return {name: _thinned(np.asarray(x), inputs[name]) for name, x in out.items() if name in inputs}


def _thinned(x: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Every so many numbers of x, flat, as they are stored."""
    return x.ravel()[:: -(-x.size // stored.size)] if stored.ndim == 1 else x


CASES: dict[str, Callable] = dict.fromkeys(("vocos_mel_24khz", "vocos_same_small", "vocos_adanorm_small"), vocos_case)
