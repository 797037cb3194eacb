# %% [markdown]
# # Separate what you describe
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxaudio/jaxaudio/blob/main/colab/separation.ipynb)
#
# Lift a sound out of a mixture with a sentence, then train a small separator of your own. Nothing is downloaded but the
# library, which brings a small model and a mixture with it. Runs on a GPU, a TPU or a CPU: *Runtime > Run all*.

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
# ## A model, and a mixture

# %%
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from IPython.display import Audio, Image, display
from jaxaudio import io
from jaxaudio.metrics.separation import sdr
from jaxaudio.models.registry import ASSETS
from jaxaudio.picture import draw_spectrograms

FOLDER = Path(tempfile.mkdtemp(prefix="jaxaudio-"))  # for what this notebook writes

model = jaxaudio.load("separation-mini")
print(f"{model.name}: {model.system}, {model.sample_rate} Hz, {model.licence}")

demo = json.loads((ASSETS / "demo" / "demo.json").read_text())
mixture, rate, _ = io.read(ASSETS / "demo" / demo["mixture"])
stems = {stem["query"]: io.read(ASSETS / "demo" / stem["reference"]).samples for stem in demo["stems"]}
if SMALL:
    mixture, stems = mixture[: 3 * rate], {query: stem[: 3 * rate] for query, stem in stems.items()}
queries = list(stems)
print(f"{len(mixture) / rate:.1f} s at {rate} Hz, {mixture.shape[1]} channel(s); in it: {', '.join(queries)}")


def listen(title, samples, sample_rate=rate):
    """A player; `normalize=False` keeps the loudness, so that sounds can be compared."""
    print(title)
    display(Audio(np.clip(samples, -1, 1).T, rate=sample_rate, normalize=False))


def look(panels, sample_rate=rate):
    """Spectrograms one above the other."""
    draw_spectrograms(FOLDER / "picture.png", panels, sample_rate)
    display(Image(FOLDER / "picture.png", width=700))


listen("the mixture", mixture)

# %% [markdown]
# ## Ask for a sound
#
# The first call compiles for this length of audio; later ones reuse it.

# %%
begun = time.perf_counter()
found = model.separate(mixture, queries[0], sample_rate=rate)
first_call = time.perf_counter() - begun

listen(queries[0], found)


def gain(query, estimate):
    """How much closer to the true sound the estimate is than the mixture, in dB (SDRi)."""
    before, after = (sdr(stems[query].T, x.T).mean() for x in (mixture, estimate))
    return after - before


print(f"SDRi {gain(queries[0], found):.1f} dB")

# %%
look([("the mixture", mixture), (queries[0], found), (f"{queries[0]}: the true one", stems[queries[0]])])

# %% [markdown]
# ## Several queries at once, and what is left
#
# The queries share the mixture's spectrogram. With `residual=True` you also get the mixture without each of them.

# %%
estimates, rests = model.separate(mixture, queries, sample_rate=rate, residual=True)
for query, estimate, rest in zip(queries, estimates, rests):
    listen(f"{query} (SDRi {gain(query, estimate):.1f} dB)", estimate)
    listen(f"without {query}", rest)
look([("the mixture", mixture), *zip(queries, estimates)])

# %% [markdown]
# ## Leave something out first
#
# A negative query is separated first, and the query is asked of what remains.

# %%
wanted, unwanted = queries[0], queries[-1]
cleaner = model.separate(mixture, wanted, negative=unwanted, sample_rate=rate)
listen(f"{wanted}, not {unwanted}", cleaner)
print(f"SDRi {gain(wanted, cleaner):.1f} dB; without the negative query {gain(wanted, found):.1f} dB")

# %% [markdown]
# ## A file of yours
#
# Any sample rate and number of channels; the result has the same. Tick `UPLOAD` (on Colab) or give a path; otherwise
# the mixture plays the part, as a stereo file of 44.1 kHz.

# %%
UPLOAD = False  # @param {type: "boolean"}
PATH = ""  # @param {type: "string"}
QUERY = ""  # @param {type: "string"}

