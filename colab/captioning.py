# %% [markdown]
# # Say what you hear
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxaudio/jaxaudio/blob/main/colab/captioning.ipynb)
#
# A recording becomes a sentence and a list of tags; recordings are searched by a sentence; then you train a small
# captioner of your own. Nothing is downloaded but the library, which brings a small model and recordings with it.
# Runs on a GPU, a TPU or a CPU: *Runtime > Run all*.

# %%
# @title Install, and look at the machine (about a minute on Colab)
import os
import subprocess
import sys
from importlib.metadata import version

IN_COLAB = "google.colab" in sys.modules
SMALL = os.environ.get("JAXAUDIO_SMALL") == "1"  # short sounds and few steps, as the tests want it
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # read when JAX first looks for devices

if IN_COLAB:
    # JAX is named with the version that is here, so that nothing can replace it: it fits this machine's drivers.
    own = [f"{name}=={version(name)}" for name in ("jax", "jaxlib")]
    source = "jaxaudio[data] @ git+https://github.com/jaxaudio/jaxaudio"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *own, source], check=True)

import jax
import jaxaudio

jaxaudio.enable_compile_cache()  # what is compiled once is kept for the next session on this machine
for name in ("jaxaudio", "jax", "jaxlib", "flax", "numpy"):
    print(name, version(name))
print("devices:", *jax.devices())
if IN_COLAB and jax.default_backend() == "cpu":
    assert not os.path.exists("/dev/nvidia0"), "JAX does not see this machine's GPU: Runtime > Restart session"
    print("This is a CPU, which works, slowly. For more: Runtime > Change runtime type > T4 GPU or TPU, then Run all.")

# %% [markdown]
# ## A model, and recordings
#
# The small model knows the sounds of one open data set and about a thousand words; its card says how often it is right.
# Four sounds are made here by a computer, as much of what it learnt from was; the piano was recorded.

# %%
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soxr
from IPython.display import Audio, Image, display
from jaxaudio import io
from jaxaudio.data.open_sounds.procedural import RATE
from jaxaudio.data.open_sounds.procedural_catalogue import GENERATORS
from jaxaudio.models.registry import ASSETS

FOLDER = Path(tempfile.mkdtemp(prefix="jaxaudio-"))  # for what this notebook writes

model = jaxaudio.load("captioning-mini")
print(f"{model.name}: {model.system}, {model.sample_rate} Hz, {len(model.vocabulary)} words, {model.licence}")

rng, SECONDS = np.random.default_rng(7), 4.0
rate = RATE
sounds = {name: GENERATORS[name](rng, SECONDS) for name in ("rain", "siren", "owl", "clock")}
sounds["siren in the rain"] = sounds["siren"] + sounds["rain"]
piano = io.read(ASSETS / "demo" / "stem0.flac")  # a recording
sounds["piano"] = soxr.resample(piano.samples.mean(1), piano.sample_rate, rate)[: round(SECONDS * rate)]
for title, samples in sounds.items():
    print(title)
    display(Audio(np.clip(samples, -1, 1), rate=rate, normalize=False))

# %% [markdown]
# ## A sentence for each
#
# The first call compiles for this length of audio; later ones reuse it.

# %%
begun = time.perf_counter()
print("rain:", model.caption(sounds["rain"], sample_rate=rate))
first_call = time.perf_counter() - begun
begun = time.perf_counter()
for title, samples in sounds.items():
    print(f"{title}: {model.caption(samples, sample_rate=rate)}")
print(f"first call {first_call:.2f} s, then {(time.perf_counter() - begun) / len(sounds):.2f} s for each")

# %% [markdown]
# ## The best sentences, and other ones
#
# A beam follows several sentences at a time. Samples are drawn by chance: low temperatures are safe, high ones varied.
# A score is the mean logarithm of the probability of each word.

# %%
for one in model.captions(sounds["siren in the rain"], sample_rate=rate, beam=5):
    print(f"{one.score:.2f}  {one.text}")
print()
drawn = model.captions(sounds["siren in the rain"], sample_rate=rate, samples=8, temperature=1.2, seed=1)
for one in drawn:
    print(f"{one.score:.2f}  {one.text}")
print(f"{len(drawn)} different sentences")

# %% [markdown]
# ## Tags
#
# How sure the model is of each concept that it knows, in every recording.

# %%
heard = [model.hear(samples, sample_rate=rate) for samples in sounds.values()]
sure = model.tag_probabilities(heard)
best = sorted({int(i) for row in sure for i in np.argsort(-row)[:3]})
plt.figure(figsize=(7, 0.4 * len(best) + 1.5))
plt.imshow(sure[:, best].T, aspect="auto", vmin=0, vmax=1, cmap="magma")
plt.xticks(range(len(sounds)), sounds)
plt.yticks(range(len(best)), [model.tags[i] for i in best])
plt.colorbar(label="probability")
plt.tight_layout()
plt.savefig(FOLDER / "tags.png")
plt.close()
display(Image(FOLDER / "tags.png"))
for title, row in zip(sounds, sure):
    print(f"{title}: {', '.join(f'{model.tags[i]} {row[i]:.0%}' for i in np.argsort(-row)[:3])}")

