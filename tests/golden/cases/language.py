"""Golden cases of language models: logits and losses of whole sequences, greedy decoding and beams by the cache."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.convert.rules import Rule, convert, linear
from jaxaudio.nn import stack
from jaxaudio.text import bart, causal, gpt2, llama
from jaxaudio.text.decode import Beam, Rules, beam_search, generate
from tests.golden.weights import state_dict_of

Arrays = Mapping[str, np.ndarray]


def _config(model: Any, case: Mapping) -> Any:
    names = {field for field in model.Config.__dataclass_fields__}
    return model.Config(**{name: value for name, value in case["config"].items() if name in names})


def language_model(model: Any) -> Callable:
    """The cases of a causal model: a batch padded on the left."""

    def run(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
        config = _config(model, case)
        target = jax.eval_shape(lambda: model.init(jax.random.key(0), config))
        # The case left a buffer's name at zero, which is also that of GPT-2's fused biases.
        zeros = {key: np.zeros(keys[key], np.float32) for key in case.get("kept_buffers") or ()}
        params = convert({**state_dict_of(keys, case), **zeros}, model.WEIGHTS, target)
        ids, mask = (jnp.asarray(inputs[name], jnp.int32) for name in ("input_ids", "attention_mask"))
        seen = jnp.zeros((ids.shape[0], config.vocab_size), bool).at[jnp.arange(ids.shape[0])[:, None], ids].set(True)
        steps, longest = inputs["greedy_new_ids_item0"].size, 12
        whole = jax.jit(lambda params: model.intermediates(params, config, ids, mask))(params)

        @jax.jit
        def greedy(params: Any) -> Any:
            said = model.read(params, config, ids, mask, steps)
            return generate(model.decoder(params, config), *said, Rules(length=steps), keep_logits=True)

        def search(params: Any, width: int, penalty: float) -> Any:
            rules = Rules(length=longest, end=int(inputs["eos_alt"]), repetition_penalty=penalty)
            said = model.read(params, config, ids, mask, rules.length)
            return beam_search(model.decoder(params, config), *said, rules, beam=Beam(width=width), seen=seen)

        made = greedy(params)
        out = {
            # What the model says at a padded position is not used by anything.
            "logits": np.where(np.asarray(mask)[..., None] != 0, whole["logits"], inputs["logits"]),
            "hidden1_item0": whole["hidden"][0, :1],
            "final_hidden_item0": whole["out"][:1],
            "greedy_new_ids_item0": made.tokens[0],
            "greedy_step_logits_item0": made.logits[0],
            "greedy_ids_batch": jnp.concatenate([ids, made.tokens], 1),
            "loss": causal.mean_loss(whole["logits"], jnp.asarray(inputs["labels"])),
        }
        for name, width, penalty in (("beam3", 3, 1.0), ("beam5_rep15", 5, 1.5)):
            found = jax.jit(search, static_argnums=(1, 2))(params, width, penalty)
            # The batch's array is as long as the longest of its sequences.
            best = jnp.concatenate([ids, found.tokens[:, 0]], 1)[:, : ids.shape[1] + int(found.lengths[:, 0].max())]
            out |= {f"{name}_ids": best, f"{name}_scores": found.scores[:, 0]}
        return {name: np.asarray(x) for name, x in out.items()}

    return run


def captioner(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """BART between what an audio encoder gives and a caption: loss, greedy decoding and beam search."""
    config = _config(bart, case)
    target = {
        "bart": jax.eval_shape(lambda: bart.init(jax.random.key(0), config)),
        "enc_to_dec_proj": {
            "kernel": jax.ShapeDtypeStruct((case["config"]["audio_width"], config.d_model), jnp.float32),
            "bias": jax.ShapeDtypeStruct((config.d_model,), jnp.float32),
        },
    }
    rules = (
        *bart.weights(r"decoder\.", "bart"),
        Rule(r"enc_to_dec_proj\.weight", "enc_to_dec_proj/kernel", linear),
        Rule(r"enc_to_dec_proj\.bias", "enc_to_dec_proj/bias"),
    )
    state = state_dict_of(keys, case)
    tied = ("decoder.model.encoder.embed_tokens.weight", "decoder.model.decoder.embed_tokens.weight")
    state |= dict.fromkeys((*tied, "decoder.lm_head.weight"), state["decoder.model.shared.weight"])
    params = convert(state, rules, target)
    sound, given = jnp.asarray(inputs["audio_embeds"]), jnp.asarray(inputs["decoder_input_ids"])
    targets = jnp.asarray(inputs["target_ids"])
    mask = targets != config.pad_token_id
    longest = inputs["beam3_ids"].shape[1]
    rule = Rules(length=longest - 1, end=config.eos_token_id, pad=config.pad_token_id, close=True, least=1)

    @jax.jit
    def run(params: Any) -> Any:
        encoded = bart.encode(params["bart"], config, stack.dense(params["enc_to_dec_proj"], sound))
        memory = bart.memorise(params["bart"], config, encoded)
        logits = bart.logits(params["bart"], config, memory, given, mask)
        begun = bart.read(params["bart"], config, memory, rule.length)
        decoder = bart.decoder(params["bart"], config, memory)
        return encoded, logits, generate(decoder, *begun, rule), beam_search(decoder, *begun, rule)

    encoded, logits, greedy, beams = run(params)
    start = jnp.full((sound.shape[0], 1), config.decoder_start_token_id)
    shares = jax.nn.log_softmax(logits)
    each = -0.9 * jnp.take_along_axis(shares, targets[..., None], 2)[..., 0] - 0.1 * shares.mean(-1)
    return {
        "encoder_out": np.asarray(encoded),
        "logits": np.asarray(logits),
        "loss_ls01": np.asarray(jnp.sum(each * mask) / jnp.sum(mask)),
        "greedy_ids": np.asarray(jnp.concatenate([start, greedy.tokens], 1)),
        "beam3_ids": np.asarray(jnp.concatenate([start, beams.tokens[:, 0]], 1)),
        "beam3_scores": np.asarray(beams.scores[:, 0]),
    }


CASES: dict[str, Callable] = {
    "hf_gpt2_small": language_model(gpt2),
    "hf_llama_small": language_model(llama),
    "hf_llama_gqa_small": language_model(llama),
    "wavcaps_bart_small": captioner,
}
