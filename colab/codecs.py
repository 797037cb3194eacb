# %% [markdown]
# # Sound into tokens, and back
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxaudio/jaxaudio/blob/main/colab/codecs.ipynb)
#
# Encode speech, look at the tokens, decode them, feed a codec a stream, and train one. Nothing is downloaded but the
# library. Runs on a GPU, a TPU or a CPU: *Runtime > Run all*.

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
# ## There and back
#
# `speech-codec-mini` comes with the package: a transformer codec with FSQ (TAAE, the architecture of Stable Codec),
# trained on two CPU cores. The recording is of a reader that it never heard. `encode` takes audio of any rate, length
# and number of channels, and what `decode` gives has the same.

# %%
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from IPython.display import Audio, Image, display
from jaxaudio import io, picture
from jaxaudio.models.registry import ASSETS

FOLDER = Path(tempfile.mkdtemp(prefix="jaxaudio-"))  # for what this notebook writes
speech, rate, _ = io.read(ASSETS / "demo" / "speech.flac")
speech = speech[:, 0]
if SMALL:
    speech = speech[: 2 * rate]

codec = jaxaudio.load("speech-codec-mini")


def listen(title, audio, rate):
    """A player with a title."""
    print(title)
    display(Audio(audio, rate=rate))


codes = codec.encode(speech, sample_rate=rate)
heard = codec.decode(codes)
assert heard.shape == speech.shape
print(f"{codes.tokens_per_second:g} tokens/s, {codes.bits_per_second:.0f} bit/s")
print(f"{len(speech)} samples, {len(heard)} back")
listen("the recording", speech, rate)
listen("its tokens, decoded", heard, rate)
picture.draw_spectrograms(FOLDER / "codec.png", [("the recording", speech), ("decoded", heard)], rate)
display(Image(FOLDER / "codec.png"))

# %% [markdown]
# The tokens are integers, one or a few per frame; `sizes` says how many different ones there can be.

# %%
print("shape (channels, tracks, frames, books):", codes.values.shape, "of", codes.sizes)
print(codes.values[0, 0, :8])

# %% [markdown]
# ## More bits, fewer bits
#
# A codec with FSQ can round its latents more or less finely after it was trained. A smaller distance is better.

# %%
from jaxaudio.metrics.codec import fidelity

for bits in codec.bitrates:
    chosen = codec.encode(speech, sample_rate=rate, bitrate=bits)
    figures = fidelity(speech[None], codec.decode(chosen)[None], rate)
    print(f"{bits:6.0f} bit/s, books of {chosen.sizes}: mel distance {figures['mel_distance']:.2f}")

# %% [markdown]
# ## Speech made anew, in a step or two
#
# `sitok-mini` is a SiTok: 12.5 times a second four tokens, 500 bit/s, that are trained to keep the words. Its decoder
# is a flow, which makes a spectrogram of noise that fits them, and is told how large its steps are, so that a few do.

# %%
sitok = jaxaudio.load("sitok-mini")
said = sitok.encode(speech, sample_rate=rate)
print(f"{said.tokens_per_second:g} tokens/s, {said.bits_per_second:.0f} bit/s")
for steps in (1, 2) if SMALL else (1, 2, 4, 16):
    made = sitok.decode(said, steps=steps, seed=0)
    figures = fidelity(speech[None], made[None], rate)
    listen(f"in {steps} step(s), mel distance {figures['mel_distance']:.2f}", made, rate)

# %% [markdown]
# ## Tokens that keep speech and music apart
#
# `tracks-codec-mini` is an SD-Codec: one encoder hears the mixture, and has codes for the speech and codes for the
# music in it. What they become is a mask, too, which splits the mixture.

# %%
from jaxaudio.metrics import si_sdr
from jaxaudio.systems import sdcodec

time = np.arange(len(speech)) / rate
notes = [np.sin(2 * np.pi * 220 * 2 ** (n / 12) * h * time) / h for n in (0, 4, 7, 12) for h in (1, 2, 3)]
chord = (np.sum(notes, 0) * np.exp(-2 * (time % 0.5))).astype(np.float32)
mixture = speech + chord * np.std(speech) / np.std(chord)
tracks = jaxaudio.load("tracks-codec-mini")
parts = sdcodec.separate(tracks.params, tracks.config, mixture[None], masked=True)[0]
before, after = (float(si_sdr(speech, np.asarray(x))) for x in (mixture, parts[0]))
print(f"SI-SDR of the speech: {before:.1f} dB in the mixture, {after:.1f} dB by the masks of {tracks.config.tracks}")
listen("the mixture", mixture, rate)
listen("its speech", np.asarray(parts[0]), rate)
listen("its music", np.asarray(parts[1]), rate)

