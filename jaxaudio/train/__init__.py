"""Training: state, step, loop, checkpoints and devices."""

from jaxaudio.train.checkpoint import Checkpointer, load_params, save_params
from jaxaudio.train.experiment import DataIterator, Experiment, Task
from jaxaudio.train.launch import load_experiment, override, run
from jaxaudio.train.loop import Result, fit
from jaxaudio.train.optim import Optimizer, adamw
from jaxaudio.train.parallel import (
    batched_inference,
    data_mesh,
    data_parallel,
    initialize_distributed,
    replicate,
    shard_batch,
)
from jaxaudio.train.state import TrainState, create
from jaxaudio.train.step import Loss, ema_warm_up, item_keys, make_step
from jaxaudio.train.writers import Sound

__all__ = [
    "Checkpointer",
    "DataIterator",
    "Experiment",
    "Loss",
    "Optimizer",
    "Result",
    "Sound",
    "Task",
    "TrainState",
    "adamw",
    "batched_inference",
    "create",
    "data_mesh",
    "data_parallel",
    "ema_warm_up",
    "fit",
    "initialize_distributed",
    "item_keys",
    "load_experiment",
    "load_params",
    "make_step",
    "override",
    "replicate",
    "run",
    "save_params",
    "shard_batch",
]
