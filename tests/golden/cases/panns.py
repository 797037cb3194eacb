"""Golden cases of PANNs' taggers: ours on a case's inputs, results under the original's names and strides."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import Rule, convert, linear, to_torch
from jaxaudio.dsp.mel import log_mel, spectrogram
from jaxaudio.nn import panns
from jaxaudio.train.optim import adamw
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]


def parameters(case: Mapping, keys: Mapping, config: panns.Config, rules: Any = panns.WEIGHTS) -> Any:
    """The case's weights in our tree."""
    target = jax.eval_shape(lambda: panns.init(jax.random.key(0), config))
    return convert(state_dict_of(keys, case), rules, target)


def sound(inputs: Arrays) -> jax.Array:
    """The waveforms, which some cases keep as integers."""
    if "waveform" in inputs:
        return jnp.asarray(inputs["waveform"])
    return jnp.asarray(inputs["waveform_int16"] / np.float32(32768), jnp.result_type(float))


def flat(inputs: Arrays, made: Mapping[str, jax.Array]) -> dict[str, np.ndarray]:
    """Layers' outputs as cases store them: channels first, every so many-th number, and the shape."""
    out = {}
    for name in made.keys() & inputs.keys():
        if f"{name}_shape" in inputs:
            x = np.moveaxis(np.asarray(made[name]), -1, 1)
            if name == "bn0":  # (batch, mels, time, 1)
                x = x[..., None]
            out |= {name: thinned(x, inputs[name]), f"{name}_shape": np.asarray(x.shape)}
    return out


def thinned(x: Any, stored: np.ndarray) -> np.ndarray:
    """Every so many-th number of x, as many as are stored."""
    x = np.asarray(x).ravel()
    return x[:: -(-x.size // stored.size)]


def tagger(config: panns.Config) -> Callable:
    """The cases of one published network."""

    def run(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        params = parameters(case, keys, config)
        x = sound(inputs)
        mel = log_mel(x, config.mel)
        made = jax.jit(lambda p, mel: panns.apply(p, config, mel)[0])(params, mel)
        out = {"logmel": mel, "embedding": made["embedding"], "logits": made["logits"]}
        out["clipwise_output"] = jax.nn.sigmoid(made["logits"])
        if "strides" in case:
            out |= flat(inputs, made)
        else:
            blocks = {n: made[f"conv_block{n}"].transpose(0, 3, 1, 2) for n in (1, 4)}
            out["power_spec_t8_f8"] = spectrogram(x, config.mel)[:, ::8, ::8]
            out["conv_block1_c8_t4"] = blocks[1][:, ::8, ::4]
            out["conv_block4"] = blocks[4] if config == panns.CNN10 else blocks[4][:, ::4]
        return {name: np.asarray(x) for name, x in out.items()}

    return run


def keywords(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """The tagger of keywords: its loss, and one step of training without dropout."""
    config = dataclasses.replace(
        panns.CNN14, mel=panns.MEL_CLOTHO, last_pool=True, embedding=1024, classes=case["n_tags"]
    )
    rules = (
        *panns.weights(r"feature_extractor\."),
        Rule(r"audio_linear\.weight", "params/fc_audioset/kernel", linear),
        Rule(r"audio_linear\.bias", "params/fc_audioset/bias"),
    )
    params = parameters(case, keys, config, rules)
    targets = jnp.asarray(inputs["targets"])
    mel = log_mel(sound(inputs), config.mel)

    def loss(trained: Any, statistics: Any, train: bool) -> Any:
        made, statistics = panns.apply({"params": trained, "batch_stats": statistics}, config, mel, train=train)
        x = made["logits"]
        value = jnp.mean(jnp.maximum(x, 0) - x * targets + jnp.log1p(jnp.exp(-jnp.abs(x))))
        return value, (made, statistics)

    trained, statistics = params["params"], params["batch_stats"]
    value, (made, _) = jax.jit(loss, static_argnums=2)(trained, statistics, False)
    out = {"loss": value, "embedding": made["embedding"], "logits": made["logits"]}
    out["top5"] = jax.lax.top_k(made["logits"], 5)[1]
    step = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=2)
    (out["train_loss"], (_, statistics)), slopes = step(trained, statistics, True)
    tx = adamw(1e-3, weight_decay=0.0, amsgrad=True)
    updates, _ = tx.update(slopes, tx.init(trained), trained)
    grads, after = (
        to_torch({"params": tree}, rules, keys) for tree in (slopes, jax.tree.map(jnp.add, trained, updates))
    )
    running = to_torch({"batch_stats": statistics}, rules, keys)
    order = [key for key in keys if key in grads]
    out["train_grad_norms"] = np.array([np.linalg.norm(grads[key]) for key in order])
    for name in inputs:
        kind, _, key = name.partition(":")
        source = {"train_grad": grads, "after": running, "param_after": after}.get(kind)
        if source is not None:
            out[name] = thinned(source[key], inputs[name])
    return {name: np.asarray(x) for name, x in out.items()}


CASES: dict[str, Callable] = {
    "panns_cnn10": tagger(panns.CNN10),
    "panns_cnn14": tagger(panns.CNN14),
    "panns_cnn14_16k": tagger(panns.CNN14_16K),
    "panns_resnet38": tagger(panns.RESNET38),
    "keyword_tagger_cnn14": keywords,
}
