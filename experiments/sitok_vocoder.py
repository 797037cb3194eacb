"""The vocoder of the small SiTok, on freely licensed speech.

jaxaudio data build open_speech --out data/open_speech
jaxaudio train experiments/sitok_vocoder.py --data.root data/open_speech
"""

import dataclasses

import jax

from jaxaudio.data.audio_clips import open_dataset
from jaxaudio.data.segments import SegmentConfig, SegmentPipeline
from jaxaudio.nn.discriminators import WaveConfig
from jaxaudio.systems import sitok
from jaxaudio.train import Experiment, Optimizer, Task
from jaxaudio.train.generation import held_out
from jaxaudio.train.sitok import vocoder_task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the speech is.

    Attributes:
      root: folder of the built data set.
      evaluation: its split to measure on.
      seconds: length of a training sound.
      adversary_start: number of steps of the spectral losses alone, which cost a part of the others.
      resolutions: lengths of the transforms that are compared bin by bin besides.
    """

    root: str = "data/open_speech"
    evaluation: str = "heldout_speakers"
    seconds: float = 0.64
    adversary_start: int = 3000
    resolutions: tuple[int, ...] = (256, 512, 1024, 2048)


_SLIM = WaveConfig(
    period_channels=(8, 16, 32, 64, 64),
    scales=1,
    scale_layers=((8, 15, 2, 1), (16, 15, 4, 1), (32, 15, 4, 1), (64, 15, 4, 1), (64, 5, 1, 1)),
)


def build(experiment: Experiment) -> Task:
    """Speech at random speeds, by speakers drawn evenly; slim discriminators without groups."""
    data, rate = experiment.data, experiment.model.sample_rate
    splits = open_dataset(data.root)
    segments = SegmentConfig(
        batch=experiment.batch_size,
        sample_rate=rate,
        seconds=data.seconds,
        speed=(0.85, 1.2),
        level_db=(-12.0, 2.0),
        balance=True,
        seed=experiment.seed,
    )
    share = (jax.process_index(), jax.process_count())
    return vocoder_task(
        experiment,
        data=iter(SegmentPipeline(splits["train"], segments, share=share)),
        evaluation={"waveform": held_out(splits[data.evaluation], 32, round(2.56 * rate), rate)},
        waves=_SLIM,
        adversary_start=data.adversary_start,
        resolutions=data.resolutions,
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/sitok_vocoder",
    steps=3420,
    batch_size=16,
    model=sitok.MINI,
    data=Data(),
    optimizer=Optimizer(lr=2e-3, b1=0.8, b2=0.99, schedule="cosine", warm_up_steps=200, final_lr=2e-5),
    discriminator=Optimizer(lr=5e-4, b1=0.8, b2=0.99),
    ema_decay=0.999,
    log_every=50,
    eval_every=500,
    save_every=500,
    save_minutes=5,
)
