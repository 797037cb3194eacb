"""Golden cases of WavCaps: its HTS-AT, the captioner around it, and retrieval, under the original's names."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import convert, prefixed, to_torch
from jaxaudio.nn import htsat, panns
from jaxaudio.systems import ase
from jaxaudio.systems.captioning import wavcaps
from jaxaudio.text import bart, bert
from tests.golden.cases.panns import sound, thinned
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]

# The cases' training losses are without anything drawn by chance.
_SURE = dataclasses.replace(htsat.WAVCAPS, drop_path=0.0, augment=False)
_SURE_CNN14 = dataclasses.replace(ase.CNN14_BERT.sound, dropout=0.0, augment=False)


def _named(kind: Any, sizes: Mapping, **more: Any) -> Any:
    """A configuration of the sizes that the case tells by the published names."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in sizes.items() if name in names}, **more)


def encoder(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Every stage of HTS-AT, its frames, its mean token and its tags."""
    config = dataclasses.replace(htsat.WAVCAPS, classes=case["config"]["num_classes"])
    # The case's weights come from the keys that the encoder has inside the captioner.
    prefix = case["key_prefix"]
    state = state_dict_of({prefix + key.removeprefix(prefix): shape for key, shape in keys.items()}, case)
    target = jax.eval_shape(lambda: htsat.init(jax.random.key(0), config))
    params = convert(state, prefixed(re.escape(prefix), htsat.weights(config)), target)
    mel = wavcaps.hear(wavcaps.HTSAT_BART, sound(inputs))
    made = jax.jit(lambda params, mel: htsat.apply(params, config, mel)[0])(params, mel)
    steps = case["config"]["patch_stride"][1] * 8
    repeated = made["fine_grained"]
    apart = repeated.reshape(len(repeated), -1, steps, repeated.shape[-1]) - repeated[:, ::steps, None]
    out: dict[str, Any] = {
        "logmel": mel,
        "fine_grained_every32": repeated[:, ::steps],
        "fine_grained_shape": np.asarray(repeated.shape),
        "repeat_check_maxdiff": jnp.abs(apart).max(),
        "framewise_every32": made["framewise"][:, ::steps],
        "embedding": made["embedding"],
        "clipwise_output": made["clipwise"],
    }
    maps = {name: x.reshape(len(x), -1, x.shape[-1]) for name, x in made.items() if x.ndim == 4}
    maps |= {"image": made["image"][:, None], "tscam_conv": made["tscam_conv"].swapaxes(1, 2)[:, :, None]}
    for name, x in maps.items():
        if name in inputs:
            out |= {name: thinned(x, inputs[name]), f"{name}_shape": np.asarray(x.shape)}
    return {name: np.asarray(x) for name, x in out.items()}


def _slopes(
    case: Mapping, keys: Mapping, inputs: Arrays, rules: Any, found: Mapping, trained: Any, statistics: Any = None
) -> dict[str, np.ndarray]:
    """What a case stores of gradients and of new statistics, beside what was found."""
    grads = to_torch({"params": trained}, rules, keys)
    order = case["grad_norm_order"]["grad_norms"]
    out = {name: np.asarray(x) for name, x in found.items()}
    # Millions of squares: a sum in float32 loses three digits of them.
    out["grad_norms"] = np.array([np.linalg.norm(grads[key].astype(np.float64)) for key in order])
    sources = {"grad": grads, "after": to_torch({"batch_stats": statistics or {}}, rules, keys)}
    for name, stored in inputs.items():
        kind, _, key = name.partition(":")
        if kind in sources:
            # The statistics' names lack the encoder's prefix.
            out[name] = thinned(next(x for full, x in sources[kind].items() if full.endswith(key)), stored)
    return out


def captioner(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """HTS-AT and a small BART: frames, memory, logits, loss and its gradients, captions."""
    sizes = {**case["config"]["bart"], "dropout": 0.0}
    words = _named(bart.Config, sizes, attention_dropout=0.0, activation_dropout=0.0)
    config = wavcaps.Config(sound=_SURE, words=words)
    rules = wavcaps.weights(config)
    target = jax.eval_shape(lambda: wavcaps.init(jax.random.key(0), config))
    state = state_dict_of(keys, case)
    state |= {key: state[source] for key, source in case["tied"].items()}
    params = convert(state, rules, target)
    ids = jnp.asarray(inputs["target_ids"], jnp.int32)
    mask = ids != words.pad_token_id
    given = wavcaps.shifted(config, ids)
    mel = wavcaps.hear(config, sound(inputs))
    batch = {"mel": mel, "ids": ids, "mask": mask}

    @jax.jit
    def whole(params: Any) -> Any:
        made, _ = wavcaps.encode(params, config, mel)
        return made, wavcaps.caption_logits(params, config, made["memory"], given, mask)

    made, logits = whole(params)
    trained, extra = params["params"], {"batch_stats": params["batch_stats"]}

    @jax.jit
    def value(trained: Any) -> Any:
        return wavcaps.loss(trained, extra, batch, config=config)[0]

    step = jax.value_and_grad(wavcaps.loss, has_aux=True)
    (train_loss, (_, new)), slopes = jax.jit(lambda p: step(p, extra, batch, jax.random.key(0), config=config))(trained)
    length = inputs["greedy_ids"].shape[1] - 1
    greedy = wavcaps.caption(params, config, made["memory"], length)
    beams = wavcaps.caption(params, config, made["memory"], length, beam=dataclasses.replace(wavcaps.BEAM, stop="best"))
    start = jnp.full((len(ids), 1), words.decoder_start_token_id)
    found = {
        "decoder_input_ids": np.where(mask, given, inputs["decoder_input_ids"]),
        "audio_embeds_every32": made["frames"][:, ::32].ravel(),
        "bart_encoder_out_every32": made["memory"][:, ::32].ravel(),
        "logits": logits,
        "loss": value(trained),
        "train_loss": train_loss,
        "greedy_ids": jnp.concatenate([start, greedy.tokens], 1),
        "beam3_ids": jnp.concatenate([start, beams.tokens[:, 0]], 1)[:, : inputs["beam3_ids"].shape[1]],
        "beam3_scores": beams.scores[:, 0],
    }
    return _slopes(case, keys, inputs, rules, found, slopes, new["batch_stats"])


def retrieval(encoder: htsat.Config | panns.Config) -> Callable[[Mapping, Mapping, Arrays], dict[str, np.ndarray]]:
    """One sound encoder, a small BERT: vectors, similarities, the loss with duplicates and its gradients."""

    def run(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        sizes = case["config"]["text_encoder_args"]["bert"]
        text = _named(bert.Config, sizes, pooler=False, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        config = ase.Config(sound=encoder, text=text)
        rules = ase.weights(config)
        target = jax.eval_shape(lambda: ase.init(jax.random.key(0), config))
        state = {**state_dict_of(keys, case), "temp": np.asarray(case["config"]["temp"])}
        params = convert(state, rules, target)
        ids = jnp.asarray(inputs["text_ids"], jnp.int32)
        batch = {"ids": ids, "mask": ids != text.pad_token_id, "sound": jnp.asarray(inputs["idx"])}
        batch["mel"] = ase.hear(config, sound(inputs))
        trained, extra = params["params"], {"batch_stats": params["batch_stats"]}

        @jax.jit
        def whole(params: Any) -> Any:
            heard, _ = ase.encode_audio(params, config, batch["mel"])
            said = ase.encode_text(params, config, ids, batch["mask"])
            scores = ase.similarity(params, heard["embedding"], said["embedding"])
            value, (metrics, _) = ase.loss(params["params"], extra, batch, config=config)
            return heard, said, scores, value, metrics

        heard, said, scores, value, metrics = whole(params)
        step = jax.value_and_grad(ase.loss, has_aux=True)
        run_step = jax.jit(lambda p: step(p, extra, batch, jax.random.key(0), config=config))
        (train_loss, _), slopes = run_step(trained)
        found = {
            "audio_feats": heard["features"],
            "audio_embeds": heard["embedding"],
            "text_feats_cls": said["features"],
            "text_embeds": said["embedding"],
            "sim_a2t": scores,
            "audio_embeds_offdiag_cos": heard["embedding"] @ heard["embedding"].T,
            "loss": value,
            "loss_without_regulariser": metrics["contrastive"],
            "loss_plain_diagonal": ase.contrastive(scores, jnp.eye(len(ids))),
            "train_loss": train_loss,
        }
        return _slopes(case, keys, inputs, rules, found, slopes)

    return run


CASES: dict[str, Callable] = {
    "wavcaps_htsat": encoder,
    "wavcaps_htsat_bart_small_text": captioner,
    "ase_htsat_small_text": retrieval(_SURE),
    "ase_cnn14_small_text": retrieval(_SURE_CNN14),
}
