"""LASS-Net in small, trained on `open_sounds`: the text encoder learns along with the separator.

    jaxaudio data build open_sounds --out data/open_sounds
    jaxaudio train experiments/separation_lassnet.py --data.root data/open_sounds

The authors published no training code. This recipe takes their network and their loss, mixes with AudioSep's rule, and
starts the text encoder from the one in the package, as they start from bert-mini.
"""

import dataclasses
import functools

import jax
import numpy as np

from jaxaudio.data import open_sounds
from jaxaudio.data.pipeline import MixtureConfig, MixturePipeline
from jaxaudio.metrics import protocol
from jaxaudio.systems import lassnet
from jaxaudio.text import mini
from jaxaudio.train import Experiment, Optimizer, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Where the sounds are and how they are mixed.

    Attributes:
      root: folder of the built `open_sounds`.
      encoder: folder of the first text encoder; "" for the one in the package.
      tokens: length of a query in tokens; longer ones are cut, shorter ones padded.
      seconds: length of a training mixture.
      low_db: lowest level of the interference over the target.
      high_db: highest level of the interference over the target.
      trials: evaluation mixtures per split.
    """

    root: str = "data/open_sounds"
    encoder: str = ""
    tokens: int = 16
    seconds: float = 2.55
    low_db: int = -10
    high_db: int = 10
    trials: int = 96


def build(experiment: Experiment) -> Task:
    """Sounds, captions as tokens, the network on the given text encoder, and trials on held-out clips and concepts."""
    data = experiment.data
    encoder = mini.load(data.encoder) if data.encoder else mini.load_mini()
    config = dataclasses.replace(experiment.model, text=encoder.config.encoder)
    tokenizer = dataclasses.replace(encoder.tokenizer, end=())  # [CLS] and no [SEP], as published
    clips = {split: open_sounds.open_split(data.root, split) for split in ("train", *_HELD_OUT)}
    mixtures = MixtureConfig(
        batch=experiment.batch_size,
        sample_rate=config.sample_rate,
        seconds=data.seconds,
        low_db=data.low_db,
        high_db=data.high_db,
        level_db=(-12.0, 6.0),
        place="random",
        balance=True,
        seed=experiment.seed,
    )

    def tokens(captions):
        ids, mask = tokenizer.encode(list(captions), data.tokens)
        rest = ((0, 0), (0, data.tokens - ids.shape[1]))  # one length, so that one step is compiled
        return {"input_ids": np.pad(ids, rest, constant_values=tokenizer.pad_id), "attention_mask": np.pad(mask, rest)}

    @jax.jit
    def separate(params, mixture, input_ids, attention_mask):
        condition = lassnet.embed(params, config, input_ids, attention_mask)
        return lassnet.separate(params, config, mixture, condition)

    trials = {
        split: protocol.pair_trials(
            clips[split],
            clips["heldout_clips"],
            count=data.trials,
            seconds=4.0,
            sample_rate=config.sample_rate,
            place="random",
        )
        for split in _HELD_OUT
    }

    def evaluate(params):
        return protocol.evaluate_splits(lambda x, c: separate(params, x, **tokens(c)), trials, batch=16, wrong=True)

    def init(key):
        params = lassnet.init(key, config)
        embedder = {**params["params"]["text_embedder"], "bert_layer": encoder.params["params"]["encoder"]}
        return {**params["params"], "text_embedder": embedder}, {"batch_stats": params["batch_stats"]}

    share = jax.process_index(), jax.process_count()
    return Task(
        loss=lambda axis_name: functools.partial(lassnet.loss, config=config, axis_name=axis_name),
        init=init,
        data=iter(MixturePipeline(clips["train"], mixtures, text=tokens, share=share)),
        evaluate=evaluate,
        config={"system": "lassnet", "config": dataclasses.asdict(config)},
    )


_HELD_OUT = ("heldout_clips", "heldout_concepts")

EXPERIMENT = Experiment(
    build=build,
    out="runs/separation_lassnet",
    steps=40_000,
    batch_size=16,
    model=lassnet.MINI,
    data=Data(),
    optimizer=Optimizer(lr=5e-4, schedule="linear_warm_up", warm_up_steps=300, reduce_lr_steps=2000),
    clip_norm=5.0,
    ema_decay=0.999,
    log_every=50,
    eval_every=1000,
    save_every=500,
    save_minutes=10,
    best="heldout_clips/sdri",
)
