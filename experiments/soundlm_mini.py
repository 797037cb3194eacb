"""The small sound language model: a Transformer that writes the codes of sounds, told a sentence.

jaxaudio train experiments/soundlm_codec.py --data.root data/open_sounds
python experiments/soundlm_codes.py --data data/open_sounds
jaxaudio train experiments/soundlm_mini.py --data.codes data/codes
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxaudio.data.latents import LatentPipeline, read_latents
from jaxaudio.models import load
from jaxaudio.systems import soundlm
from jaxaudio.text import queries
from jaxaudio.train import Experiment, Optimizer, Task, load_params
from jaxaudio.train.generation import Mapped
from jaxaudio.train.soundlm import coded, prior_task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the codes and the stages around the prior are.

    Attributes:
      codes: folder of `soundlm_codes.py`.
      codec: weights of the codec.
      vocoder: a model with a vocoder of the same spectrograms.
    """

    codes: str = "data/codes"
    codec: str = "runs/soundlm_codec/final"
    vocoder: str = "audioldm-mini"


def build(experiment: Experiment) -> Task:
    """Codes with a caption each."""
    data = experiment.data
    codes = read_latents(f"{data.codes}/train")._replace(scale=1.0)
    unseen = read_latents(f"{data.codes}/heldout_clips")._replace(scale=1.0)
    embed = queries.cached(queries.sentence_encoder(allow_empty=True))

    def text(captions: Sequence[str]) -> dict[str, Any]:
        return {"sentence": np.asarray(embed(captions))}

    share = jax.process_index(), jax.process_count()
    return prior_task(
        experiment,
        data=Mapped(iter(LatentPipeline(codes, experiment.batch_size, text, seed=experiment.seed, share=share)), coded),
        stages={"codec": load_params(data.codec)[0], "vocoder": load(data.vocoder).params["vocoder"]},
        evaluation=coded(LatentPipeline(unseen, 256, text)[0]),
        about={"text": {"kind": "mini"}},
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/soundlm_mini",
    steps=1600,
    batch_size=32,
    model=soundlm.MINI,
    data=Data(),
    optimizer=Optimizer(lr=1e-3, b2=0.98, weight_decay=0.05, schedule="cosine", warm_up_steps=200, final_lr=1e-5),
    clip_norm=1.0,
    ema_decay=0.995,
    log_every=50,
    eval_every=250,
    save_every=500,
    save_minutes=5,
    best="-loss",
)
