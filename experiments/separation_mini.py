"""The small separator that is shipped with jaxaudio, trained on `open_sounds`.

    jaxaudio data build open_sounds --out data/open_sounds
    jaxaudio train experiments/separation_mini.py --data.root data/open_sounds

Queries are sentence embeddings, so that wordings which never occurred in training find their way too.
"""

import dataclasses
import functools

import jax
import numpy as np

from jaxaudio.data import open_sounds
from jaxaudio.data.pipeline import MixtureConfig, MixturePipeline
from jaxaudio.metrics import protocol
from jaxaudio.systems import audiosep
from jaxaudio.text import queries
from jaxaudio.train import Experiment, Optimizer, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the sounds are and how they are mixed.

    Attributes:
      root: folder of the built `open_sounds`.
      encoder: folder of the query encoder; "" for the one in the package.
      seconds: length of a training mixture.
      low_db: lowest level of the interference over the target.
      high_db: highest level of the interference over the target.
      trials: evaluation mixtures per split.
    """

    root: str = "data/open_sounds"
    encoder: str = ""
    seconds: float = 2.55
    low_db: int = -6
    high_db: int = 6
    trials: int = 96


def build(experiment: Experiment) -> Task:
    """Sounds, captions as embeddings, the U-Net, and trials on held-out clips and concepts."""
    data, config = experiment.data, experiment.model
    embed = queries.cached(queries.sentence_encoder(data.encoder))
    clips = {split: open_sounds.open_split(data.root, split) for split in ("train", *_HELD_OUT)}
    mixtures = MixtureConfig(
        batch=experiment.batch_size,
        sample_rate=config.sample_rate,
        seconds=data.seconds,
        low_db=data.low_db,
        high_db=data.high_db,
        level_db=(-12.0, 6.0),
        place="random",
        balance=True,
        seed=experiment.seed,
    )

    def condition(captions):
        return {"condition": np.asarray(embed(captions))}

    @jax.jit
    def separate(params, mixture, condition):
        return audiosep.separate(params, config, mixture, condition)

    trials = {
        split: protocol.pair_trials(
            clips[split],
            clips["heldout_clips"],
            count=data.trials,
            seconds=4.0,
            sample_rate=config.sample_rate,
            place="random",
        )
        for split in _HELD_OUT
    }

    def evaluate(params):
        return protocol.evaluate_splits(lambda x, c: separate(params, x, embed(c)), trials, batch=16, wrong=True)

    def init(key):
        params = audiosep.init(key, config)
        return params["params"], {"batch_stats": params["batch_stats"]}

    share = jax.process_index(), jax.process_count()
    return Task(
        loss=lambda axis_name: functools.partial(audiosep.loss, config=config, objective="snr", axis_name=axis_name),
        init=init,
        data=iter(MixturePipeline(clips["train"], mixtures, text=condition, share=share)),
        evaluate=evaluate,
        config={"system": "audiosep", "config": dataclasses.asdict(config), "text": {"kind": "mini"}},
    )


_HELD_OUT = ("heldout_clips", "heldout_concepts")

EXPERIMENT = Experiment(
    build=build,
    out="runs/separation_mini",
    steps=40_000,
    batch_size=16,
    model=audiosep.MINI,
    data=Data(),
    optimizer=Optimizer(lr=1e-3, schedule="linear_warm_up", warm_up_steps=300, reduce_lr_steps=2000),
    clip_norm=5.0,
    ema_decay=0.999,
    log_every=50,
    eval_every=1000,
    save_every=500,
    save_minutes=10,
    best="heldout_clips/sdri",
)
