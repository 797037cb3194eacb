"""What the tests run on forced host devices: `python -m tests.multi_device.worker NAME OUT` writes arrays to OUT."""

import dataclasses
import functools
import json
import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

import jaxaudio
from jaxaudio import benchmark, samplers
from jaxaudio.nn.norm import BatchNorm
from jaxaudio.nn.spectral_discriminators import BandConfig
from jaxaudio.systems import audiosep
from jaxaudio.train import (
    Experiment,
    adamw,
    batched_inference,
    create,
    data_mesh,
    data_parallel,
    initialize_distributed,
    item_keys,
    load_params,
    make_step,
    replicate,
    run,
    shard_batch,
)
from jaxaudio.train.adversarial import create_gan, gan_optimizer, make_gan_step
from jaxaudio.train.codec import compared, given, least_squares_critic
from jaxaudio.train.codec_tasks import sdcodec_task
from jaxaudio.train.parallel import Mode
from tests.models.tiny_codec import SPECTRAL
from tests.train import tiny

ROWS, WIDTH, STEPS = 16, 6, 5


class Net(nn.Module):
    """A layer (without bias, whose gradient before a BatchNorm is but rounding), batch statistics, a layer."""

    axis_name: str | None = None

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Dense(12, use_bias=False, name="first")(x)
        x = jnp.tanh(BatchNorm(axis_name=self.axis_name, name="norm")(x, train))
        return nn.Dense(1, name="last")(x)[..., 0]


def loss_for(axis_name):
    net = Net(axis_name)

    def loss(params, extra, batch, key, frozen):
        noise = jax.vmap(lambda k: jax.random.uniform(k, (WIDTH,)))(item_keys(key, batch["index"]))
        x = batch["x"] * frozen["gain"] + 0.3 * noise
        out, extra = net.apply({"params": params, **extra}, x, True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(out - batch["y"])), ({"mean": jnp.mean(out)}, extra)

    return loss


def batch(step):
    rng = np.random.default_rng(step)
    x = rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
    # Rows differ in scale, so that statistics of a part are far from those of the whole.
    x *= np.linspace(0.2, 3, ROWS, dtype=np.float32)[:, None]
    return {"x": x, "y": np.sin(x.sum(1))}


def mine(tree):
    """The rows of this process."""
    rows = ROWS // jax.process_count()
    return jax.tree.map(lambda x: x[jax.process_index() * rows :][:rows], tree)


def training(mode: Mode, accumulate=1):
    """Final parameters, statistics and metrics of a few steps."""
    tx = adamw(1e-2, amsgrad=True, weight_decay=0.1)
    variables = Net().init(jax.random.key(0), jnp.zeros((2, WIDTH)))
    state = create(variables["params"], {"batch_stats": variables["batch_stats"]}, tx, jax.random.key(1), ema=True)
    options = {"ema_decay": 0.9, "clip_norm": 0.5, "accumulate": accumulate}
    runner = data_parallel(lambda axis: make_step(loss_for(axis), tx, axis_name=axis, **options), mode)
    state, frozen = runner.place(state), runner.place({"gain": np.float32(1.5)})
    for n in range(STEPS):
        placed = runner.shard(mine(batch(n)))
        if mode == "mesh" and jax.device_count() > 1:
            check_split(placed["x"])
        state, metrics = runner.run(state, placed, frozen)
        jax.block_until_ready(metrics)
    assert all(x.is_fully_replicated for x in jax.tree.leaves(state.params))
    assert state.params["first"]["kernel"].shape == (WIDTH, 12)  # no device axis
    found = {"state": state.replace(key=jax.random.key_data(state.key)), "metrics": metrics}
    leaves = jax.tree_util.tree_flatten_with_path(found)[0]
    return {jax.tree_util.keystr(path): np.asarray(x.addressable_data(0)) for path, x in leaves}