if IN_COLAB and UPLOAD:
    from google.colab import files

    PATH = next(iter(files.upload()))
if not PATH:
    import soxr

    PATH = FOLDER / "stereo.wav"
    mono = soxr.resample(mixture.mean(1), rate, 44100)
    io.write(PATH, np.stack([mono, 0.5 * mono], axis=1), 44100)

own = io.read(PATH)
result = model.separate(own.samples, QUERY or queries[0], sample_rate=own.sample_rate)
assert result.shape == own.samples.shape
io.write(FOLDER / "separated.wav", result, own.sample_rate)
listen(f"{QUERY or queries[0]}, {own.sample_rate} Hz, {own.samples.shape[1]} channels", result, own.sample_rate)

# %% [markdown]
# ## Long recordings
#
# Audio longer than a window is computed window by window, each with context on both sides, in memory that does not grow
# with the length. `chunk="auto"` takes the model's own windows; a number is the length of a window in seconds.

# %%
long = np.tile(mixture, (2 if SMALL else 12, 1))
chunk = 3.0 if SMALL else "auto"
windows = []
begun = time.perf_counter()
result = model.separate(
    long, queries[0], sample_rate=rate, chunk=chunk, progress=lambda done, total: windows.append(done)
)
seconds = len(long) / rate
print(f"{seconds:.0f} s in {windows[-1]} windows, {time.perf_counter() - begun:.1f} s")
assert result.shape == long.shape

# %% [markdown]
# ## Many recordings, all devices
#
# Below `separate` are plain functions over the parameters. `batched_inference` maps one over all local devices with
# `jax.pmap`, whatever the number of rows: here three mixtures, asked a different question each.

# %%
from jaxaudio.data.mixing import resample, to_mono
from jaxaudio.systems import audiosep
from jaxaudio.train import batched_inference

config = model.config
mono = resample(to_mono(mixture), rate, config.sample_rate)
batch = {
    "mixture": np.stack([mono, mono[::-1], 0.5 * mono]),
    "condition": model.embed([queries[0], queries[-1], "rain"]),
}


def ask(params, part):
    """(rows, time) mixtures and a query for each -> (rows, time)."""
    return audiosep.separate(params, config, part["mixture"], part["condition"])


answers = batched_inference(ask, model.params, rows=1)(batch)
assert answers.shape == batch["mixture"].shape
print(f"{len(answers)} recordings on {jax.local_device_count()} device(s)")

# %% [markdown]
# ## How fast
#
# Compiling and running are different things: time the first call apart, then take the median of warm ones. `separate`
# returns numpy arrays, so nothing is left running when the clock stops.

# %%
warm = []
for _ in range(3 if SMALL else 10):
    begun = time.perf_counter()
    model.separate(mixture, queries[0], sample_rate=rate)
    warm.append(time.perf_counter() - begun)
length = len(mixture) / rate
print(f"first call {first_call:.2f} s, with compilation (or reading its result from the cache)")
print(f"warm {np.median(warm):.3f} s for {length:.1f} s of audio: {np.median(warm) / length:.3f} of real time")

# %% [markdown]
# ## Train a separator
#
# On sounds made by the library's own generators: nothing to download. A pipeline mixes them anew for every batch; the
# queries are sentence embeddings, so that other wordings work too. This one is far smaller than the model above.

# %%
import dataclasses
import functools

from jaxaudio.data import Clip, MixtureConfig, MixturePipeline, open_sounds
from jaxaudio.data.open_sounds.procedural import RATE
from jaxaudio.data.open_sounds.procedural_catalogue import GENERATORS
from jaxaudio.text import queries as text
from jaxaudio.train import Experiment, Optimizer, Task, fit

rows = {row.glob: row for row in open_sounds.rows() if row.package == "procedural"}


def sound(name, number):
    """One made-up recording, with everything that can be said of it."""
    row = rows[f"generator:{name}"]
    concept = open_sounds.concepts()[row.concept]
    return Clip(
        id=f"{name}-{number}",
        audio=GENERATORS[name](np.random.default_rng(number), 1.5),
        sample_rate=RATE,
        captions=concept.phrasings(row.caption),
        labels=concept.labels,
    )


