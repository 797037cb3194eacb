"""The vocoder of the small text-to-audio systems; half of what it learns from has passed through their autoencoder.

jaxaudio train experiments/generation_vae.py --data.root data/open_sounds
jaxaudio train experiments/generation_vocoder.py --data.root data/open_sounds
"""

import dataclasses

from jaxaudio.data import open_sounds
from jaxaudio.data.pipeline import MixtureConfig
from jaxaudio.nn import latent_audio
from jaxaudio.nn.discriminators import WaveConfig
from jaxaudio.train import Experiment, Optimizer, Task, load_params
from jaxaudio.train.generation import held_out, vocoder_task, waveforms


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the sounds are.

    Attributes:
      root: folder of a built data set.
      evaluation: its split to measure on.
      vae: weights of the autoencoder; "" to learn from true spectrograms alone.
      seconds: length of a training sound.
      adversary_start: number of steps of the spectral loss alone, which cost a small part of the others.
      resolutions: lengths of the transforms that are compared bin by bin besides.
    """

    root: str = "data/open_sounds"
    evaluation: str = "heldout_clips"
    vae: str = "runs/generation_vae/final"
    seconds: float = 0.64
    adversary_start: int = 1400
    resolutions: tuple[int, ...] = (512, 2048, 4096)


_SLIM = WaveConfig(
    period_channels=(16, 32, 64, 128, 128),
    scales=2,
    scale_layers=((16, 15, 2, 1), (32, 15, 4, 1), (64, 15, 4, 1), (64, 15, 4, 1), (64, 5, 1, 1)),
)


def build(experiment: Experiment) -> Task:
    """Sounds alone and mixed; slim discriminators without groups, which a CPU is slow at."""
    data, rate = experiment.data, experiment.model.sample_rate
    mixtures = MixtureConfig(
        batch=experiment.batch_size,
        sample_rate=rate,
        seconds=data.seconds,
        low_db=-6,
        high_db=6,
        level_db=(-12.0, 6.0),
        place="repeat",
        balance=True,
        seed=experiment.seed,
    )
    return vocoder_task(
        experiment,
        data=waveforms(open_sounds.open_split(data.root, "train"), mixtures),
        evaluation=held_out(open_sounds.open_split(data.root, data.evaluation), 32, round(2.56 * rate), rate),
        waves=_SLIM,
        vae=load_params(data.vae)[0] if data.vae else None,
        adversary_start=data.adversary_start,
        resolutions=data.resolutions,
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/generation_vocoder",
    steps=1400,
    batch_size=16,
    model=latent_audio.MINI,
    data=Data(),
    optimizer=Optimizer(lr=2e-3, b1=0.8, b2=0.99, schedule="cosine", warm_up_steps=200, final_lr=2e-5),
    discriminator=Optimizer(lr=5e-4, b1=0.8, b2=0.99),
    ema_decay=0.999,
    log_every=50,
    eval_every=700,
    save_every=500,
    save_minutes=5,
)
