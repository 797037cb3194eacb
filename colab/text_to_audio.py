# %% [markdown]
# # Sound from words
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxaudio/jaxaudio/blob/main/colab/text_to_audio.ipynb)
#
# Make a sound of a sentence, make other sounds of it, and separate one by making it anew. Nothing is downloaded but
# the library, which brings a small latent diffusion model with it. Runs on a GPU, a TPU or a CPU: *Runtime > Run all*.

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
    source = "jaxaudio @ git+https://github.com/jaxaudio/jaxaudio"
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
# ## From a sentence to a sound
#
# The first call compiles; later ones of the same length and number of steps reuse it. The same seed gives the same
# sound.

# %%
import tempfile
import time
from pathlib import Path

import numpy as np
from IPython.display import Audio, Image, display
from jaxaudio.picture import draw_spectrograms

MODEL = "audioldm-mini"  # @param {type: "string"}
PROMPT = "a church bell"  # @param {type: "string"}
SEED = 3  # @param {type: "integer"}

FOLDER = Path(tempfile.mkdtemp(prefix="jaxaudio-"))  # for what this notebook writes
model = jaxaudio.load(MODEL)
RATE = model.sample_rate
print(f"{model.name}: {model.system}, {RATE} Hz, {model.licence}")

SECONDS = 1.28 if SMALL else model.config.window
STEPS = 4 if SMALL else model.sampling.steps


def listen(title, samples, rate=RATE):
    """A player; `normalize=False` keeps the loudness, so that sounds can be compared."""
    print(title)
    display(Audio(np.clip(samples, -1, 1), rate=rate, normalize=False))


def look(panels, rate=RATE):
    """Spectrograms one above the other."""
    draw_spectrograms(FOLDER / "picture.png", panels, rate)
    display(Image(FOLDER / "picture.png", width=700))


begun = time.perf_counter()
bell = model.generate(PROMPT, seconds=SECONDS, steps=STEPS, seed=SEED)
first_call = time.perf_counter() - begun
begun = time.perf_counter()
again = model.generate(PROMPT, seconds=SECONDS, steps=STEPS, seed=SEED)
print(f"first call {first_call:.2f} s, then {time.perf_counter() - begun:.2f} s for {SECONDS:.2f} s of sound")
assert np.array_equal(bell, again)

listen(PROMPT, bell)
look([(PROMPT, bell)])

# %% [markdown]
# ## Many at once
#
# A list of prompts gives a leading axis, `count` an axis of several sounds for each. They are spread over all devices,
# and no sound depends on what it is made with.

# %%
prompts = ["rain", "a violin"] if SMALL else ["rain", "a violin", "a siren", "crickets at night", "a heartbeat"]
sounds = model.generate(prompts, seconds=SECONDS, steps=STEPS, seed=SEED, count=2)
print(f"{sounds.shape[0]} prompts, {sounds.shape[1]} sounds each, on {jax.local_device_count()} device(s)")
for prompt, (one, other) in zip(prompts, sounds):
    listen(f"{prompt}, one", one)
    listen(f"{prompt}, another", other)
look(list(zip(prompts, sounds[:, 0])))

# %% [markdown]
# ## What guidance does
#
# Above 1, the prompt counts more than it would by itself; a negative prompt says what to lead away from.

# %%
strengths = (1, 3) if SMALL else (1, 2, 4, 8)
guided = [
    (f"guidance {strength}", model.generate(PROMPT, seconds=SECONDS, steps=STEPS, seed=SEED, guidance=strength))
    for strength in strengths
]
for title, sound in guided:
    listen(title, sound)
look(guided)

# %% [markdown]
# ## How few steps will do
#
# Every solver makes exactly the number of steps that is asked for. With few of them, `spacing="log-snr"` says where
# they lie. [The other notebook](https://colab.research.google.com/github/jaxaudio/jaxaudio/blob/main/colab/sampler_steps.ipynb)
# measures this.

# %%
few = [
    (f"{solver}, {steps} steps", dict(solver=solver, steps=steps, spacing="log-snr"))
    for solver, steps in ((("unipc", 2),) if SMALL else (("ddim", 4), ("unipc", 4), ("ddim", 16), ("unipc", 16)))
]
hasty = []
for title, options in few:
    model.generate(PROMPT, seconds=SECONDS, seed=SEED, **options)  # compiles
    begun = time.perf_counter()
    hasty.append((title, model.generate(PROMPT, seconds=SECONDS, seed=SEED, **options)))
    print(f"{title}: {time.perf_counter() - begun:.2f} s")
