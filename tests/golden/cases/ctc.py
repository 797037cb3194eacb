"""Golden cases of connectionist temporal classification and of error rates."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.text import ctc

Arrays = Mapping[str, np.ndarray]


def ctc_case(case: Mapping, keys: Mapping, inputs: Arrays) -> dict[str, np.ndarray]:
    """Loss, gradients, greedy and beam search, and the scores of prefixes of the first item."""
    blank, symbols = case["config"]["blank"], case["config"]["V"]
    logits, labels = inputs["logits"], inputs["targets"]
    lengths, label_lengths = inputs["input_lengths"], inputs["target_lengths"]

    def loss(logits, zero_infinity=True):
        return ctc.ctc_loss(logits, lengths, labels, label_lengths, blank, zero_infinity)

    log_probs = np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))
    beams = [ctc.beam_search(x[:n], blank=blank, width=50)[:3] for x, n in zip(log_probs, lengths, strict=True)]
    nbest = np.full((len(logits), 3, logits.shape[1]), -1)
    for item, best in enumerate(beams):
        for rank, (prefix, _) in enumerate(best):
            nbest[item, rank, : len(prefix)] = prefix
    out = {
        "loss_per_item": loss(logits),
        "loss_per_item_inf": loss(logits, False),
        "loss_mean": ctc.mean_ctc_loss(logits, lengths, labels, label_lengths, blank),
        "grad_logits": jax.grad(lambda x: jnp.sum(loss(x)))(jnp.asarray(logits)),
        "greedy": ctc.greedy(logits, lengths, blank)[0],
        "prefix_beam50_nbest": nbest,
        "prefix_beam50_logp": [[score for _, score in best] for best in beams],
    }
    own = log_probs[0, : lengths[0]]
    prefix = ctc.empty_prefix(own, blank)
    for name in ("after_sos", "after_3", "after_33"):
        scores = [-1e10 if c == blank else ctc.extend(own, prefix, c, blank)[0] for c in range(symbols)]
        scores[-1] = np.logaddexp(prefix.said[-1], prefix.quiet[-1])  # the last symbol stands for the end
        out[f"prefix_scores_{name}"] = scores
        _, prefix = ctc.extend(own, prefix, 3, blank)
    return {name: np.asarray(x) for name, x in out.items()}


CASES = {"ctc": ctc_case}