def check_split(x):
    """Each device holds its own share and nothing else."""
    assert x.shape[0] == ROWS and x.sharding.spec == PartitionSpec("data"), x.sharding
    shards = x.addressable_shards
    assert all(s.data.shape == (ROWS // jax.device_count(), WIDTH) for s in shards)
    assert len({s.index[0].start or 0 for s in shards}) == jax.local_device_count()


def inference():
    """Batches of every awkward size, whole and in pieces."""

    def fn(shared, rows):
        return {"y": jnp.tanh(rows["x"] @ shared["w"]), "sum": rows["x"].sum(1)}

    rng = np.random.default_rng(0)
    shared = {"w": rng.standard_normal((WIDTH, 3)).astype(np.float32)}
    found = {}
    for count in (1, 3, 8, 19):
        x = rng.standard_normal((count, WIDTH)).astype(np.float32)
        for rows in (None, 1, 2):
            out = batched_inference(fn, shared, rows=rows)({"x": x})
            assert out["y"].shape == (count, 3) and out["sum"].shape == (count,)
            found |= {f"{count} {rows} {name}": value for name, value in out.items()}
    return found


SEPARATOR = audiosep.Config(
    n_fft=64, hop=16, condition_size=5, stem=4, channels=(4, 6), pools=((2, 2), (2, 2)), bottleneck=6
)


def separator(mode: Mode):
    """AudioSep's own training step and its inference, on a small U-Net."""
    rng = np.random.default_rng(0)
    scale = np.linspace(0.05, 1, ROWS, dtype=np.float32)[:, None]
    mixture, segment = scale * rng.standard_normal((2, ROWS, 500)).astype(np.float32)
    rows = {"mixture": mixture, "segment": segment, "condition": rng.standard_normal((ROWS, 5)).astype(np.float32)}
    start = jax.tree.map(np.asarray, audiosep.init(jax.random.key(0), SEPARATOR))
    # Not Adam: its first steps are signs of gradients, which rounding turns where they are next to nothing.
    tx = optax.sgd(0.1)
    state = create(start["params"], {"batch_stats": start["batch_stats"]}, tx, jax.random.key(1), ema=False)

    def step(axis):
        return make_step(functools.partial(audiosep.loss, config=SEPARATOR, axis_name=axis), tx, axis_name=axis)

    runner = data_parallel(step, mode)
    state = runner.place(state)
    for _ in range(3):
        state, metrics = runner.run(state, runner.shard(mine(rows)), None)
        jax.block_until_ready(metrics)
    found = {"params": state.params, "extra": state.extra, "loss": metrics["loss"]}
    leaves = jax.tree_util.tree_flatten_with_path(found)[0]
    made = {jax.tree_util.keystr(path): np.asarray(x.addressable_data(0)) for path, x in leaves}
    if jax.process_count() == 1:
        separate = batched_inference(lambda p, x: audiosep.separate(p, SEPARATOR, x["mixture"], x["condition"]), start)
        made["separated"] = separate({name: x[:13] for name, x in rows.items()})
    return made


def codec(mode: Mode):
    """SD-Codec's training step before its discriminators begin, with codebooks that follow their sources."""
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((ROWS, 2, 800)).astype(np.float32)
    valid = np.array([[1, 1], [1, 0], [0, 1], [1, 1]] * (ROWS // 4), np.float32)
    task = sdcodec_task(
        Experiment(build=lambda e: None, out="", model=SPECTRAL, batch_size=ROWS),
        data=iter(()),
        evaluation={"sources": sources},
        critic=least_squares_critic(
            BandConfig(periods=(2,), period_channels=(2, 2), windows=(64,), bands=((0, 1),), channels=2)
        ),
        terms={
            "near": compared(1.0, lambda a, b: jnp.mean(jnp.abs(a - b), -1)),
            "commitment": given(1.0, "commitment"),
        },
        swap=0.0,  # within what a device has
        follow=0.9,
        adversary_start=9,
    )
    params, extra = jax.tree.map(np.asarray, task.init(jax.random.key(0)))
    for book in extra["generator"]["books"].values():  # in use, so that none is revived: each device would draw its own
        book |= {"counts": 1000 + book["counts"], "sums": 1000 * book["codebook"]}
    tx = gan_optimizer(optax.sgd(0.01), optax.sgd(0.01))

    def step(axis):
        return make_gan_step(task.loss(axis), tx, axis_name=axis, alone=True)

    runner = data_parallel(step, mode)
    state = runner.place(create_gan(params, extra, tx, jax.random.key(1)))
    for _ in range(2):
        state, metrics = runner.run(state, runner.shard(mine({"sources": sources, "valid": valid})), None)
        jax.block_until_ready(metrics)
    found = {"params": state.params["generator"], "books": state.extra["generator"], "loss": metrics["loss"]}
    leaves = jax.tree_util.tree_flatten_with_path(found)[0]
    return {jax.tree_util.keystr(path): np.asarray(x.addressable_data(0)) for path, x in leaves}


def sampling(mode: Mode):
    """A guided network sampled with and without fresh noise: what item i becomes is the item's own business."""
    rng = np.random.default_rng(0)
    shared = {name: rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 3 for name in ("x", "told")}
    rows = {"told": rng.standard_normal((ROWS, WIDTH)).astype(np.float32), "item": np.arange(ROWS, dtype=np.int32)}
    key = jax.random.key(5)

    def fn(shared, rows):
        def network(x, t, told):
            return jnp.tanh(x @ shared["x"] + told @ shared["told"] + 0.001 * t)

        predict = samplers.classifier_free(network, rows["told"], 0 * rows["told"], 2.5)
        x = samplers.item_noise(key, (rows["item"].shape[0], WIDTH), items=rows["item"])
        return {
            solver: samplers.sample(
                predict, x, samplers.usual_schedule(solver, 6), key, solver=solver, items=rows["item"]
            )
            for solver in ("unipc", "dpmpp-2m-sde")
        }

    if mode == "pmap":
        apply = batched_inference(fn, shared)
        uneven = apply({name: x[:13] for name, x in rows.items()})
        whole = apply(rows)
        for name, x in whole.items():
            np.testing.assert_allclose(uneven[name], x[:13], rtol=1e-5, atol=1e-6)
        return whole
    mesh = data_mesh()
    made = jax.jit(fn)(replicate(shared, mesh), shard_batch(rows, mesh))
    for x in made.values():
        shards = {shard.data.shape for shard in x.addressable_shards}
        assert shards == {(ROWS // jax.device_count(), WIDTH)}, shards  # nothing was gathered
    return {name: np.asarray(x) for name, x in made.items()}


def generate():
    """The generator of the package, uneven numbers of sounds: what sound i becomes is its own business."""
    model = jaxaudio.load("audioldm-mini")
    options = {"seconds": 0.64, "steps": 2, "seed": 3}
    three = model.generate(["rain", "a siren", "a violin"], batch=1, **options)
    many = model.generate(["rain", "a siren", "a violin"], count=3, batch=2, **options)
    np.testing.assert_allclose(many[:, 0], three, rtol=2e-4, atol=2e-5)
    return {"three": three, "many": many}


def measured():
    """A cell of the sampler benchmark on all devices: its figures are those of one."""
    grid = benchmark.Grid(solvers=("unipc",), steps=(4,), batch=(8,), devices=(jax.device_count(),))
    (row,) = benchmark.run(benchmark.find("gaussian"), grid, f"{sys.argv[1]}.benchmark", items=16, rounds=2)
    assert row["samples_per_s_per_device"] * jax.device_count() == row["samples_per_s"]
    return {name: np.float64(value) for name, value in row["quality"].items()}


def loop(mode):
    """A run of the loop, stopped at its middle and resumed: the same on any number of processes."""
    out = f"{sys.argv[1]}.{mode}"
    for words in (["--data.term-at", "7"], []):
        words = ["--out", out, "--steps", "20", "--save-every", "5", "--parallel", mode, *words]
        result = run(dataclasses.replace(tiny.EXPERIMENT, best="norm", eval_every=10), words, quiet=True)
    assert result.reason == "done"
    weights = [load_params(pathlib.Path(out) / name)[0]["params"] for name in ("best", "final")]
    with open(f"{out}/metrics.jsonl", encoding="utf-8") as file:
        steps = [json.loads(line)["step"] for line in file]
    assert steps == sorted(steps) and steps[-1] == 20
    leaves = jax.tree.leaves((result.state.params, weights))
    return {str(n): np.asarray(x.addressable_data(0) if isinstance(x, jax.Array) else x) for n, x in enumerate(leaves)}


JOBS = {
    "loop": lambda: loop("mesh"),
    "loop pmap": lambda: loop("pmap"),
    "mesh": lambda: training("mesh"),
    "pmap": lambda: training("pmap"),
    "mesh accumulate": lambda: training("mesh", 2),
    "pmap accumulate": lambda: training("pmap", 2),
    "generate": generate,
    "inference": inference,
    "benchmark": measured,
    "sampling": lambda: sampling("mesh"),
    "sampling pmap": lambda: sampling("pmap"),
    "codec": lambda: codec("mesh"),
    "codec pmap": lambda: codec("pmap"),
    "separator": lambda: separator("mesh"),
    "separator pmap": lambda: separator("pmap"),
}

if __name__ == "__main__":
    initialize_distributed()
    results = {f"{name}/{key}": value for name in sys.argv[2:] for key, value in JOBS[name]().items()}
    if jax.process_index() == 0:
        np.savez(sys.argv[1], devices=jax.device_count(), **results)
