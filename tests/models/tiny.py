"""A separator with random weights, as small as one can be, in a model folder of its own."""

import dataclasses
import json

import jax
import numpy as np
from safetensors.numpy import save_file

from jaxaudio.convert.rules import flatten
from jaxaudio.models import folder as folders
from jaxaudio.systems import audiosep
from jaxaudio.text import bert, mini

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "a",
    "dog",
    "cat",
    "barking",
    "rain",
    "the",
    "violin",
    "playing",
    "sound",
    "of",
    "piano",
    "##s",
]

ENCODER = mini.Config(
    encoder=bert.Config(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        pooler=False,
    ),
    width=16,
)

CONFIG = audiosep.Config(
    sample_rate=8000,
    n_fft=256,
    hop=64,
    condition_size=16,
    stem=4,
    channels=(4, 8),
    pools=((2, 2), (2, 2)),
    bottleneck=8,
    chunk=(0.1, 0.3, 0.1),
)


def filled(shapes, seed=0):
    """Random weights of a sensible size: kernels by their inputs, norms near one."""
    rng = np.random.default_rng(seed)

    def fill(path, x):
        name = path[-1].key
        if name in ("scale", "var"):
            return rng.uniform(0.5, 1.5, x.shape).astype(np.float32)
        fan = np.prod(x.shape[:-1]) if len(x.shape) > 1 else 25
        return (rng.standard_normal(x.shape) / np.sqrt(fan)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes)


def weights(seed=0):
    return filled(jax.eval_shape(lambda: audiosep.init(jax.random.key(0), CONFIG)), seed)


def write_encoder(folder):
    folder.mkdir(parents=True)
    tree = filled(jax.eval_shape(lambda: mini.init(jax.random.key(0), ENCODER)), 1)
    save_file({name: 4 * x for name, x in flatten(tree).items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(ENCODER)))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return {f"text/{path.name}": path for path in folder.iterdir()}


def write_model(folder, scratch, seed=0, dtype=np.float32):
    """A model folder with encoder; `scratch` takes the encoder's files."""
    return folders.write(
        folder,
        name="tiny",
        system="audiosep",
        config=CONFIG,
        weights={"separator": weights(seed)},
        text={"kind": "mini", "folder": "text"},
        licence="CC0-1.0",
        source="random numbers",
        files=write_encoder(scratch / f"encoder{seed}"),
        dtype=dtype,
    )
