"""Golden cases of the captioners: memories, logits, losses, captions, under the original's names and layouts."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxaudio.convert.rules import convert, to_torch
from jaxaudio.dsp.mel import log_mel
from jaxaudio.systems import captioning
from jaxaudio.systems.captioning import losses
from jaxaudio.systems.captioning.model import selection_scores
from jaxaudio.text.decode.beams import DCASE
from jaxaudio.train.optim import adamw
from jaxaudio.train.step import path_mask
from tests.golden.cases.panns import flat, sound, thinned
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]


def _parameters(case: Mapping, keys: Mapping, config: captioning.Config, rules: Any) -> Any:
    target = jax.eval_shape(lambda: captioning.init(jax.random.key(0), config))
    return convert(state_dict_of(keys, case), rules, target)


def _mask(inputs: Arrays) -> jax.Array:
    """Which of the captions' positions are not padded."""
    return jnp.arange(inputs["tgt_ids"].shape[1]) < jnp.asarray(inputs["tgt_lens"])[:, None]


def _captioned(config: captioning.Config, start: int, ids: jax.Array) -> np.ndarray:
    """With the start that the originals keep."""
    return np.concatenate([np.full((ids.shape[0], 1), start), np.asarray(ids)], 1)


def _decoded(params: Any, config: captioning.Config, memory: jax.Array, inputs: Arrays) -> dict[str, np.ndarray]:
    """Greedy captions, which the originals never end, and those of their beams."""
    start, end, out = config.words.start, config.words.end, {}

    def ending(with_end: int) -> captioning.Config:
        return dataclasses.replace(config, words=dataclasses.replace(config.words, end=with_end))

    size = inputs["greedy_ids"].shape[1] - 1
    never = ending(-1)  # no word
    out["greedy_ids"] = _captioned(config, start, captioning.caption(params, never, memory, size).tokens)
    alternative = int(inputs["eos_alt"]) if "eos_alt" in inputs else end
    for name in inputs:
        if not name.startswith("beam") or "_ids" not in name:
            continue
        beam = dataclasses.replace(DCASE, width=int(name[4]))
        last = alternative if "eosalt" in name else end
        found = captioning.caption(params, ending(last), memory, 30, beam=beam)
        if "topk3" in name:  # all of the first item's
            out[name] = _captioned(config, start, found.tokens[0])
        else:
            longest = int(found.lengths[:, 0].max())
            out[name] = _captioned(config, start, found.tokens[:, 0])[:, : longest + 1]
    return out


