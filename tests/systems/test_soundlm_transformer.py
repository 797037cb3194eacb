"""The Transformer prior over codes: orders and their inverses, cached sampling, guidance, continuation, learning."""

import dataclasses
import functools
import math

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.convert.rules import count
from jaxaudio.errors import ConfigError, UsageError
from jaxaudio.nn import stack
from jaxaudio.systems.soundlm import orders, prior, transformer
from jaxaudio.text.decode import GREEDY, Sampling
from tests.systems.tiny import filled

SIZE, CODES = (3, 5), 7
LAYERS = stack.Config(width=8, layers=2, heads=2, hidden=12, norm="pre", last_norm=True)
CLASSES = transformer.Config(network=LAYERS, codes=CODES, bands=3, frames=5, names=("bark", "horn"))
ATTENDED = dataclasses.replace(LAYERS, memory=6)
RNG = np.random.default_rng(0)
GRID = jnp.asarray(RNG.integers(0, CODES, (3, *SIZE)), jnp.int32)
LABELS = jnp.asarray([0, 1, 1])
VECTORS = jnp.asarray(RNG.normal(size=(3, 4, 5)), jnp.float32)
MASK = jnp.asarray([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
KEYS = jax.random.split(jax.random.key(3), 3)
logits = jax.jit(transformer.logits, static_argnums=1)


@functools.cache
def made(**changes):
    """A prior in which a code calls for another: (params, config)."""
    config = dataclasses.replace(CLASSES, **changes)
    params = filled(lambda key: transformer.init(key, config))
    # One channel tells one code, and calls for the one after the next.
    codes = params["codes"] + 2 * jnp.eye(CODES + 1)
    kernel = params["out"]["kernel"] + jnp.roll(jnp.eye(CODES + 1, CODES), 2, axis=1)
    return params | {"codes": codes, "out": {"kernel": kernel, "bias": params["out"]["bias"] / 10}}, config


each_order = pytest.mark.parametrize("order", orders.ORDERS)


def steps_of(grid, order, size=SIZE):
    """What there is of each code, in lists of what comes at the same step."""
    step = orders.places(size, order).step
    return [np.asarray(grid)[:, step == i] for i in range(step.max() + 1)]


@each_order
@settings(max_examples=20, deadline=None)
@given(grid=hnp.arrays(np.int32, (2, *SIZE), elements=st.integers(0, CODES - 1)))
def test_grids_are_their_sequences(order, grid):
    sequence = orders.to_sequence(jnp.asarray(grid), order, CODES)
    assert sequence.shape == (2, *orders.shape(SIZE, order))
    assert int((sequence != CODES).sum()) == grid.size
    np.testing.assert_array_equal(orders.to_grid(sequence, SIZE, order), grid)


def test_orders_as_written():
    grid = jnp.asarray([[[1, 2, 3], [4, 5, 6]]])
    assert orders.to_sequence(grid, "frequency", 0).ravel().tolist() == [1, 2, 3, 4, 5, 6]
    assert orders.to_sequence(grid, "time", 0).ravel().tolist() == [1, 4, 2, 5, 3, 6]
    assert orders.to_sequence(grid, "delay", 0)[0].tolist() == [[1, 0], [2, 4], [3, 5], [0, 6]]


def test_steps_of_four_seconds():
    assert {order: orders.shape((20, 86), order) for order in orders.ORDERS} == {
        "frequency": (1720, 1),
        "time": (1720, 1),
        "delay": (105, 20),
    }
    assert transformer.URBANSOUND8K.steps == 105
    assert transformer.URBANSOUND8K.grid == prior.URBANSOUND8K.grid
    tree = jax.eval_shape(lambda: transformer.init(jax.random.key(0), transformer.URBANSOUND8K))
    assert count(tree) / 1e6 == pytest.approx(48.3, abs=0.1)
    tree = jax.eval_shape(lambda: transformer.init(jax.random.key(0), transformer.MINI))
    told = jnp.zeros((3, 1, transformer.MINI.vectors))
    draw = functools.partial(transformer.sample, config=transformer.MINI, condition=told, guidance=3.0)
    assert jax.eval_shape(lambda params: draw(params, key=KEYS), tree).ids.shape == (3, 16, 128)


@pytest.mark.parametrize(
    ("order", "condition", "sampling"),
    [
        ("frequency", "classes", GREEDY),
        ("time", "attended", Sampling(top_k=1)),
        ("time", "levels", GREEDY),
        ("delay", "before", Sampling(top_k=3, top_p=1e-3)),
    ],
)
def test_the_likeliest_codes_are_those_of_the_whole_grid(order, condition, sampling):
    if condition in ("classes", "levels"):
        last = {"last": "bands", "shared": False} if condition == "levels" else {}
        (params, config), given, mask = made(order=order, **last), LABELS, None
    else:
        network = LAYERS if condition == "before" else ATTENDED
        (params, config), given, mask = made(order=order, names=(), vectors=5, network=network), VECTORS, MASK
    drawn = transformer.sample(params, config, given, KEYS, mask=mask, sampling=sampling, keep_logits=True)
    assert drawn.ids.shape == drawn.log_probs.shape == (3, *config.grid)
    whole = logits(params, config, drawn.ids, given, mask=mask)
    np.testing.assert_allclose(drawn.logits, whole, atol=2e-5)
    np.testing.assert_array_equal(drawn.ids, whole.argmax(-1))
    np.testing.assert_allclose(drawn.log_probs, jax.nn.log_softmax(whole).max(-1), atol=2e-5)
    assert len(np.unique(drawn.ids)) > 2
    if mask is not None:  # what is masked is not there
        other = logits(params, config, drawn.ids, given.at[1, 2:].set(9.0), mask=mask)
        np.testing.assert_allclose(other, whole, atol=1e-5)
        assert np.abs(other - logits(params, config, drawn.ids, given + 1, mask=mask)).max() > 1e-3


@each_order
def test_a_step_sees_those_before_it(order):
    params, config = made(order=order)
    scores = steps_of(logits(params, config, GRID, LABELS), order)
    step = orders.places(SIZE, order).step
    for at in (0, 2, step.max() - 1):
        other = logits(params, config, jnp.where(step == at, (GRID + 1) % CODES, GRID), LABELS)
        pairs = zip(scores, steps_of(other, order), strict=True)
        changed = [np.abs(one - two).max() > 1e-6 for one, two in pairs]
        assert not any(changed[: at + 1])
        assert all(changed[at + 1 :])


@pytest.mark.parametrize(("order", "last"), [("frequency", "frames"), ("time", "bands"), ("delay", "frames")])
def test_sounds_are_independent_and_go_on_from_a_prefix(order, last):
    def turn(x):
        return x if last == "frames" else x.swapaxes(1, 2)

    told = []
    params, config = made(order=order, last=last)
    draw = functools.partial(transformer.sample, params, config, keep_logits=True)
    goes_on = functools.partial(draw, LABELS, KEYS)
    if order == "delay":
        goes_on = functools.partial(goes_on, on_step=lambda step, codes: told.append((int(step), np.asarray(codes))))
    free = draw(LABELS, KEYS)
    assert np.any(free.ids[1] != free.ids[2])  # of one class, by other keys
    np.testing.assert_array_equal(draw(LABELS[::-1], KEYS[::-1]).ids[::-1], free.ids)
    cut = (slice(None), slice(2)) if order == "frequency" else (slice(None), slice(None), slice(2))
    # The keys belong to steps: what was drawn after the same codes is drawn again.
    for part, same in zip(goes_on(prefix=turn(turn(free.ids)[cut])), free, strict=True):
        np.testing.assert_allclose(part, same, atol=2e-5)
    other = (turn(free.ids)[cut] + 1) % CODES
    jax.effects_barrier()
    told.clear()
    drawn = goes_on(prefix=turn(other))
    np.testing.assert_array_equal(turn(drawn.ids)[cut], other)
    whole = logits(params, config, drawn.ids, LABELS)
    np.testing.assert_allclose(drawn.logits, whole, atol=2e-5)
    share = np.take_along_axis(np.asarray(jax.nn.log_softmax(whole)), np.asarray(drawn.ids)[..., None], -1)[..., 0]
    np.testing.assert_allclose(drawn.log_probs, share, atol=2e-5)
    if order == "delay":  # steps are told as they are drawn: those of which anything was not known
        jax.effects_barrier()
        sequence = np.asarray(orders.to_sequence(drawn.ids, order, CODES))
        assert [step for step, _ in told] == list(range(2, config.steps))
        np.testing.assert_array_equal(np.stack([codes for _, codes in told], 1), sequence[:, 2:])
        np.testing.assert_array_equal(goes_on(prefix=GRID).ids, GRID)
    else:
        flat = orders.to_sequence(turn(free.ids), order, CODES)[:, :4, 0]
        np.testing.assert_array_equal(goes_on(prefix=flat).ids, free.ids)


def test_other_sizes_of_the_batch_and_derived_keys():
    params, config = made()
    derived = jax.vmap(jax.random.fold_in, (None, 0))(KEYS[0], jnp.arange(3))
    drawn = transformer.sample(params, config, LABELS, derived, keep_logits=True)
    alone = transformer.sample(params, config, LABELS[:1], KEYS[0])
    np.testing.assert_array_equal(alone.ids, drawn.ids[:1])
    assert alone.logits is None


@pytest.mark.parametrize("condition", ["classes", "before", "attended"])
def test_guidance(condition):
    prefix, mask = None, MASK
    if condition == "classes":
        (params, config), given, mask = made(), LABELS, None
    else:
        network = LAYERS if condition == "before" else ATTENDED
        (params, config), given = made(names=(), vectors=5, network=network), VECTORS
        prefix = GRID[:, :, :2] if condition == "attended" else None
    draw = functools.partial(
        transformer.sample, params, config, given, KEYS, mask=mask, prefix=prefix, keep_logits=True
    )
    if condition == "classes":
        plain, one = draw(), draw(guidance=jnp.asarray(1.0))
        np.testing.assert_array_equal(one.ids, plain.ids)
        np.testing.assert_allclose(one.logits, plain.logits, atol=2e-5)
    drawn = draw(guidance=3.0)
    who = jnp.asarray([True, False, True])
    read = functools.partial(logits, params, config, drawn.ids, given, mask=mask)
    led, free, part = (read(dropped=dropped) for dropped in (who & False, who | True, who))
    assert np.abs(led - free).max() > 0.1
    np.testing.assert_allclose(drawn.logits, free + 3 * (led - free), atol=1e-4)
    np.testing.assert_allclose(part, jnp.where(who[:, None, None, None], free, led), atol=1e-5)
    if condition == "before":
        np.testing.assert_allclose(free, logits(params, config, drawn.ids), atol=1e-5)
        np.testing.assert_allclose(led, logits(params, config, drawn.ids, given, mask=mask), atol=1e-5)


def test_without_a_condition():
    params, config = made(names=())
    drawn = transformer.sample(params, config, key=KEYS, keep_logits=True)
    np.testing.assert_allclose(drawn.logits, logits(params, config, drawn.ids), atol=2e-5)
    alone = jax.eval_shape(lambda: transformer.sample(params, config, sampling=GREEDY))
    assert alone.ids.shape == (1, *SIZE)


def test_the_loss():
    params, config = made(network=dataclasses.replace(LAYERS, dropout=0.2), unconditional=0.5)
    batch = {"codes": GRID, "class": LABELS}
    loss = jax.jit(functools.partial(transformer.loss, config=config))
    value, (metrics, extra) = loss(params, {}, batch)
    scores = logits(params, CLASSES, GRID, LABELS)
    share = np.take_along_axis(np.asarray(jax.nn.log_softmax(scores)), np.asarray(GRID)[..., None], -1)
    assert float(value) == pytest.approx(-share.mean(), rel=1e-5)
    assert float(metrics["accuracy"]) == pytest.approx((scores.argmax(-1) == GRID).mean())
    assert extra == {}
    silent = {**params, "out": jax.tree.map(jnp.zeros_like, params["out"])}
    assert float(loss(silent, {}, batch)[0]) == pytest.approx(math.log(CODES), rel=1e-6)
    # Who is without a condition, and what is dropped, goes by the index alone.
    turned = {"codes": GRID[::-1], "class": LABELS[::-1], "index": jnp.asarray([2, 1, 0])}
    drawn = loss(params, {}, {**batch, "index": jnp.arange(3)}, jax.random.key(0))[0]
    assert float(loss(params, {}, turned, jax.random.key(0))[0]) == pytest.approx(float(drawn), rel=1e-5)
    assert float(drawn) != pytest.approx(float(value), rel=1e-3)


def test_a_made_up_rule_is_learnt():
    # Each code is the one before it in its band and one more, or two more in the other class; bands begin anywhere.
    network = dataclasses.replace(LAYERS, width=32, hidden=64, heads=4)
    config = dataclasses.replace(CLASSES, network=network, unconditional=0.0)
    begin, labels = RNG.integers(0, CODES, (121, 32, 3, 1)), RNG.integers(0, 2, (121, 32))
    sounds = (begin + np.arange(5) * (labels[..., None, None] + 1)) % CODES
    batches = {"codes": jnp.asarray(sounds, jnp.int32), "class": jnp.asarray(labels)}
    tx = optax.adam(1e-2)
    slopes = jax.value_and_grad(functools.partial(transformer.loss, config=config), has_aux=True)

    @jax.jit
    def trained(params):
        def step(carry, batch):
            params, state = carry
            (value, _), grads = slopes(params, {}, batch)
            updates, state = tx.update(grads, state)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, tx.init(params)), batches)[1]

    values = trained(filled(lambda key: transformer.init(key, config)))
    # The first frame is chance, log(7) nats of its codes; the four others can be known. No batch comes twice.
    assert values[0] > 1.9
    assert math.log(CODES) / 5 - 0.02 < values[-10:].mean() < math.log(CODES) / 5 + 0.1


