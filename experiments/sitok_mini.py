"""The small SiTok, speech as 12.5 steps of four tokens per second, on freely licensed speech; all but its vocoder.

jaxaudio data build open_speech --out data/open_speech
jaxaudio train experiments/sitok_mini.py --data.root data/open_speech
jaxaudio train experiments/sitok_mini.py --data.root data/open_speech --data.trained runs/sitok_mini/final \
    --out runs/sitok_shortcut --steps 500 --optimizer.lr 1e-3 --optimizer.warm-up-steps 50 --trainable step_size_mlp

The second makes the decoder a shortcut model. Only what hears the size of a step learns, so that the flow stays what it
was: with everything trainable, its samples in 16 steps became worse.
"""

import dataclasses
from typing import Any

import jax

from jaxaudio.data.audio_clips import open_dataset
from jaxaudio.data.segments import SegmentConfig, SegmentPipeline
from jaxaudio.systems import sitok
from jaxaudio.text import letters
from jaxaudio.train import Experiment, Optimizer, Task, load_params
from jaxaudio.train.sitok import shortcut_task, tokeniser_task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the speech is.

    Attributes:
      root: folder of the built data set.
      evaluation: its split to measure on.
      seconds: longest utterance that is taken.
      crop: frames of it that the decoder learns from.
      times: where the flow is learnt, see `sitok_training.loss`.
      trained: weights of the whole system, whose decoder is made a shortcut model; "" to train the whole.
      guidance: of that model's teacher.
    """

    root: str = "data/open_speech"
    evaluation: str = "heldout_speakers"
    seconds: float = 5.12
    crop: int = 192
    times: tuple[float, float] = (-0.8, 0.8)
    trained: str = ""
    guidance: float = 1.0


def utterances(data: Data, experiment: Experiment) -> tuple[Any, dict[str, Any]]:
    """Whole utterances with their letters, by speakers drawn evenly, and 32 of people who are never trained on."""
    splits = open_dataset(data.root)
    config = SegmentConfig(
        batch=experiment.batch_size,
        sample_rate=experiment.model.sample_rate,
        seconds=data.seconds,
        speed=(0.85, 1.2),
        level_db=(-8.0, 2.0),
        place="start",
        most_labels=100,
        balance=True,
        seed=experiment.seed,
    )
    share = (jax.process_index(), jax.process_count())
    still = dataclasses.replace(config, batch=32, speed=(1.0, 1.0), level_db=(0.0, 0.0), balance=False)
    held_out = SegmentPipeline(splits[data.evaluation], still, spell=letters.spell)[0]
    train = SegmentPipeline(splits["train"], config, spell=letters.spell, share=share)
    return iter(train), held_out


def build(experiment: Experiment) -> Task:
    """Encoder, codebooks, decoder and reader together; or the decoder alone, so that two evaluations of it do."""
    data = experiment.data
    train, held_out = utterances(data, experiment)
    options = {"data": train, "evaluation": held_out, "crop": data.crop, "times": data.times}
    if not data.trained:
        return tokeniser_task(experiment, **options)
    trained = load_params(data.trained)[0]
    return shortcut_task(experiment, trained=trained, guidance=data.guidance, every=2, finest=5, limit=4.0, **options)


EXPERIMENT = Experiment(
    build=build,
    out="runs/sitok_mini",
    steps=4800,
    batch_size=16,
    model=sitok.MINI,
    data=Data(),
    optimizer=Optimizer(lr=1.5e-3, b1=0.9, b2=0.98, weight_decay=0.01, schedule="cosine", warm_up_steps=300),
    clip_norm=1.0,
    ema_decay=0.999,
    log_every=50,
    eval_every=1000,
    save_every=1000,
    save_minutes=5,
)