names = (
    ("thunder", "crickets", "siren", "beeping")
    if SMALL
    else ("thunder", "crickets", "siren", "beeping", "church_bell", "engine", "stream", "knocking", "heartbeat", "owl")
)
clips = [sound(name, number) for name in names for number in range(2 if SMALL else 20)]
print(len(clips), "clips, such as", *(f"'{clip.captions[0]}'" for clip in clips[:: len(clips) // 4]))
listen(clips[-1].captions[0], clips[-1].audio, RATE)

# %%
tiny = audiosep.Config(
    sample_rate=8000,
    n_fft=256,
    hop=128,
    condition_size=384,
    stem=8,
    channels=(8,) if SMALL else (16, 32, 64),
    pools=((2, 4),) if SMALL else ((2, 2), (2, 2), (2, 2)),
    bottleneck=16 if SMALL else 64,
    momentum=0.1,
)
embed = text.cached(text.sentence_encoder())
embed([caption for clip in clips for caption in clip.captions])  # all at once; a batch then only looks them up


def build(experiment):
    """What a file in experiments/ says: loss, initial parameters, data."""
    mixing = MixtureConfig(
        batch=experiment.batch_size, sample_rate=tiny.sample_rate, seconds=1.0, low_db=0, high_db=0, balance=True
    )

    def init(key):
        variables = jax.jit(audiosep.init, static_argnums=1)(key, tiny)
        return variables["params"], {"batch_stats": variables["batch_stats"]}

    return Task(
        loss=lambda axis_name: functools.partial(audiosep.loss, config=tiny, objective="snr", axis_name=axis_name),
        init=init,
        data=iter(MixturePipeline(clips, mixing, text=lambda captions: {"condition": embed(captions)})),
        config={"system": "audiosep", "config": dataclasses.asdict(tiny)},
    )


experiment = Experiment(
    build=build,
    out=str(FOLDER / "run"),
    steps=40 if SMALL else 600,
    batch_size=8 if SMALL else 32,
    optimizer=Optimizer(lr=5e-3 if SMALL else 2e-3, schedule="cosine", warm_up_steps=5, final_lr=1e-4),
    clip_norm=5.0,
    log_every=5 if SMALL else 20,
    save_every=1000,
)
outcome = fit(experiment, experiment.build(experiment), quiet=True)
print(f"{outcome.reason} after {int(outcome.state.step)} steps")

# %%
import matplotlib.pyplot as plt

lines = [json.loads(line) for line in (FOLDER / "run" / "metrics.jsonl").read_text().splitlines()]
steps, loss = zip(*((line["step"], line["loss"]) for line in lines if line["kind"] == "train"))
plt.figure(figsize=(7, 3))
plt.plot(steps, loss)
plt.xlabel("step")
plt.ylabel("loss: -SNR, dB")
plt.show()
print(f"loss {loss[0]:.2f} -> {loss[-1]:.2f} dB")
assert loss[-1] < loss[0], "the loss should fall"

# %% [markdown]
# A run leaves its weights in a folder that `jaxaudio.load` takes like any other model.

# %%
mine = jaxaudio.load(FOLDER / "run" / "final")
one, other = clips[0], clips[-1]
size = min(len(one.audio), len(other.audio), RATE)
mixed = 0.5 * (one.audio[:size] + other.audio[:size])
answer = mine.separate(mixed, one.captions[-1], sample_rate=RATE)
look([("a mixture", mixed), (one.captions[-1], answer)], RATE)
listen(one.captions[-1], answer, RATE)

# %% [markdown]
# ## Further
#
# - [Separation](https://github.com/jaxaudio/jaxaudio/blob/main/docs/separation.md): the command line, published
#   checkpoints, evaluation.
# - [Data](https://github.com/jaxaudio/jaxaudio/blob/main/docs/data.md): your own captioned sounds.
# - [Training](https://github.com/jaxaudio/jaxaudio/blob/main/docs/training.md): experiments, resuming, many devices.
#   Sessions on Colab end: set `out` to a folder on your Drive, and a run goes on where it stopped.