@pytest.mark.parametrize("told", [{"vectors": 5}, {"names": ("bark", "horn")}])
def test_gradients_of_a_new_deep_network_are_small(told):
    # A condition of zeros would be one of zeros in every layer, and each norm before a layer multiply its gradient.
    network = dataclasses.replace(LAYERS, layers=6)
    config = dataclasses.replace(CLASSES, network=network, **({"names": ()} | told))
    slopes = jax.jit(jax.grad(lambda params: transformer.loss(params, {}, {"codes": GRID}, config=config)[0]))
    steepest = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(slopes(transformer.init(KEYS[0], config))))
    assert 1e-3 < steepest < 1


def test_what_is_refused():
    for changes, message in [
        ({"order": "raster"}, "give one of frequency, time, delay"),
        ({"last": "codes"}, "'frames' or 'bands'"),
        ({"bands": 0}, "one of each"),
        ({"network": dataclasses.replace(LAYERS, causal=False)}, "causal=True"),
        ({"vectors": 4}, "give names or vectors"),
        ({"names": (), "network": ATTENDED}, "memory=0"),
        ({"unconditional": 1.0}, r"in \[0, 1\)"),
    ]:
        with pytest.raises(ConfigError, match=message):
            dataclasses.replace(CLASSES, **changes)
    params, config = made()
    draw = functools.partial(transformer.sample, params, config)
    single = made(order="frequency", last="bands")
    voiced = made(names=(), vectors=5)
    for call, message in [
        (lambda: orders.shape(SIZE, "raster"), "one of frequency"),
        (lambda: orders.shape((0, 4), "time"), "one band"),
        (lambda: orders.to_sequence(GRID[0], "time", 0), r"\(batch, bands, frames\)"),
        (lambda: orders.to_grid(GRID, SIZE, "time"), r"give \(batch, 15, 1\)"),
        (lambda: transformer.logits(params, config, GRID[:, :2], LABELS), r"give \(batch, 3, 5\)"),
        (lambda: transformer.logits(params, config, GRID, LABELS[:2]), r"give \(3,\)"),
        (lambda: transformer.logits(*voiced, GRID, VECTORS[..., :2]), r"give \(3, n, 5\)"),
        (lambda: transformer.logits(*voiced, GRID, VECTORS, mask=MASK[:, :2]), r"give \(3, 4\)"),
        (lambda: transformer.logits(*made(names=()), GRID, LABELS), "takes no condition"),
        (lambda: transformer.class_ids(config, ["cat"]), "no class 'cat'; there are bark, horn"),
        (lambda: draw(LABELS), "give a key"),
        (lambda: draw(LABELS, KEYS[:2]), "one for each"),
        (lambda: draw(None, KEYS, guidance=2.0), "guidance 1"),
        (lambda: draw(LABELS, KEYS, prefix=GRID[:, :2]), r"give \(batch, 3, n <= 5\)\.$"),
        (lambda: draw(LABELS, KEYS, prefix=GRID[:, 0]), r"give \(batch, 3, n <= 5\)\.$"),
        (
            lambda: transformer.sample(*single, LABELS, KEYS, prefix=GRID),
            r"\(batch, 5, n <= 3\), or \(batch, n <= 15\)",
        ),
    ]:
        with pytest.raises(UsageError, match=message):
            call()
    assert transformer.class_ids(config, ["horn", "bark"]).tolist() == [1, 0]
