"""The codec of the small sound language model: log-mels to 16 codes for each of 25 frames a second, and back.

jaxaudio data build open_sounds --out data/open_sounds
jaxaudio train experiments/soundlm_codec.py --data.root data/open_sounds
"""

import dataclasses

from jaxaudio.data import open_sounds
from jaxaudio.data.pipeline import MixtureConfig
from jaxaudio.systems import soundlm
from jaxaudio.train import Experiment, Optimizer, Task
from jaxaudio.train.generation import held_out, waveforms
from jaxaudio.train.soundlm import codec_task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the sounds are.

    Attributes:
      root: folder of a built data set.
      evaluation: its split to measure on.
      seconds: length of a training sound.
    """

    root: str = "data/open_sounds"
    evaluation: str = "heldout_clips"
    seconds: float = 1.28


def build(experiment: Experiment) -> Task:
    """Sounds alone and mixed."""
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
    return codec_task(
        experiment,
        data=waveforms(open_sounds.open_split(data.root, "train"), mixtures),
        evaluation=held_out(open_sounds.open_split(data.root, data.evaluation), 64, round(2.56 * rate), rate),
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/soundlm_codec",
    steps=2500,
    batch_size=16,
    model=soundlm.MINI,
    data=Data(),
    optimizer=Optimizer(lr=2e-3, b2=0.99, schedule="cosine", warm_up_steps=200, final_lr=2e-5),
    clip_norm=1.0,
    log_every=50,
    eval_every=500,
    save_every=500,
    save_minutes=5,
)
