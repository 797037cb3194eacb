"""A captioner that knows five words and three tags, with weights by which what it says depends on what it hears."""

import functools
import json

import jax
import numpy as np

from jaxaudio.dsp.mel import MelConfig
from jaxaudio.models import folder as folders
from jaxaudio.nn import panns
from jaxaudio.systems import captioning
from jaxaudio.systems.captioning import words
from jaxaudio.text.vocabulary import END, START, UNKNOWN

RATE = 8000
WORDS = (START, END, UNKNOWN, "a", "dog", "hum", "barks", "loud")
TAGS = ("dog", "hum", "siren")
CONFIG = captioning.Config(
    sound=panns.Config(
        widths=(4, 6),
        mel=MelConfig(sample_rate=RATE, n_fft=256, hop=128, n_mels=16, fmin=50, fmax=4000),
        head="frames",
        embedding=10,
        classes=0,
    ),
    words=words.Config(vocab_size=len(WORDS), width=8, layers=1, heads=2, hidden=16, start=0, end=1),
    tags=3,
    guides=1,
    tag_words=((4,), (5,), (2,)),
)


@functools.cache
def weights():
    """As `init` makes them, and louder."""
    made = captioning.init(jax.random.key(0), CONFIG)
    rng = np.random.default_rng(3)
    louder = jax.tree.map(lambda x: np.asarray(x) + rng.normal(0, 0.4, x.shape).astype(np.float32), made["params"])
    louder["tag_fc"]["kernel"] *= 1e-3  # unsure
    return {**made, "params": louder}


def write(folder, **text):
    """The model's folder; `text` changes what its card says of its words."""
    said = {"kind": "words", "words": list(WORDS), "tags": list(TAGS), "seconds": 0.5, "rms": 0.05} | text
    folders.write(
        folder,
        name="tiny captioner",
        system="captioning",
        config=CONFIG,
        weights={"captioner": weights()},
        text=json.loads(json.dumps(said)),
        licence="CC0-1.0",
        source="tests",
    )
    return folder
