"""ASE: vectors that depend on their own item, soft targets, the loss by hand, published sizes, and what is refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxaudio.convert.rules import convert, count
from jaxaudio.errors import CheckpointError, ConfigError, UsageError
from jaxaudio.nn import panns
from jaxaudio.systems import ase
from jaxaudio.text import bert
from tests.systems.tiny import filled

TEXT = bert.Config(
    vocab_size=20,
    hidden_size=8,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=16,
    max_position_embeddings=10,
    pooler=False,
)
SOUND = panns.Config(widths=(4, 6), head="mean", classes=0)
SMALL = ase.Config(sound=SOUND, text=TEXT, features=12)
RNG = np.random.default_rng(0)
MEL = jnp.asarray(RNG.normal(size=(4, 20, 64)), jnp.float32)
IDS = jnp.asarray([[1, 5, 6, 2], [1, 7, 2, 0], [1, 9, 8, 2], [1, 11, 2, 0]])
MASK = IDS != 0


def _made():
    made = filled(lambda key: ase.init(key, SMALL))
    made["params"]["temp"] = jnp.asarray(0.5)
    stats = jax.tree_util.tree_map_with_path(
        lambda path, x: jnp.full_like(x, path[-1].key == "var"), made["batch_stats"]
    )
    return {"params": made["params"], "batch_stats": stats}


PARAMS = _made()
EXTRA = {"batch_stats": PARAMS["batch_stats"]}
audio_of = jax.jit(lambda mel: ase.encode_audio(PARAMS, SMALL, mel)[0])
text_of = jax.jit(lambda ids, mask: ase.embed_text(PARAMS, SMALL, ids, mask))


@pytest.mark.parametrize(("config", "millions"), [(ase.HTSAT_BERT, 140.10), (ase.CNN14_BERT, 189.35)])
def test_sizes(config, millions):
    """Those of the published modules without tagging heads."""
    tree = jax.eval_shape(lambda: ase.init(jax.random.key(0), config))
    assert count(tree["params"]) / 1e6 == pytest.approx(millions, abs=0.01)


def test_a_vector_is_of_its_own_item():
    audio, text = audio_of(MEL), text_of(IDS, MASK)
    assert audio["embedding"].shape == text.shape == (4, 12)
    for x in (audio["embedding"], text):
        np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1, atol=1e-6)
        assert np.min(np.linalg.norm(x[:, None] - x, axis=-1) + np.eye(4)) > 1e-3
    others = jnp.arange(4)[:, None] != 1
    np.testing.assert_allclose(
        audio_of(jnp.where(others[..., None], -2 * MEL, MEL))["embedding"][1], audio["embedding"][1], atol=1e-5
    )
    changed = jnp.where(others, 3, IDS)
    np.testing.assert_allclose(text_of(changed, changed != 0)[1], text[1], atol=1e-5)
    # What stands where the mask is 0 does not matter.
    np.testing.assert_allclose(text_of(jnp.where(MASK, IDS, 13), MASK), text, atol=1e-6)


def test_a_clip_is_its_largest_and_its_mean_frame():
    variables = {name: tree["audio_encoder"] for name, tree in PARAMS.items() if name != "temp"}
    maps = np.asarray(jax.jit(lambda mel: panns.apply(variables, SOUND, mel)[0]["maps"])(MEL))
    np.testing.assert_allclose(audio_of(MEL)["features"], maps.max(1) + maps.mean(1), atol=1e-5)
    audio = jnp.asarray(RNG.normal(size=(1, 3200)), jnp.float32)
    made = ase.encode_audio(PARAMS, SMALL, ase.hear(SMALL, audio))[0]["embedding"]
    np.testing.assert_array_equal(ase.embed_audio(PARAMS, SMALL, audio), made)


def test_captions_of_the_same_sound_share_the_target():
    found = ase.targets(jnp.asarray([7, 3, 7, 5]))
    wanted = [[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 1]]
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(ase.targets(jnp.arange(3)), np.eye(3))


def test_losses_by_hand():
    scores = RNG.normal(size=(4, 4))
    wanted = np.asarray(ase.targets(jnp.asarray([7, 3, 7, 5])), np.float64)

    def entropy(x):
        return -np.mean(np.sum((x - np.log(np.exp(x).sum(1, keepdims=True))) * wanted, 1))

    by_hand = (entropy(scores) + entropy(scores.T)) / 2
    assert ase.contrastive(jnp.asarray(scores), jnp.asarray(wanted)) == pytest.approx(by_hand, rel=1e-5)
    x = RNG.normal(size=(3, 5))
    assert ase.spread(jnp.asarray(x)) == pytest.approx(np.abs(x).mean() / np.sqrt(np.sum(x * x)), rel=1e-5)
    one = jnp.eye(1, 16)
    assert ase.spread(one) < ase.spread(jnp.full((1, 16), 0.25))


def test_the_loss():
    batch = {"mel": MEL, "ids": IDS, "mask": MASK, "sound": jnp.asarray([7, 3, 7, 5])}
    run = jax.jit(lambda batch, config: ase.loss(PARAMS["params"], EXTRA, batch, config=config), static_argnums=1)
    value, (metrics, new) = run(batch, SMALL)
    audio, text = audio_of(MEL)["embedding"], text_of(IDS, MASK)
    scores = np.asarray(audio, np.float64) @ np.asarray(text, np.float64).T / 0.5
    np.testing.assert_allclose(ase.similarity(PARAMS, audio, text), scores, atol=1e-5)
    alike = float(ase.contrastive(jnp.asarray(scores), ase.targets(batch["sound"])))
    regular = float(ase.spread(audio) + ase.spread(text))
    assert value == pytest.approx(alike + regular, rel=1e-5)
    assert metrics["contrastive"] == pytest.approx(alike, rel=1e-5)
    same = np.asarray([[1, 0, 1, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 1]])
    assert metrics["accuracy"] == pytest.approx(same[np.arange(4), scores.argmax(1)].mean())
    assert metrics["temperature"] == 0.5
    assert jax.tree.all(jax.tree.map(np.array_equal, new, EXTRA))
    plain, _ = run(batch, dataclasses.replace(SMALL, regularise=False))
    assert plain == pytest.approx(alike, rel=1e-5)


def test_training_updates_the_statistics_and_learns_the_temperature():
    batch = {"mel": MEL, "ids": IDS, "mask": MASK}

    def of_temperature(temperature, key):
        return ase.loss({**PARAMS["params"], "temp": temperature}, EXTRA, batch, key, config=SMALL)

    step = jax.jit(jax.value_and_grad(of_temperature, has_aux=True))
    (value, (_, new)), slope = step(jnp.asarray(0.5), jax.random.key(0))
    (other, _), _ = step(jnp.asarray(0.5), jax.random.key(1))
    assert np.isfinite(value) and value != other
    assert abs(slope) > 1e-4
    mean = new["batch_stats"]["audio_encoder"]["bn0"]["mean"]
    np.testing.assert_allclose(mean, 0.1 * MEL.mean((0, 1)), atol=1e-6)


def test_published_keys():
    """Of what is not the encoders'."""
    whole = jax.eval_shape(lambda: ase.init(jax.random.key(0), SMALL))["params"]
    target = {"params": {name: whole[name] for name in ("temp", "audio_proj", "text_proj")}}
    sizes = {"audio_proj.0": (12, 6), "text_proj.0": (12, 8), "audio_proj.2": (12, 12), "text_proj.2": (12, 12)}
    state = {f"{name}.weight": RNG.normal(size=size) for name, size in sizes.items()}
    state |= {f"{name}.bias": RNG.normal(size=size[:1]) for name, size in sizes.items()}
    made = convert({**state, "temp": np.asarray(0.07)}, ase.weights(SMALL), target)["params"]
    assert made["temp"] == np.float32(0.07)
    for side in ("audio", "text"):
        for number, name in ((0, "linear1"), (2, "linear2")):
            weight = state[f"{side}_proj.{number}.weight"]
            np.testing.assert_allclose(made[f"{side}_proj"][name]["kernel"], weight.T, rtol=1e-6)
    with pytest.raises(CheckpointError, match="nothing fills params/temp"):
        convert(state, ase.weights(SMALL), target)


@pytest.mark.parametrize(
    ("error", "hint", "wrong"),
    [
        (ConfigError, 'head="mean"', lambda: ase.Config(sound=panns.CNN14)),
        (ConfigError, "classes=0", lambda: ase.Config(sound=dataclasses.replace(SOUND, classes=3))),
        (ConfigError, "positive", lambda: dataclasses.replace(SMALL, temperature=0.0)),
        (UsageError, "cut the sentences", lambda: ase.embed_text(PARAMS, SMALL, *[jnp.ones((1, 11), jnp.int32)] * 2)),
        (UsageError, r"\(batch, time\)", lambda: ase.embed_audio(PARAMS, SMALL, jnp.zeros(3200))),
        (UsageError, "crop", lambda: ase.encode_audio(_shapes(), ase.HTSAT_BERT, jnp.zeros((1, 1025, 64)))),
    ],
)
def test_what_is_refused(error, hint, wrong):
    with pytest.raises(error, match=hint) as caught:
        wrong()
    assert str(caught.value).count("\n") <= 1


def _shapes():
    return jax.eval_shape(lambda: ase.init(jax.random.key(0), ase.HTSAT_BERT))
