"""Language models: prompts of unequal length, and vectors in the place of words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.errors import UsageError
from jaxaudio.text import causal, gpt2, llama
from jaxaudio.text.decode import Rules, generate

MODELS = {
    "gpt2": (gpt2, gpt2.Config(vocab_size=30, n_positions=20, n_embd=16, n_layer=2, n_head=2)),
    "llama": (
        llama,
        llama.Config(
            vocab_size=30,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
        ),
    ),
}
IDS = jnp.asarray([[0, 0, 3, 4, 5], [6, 7, 8, 9, 10]])
MASK = jnp.asarray([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])


@pytest.fixture(params=MODELS)
def model(request):
    module, config = MODELS[request.param]
    params = module.init(jax.random.key(0), config)
    return module, config, jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(x.size), x.shape), params)


def test_a_padded_prompt_goes_on_as_it_does_alone(model):
    module, config, params = model
    rules = Rules(length=6)

    def said(ids, mask):
        return generate(module.decoder(params, config), *module.read(params, config, ids, mask, 6), rules)

    both, alone = said(IDS, MASK), said(IDS[:1, 2:], MASK[:1, 2:])
    np.testing.assert_array_equal(both.tokens[0], alone.tokens[0])
    np.testing.assert_allclose(both.log_probs[0], alone.log_probs[0], rtol=1e-4, atol=1e-5)
    # What was said, read as a whole, has the same words as the likeliest.
    ids, mask = jnp.concatenate([IDS, both.tokens], 1), jnp.pad(MASK, ((0, 0), (0, 6)), constant_values=1)
    whole = module.logits(params, config, ids, mask)
    np.testing.assert_array_equal(whole[:, 4:-1].argmax(-1), both.tokens)


def test_vectors_stand_in_for_words(model):
    module, config, params = model
    table = params["wte"] if module is gpt2 else params["embed_tokens"]
    np.testing.assert_array_equal(
        module.logits(params, config, table[IDS], MASK), module.logits(params, config, IDS, MASK)
    )


def test_too_long_a_text_is_refused(model):
    module, config, params = model
    if module is gpt2:
        with pytest.raises(UsageError, match="20 positions"):
            module.read(params, config, IDS, MASK, 16)
    with pytest.raises(UsageError, match="does not fit a cache"):
        causal.begin(module.read(params, config, IDS, MASK, 1)[1].cache, jnp.ones((2, 9)))


def test_the_loss_counts_what_is_not_ignored():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 5)), jnp.float32)
    labels = jnp.asarray([[-100, 2, -100, 4]])
    shares = jax.nn.log_softmax(logits)
    np.testing.assert_allclose(causal.mean_loss(logits, labels), -(shares[0, 0, 2] + shares[0, 2, 4]) / 2, rtol=1e-6)
