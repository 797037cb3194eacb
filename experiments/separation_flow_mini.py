"""The small FlowSep that is shipped: separates by rectified flow in the latents of the small text-to-audio systems.

jaxaudio train experiments/generation_vae.py --data.root data/open_sounds
jaxaudio train experiments/generation_vocoder.py --data.root data/open_sounds
python experiments/generation_latents.py --data data/open_sounds
jaxaudio train experiments/separation_flow_mini.py --data.root data/open_sounds

The shipped weights are of 5,652 steps, and of others up to 6,600 in which the learning rate goes to zero:

jaxaudio train experiments/separation_flow_mini.py --data.root data/open_sounds --steps 6600 \
    --optimizer.schedule cosine --optimizer.lr 4e-3 --optimizer.final-lr 1e-5
"""

import dataclasses

from jaxaudio.data import open_sounds
from jaxaudio.data.latents import read_latents
from jaxaudio.data.pipeline import MixtureConfig, MixturePipeline
from jaxaudio.systems import flowsep
from jaxaudio.text import queries
from jaxaudio.train import Experiment, Optimizer, Task
from jaxaudio.train.generation import conditions, flow_batches, latent_task, mixture_batches, read_stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the sounds and the stages around the model are.

    Attributes:
      root: folder of a built data set.
      latents: folder of `generation_latents.py`, of which the scale is taken.
      vae: weights of the autoencoder.
      vocoder: weights of the vocoder; "" where it is not trained yet.
      seconds: length of a mixture.
      low_db: lowest level of the interference over the target.
      high_db: highest level of the interference over the target.
      drop: probability that the query is left out.
    """

    root: str = "data/open_sounds"
    latents: str = "data/latents"
    vae: str = "runs/generation_vae/final"
    vocoder: str = "runs/generation_vocoder/final"
    seconds: float = 2.56
    low_db: int = -6
    high_db: int = 6
    drop: float = 0.1


def build(experiment: Experiment) -> Task:
    """Mixtures and what a caption names of them, encoded on the way."""
    data, config = experiment.data, experiment.model
    scale = read_latents(f"{data.latents}/train").scale
    stages = read_stages(config.audio, data.vae, data.vocoder, scale)
    text = conditions(queries.cached(queries.sentence_encoder(allow_empty=True)))
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
    unseen = MixturePipeline(
        open_sounds.open_split(data.root, "heldout_clips"), dataclasses.replace(mixtures, batch=128), text=text
    )
    return latent_task(
        experiment,
        system=flowsep,
        data=mixture_batches(open_sounds.open_split(data.root, "train"), mixtures, text),
        stages=stages,
        evaluation=unseen[0],
        drop=data.drop,
        prepare=flow_batches(config),
        about={"text": {"kind": "mini"}},
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/separation_flow_mini",
    steps=5652,
    batch_size=16,
    model=flowsep.MINI,
    data=Data(),
    optimizer=Optimizer(
        lr=1e-3, b2=0.99, weight_decay=0.01, schedule="linear_warm_up", warm_up_steps=200, reduce_lr_steps=1000
    ),
    clip_norm=1.0,
    ema_decay=0.999,
    log_every=50,
    eval_every=500,
    save_every=500,
    save_minutes=5,
    best="-loss",
)
