# %% [markdown]
# # Sound as a language
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxaudio/jaxaudio/blob/main/colab/sound_language_model.ipynb)
#
# A small model writes sounds code by code: of words, in pieces while it writes, or on from a recording; then you train
# a model of your own on a scale of tones. Nothing is downloaded but the library, which brings the model and a recording
# with it. Runs on a GPU, a TPU or a CPU: *Runtime > Run all*.

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
# ## Sounds of words
#
# Five seconds are 16 codes of 256 for each of 25 frames a second. Every step writes one code of each band, the higher
# bands a step later each, so that 2,048 codes take 143 steps. The first call compiles.

# %%
import tempfile
import time
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Audio, Image, display
from jaxaudio import io
from jaxaudio.models.registry import ASSETS
from jaxaudio.picture import draw_spectrograms

FOLDER = Path(tempfile.mkdtemp(prefix="jaxaudio-"))  # for what this notebook writes
SECONDS = 2.56 if SMALL else 5.12

model = jaxaudio.load("soundlm-mini")
rate = model.sample_rate
print(f"{model.name}: {model.system}, {rate} Hz, {model.config.prior.steps} steps a window, {model.licence}")


def show(sounds, name):
    """Players, and spectrograms beside each other."""
    for title, samples in sounds.items():
        print(title)
        display(Audio(np.clip(samples, -1, 1), rate=rate, normalize=False))
    draw_spectrograms(FOLDER / f"{name}.png", list(sounds.items()), rate)
    display(Image(FOLDER / f"{name}.png"))


prompts = ["rain", "a church bell", "a dog barking", "a piano playing"]
begun = time.perf_counter()
made = model.generate(prompts, seconds=SECONDS, seed=1)
first_call = time.perf_counter() - begun
begun = time.perf_counter()
made = model.generate(prompts, seconds=SECONDS, seed=1)
print(f"first call {first_call:.2f} s, then {time.perf_counter() - begun:.2f} s for {len(prompts)} sounds")
show(dict(zip(prompts, made)), "words")

# %% [markdown]
# ## How freely, and how much by the words
#
# A temperature below 1 takes the likelier codes, `top_p` leaves the least likely ones out, and a guidance above 1 makes
# the words count for more than they do by themselves.

# %%
settings = {
    "as it is": {},
    "temperature 0.7": {"temperature": 0.7},
    "the likeliest tenth": {"top_p": 0.1},
    "no guidance": {"guidance": 1.0},
}
show({name: model.generate("a church bell", seconds=SECONDS, seed=2, **how) for name, how in settings.items()}, "how")

# %% [markdown]
# ## On from a recording
#
# The model hears the last seconds of a recording as codes, and writes what follows. The recording stays as it is.
# `jaxaudio generate "a piano playing" -o more.wav --model soundlm-mini --continue piano.wav` does this for a file.

# %%
piano = io.read(ASSETS / "demo" / "stem0.flac")
longer = model.extend(piano.samples, "a piano playing", sample_rate=piano.sample_rate, seconds=2.56, seed=3)
until = len(piano.samples) - piano.sample_rate // 50  # then what follows fades in
kept = np.array_equal(longer[:until], piano.samples[:until])
before, after = (len(x) / piano.sample_rate for x in (piano.samples, longer))
print(f"{before:.2f} s become {after:.2f} s; kept as it was: {kept}")
display(Audio(longer.T, rate=piano.sample_rate, normalize=False))

# %% [markdown]
# ## While it writes
#
# A stream gives each piece as soon as its window is written; together they are what `generate` gives.

# %%
begun, pieces = time.perf_counter(), []
for piece in model.stream("rain", seconds=2 * SECONDS, seed=4):
    pieces.append(piece)
    print(f"{sum(map(len, pieces)) / rate:.2f} s of sound after {time.perf_counter() - begun:.2f} s")
whole = model.generate("rain", seconds=2 * SECONDS, seed=4)
print(f"largest difference from the whole: {np.abs(np.concatenate(pieces) - whole).max():.1e}")

# %% [markdown]
# ## The codes
#
# A picture of what the model reads and writes: low bands below, time to the right.

# %%
codes = model.encode(made[1], sample_rate=rate)
plt.figure(figsize=(8, 2.5))
plt.imshow(codes, aspect="auto", origin="lower", cmap="viridis", interpolation="nearest")
plt.xlabel("frame")
plt.ylabel("band")
plt.tight_layout()
plt.savefig(FOLDER / "codes.png")
plt.close()
display(Image(FOLDER / "codes.png"))
print(f"{codes.shape[0]} bands, {codes.shape[1]} frames, {len(np.unique(codes))} different codes")

# %% [markdown]
# ## The same, as functions
#
# Weights are a tree; three sounds are written on all devices at once.

# %%
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxaudio.systems import soundlm
from jaxaudio.text.decode import Sampling

devices = np.array(jax.devices())
shared = NamedSharding(Mesh(devices, ("data",)), PartitionSpec("data"))
rows = -(-3 // len(devices)) * len(devices)
told = jax.device_put(np.repeat(model.condition("rain"), rows, 0), shared)
keys = jax.device_put(jax.random.split(jax.random.key(0), rows), shared)
written = soundlm.sample(model.params, model.config, told, keys, frames=64, sampling=Sampling(top_p=0.95), guidance=3.0)
sounds = soundlm.decode(model.params, model.config, written)
print(f"3 sounds on {len(devices)} device(s): codes {written[:3].shape}, sounds {sounds[:3].shape}")

# %% [markdown]
# ## Train one of your own
#
# The published prior, PixelSNAIL, and the Transformer learn from any grid of codes. Here a Transformer learns eight
# tunes of four bands, each with a name; `experiments/soundlm_mini.py` trains the model above.

# %%
import optax
from jaxaudio.nn import stack
from jaxaudio.systems.soundlm import transformer

tunes = tuple(f"tune {i}" for i in range(8))
config = transformer.Config(
    network=stack.Config(width=32, layers=2, heads=2, hidden=64, norm="pre", last_norm=True),
    codes=16,
    bands=4,
    frames=12,
    names=tunes,
)
starts = np.arange(8)[:, None, None] + 3 * np.arange(4)[:, None] + np.arange(12)  # scales that begin in eight places
batch = {"codes": jnp.asarray(starts % 16), "class": jnp.arange(8)}
params = transformer.init(jax.random.key(0), config)
optimizer = optax.adam(1e-2)
state = optimizer.init(params)


@jax.jit
def step(params, state, key):
    (loss, _), gradients = jax.value_and_grad(transformer.loss, has_aux=True)(params, {}, batch, key, config=config)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss


for number in range(150):
    params, state, loss = step(params, state, jax.random.key(number))
    if number % 50 == 0:
        print(f"step {number}: {loss:.3f} nats for each code")
again = transformer.sample(params, config, jnp.arange(8), sampling=Sampling(temperature=0.0)).ids
print(f"written from its name alone: {np.mean(np.asarray(again) == starts % 16):.0%} of the codes as they were")

# %% [markdown]
# ## Where to go from here
#
# - `jaxaudio generate "rain" -o rain.wav --model soundlm-mini`: the same on the command line.
# - [Sound, code by code](https://github.com/jaxaudio/jaxaudio/blob/main/docs/sound_language_model.md): the published
#   model, its converters, orders of codes, training.