look(hasty)

# %% [markdown]
# ## Longer than it was trained on
#
# Windows overlap and agree at every step of the sampler, so there are no seams.

# %%
length = 2 * model.config.window if SMALL else 4 * model.config.window
rain = model.generate("rain", seconds=length, steps=2 if SMALL else STEPS, seed=SEED)
print(f"{len(rain) / RATE:.2f} s asked {length:.2f} s")
listen("rain", rain)
look([("rain", rain)])

# %% [markdown]
# ## Make another sound of it
#
# `vary` keeps the course of a sound and makes of it what a prompt says; `fill` makes a span anew and keeps the rest,
# sample by sample; `upsample` makes the high frequencies that a recording lacks.

# %%
style, middle = "a dog barking", (0.3 * SECONDS, 0.6 * SECONDS)
varied = model.vary(bell, style, sample_rate=RATE, strength=0.6, steps=STEPS, seed=SEED)
filled = model.fill(bell, style, sample_rate=RATE, spans=[middle], steps=STEPS, seed=SEED)
outside = np.ones(len(bell), bool)
outside[int(middle[0] * RATE) : int(middle[1] * RATE) + 1] = False
assert np.array_equal(filled[outside], bell[outside])
wide = model.upsample(bell[::2], sample_rate=RATE // 2, prompt=PROMPT, steps=STEPS, seed=SEED)
print(f"upsampled from {RATE // 2} to {RATE} Hz: {len(bell[::2])} samples become {len(wide)}")
panels = [
    (PROMPT, bell),
    (f"varied: {style}", varied),
    (f"the middle: {style}", filled),
    ("upsampled", wide[: len(bell)]),
]
for title, sound in panels:
    listen(title, sound)
look(panels)

# %% [markdown]
# ## Separate by making
#
# FlowSep hears a mixture and a sentence, and makes the wanted sound anew. `spans` says where it sounds.

# %%
import json

from jaxaudio import io
from jaxaudio.models.registry import ASSETS

demo = json.loads((ASSETS / "demo" / "demo.json").read_text())
mixture, rate, _ = io.read(ASSETS / "demo" / demo["mixture"])
query = demo["stems"][0]["query"]
mixture = mixture[: int(1.28 * rate)] if SMALL else mixture

separator = jaxaudio.load("flowsep-mini")
found, rest = separator.separate(mixture, query, sample_rate=rate, steps=STEPS, seed=SEED, residual=True)
assert found.shape == mixture.shape
np.testing.assert_allclose(found + rest, mixture, atol=1e-5)
half = len(mixture) / rate / 2
early = separator.separate(mixture, query, sample_rate=rate, steps=STEPS, seed=SEED, spans=[(0, half)])
print(f"{query}: after the span there is {np.abs(early[int((half + 0.1) * rate) :]).max():.1g}")
for title, sound in (("the mixture", mixture), (query, found), (f"{query}, only early", early)):
    listen(title, sound.T, rate)
look([("the mixture", mixture), (query, found), (f"{query}, only early", early)], rate)

# %% [markdown]
# ## Under the methods
#
# are pure functions over a parameter tree: jit them, map them, look inside.

# %%
from jaxaudio.systems import audioldm

config = model.config
samples = round(SECONDS * RATE)
sampling = audioldm.Sampling(steps=STEPS, solver="dpmpp-2m", guidance=3.0, spacing="log-snr")


@jax.jit
def draw(params, condition, negative, key):
    """(batch, ...) conditions -> waveforms (batch, samples), and the latents on the way."""
    z, states = audioldm.generate(
        params, config, condition, negative, key, samples=samples, sampling=sampling, trajectory="steps"
    )
    return audioldm.decode(params, config, z, samples), states


told = [model.condition([text] * 2) for text in (PROMPT, "")]
waves, states = draw(model.params, *told, jax.random.key(SEED))
print(f"waveforms {waves.shape}, latents on the way {states.shape}")
print("parameters:", f"{sum(x.size for x in jax.tree.leaves(model.params)):,}")

# %% [markdown]
# ## Further
#
# - [Generation](https://github.com/jaxaudio/jaxaudio/blob/main/docs/generation.md): every option, the command line,
#   published checkpoints of AudioLDM and FlowSep.
# - [Samplers](https://github.com/jaxaudio/jaxaudio/blob/main/docs/samplers.md): schedules, solvers, guidance.
# - [Training](https://github.com/jaxaudio/jaxaudio/blob/main/docs/training.md): a model of your own, stage by stage.
