"""The smallest experiment: a two-layer regression with noise, on batches drawn by position."""

import dataclasses
import os
import signal
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np

from jaxaudio.train import Experiment, Optimizer, Task, item_keys, run

WIDTH = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Options of the made-up data.

    Attributes:
      noise: added to the inputs inside the loss, drawn per item.
      hidden: width of the hidden layer.
      kill_at: the process kills itself at this batch, counted from its own start; 0 for never.
      kill_after: and so many seconds later.
      term_at: batch at which the process sends itself SIGTERM; 0 for never.
      bad_at: batch that holds a NaN; 0 for none.
    """

    noise: float = 0.0
    hidden: int = 16
    kill_at: int = 0
    kill_after: float = 0.0
    term_at: int = 0
    bad_at: int = 0


class Batches:
    def __init__(self, experiment: Experiment) -> None:
        self.seed, self.rows, self.options = experiment.seed, experiment.batch_size, experiment.data
        self.position = self.drawn = 0

    def __iter__(self):
        return self

    def __next__(self):
        rng = np.random.default_rng((self.seed, self.position))
        self.position += 1
        self.drawn += 1
        if self.drawn == self.options.kill_at:
            timer = threading.Timer(self.options.kill_after, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        if self.position == self.options.term_at:
            os.kill(os.getpid(), signal.SIGTERM)
        x = rng.standard_normal((self.rows, WIDTH)).astype(np.float32)
        if self.position == self.options.bad_at:
            x[0, 0] = np.nan
        mine = slice(jax.process_index(), None, jax.process_count())
        return {"x": x[mine], "y": np.sin(x.sum(1))[mine]}

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


class Repeated:
    """The same batch again and again."""

    def __init__(self, **batch):
        self.batch, self.position = batch, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.position += 1
        return dict(self.batch)

    def get_state(self):
        return self.position

    def set_state(self, state):
        self.position = state


def init(key, hidden):
    """Fixed values, since compiling a random number generator is most of such a small run's time."""
    w = np.sin(np.arange(WIDTH * hidden, dtype=np.float32)).reshape(WIDTH, hidden) / 3
    v = np.cos(np.arange(hidden, dtype=np.float32)) / 4
    return {"w": jnp.asarray(w), "v": jnp.asarray(v)}, {"stats": {"seen": jnp.zeros(())}}


def make_loss(noise):
    def loss(params, extra, batch, key, frozen):
        x = batch["x"]
        if noise:
            x = x + noise * jax.vmap(lambda k: jax.random.normal(k, (WIDTH,)))(item_keys(key, batch["index"]))
        hidden = jnp.tanh(x @ params["w"])
        error = jnp.mean(jnp.square(hidden @ params["v"] - batch["y"]))
        return error, ({"error": error}, {"stats": {"seen": extra["stats"]["seen"] + 1}})

    return loss


def build(experiment: Experiment) -> Task:
    return Task(
        loss=lambda axis_name: make_loss(experiment.data.noise),
        init=lambda key: init(key, experiment.data.hidden),
        data=Batches(experiment),
        evaluate=lambda variables: {"norm": float(jnp.linalg.norm(variables["params"]["w"]))},
        config={"system": "tiny"},
    )


EXPERIMENT = Experiment(
    build=build,
    steps=40,
    data=Data(),
    log_every=4,
    save_every=4,
    ema_decay=0.99,
    clip_norm=1.0,
    optimizer=Optimizer(lr=1e-2, amsgrad=True, weight_decay=1e-2, schedule="cosine", warm_up_steps=5),
)

if __name__ == "__main__":
    sys.exit(run(__file__, sys.argv[1:]).exit_code)
