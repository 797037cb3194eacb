"""LASS-Net in small, trained on `open_sounds`: the text encoder learns along with the separator.

    jaxaudio data build open_sounds --out data/open_sounds
    jaxaudio train experiments/separation_lassnet.py --data.root data/open_sounds

The authors published no training code. This recipe takes their network and their loss, mixes with AudioSep's rule, and
starts the text encoder from the one in the package, as they start from bert-mini.
"""

import dataclasses
import functools

import numpy as np

from jaxaudio.systems import lassnet
from jaxaudio.text import mini
from jaxaudio.train import Experiment, Optimizer, Task, separation


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

    def tokens(captions):
        ids, mask = tokenizer.encode(list(captions), data.tokens)
        rest = ((0, 0), (0, data.tokens - ids.shape[1]))  # one length, so that one step is compiled
        return {"input_ids": np.pad(ids, rest, constant_values=tokenizer.pad_id), "attention_mask": np.pad(mask, rest)}

    def separate(params, mixture, input_ids, attention_mask):
        condition = lassnet.embed(params, config, input_ids, attention_mask)
        return lassnet.separate(params, config, mixture, condition)

    def init(key):
        variables = lassnet.init(key, config)
        embedder = {**variables["params"]["text_embedder"], "bert_layer": encoder.params["params"]["encoder"]}
        return {**variables, "params": {**variables["params"], "text_embedder": embedder}}

    return separation.task(
        experiment,
        config=config,
        text=tokens,
        separate=separate,
        loss=functools.partial(lassnet.loss, config=config),
        init=init,
        about={"system": "lassnet", "config": dataclasses.asdict(config)},
    )


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
