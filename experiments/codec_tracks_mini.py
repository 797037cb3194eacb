"""The small SD-Codec, which tells speech from music, on freely licensed speech and recorded music.

jaxaudio data build open_speech --out data/open_speech
jaxaudio data build open_music --out data/open_music
jaxaudio train experiments/codec_tracks_mini.py --data.speech data/open_speech --data.music data/open_music
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxaudio.data.audio_clips import open_dataset
from jaxaudio.data.tracks import TrackConfig, TrackPipeline
from jaxaudio.dsp.loudness import mixed
from jaxaudio.nn.spectral_discriminators import MINI_BANDS
from jaxaudio.systems import sdcodec, taae
from jaxaudio.train import Experiment, Optimizer, Task
from jaxaudio.train.adversarial import prepared
from jaxaudio.train.codec import given, least_squares_critic, spectral_terms
from jaxaudio.train.codec_tasks import sdcodec_task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the sounds are.

    Attributes:
      speech: folder of `open_speech`.
      music: folder of `open_music`.
      seconds: length of a training mixture.
      adversary_start: number of steps of the spectral losses alone; on two cores discriminators take too long to pay.
    """

    speech: str = "data/open_speech"
    music: str = "data/open_music"
    seconds: float = 0.96
    adversary_start: int = 1_000_000


def build(experiment: Experiment) -> Task:
    """Speech, music and both, at the levels of the paper; measured on speakers and pieces that are never trained on."""
    data, rate = experiment.data, experiment.model.sample_rate
    config = TrackConfig(
        batch=experiment.batch_size,
        sample_rate=rate,
        seconds=data.seconds,
        counts=(0.4, 0.6),
        speed=(0.85, 1.2),
        steady=0.5,
        place="repeat",
        balance=True,
        seed=experiment.seed,
    )
    speech, music = open_dataset(data.speech), open_dataset(data.music)

    def pipeline(speech_split: str, music_split: str, config: TrackConfig, share: tuple[int, int]) -> TrackPipeline:
        return TrackPipeline({"speech": speech[speech_split], "music": music[music_split]}, config, share=share)

    def prepare(batch: dict[str, Any]) -> dict[str, Any]:
        sources = mixed(batch["sources"], batch["valid"], batch["levels"], batch["mix_level"], rate)
        rest = {name: x for name, x in batch.items() if name not in ("levels", "mix_level")}
        return {**rest, "sources": sources}

    train = pipeline("train", "train", config, (jax.process_index(), jax.process_count()))
    both = dataclasses.replace(config, batch=32, seconds=2.56, counts=(1e-9, 1.0), speed=(1.0, 1.0), balance=False)
    held_out = prepare(pipeline("heldout_speakers", "heldout_pieces", both, (0, 1))[0])
    task = sdcodec_task(
        experiment,
        data=iter(train),
        evaluation={"sources": np.asarray(held_out["sources"])},
        critic=least_squares_critic(MINI_BANDS),
        terms={
            **spectral_terms(taae.MINI.front_end),
            "commitment": given(0.25, "commitment"),
            "perplexity": given(0.0, "perplexity"),  # for the log
        },
        decoded=1,
        follow=0.99,
        adversary_start=data.adversary_start,
    )
    return dataclasses.replace(task, loss=lambda axis_name: prepared(task.loss(axis_name), prepare))


EXPERIMENT = Experiment(
    build=build,
    out="runs/codec_tracks_mini",
    steps=8000,
    batch_size=16,
    model=sdcodec.MINI,
    data=Data(),
    optimizer=Optimizer(lr=1.5e-3, b1=0.9, b2=0.98, schedule="cosine", warm_up_steps=300, final_lr=2e-5),
    discriminator=Optimizer(lr=4e-4, b1=0.8, b2=0.99),
    clip_norm=50.0,
    discriminator_clip_norm=10.0,
    ema_decay=0.999,
    log_every=50,
    eval_every=500,
    save_every=500,
    save_minutes=5,
)
