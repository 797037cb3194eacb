"""Checkpoints: what is saved comes back; what is damaged is noticed, and the one before it used."""

import json
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxaudio.errors import CheckpointError
from jaxaudio.train import Checkpointer, adamw, create, load_params, save_params

# Orbax's event loop complains about its own clean-up after a failed read.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def make(width=3):
    params = {"a": {"w": jnp.arange(4.0 * width).reshape(4, width)}, "b": jnp.full((2,), 0.5, jnp.bfloat16)}
    return create(params, {"batch_stats": {"m": jnp.ones(2)}}, adamw(1e-3, amsgrad=True), jax.random.key(3), ema=True)


def assert_equal(a, b):
    a, b = (
        jax.tree.map(lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x, t)
        for t in (a, b)
    )
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Steps 1, 2, 3, of which the last two are kept."""
    directory = tmp_path_factory.mktemp("run") / "checkpoints"
    with Checkpointer(directory, keep=2) as checkpoints:
        for step in (1, 2, 3):
            data = {"position": {"next": step}, "pair": (1, 2)}
            checkpoints.save(step, make().replace(step=jnp.int32(step)), config={"lr": 0.1}, data=data)
    return directory


@pytest.fixture
def copy(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def restore(directory, target=make):
    with Checkpointer(directory, keep=2) as checkpoints:
        return checkpoints.restore(jax.eval_shape(target))


def largest_file(directory):
    return max((p for p in directory.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_what_is_saved_comes_back(saved):
    with Checkpointer(saved, keep=2) as checkpoints:
        assert checkpoints.steps() == [2, 3]
    found = restore(saved)
    assert (found.step, found.config) == (3, {"lr": 0.1})
    assert found.data == {"position": {"next": 3}, "pair": [1, 2]}
    assert_equal(found.state, make().replace(step=jnp.int32(3)))
    assert {p.name for p in (saved / "3").iterdir() if p.is_dir()} == {"state", "config", "data"}


def test_nothing_to_restore(tmp_path):
    assert restore(tmp_path / "new") is None


def test_a_save_is_not_disturbed_by_donation(tmp_path):
    @jax.jit
    def fill(x, value):
        return jnp.full_like(x, value)

    change = jax.jit(fill, donate_argnums=0)
    state = jnp.zeros((512, 1024))
    with Checkpointer(tmp_path / "c", keep=9) as checkpoints:
        for step in range(1, 4):
            state = change(state, step)
            checkpoints.save(step, {"x": state}, config={}, data={})
            for _ in range(5):
                state = change(state, -1.0)
        found = checkpoints.restore({"x": state})
    np.testing.assert_array_equal(found.state["x"], 3.0)


DAMAGE = {
    "truncated data": lambda step: largest_file(step / "state").write_bytes(
        largest_file(step / "state").read_bytes()[:-40]
    ),
    "empty manifest": lambda step: (step / "state" / "manifest.ocdbt").write_bytes(b""),
    "no manifest": lambda step: (step / "state" / "manifest.ocdbt").unlink(),
    "no state": lambda step: shutil.rmtree(step / "state"),
    "truncated json": lambda step: (step / "data" / "metadata").write_text('{"data": {"posit'),
    "another position": lambda step: (step / "data" / "metadata").write_text(
        (step / "data" / "metadata").read_text().replace('"next": 3', '"next": 4')
    ),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_step_is_set_aside_and_the_one_before_it_used(copy, how):
    DAMAGE[how](copy / "3")
    with pytest.warns(UserWarning, match="checkpoint 3 is damaged"):
        found = restore(copy)
    assert found.step == 2
    assert_equal(found.state, make().replace(step=jnp.int32(2)))
    assert (copy.with_name("checkpoints-damaged") / "3").is_dir()
    with Checkpointer(copy, keep=2) as checkpoints:
        checkpoints.save(3, make().replace(step=jnp.int32(3)), config={}, data={})
    assert restore(copy).step == 3


def test_every_altered_byte_of_the_state_is_noticed(copy):
    """What comes back is either step 3 as saved (the byte meant nothing) or step 2 as saved."""
    rng = np.random.default_rng(0)
    files = sorted(p for p in (copy / "3" / "state").rglob("*") if p.is_file() and p.stat().st_size)
    noticed = 0
    for index in rng.integers(len(files), size=12):
        content = bytearray(files[index].read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        backup = files[index].read_bytes()
        files[index].write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = restore(copy)
        assert_equal(found.state, make().replace(step=jnp.int32(found.step)))
        if found.step == 2:
            noticed += 1
            shutil.move(copy.with_name("checkpoints-damaged") / "3", copy / "3")
        files[index].write_bytes(backup)
    assert noticed


def test_all_damaged_is_an_error_with_a_way_out(copy):
    for step in ("2", "3"):
        (copy / step / "state" / "manifest.ocdbt").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="--out"):
        restore(copy)
    assert (copy / "3").is_dir()


def test_a_checkpoint_of_another_model_is_an_error(saved):
    with pytest.raises(CheckpointError, match=r"params/a/w is float32\[4, 3\], not float32\[4, 5\]"):
        restore(saved, lambda: make(width=5))


def test_a_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="--out"):
        Checkpointer(tmp_path / "file" / "checkpoints")


VARIABLES = {
    "params": {"w": np.arange(6, dtype=np.float32).reshape(2, 3)},
    "batch_stats": {"m": np.ones(2, np.float16)},
}


def test_released_weights(tmp_path):
    save_params(tmp_path / "w", VARIABLES, {"system": "old"})
    path = save_params(tmp_path / "w", VARIABLES, {"system": "new", "rate": 32000})
    for target in (None, VARIABLES, jax.eval_shape(lambda: jax.tree.map(jnp.asarray, VARIABLES))):
        params, config = load_params(path, target)
        assert config == {"system": "new", "rate": 32000}
        assert_equal(params, VARIABLES)
    assert [p.name for p in tmp_path.iterdir()] == ["w"]
    # The files may be given away: they do not name the machine.
    assert not any(str(tmp_path).encode() in p.read_bytes() for p in path.rglob("*") if p.is_file())


@pytest.mark.parametrize("how", ["weights", "config", "checksum", "missing", "shape"])
def test_released_weights_that_cannot_be_used(tmp_path, how):
    path, target = save_params(tmp_path / "w", VARIABLES, {}), None
    match how:
        case "weights":
            file = largest_file(path / "params")
            file.write_bytes(file.read_bytes()[:-30])
        case "config":
            (path / "config.json").write_text("{")
        case "checksum":
            config = json.loads((path / "config.json").read_text())
            config["checksums"]["params/w"] ^= 1
            (path / "config.json").write_text(json.dumps(config))
        case "missing":
            path = tmp_path / "elsewhere"
        case "shape":
            target = {**VARIABLES, "params": {"w": np.zeros((3, 3), np.float32)}}
    with pytest.raises(CheckpointError, match="fetch or export it again"):
        load_params(path, target)


def test_weights_survive_a_crash_between_the_two_renames(tmp_path):
    path = save_params(tmp_path / "w", VARIABLES, {})
    path.rename(tmp_path / ".w.old")
    assert_equal(load_params(path)[0], VARIABLES)


def test_optimiser_states_without_arrays_survive(tmp_path):
    tx = optax.chain(optax.identity(), optax.sgd(0.1))
    state = create({"w": jnp.ones(2)}, {}, tx, jax.random.key(0))
    with Checkpointer(tmp_path / "c") as checkpoints:
        checkpoints.save(1, state, config={}, data={})
        assert_equal(checkpoints.restore(state).state, state)