# %% [markdown]
# ## Search
#
# How much likelier a sentence becomes by hearing a sound: the recordings that gain most come first.
# `jaxaudio search FOLDER "an owl hooting"` does this for a folder.

# %%
queries = ["an owl hooting", "a clock ticking"]
gains = model.match(queries, heard)
for column, query in enumerate(queries):
    order = np.argsort(-gains[:, column])
    print(f"{query}: {', '.join(f'{list(sounds)[i]} {gains[i, column]:+.2f}' for i in order)}")

# %% [markdown]
# ## The same, as functions
#
# A captioner is a tree of weights and pure functions; here three recordings are shared by all devices.

# %%
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxaudio.systems import captioning
from jaxaudio.text.decode import Beam

devices = np.array(jax.devices())
shared = NamedSharding(Mesh(devices, ("data",)), PartitionSpec("data"))
rows = -(-3 // len(devices)) * len(devices)  # filled up with silence
batch = np.zeros((rows, 4 * model.sample_rate), np.float32)
batch[:3] = [x[: batch.shape[1]] for x in heard[:3]]


@jax.jit
def say(params, audio):
    made, _ = captioning.encode(params, model.config, captioning.hear(model.config, audio))
    return captioning.caption(params, model.config, made["memory"], 20, beam=Beam(width=3))


said = say(model.params, jax.device_put(batch, shared))
print(f"3 recordings on {len(devices)} device(s): tokens {said.tokens.shape}")
for row in np.asarray(said.tokens[:3, 0]):
    print(model.vocabulary.decode(row))

# %% [markdown]
# ## Train one of your own
#
# Three kinds of sound that the computer makes, each with a few sentences. With your recordings, describe each clip in
# `captions`; labels are what tags are learnt from. `experiments/captioning_mini.py` trains the model above.

# %%

from jaxaudio.data.clips import Clip
from jaxaudio.data.described import DescribedConfig
from jaxaudio.dsp.mel import MelConfig
from jaxaudio.nn import panns
from jaxaudio.systems.captioning import words
from jaxaudio.train import Experiment, Optimizer, fit
from jaxaudio.train.captioning import captioning_task

LOW = 8000  # Hz: small and quick


def clips(seed, count=24):
    """Hums, whistles and hisses."""
    rng, made, times = np.random.default_rng(seed), [], np.arange(LOW // 2) / LOW
    for number in range(count):
        kind = ("hum", "whistle", "hiss")[number % 3]
        pitch = {"hum": rng.uniform(100, 200), "whistle": rng.uniform(1500, 2500), "hiss": 0}[kind]
        audio = np.sin(2 * np.pi * pitch * times) if pitch else rng.normal(size=len(times)) / 2
        told = (f"a {kind}", f"someone makes a {kind}")
        made.append(
            Clip(
                id=f"{kind} {number}",
                audio=(0.2 * audio).astype(np.float32),
                sample_rate=LOW,
                captions=told,
                labels=(kind,),
                source=f"{seed} {number}",
                licence="CC0-1.0",
            )
        )
    return made


mel = MelConfig(sample_rate=LOW, n_fft=256, hop=128, n_mels=16, fmin=50, fmax=4000)
small = captioning.Config(
    sound=panns.Config(widths=(8, 12), mel=mel, head="frames", embedding=24, classes=0, dropout=0.0, augment=False),
    words=words.Config(
        vocab_size=3, width=24, layers=1, heads=2, hidden=32, dropout=0.0
    ),  # the words come from the data
    tags=3,
    guides=2,
)


def build(experiment):
    data = DescribedConfig(batch=experiment.batch_size, sample_rate=LOW, seconds=0.5)
    return captioning_task(experiment, clips(0), clips(1), data=data, words=14, trials=24)


experiment = Experiment(
    build=build,
    out=str(FOLDER / "run"),
    steps=100 if SMALL else 400,
    batch_size=24,
    model=small,
    optimizer=Optimizer(lr=1e-2),
    log_every=50,
    eval_every=50,
    best="named",
)
fit(experiment, build(experiment))
mine = jaxaudio.load(FOLDER / "run" / "best")
told = [mine.caption(clip.audio, sample_rate=LOW) for clip in clips(2, 6)]
print("mine:", "; ".join(told))

# %% [markdown]
# ## Where to go from here
#
# - `jaxaudio caption RECORDINGS -o captions.csv`, `jaxaudio tag`, `jaxaudio search`: the same on the command line.
# - [Captioning](https://github.com/jaxaudio/jaxaudio/blob/main/docs/captioning.md): published captioners, decoding,
#   training, self-critical fine-tuning, scores.
