"""The small text-to-audio model: latent diffusion told by sentence embeddings, on latents made beforehand.

jaxaudio train experiments/generation_vae.py --data.root data/open_sounds
jaxaudio train experiments/generation_vocoder.py --data.root data/open_sounds
python experiments/generation_latents.py --data data/open_sounds
jaxaudio train experiments/generation_mini.py --data.latents data/latents
"""

import dataclasses

import jax

from jaxaudio.data.latents import LatentPipeline, read_latents
from jaxaudio.systems import audioldm
from jaxaudio.text import queries
from jaxaudio.train import Experiment, Optimizer, Task
from jaxaudio.train.generation import conditions, latent_task, read_stages


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the latents and the stages around the model are.

    Attributes:
      latents: folder of `generation_latents.py`.
      vae: weights of the autoencoder.
      vocoder: weights of the vocoder; "" where it is not trained yet.
      drop: probability that the caption is left out.
    """

    latents: str = "data/latents"
    vae: str = "runs/generation_vae/final"
    vocoder: str = "runs/generation_vocoder/final"
    drop: float = 0.1


def build(experiment: Experiment) -> Task:
    """Latents with a caption each; the denoising loss on held-out ones to judge by."""
    data = experiment.data
    latents = read_latents(f"{data.latents}/train")
    unseen = read_latents(f"{data.latents}/heldout_clips")._replace(scale=latents.scale)
    text = conditions(queries.cached(queries.sentence_encoder(allow_empty=True)))
    share = jax.process_index(), jax.process_count()
    return latent_task(
        experiment,
        system=audioldm,
        data=iter(LatentPipeline(latents, experiment.batch_size, text, seed=experiment.seed, share=share)),
        stages=read_stages(experiment.model.audio, data.vae, data.vocoder, latents.scale),
        evaluation=LatentPipeline(unseen, 256, text)[0],
        drop=data.drop,
        about={"text": {"kind": "mini"}},
    )


EXPERIMENT = Experiment(
    build=build,
    out="runs/generation_mini",
    steps=3300,
    batch_size=16,
    model=audioldm.MINI,
    data=Data(),
    optimizer=Optimizer(
        lr=1e-3, b2=0.99, weight_decay=0.01, schedule="linear_warm_up", warm_up_steps=200, reduce_lr_steps=1000
    ),
    clip_norm=1.0,
    ema_decay=0.999,
    log_every=50,
    eval_every=500,
    save_every=500,
    save_minutes=5,
    best="-loss",
)