# %% [markdown]
# ## A file of codes
#
# It holds each code in as many bits as its book needs, and what is needed to decode it. Other models refuse it.

# %%
from jaxaudio.models import codes as code_files

code_files.save(FOLDER / "speech.jac", codes)
again = code_files.load(FOLDER / "speech.jac")
assert np.array_equal(codec.decode(again), heard)
size = (FOLDER / "speech.jac").stat().st_size
print(f"{size} bytes with the header, {2 * len(speech)} as 16-bit samples")

# %% [markdown]
# ## A stream
#
# `receptive.push` takes whatever has come in and gives the tokens that can be said by now. All of them together are
# those of the whole recording.

# %%
from jaxaudio.nn import receptive
from jaxaudio.systems import taae

windows = taae.encoder_windows(codec.params, codec.config)
loud = (speech / np.float32(codes.gains[0]))[None]  # at the loudness that the codec was trained on
stream, made = receptive.Stream(), []
for start in range(0, loud.shape[1], 1600):  # a tenth of a second at a time
    tokens, stream = receptive.push(windows, stream, loud[:, start : start + 1600])
    made += tokens
made += receptive.flush(windows, stream)
streamed = np.concatenate(made, 1)
print("streamed tokens equal to those of the whole:", f"{np.mean(streamed[0] == codes.values[0, 0]):.0%}")

# %% [markdown]
# ## Many recordings, all devices
#
# Below the bundle are plain functions over the parameters. `batched_inference` maps one over all local devices with
# `jax.pmap`, whatever the number of rows.

# %%
from jaxaudio.train import batched_inference


def tokenise(params, part):
    """(rows, time) waveforms -> (rows, frames, books)."""
    return taae.tokens(params, codec.config, part["audio"])


three = np.stack([loud[0], loud[0][::-1], 0.5 * loud[0]])
tokens = batched_inference(tokenise, codec.params, rows=1)({"audio": three})
print(f"{len(tokens)} recordings on {jax.local_device_count()} device(s):", tokens.shape)

# %% [markdown]
# ## Train one
#
# A smaller one of the same kind, on the three seconds of this recording at random speeds, with the spectral losses
# alone: it learns this one reader, roughly. `experiments/codec_speech_mini.py` trained the other, on hours of speech.
# The folder of a training run is a model, as that of a converted checkpoint is.

# %%
from jaxaudio.data import Clip
from jaxaudio.data.segments import SegmentConfig, SegmentPipeline
from jaxaudio.nn.spectral_discriminators import MINI_SPECTRUM
from jaxaudio.train import Experiment, Optimizer, fit
from jaxaudio.train.codec import hinge_critic, spectral_terms
from jaxaudio.train.codec_tasks import taae_task

tiny = dataclasses.replace(taae.MINI, channels=64, depths=(1,), multiples=(1,), strides=(3,))
clips = [Clip(id="speech", audio=speech, sample_rate=rate, captions=())]
segments = SegmentConfig(batch=8, sample_rate=rate, seconds=0.6, speed=(0.8, 1.25))


def build(experiment):
    """What a file in experiments/ says: data, losses, evaluation."""
    return taae_task(
        experiment,
        data=iter(SegmentPipeline(clips, segments)),
        evaluation={"waveform": speech[None, :rate]},
        terms=spectral_terms(tiny.front_end),
        critic=hinge_critic(MINI_SPECTRUM),
        adversary_start=10**6,  # the discriminators never begin
    )


experiment = Experiment(
    build=build,
    out=str(FOLDER / "tiny-codec"),
    steps=20 if SMALL else 1000,
    batch_size=8,
    model=tiny,
    optimizer=Optimizer(lr=2e-3, warm_up_steps=10),
    log_every=10,
    eval_every=20 if SMALL else 200,
)
task = experiment.build(experiment)
params, _ = task.init(jax.random.key(0))
before = task.evaluate(task.release({"params": params}))
outcome = fit(experiment, task, quiet=True)
print(f"mel distance {before['mel']:.2f} -> {outcome.metrics['mel']:.2f} after {experiment.steps} steps")
own = jaxaudio.load(FOLDER / "tiny-codec" / "final")
listen("the recording, by the new codec", own.decode(own.encode(speech, sample_rate=rate)), rate)

# %% [markdown]
# What to do next: [the codecs page](https://github.com/jaxaudio/jaxaudio/blob/main/docs/codecs.md) has published
# checkpoints, tracks, long recordings and training on your own data.
