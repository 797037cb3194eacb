"""The autoencoder of the small text-to-audio systems, the first of their stages.

jaxaudio data build open_sounds --out data/open_sounds
jaxaudio train experiments/generation_vae.py --data.root data/open_sounds
"""

import dataclasses

from jaxaudio.data import open_sounds
from jaxaudio.data.pipeline import MixtureConfig
from jaxaudio.nn import latent_audio
from jaxaudio.nn.discriminators import PatchConfig
from jaxaudio.train import Experiment, Optimizer, Task
from jaxaudio.train.generation import autoencoder_task, held_out, waveforms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the sounds are, and what is asked of the autoencoder.

    Attributes:
      root: folder of a built data set.
      evaluation: its split to measure on.
      seconds: length of a training sound.
      kl_weight: factor on the mean divergence of a latent number, where the error is a sum over the spectrogram.
      adversary_start: number of steps before the discriminator counts.
    """

    root: str = "data/open_sounds"
    evaluation: str = "heldout_clips"
    seconds: float = 1.28
    kl_weight: float = 200.0
    adversary_start: int = 900


def build(experiment: Experiment) -> Task:
    """Sounds alone and mixed, and the autoencoder against a patch discriminator."""
    data, rate = experiment.data, experiment.model.sample_rate
    mixtures = MixtureConfig(
        batch=experiment.batch_size,
        sample_rate=rate,
        seconds=data.seconds,
        low_db=-6,
        high_db=6,
        level_db=(-12.0, 6.0),
        place="random",
        balance=True,
        seed=experiment.seed,
    )
    return autoencoder_task(
        experiment,
        data=waveforms(open_sounds.open_split(data.root, "train"), mixtures),
        evaluation=held_out(open_sounds.open_split(data.root, data.evaluation), 64, round(5.12 * rate), rate),
        patch=PatchConfig(channels=32),
        kl_weight=data.kl_weight,
        adversary_start=data.adversary_start,
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/generation_vae",
    steps=1200,
    batch_size=16,
    model=latent_audio.MINI,
    data=Data(),
    optimizer=Optimizer(lr=1e-3, b1=0.5, b2=0.9, schedule="cosine", warm_up_steps=200, final_lr=2e-5),
    discriminator=Optimizer(lr=2e-4, b1=0.5, b2=0.9),
    clip_norm=10_000.0,
    ema_decay=0.995,
    log_every=50,
    eval_every=250,
    save_every=500,
    save_minutes=5,
)
