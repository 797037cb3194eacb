"""The small speech tokeniser, a transformer with FSQ at 25 steps and 613 bits per second, on freely licensed speech.

jaxaudio data build open_speech --out data/open_speech
jaxaudio train experiments/codec_speech_mini.py --data.root data/open_speech
"""

import dataclasses

import jax

from jaxaudio.data.audio_clips import open_dataset
from jaxaudio.data.segments import SegmentConfig, SegmentPipeline
from jaxaudio.nn.spectral_discriminators import MINI_SPECTRUM
from jaxaudio.systems import taae
from jaxaudio.train import Experiment, Optimizer, Task
from jaxaudio.train.codec import hinge_critic
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
    seconds: float = 1.28
    adversary_start: int = 1_000_000


def build(experiment: Experiment) -> Task:
    """Speech at random speeds, by speakers drawn evenly, against slim discriminators of its spectra."""
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
        critic=hinge_critic(MINI_SPECTRUM, relative=True),
        adversary_start=data.adversary_start,
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/codec_speech_mini",
    steps=4800,
    batch_size=16,
    model=taae.MINI,
    data=Data(),
    optimizer=Optimizer(
        lr=1e-3, b1=0.9, b2=0.98, weight_decay=0.01, schedule="cosine", warm_up_steps=300, final_lr=2e-5
    ),
    discriminator=Optimizer(lr=4e-4, b1=0.8, b2=0.99),
    clip_norm=1.0,
    ema_decay=0.999,
    log_every=50,
    eval_every=500,
    save_every=500,
    save_minutes=5,
)