def cnn_transformer(config: captioning.Config) -> Callable:
    """The cases of one published CNN-Transformer."""

    def run(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        params = _parameters(case, keys, config, captioning.cnn_weights(config))
        ids, mask = jnp.asarray(inputs["tgt_ids"]), _mask(inputs)
        keywords = jnp.asarray(inputs["keyword_ids"]) if config.keywords else None
        mel = log_mel(sound(inputs), config.mel)

        @jax.jit
        def whole(params: Any) -> Any:
            made, _ = captioning.encode(params, config, mel, keywords=keywords)
            return made, captioning.caption_logits(params, config, made["memory"], ids, mask)

        made, logits = whole(params)
        out = flat(inputs, made) | {
            "cnn_features": made["embedding"].transpose(1, 0, 2),
            "memory": made["encoded"].transpose(1, 0, 2),
            "logits_v8": logits.transpose(1, 0, 2)[..., ::8],
            "loss_label_smoothing": losses.smoothed(logits[:, :-1], ids[:, 1:]),
            "loss_ce": losses.smoothed(logits[:, :-1], ids[:, 1:], smoothing=0.0),
        }
        out |= _decoded(params, config, made["memory"], inputs)
        return {name: np.asarray(x) for name, x in out.items()}

    return run


def transformer(config: captioning.Config) -> Callable:
    """The cases of ACT and of V-ACT."""

    def run(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        params = _parameters(case, keys, config, captioning.act_weights(config))
        ids, mask = jnp.asarray(inputs["tgt_ids"]), _mask(inputs)
        mel = inputs.get("log_mel", inputs.get("log_mel_f16"))
        mel = None if mel is None else jnp.asarray(mel, jnp.result_type(float))
        video = inputs.get("video_features_f16")
        video = None if video is None else jnp.asarray(video, jnp.result_type(float))

        @jax.jit
        def whole(params: Any) -> Any:
            made, _ = captioning.encode(params, config, mel, video=video)
            return made, captioning.caption_logits(params, config, made["memory"], ids, mask)

        made, logits = whole(params)
        memory = made["memory"].transpose(1, 0, 2)
        out = {
            "memory": memory,
            "memory_t5": memory[::5],
            "memory_len": np.asarray(memory.shape[0]),
            "logits_v8": logits.transpose(1, 0, 2)[..., ::8],
            "loss_label_smoothing": losses.smoothed(logits[:, :-1], ids[:, 1:]),
        }
        if config.sound is not None:
            out["patch_tokens_t5"] = made["patches"][:, ::5, ::4]
            out["blocks_out_t5"] = out["encoder_out_t5_c4"] = made["blocks"][:, ::5, ::4]
            out["encoder_527_t5"] = made["embedding"][:, ::5]
        if "short_waveform" in inputs:
            out["short_log_mel"] = captioning.hear(config, jnp.asarray(inputs["short_waveform"])[None])[0]
        out |= _decoded(params, config, made["memory"], {n: x for n, x in inputs.items() if not n.startswith("beam")})
        return {name: np.asarray(x) for name, x in out.items()}

    return run


def _recorded(
    inputs: Arrays, sources: Mapping[str, Mapping[str, np.ndarray]], found: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """What a training case stores: parts of tensors under "kind:key", and whatever else was found."""
    out = {name: np.asarray(x) for name, x in found.items()}
    for name, stored in inputs.items():
        kind, _, key = name.partition(":")
        if kind in sources and key in sources[kind]:
            out[name] = thinned(sources[kind][key], stored)
    return out


def contrastive(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """CL4AC: captions, and which of them are of the sound; the sound is encoded once for each."""
    config, rules = captioning.CL4AC, captioning.cnn_weights(captioning.CL4AC)
    params = _parameters(case, keys, config, rules)
    mel = jnp.asarray(inputs["log_mel"])
    given, other = (jnp.asarray(inputs[name]) for name in ("inputs", "negative_inputs"))
    lasts = [jnp.asarray(inputs[name], jnp.int32) for name in ("last_index", "negative_last_index")]

    def loss(trained: Any, statistics: Any, train: bool) -> Any:
        scores = []
        for ids, last in zip((given, other), lasts, strict=True):
            variables = {"params": trained, "batch_stats": statistics}
            made, statistics = captioning.encode(variables, config, mel, train=train)
            scores.append(selection_scores(variables, config, made["memory"], ids, last))
            if ids is given:
                memory = made["memory"]
                logits = captioning.caption_logits(variables, config, memory, ids)
        values = {
            "selection_scores": scores[0],
            "negative_selection_scores": scores[1],
            "selection_loss": losses.selection(*scores),
            "caption_loss": losses.smoothed(logits, jnp.asarray(inputs["targets"]), smoothing=0.0),
        }
        values["loss"] = values["selection_loss"] + values["caption_loss"]
        return values["loss"], (values, memory, logits, statistics)

    trained, statistics = params["params"], params["batch_stats"]
    _, (values, memory, logits, _) = jax.jit(loss, static_argnums=2)(trained, statistics, False)
    found = {f"eval_{name}": x for name, x in values.items()}
    found |= {"memory": memory.transpose(1, 0, 2), "eval_logits_v8": logits[..., ::8]}
    step = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=2)
    (_, (values, _, _, statistics)), slopes = step(trained, statistics, True)
    grads, running = to_torch({"params": slopes}, rules, keys), to_torch({"batch_stats": statistics}, rules, keys)
    order = [key for key in keys if key in grads]
    found |= {f"train_{name}": x for name, x in values.items()}
    found["grad_norms"] = np.array([np.linalg.norm(grads[key]) for key in order])
    found["grad_norm"] = np.linalg.norm(found["grad_norms"])
    return _recorded(inputs, {"grad": grads, "after": running}, found)


def training_step(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """One step of the CNN-Transformer, its encoder but the last layer kept as it is, or not."""
    config, rules = captioning.CNN10_CLOTHO, captioning.cnn_weights(captioning.CNN10_CLOTHO)
    params = _parameters(case, keys, config, rules)
    ids, mel = jnp.asarray(inputs["tgt_ids"]), log_mel(sound(inputs), config.mel)
    mask = _mask(inputs)[:, :-1]
    given = ids[:, :-1]

    def loss(trained: Any, statistics: Any, train: bool) -> Any:
        variables = {"params": trained, "batch_stats": statistics}
        made, statistics = captioning.encode(variables, config, mel, train=train)
        logits = captioning.caption_logits(variables, config, made["memory"], given, mask)
        return losses.smoothed(logits, ids[:, 1:]), (logits, statistics)

    trained, statistics = params["params"], params["batch_stats"]
    step = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=2)
    (value, (logits, after)), slopes = step(trained, statistics, True)
    running, grads = to_torch({"batch_stats": after}, rules, keys), to_torch({"params": slopes}, rules, keys)
    found: dict[str, Any] = {"logits_v8": logits[..., ::8]}
    sources = {"after": running, "frozen_grad": grads, "full_grad": grads}
    pattern = {"frozen": r"^(?!encoder/|word_emb)|encoder/fc", "full": r"^(?!word_emb)"}
    for kind, trainable in pattern.items():
        mask_of = path_mask(trained, trainable)
        tx = optax.chain(optax.clip_by_global_norm(2.0), optax.add_decayed_weights(1e-6), adamw(1e-3))
        kept = jax.tree.map(lambda g, on: g if on else jnp.zeros_like(g), slopes, mask_of)
        updates, _ = tx.update(kept, tx.init(trained), trained)
        new = jax.tree.map(lambda x, u, on: x + u if on else x, trained, updates, mask_of)
        ours = to_torch({"params": kept}, rules, keys)
        moved = [
            key
            for key, x in to_torch({"params": jax.tree.map(_spread, mask_of, trained)}, rules, keys).items()
            if x.all()
        ]
        norms = np.array([np.linalg.norm(ours[key]) for key in keys if key in moved])
        found |= {f"{kind}_loss": value, f"{kind}_grad_norms": norms, f"{kind}_grad_norm": np.linalg.norm(norms)}
        sources[f"{kind}_param_after"] = to_torch({"params": new}, rules, keys)
        if kind == "frozen":
            found["eval_after_step_loss"] = jax.jit(loss, static_argnums=2)(new, after, False)[0]
    return _recorded(inputs, sources, found)


def _spread(on: bool, x: jax.Array) -> np.ndarray:
    return np.full(x.shape, on)


def objectives(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Smoothed cross entropies, and the loss of self-critical training from its rewards."""
    logits, targets = jnp.asarray(inputs["logits"]), jnp.asarray(inputs["targets"])
    ignored = int(inputs["ignore_index"])
    out = {
        "loss_captioning_ls01": losses.smoothed(logits, targets),
        "loss_captioning_ls01_ignore": losses.smoothed(logits, targets, ignored=ignored),
        "loss_torch_ce_ls01": losses.smoothed(logits, targets, everywhere=True),
        "scst_mask": losses.until_end(jnp.asarray(inputs["scst_packed_ids"]), 9),
    }

    def critical(log_probs: jax.Array) -> jax.Array:
        return losses.self_critical(log_probs, jnp.asarray(inputs["scst_reward"]), out["scst_mask"])

    out["scst_loss"], out["scst_grad"] = jax.value_and_grad(critical)(jnp.asarray(inputs["scst_logprobs"]))
    return {name: np.asarray(x) for name, x in out.items()}


CASES: dict[str, Callable] = {
    "dcase2021_cnn10_clotho": cnn_transformer(captioning.CNN10_CLOTHO),
    "dcase2021_cnn10_keywords_encdec": cnn_transformer(captioning.CNN10_KEYWORDS_CLOTHO),
    "dcase2021_cnn14_clotho": cnn_transformer(captioning.CNN14_CLOTHO),
    "dcase2021_resnet38_clotho": cnn_transformer(captioning.RESNET38_CLOTHO),
    "cl4ac_full": contrastive,
    "caption_train_step": training_step,
    "caption_losses": objectives,
    "act_m": transformer(captioning.ACT_M),
    "vact_video": transformer(captioning.VACT_VIDEO),
    "vact_audio": transformer(captioning.VACT_AUDIO),
    "vact_audio_visual": transformer(captioning.VACT_AUDIO_VISUAL),
}
