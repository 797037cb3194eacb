"""Golden cases of the language model of sound: mels, codes, reconstructions, logits, under the original's layouts."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert
from jaxaudio.nn import pixelsnail
from jaxaudio.systems.soundlm import prior, vqvae
from tests.golden.cases import generation_parts
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]

_NEAR = 1e-3  # of the squared distances of two rows of the codebook: float32 decides there, and the case says so


def _arrays(made: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in made.items()}


def mel(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """The front-end; frames last in this case."""
    made = generation_parts.log_mel(vqvae.MEL)(case, keys, inputs)
    return {"log_mel": np.asarray(made["log_mel"]).T[None]}


def autoencoder(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Maps, codes, the distance from them, and what is decoded."""
    config = vqvae.URBANSOUND8K
    target = jax.eval_shape(lambda: vqvae.init(jax.random.key(0), config))
    params = convert(state_dict_of(keys, case), vqvae.weights(config), target)
    x = jnp.asarray(inputs["mel"])[:, 0].swapaxes(1, 2)

    def shown(mel: jax.Array) -> jax.Array:
        return mel.swapaxes(1, 2)[:, None]

    @jax.jit
    def run(params: Any, x: jax.Array) -> dict[str, jax.Array]:
        made = vqvae.forward(params, config, x)
        return {
            "enc": made.maps.transpose(0, 3, 1, 2)[:, ::8],
            "pre_quant": made.vectors,
            "ids": made.codes,
            "diff": made.commitment[None],
            "recon": shown(made.mel),
            "dec_from_code": shown(vqvae.decode(params, config, jnp.asarray(inputs["ids"]))),
        }

    made = _arrays(run(params, x))
    near = inputs["top2_margin"].reshape(inputs["ids"].shape) < _NEAR
    return made | {"ids": np.where(near, inputs["ids"], made["ids"])}


def codebook(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """One step of a codebook's moving averages."""
    state = {name: jnp.asarray(inputs[f"before_{name}"].T) for name in vqvae.CODEBOOK}
    made, after = vqvae.quantize(state, jnp.asarray(inputs["input"]), decay=case["config"]["decay"], train=True)
    out = {"quantize": made.values, "diff": made.commitment, "ids": made.codes}
    return _arrays(out | {f"after_{name}": x.T for name, x in after.items()})


def network(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Logits of a whole grid, or of its first rows."""
    config = prior.URBANSOUND8K.network
    tree = jax.eval_shape(lambda: pixelsnail.normalized(pixelsnail.init(jax.random.key(0), config)))
    params = convert(state_dict_of(keys, case), prior.weights(prior.URBANSOUND8K), tree)
    ids, classes = jnp.asarray(inputs["ids"], jnp.int32), jnp.asarray(inputs["label"][:, 0])
    made = jax.jit(pixelsnail.logits, static_argnums=1)(params, config, ids, classes).transpose(0, 3, 1, 2)
    return _arrays({"logits_sub": made[:, ::16], "logits_first_row": made[:, :, 0, :8]})


CASES: dict[str, Callable] = {
    "sound_generation_mel_22k_80": mel,
    "sound_generation_vqvae": autoencoder,
    "sound_generation_vq_ema_step": codebook,
    "sound_generation_pixelsnail": network,
}
