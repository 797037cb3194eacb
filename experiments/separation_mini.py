"""The small separator that is shipped with jaxaudio, trained on `open_sounds`.

    jaxaudio data build open_sounds --out data/open_sounds
    jaxaudio train experiments/separation_mini.py --data.root data/open_sounds

Queries are sentence embeddings, so that wordings which never occurred in training find their way too.
"""

import dataclasses
import functools

import numpy as np

from jaxaudio.systems import audiosep
from jaxaudio.text import queries
from jaxaudio.train import Experiment, Optimizer, Task, separation


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
    config, embed = experiment.model, queries.cached(queries.sentence_encoder(experiment.data.encoder))

    def condition(captions):
        return {"condition": np.asarray(embed(captions))}

    def separate(params, mixture, condition):
        return audiosep.separate(params, config, mixture, condition)

    return separation.task(
        experiment,
        config=config,
        text=condition,
        separate=separate,
        loss=functools.partial(audiosep.loss, config=config, objective="snr"),
        init=lambda key: audiosep.init(key, config),
        about={"system": "audiosep", "config": dataclasses.asdict(config), "text": {"kind": "mini"}},
    )


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
