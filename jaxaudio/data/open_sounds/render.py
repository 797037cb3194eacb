"""Sound by two free synthesisers: instruments by fluidsynth with FluidR3_GM, speech by espeak-ng."""

import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from jaxaudio.data.open_sounds import audio, midi, sources
from jaxaudio.errors import AudioError

SOUNDFONT = "usr/share/sounds/sf2/FluidR3_GM.sf2"
TAIL = 0.8


def fluidsynth(song: bytes, soundfont: Path, cache: Path, *, reverb: bool) -> np.ndarray:
    """(time,) float32 at 32 kHz of a MIDI file; kept in `cache/renders`, since a rebuild asks for the same again."""
    key = hashlib.sha256(song + bytes([reverb])).hexdigest()[:24]
    kept = cache / "renders" / f"{key}.flac"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            score, wav = Path(folder, "song.mid"), Path(folder, "song.wav")
            score.write_bytes(song)
            command = [sources.require("fluidsynth", "fluidsynth"), "-n", "-i", "-q", "-g", "0.6", "-C", "0"]
            command += ["-R", str(int(reverb)), "-r", str(audio.RATE), "-F", str(wav), str(soundfont), str(score)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode or not wav.exists():
                raise AudioError(
                    f"fluidsynth failed ({done.stderr.strip()[-200:]}); reinstall it: apt-get install fluidsynth"
                )
            sound, rate = soundfile.read(wav, dtype="float32", always_2d=True)
        part = kept.with_suffix(".part")
        soundfile.write(part, audio.mono(sound, rate, "render"), audio.RATE, format="FLAC")
        part.replace(kept)
    return soundfile.read(kept, dtype="float32")[0]


def play(
    phrases: Sequence[midi.Phrase],
    program: int,
    soundfont: Path,
    cache: Path,
    *,
    drums: bool = False,
    reverb: bool = False,
) -> list[np.ndarray]:
    """Each phrase's sound, (time,) float32 at 32 kHz, rendered in one run and cut apart."""
    song = midi.encode(phrases, program, drums=drums, tail=TAIL)
    sound = fluidsynth(song, soundfont, cache, reverb=reverb)
    return [sound[int(start * audio.RATE) : int(end * audio.RATE)] for start, end in midi.layout(phrases, TAIL)]


def speak(text: str, voice: str, *, pitch: int, speed: int) -> np.ndarray:
    """`text` read by an espeak-ng voice such as `en-us+f3`: (time,) float32 at 32 kHz; `speed` in words a minute."""
    command = [
        sources.require("espeak-ng", "espeak-ng"),
        "-v",
        voice,
        "-p",
        str(pitch),
        "-s",
        str(speed),
        "--stdout",
        text,
    ]
    done = subprocess.run(command, capture_output=True)
    if done.returncode or done.stdout[:4] != b"RIFF":
        raise AudioError(f"espeak-ng has no voice {voice}; reinstall it: apt-get install espeak-ng")
    # The header of a stream cannot know its length; the samples follow 44 bytes.
    rate = int.from_bytes(done.stdout[24:28], "little")
    samples = np.frombuffer(done.stdout[44 : 44 + (len(done.stdout) - 44) // 2 * 2], "<i2").astype(np.float32) / 32768
    return audio.mono(samples[:, None], rate, voice)


SUBJECTS = (
    "the old man",
    "my sister",
    "the teacher",
    "a small boat",
    "the train",
    "our neighbour",
    "the doctor",
    "a young girl",
)
VERBS = (
    "walks slowly to",
    "looks at",
    "never saw",
    "is waiting for",
    "talks about",
    "remembers",
    "left",
    "came back from",
)
OBJECTS = (
    "the river",
    "the market square",
    "a house on the hill",
    "the station",
    "an open window",
    "the garden",
    "the city",
)
ENDINGS = (
    "this morning",
    "every day",
    "with a smile",
    "in the rain",
    "before dinner",
    "last summer",
    "without a word",
    "again",
)
REMARKS = (
    "Good evening.",
    "I do not know.",
    "Please come in.",
    "What time is it?",
    "Thank you very much.",
    "Listen to me.",
)


def sentence(rng: np.random.Generator) -> str:
    """A plain English sentence from a small grammar, sometimes with a short remark before it."""
    words = " ".join(str(rng.choice(part)) for part in (SUBJECTS, VERBS, OBJECTS, ENDINGS))
    remark = f"{rng.choice(REMARKS)} " if rng.random() < 0.4 else ""
    return f"{remark}{words[0].upper()}{words[1:]}."


def robotic(rng: np.random.Generator, voice: np.ndarray) -> np.ndarray:
    """Ring modulation and a short comb: a voice turned into a robot's."""
    t = np.arange(len(voice)) / audio.RATE
    ring = voice * np.sin(2 * np.pi * rng.uniform(35, 90) * t)
    delay = int(rng.uniform(0.004, 0.012) * audio.RATE)
    comb = ring.copy()
    for k in range(1, 4):
        comb[k * delay :] += 0.6**k * ring[: -k * delay]
    return (comb / max(np.abs(comb).max(), 1e-9)).astype(np.float32)
