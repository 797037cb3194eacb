"""The small speech tokeniser, a transformer with FSQ at 33 steps and 817 bits per second, on freely licensed speech.

jaxaudio data build open_speech --out data/open_speech
jaxaudio train experiments/codec_speech_mini.py --data.root data/open_speech
"""

import dataclasses

import jax

from jaxaudio.data.audio_clips import open_dataset
from jaxaudio.data.segments import SegmentConfig, SegmentPipeline
from jaxaudio.nn.spectral_discriminators import BandConfig
from jaxaudio.systems import taae
from jaxaudio.train import Experiment, Optimizer, Task
from jaxaudio.train.codec import least_squares_critic, spectral_terms
from jaxaudio.train.codec_tasks import taae_task
from jaxaudio.train.generation import held_out


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the speech is.

    Attributes:
      root: folder of the built data set.
      evaluation: its split to measure on.
      seconds: length of a training sound.
      adversary_start: number of steps of the spectral losses alone; on two cores discriminators take too long to pay.
    """

    root: str = "data/open_speech"
    evaluation: str = "heldout_speakers"
    seconds: float = 0.96
    adversary_start: int = 1_000_000


_SLIM = BandConfig(
    periods=(2, 3, 5, 7, 11), period_channels=(8, 16, 32, 64, 64), windows=(512,), channels=8, alignment="centred"
)


def build(experiment: Experiment) -> Task:
    """Speech at random speeds, by speakers drawn evenly; the losses of vocoders, and slim discriminators."""
    data, rate = experiment.data, experiment.model.sample_rate
    splits = open_dataset(data.root)
    segments = SegmentConfig(
        batch=experiment.batch_size,
        sample_rate=rate,
        seconds=data.seconds,
        speed=(0.85, 1.2),
        level_db=(-8.0, 2.0),
        balance=True,
        seed=experiment.seed,
    )
    share = (jax.process_index(), jax.process_count())
    return taae_task(
        experiment,
        data=iter(SegmentPipeline(splits["train"], segments, share=share)),
        evaluation={"waveform": held_out(splits[data.evaluation], 32, round(2.56 * rate), rate)},
        critic=least_squares_critic(_SLIM),
        terms=spectral_terms(experiment.model.front_end),
        adversary_start=data.adversary_start,
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/codec_speech_mini",
    steps=5000,
    batch_size=16,
    model=taae.MINI,
    data=Data(),
    optimizer=Optimizer(
        lr=1.5e-3, b1=0.9, b2=0.98, weight_decay=0.01, schedule="cosine", warm_up_steps=300, final_lr=2e-5
    ),
    discriminator=Optimizer(lr=5e-4, b1=0.8, b2=0.99),
    clip_norm=50.0,
    ema_decay=0.999,
    log_every=50,
    eval_every=500,
    save_every=500,
    save_minutes=5,
)
