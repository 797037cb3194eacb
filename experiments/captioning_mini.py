"""The small captioner that is shipped with jaxaudio, trained on `open_sounds`.

jaxaudio data build open_sounds --out data/open_sounds
jaxaudio train experiments/captioning_mini.py --data.root data/open_sounds
"""

import dataclasses

from jaxaudio.data import open_sounds
from jaxaudio.data.described import DescribedConfig
from jaxaudio.systems import captioning
from jaxaudio.train import Experiment, Optimizer, Task
from jaxaudio.train.adversarial_captioning import adversarial_captioning_task
from jaxaudio.train.captioning import captioning_task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the sounds are and how they are mixed.

    Attributes:
      root: folder of the built `open_sounds`.
      seconds: length of a sound.
      pairs: share of the sounds that are two at once.
      trials: held-out sounds per evaluation.
      start_from: the `best` folder of an earlier run, whose weights and words are the first ones.
      microphone: put the colour and the noise of other microphones over the sounds.
      self_critical: train on the reward of drawn captions instead; best with --data.start-from and --optimizer.lr 5e-5.
      adversarial: reward what a critic takes for people's captions as well, for captions that differ; best as
        self_critical, after a run with --model.noise 16 as this one must have.
    """

    root: str = "data/open_sounds"
    seconds: float = 4.0
    pairs: float = 0.5
    trials: int = 400
    start_from: str = ""
    self_critical: bool = False
    adversarial: bool = False
    microphone: bool = True


def build(experiment: Experiment) -> Task:
    """Sounds with their captions, and the captioner."""
    data = experiment.data
    clips = [open_sounds.open_split(data.root, split) for split in ("train", "heldout_clips")]
    described = DescribedConfig(
        batch=experiment.batch_size,
        sample_rate=experiment.model.mel.sample_rate,
        seconds=data.seconds,
        pairs=data.pairs,
        references=5 if data.self_critical or data.adversarial else 0,
        seed=experiment.seed,
    )
    how = {"data": described, "trials": data.trials, "start_from": data.start_from}
    if data.adversarial:
        return adversarial_captioning_task(experiment, *clips, **how)
    return captioning_task(experiment, *clips, self_critical=data.self_critical, microphone=data.microphone, **how)


EXPERIMENT = Experiment(
    build=build,
    out="runs/captioning_mini",
    steps=6000,
    batch_size=48,
    model=captioning.MINI,
    data=Data(),
    optimizer=Optimizer(lr=1e-3, weight_decay=1e-3, schedule="cosine", warm_up_steps=200),
    clip_norm=2.0,
    ema_decay=0.998,
    log_every=20,
    eval_every=500,
    save_every=200,
    save_minutes=5,
    best="named",
)
