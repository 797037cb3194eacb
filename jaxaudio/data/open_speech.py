"""`open_speech`: freely licensed speech with its text, recorded and synthetic, at 16 kHz.

The recordings are telephone prompts in five languages and read books, from Debian packages; two synthesisers read
English sentences in ten more voices, which the codecs' and recognisers' training needs for its variety. Build it with
`jaxaudio data build open_speech`. Each clip's caption is what is said, its first label is who says it, its second
the language. `SOURCES` is the attribution that weights trained on it owe.
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxaudio.data.clips import Clip
from jaxaudio.data.open_sounds import audio, sources
from jaxaudio.data.open_sounds.splits import hashed, rank
from jaxaudio.errors import AudioError, UsageError

RATE = 16000
"""Sample rate, Hz: what the recordings have."""

SPLITS = ("train", "heldout_texts", "heldout_speakers")
"""Trained on; known speakers saying what nobody says in training; recordings of people who are never trained on."""

HELD_OUT = 0.1  # share of the texts
LONGEST = 15.0  # seconds; prompts are seldom longer
PER_VOICE = 400  # sentences that each synthetic voice reads

Progress = Callable[[str], None]


class Source(NamedTuple):
    """Recordings of one speaker.

    Attributes:
      package: Debian package of the sound.
      texts: (package, pattern) of the file that says what is spoken.
      speaker: name.
      language: ISO 639-1 code.
      licence: SPDX identifier.
      unseen: the speaker is never trained on.
    """

    package: str
    texts: tuple[str, str]
    speaker: str
    language: str
    licence: str
    unseen: bool


def _prompts(language: str, speaker: str, licence: str, unseen: bool = False) -> Source:
    name = f"asterisk-core-sounds-{language}"
    return Source(f"{name}-g722", (name, "*/core-sounds-*.txt.gz"), speaker, language, licence, unseen)


SOURCES = (
    _prompts("en", "Allison Smith", "CC-BY-SA-3.0"),
    _prompts("es", "Allison Smith", "CC-BY-SA-3.0"),
    _prompts("fr", "June Wallack", "CC-BY-SA-3.0"),
    _prompts("it", "Carlo", "CC-BY-SA-3.0", unseen=True),
    _prompts("ru", "IvrvoiceRU (Maxim Topal)", "CC-BY-3.0", unseen=True),
    Source(
        "pocketsphinx-testdata",
        ("pocketsphinx-testdata", "*/librivox/transcription"),
        "a LibriVox reader",
        "en",
        "BSD-2-Clause",
        unseen=True,
    ),
)
"""Who is recorded. The synthetic voices beside them are those of `VOICES`."""

VOICES = (
    *(f"flite:{name}" for name in ("awb", "rms", "slt", "kal16")),
    *(f"espeak-ng:{name}" for name in ("en-us+m1", "en-us+m3", "en-gb+m7", "en-us+f1", "en-gb+f2", "en-us+f3")),
)
"""Synthetic voices: flite's, made of the free CMU ARCTIC recordings, and formants of espeak-ng. Their output is taken
to be free of both programs' licences; what they read is ours, words of the public-domain list SCOWL."""

WORDS = ("wamerican-small", "*/dict/american-english-small")


def clips(
    cache: Path | str, split: str, *, per_voice: int = PER_VOICE, progress: Progress | None = None
) -> Iterator[Clip]:
    """The clips of one split, the same ones every time.

    Args:
      cache: where packages are kept for the next time.
      split: one of `SPLITS`.
      per_voice: sentences that each synthetic voice reads; they are all in "train".
      progress: called with a line of text now and then.

    Raises:
      UsageError: there is no such split.
      MissingError: apt-get, ffmpeg, flite or espeak-ng is not there.
    """
    if split not in SPLITS:
        raise UsageError(f"open_speech has no split {split!r}; choose one of {', '.join(SPLITS)}.")
    tell = progress or (lambda line: None)
    for source in SOURCES:
        if source.unseen == (split == "heldout_speakers"):
            count = 0
            for clip in recorded(source, Path(cache), split):
                count += 1
                yield clip
            tell(f"{source.speaker} ({source.language}): {count} clips")
    if split == "train":
        words = vocabulary(Path(cache))
        for voice in VOICES:
            yield from synthetic(voice, words, per_voice)
            tell(f"{voice}: {per_voice} clips")


def is_held_out(text: str) -> bool:
    """Whether a text belongs to "heldout_texts", by a hash of its letters alone."""
    return rank("".join(re.findall(r"\w", text.lower())), seed=0) < HELD_OUT


def recorded(source: Source, cache: Path, split: str) -> Iterator[Clip]:
    """What a speaker recorded of a split, as far as there is a text for it and it is speech."""
    folder = sources.package_files(source.package, cache)
    package, pattern = source.texts
    spoken = transcripts(b"\n".join(sources.documents(package, cache, pattern).values()).decode())
    for name in sources.members(folder):
        text = next((spoken[key] for key in _keys(name) if key in spoken), None)
        if text is None or not (source.unseen or is_held_out(text) == (split == "heldout_texts")):
            continue
        sound = audio.trim(audio.decode(sources.read(folder, name), name, RATE), rate=RATE)
        if 0.3 * RATE <= len(sound) <= LONGEST * RATE:
            yield Clip(
                id=f"{source.package}/{name}",
                audio=leveled(sound),
                sample_rate=RATE,
                captions=(text,),
                labels=(source.speaker, source.language),
                source=f"{source.package}/{name}",
                licence=source.licence,
            )


def _keys(name: str) -> Iterator[str]:
    """A file's possible names in a list of texts: `digits/1` with its folder, `1` without."""
    parts = re.sub(r"\.\w+$", "", name).split("/")
    yield from ("/".join(parts[-n:]) for n in (2, 1))


def transcripts(text: str) -> dict[str, str]:
    """File name without its ending -> what is said, from lines `name: text`, or `text (name)` as recognisers write.

    Lines of comment, and texts in brackets or parentheses, which describe a noise, are left out.
    """
    found = {}
    for line in text.lstrip("\ufeff").splitlines():
        if match := re.fullmatch(r"([\w/.-]+):\s*(.+)", line.strip()):
            name, said = match.groups()
        elif match := re.fullmatch(r"(?:<s>)?\s*(.+?)\s*(?:</s>)?\s*\(([\w.-]+)\)", line.strip()):
            said, name = match.groups()
        else:
            continue
        said = re.sub(r"\s+", " ", said).strip(" \"'")
        if said and said[0] not in "[(<;" and re.search(r"\w", said):
            found[name] = said
    return found


def vocabulary(cache: Path) -> list[str]:
    """Lower-case English words of three to nine letters."""
    package, pattern = WORDS
    (text,) = sources.documents(package, cache, pattern).values()
    return [word for word in text.decode().split() if re.fullmatch(r"[a-z]{3,9}", word)]


def sentence(words: list[str], rng: np.random.Generator) -> str:
    """Four to nine words without a meaning: every sound of the language in every company."""
    chosen = rng.choice(len(words), int(rng.integers(4, 10)))
    text = " ".join(words[i] for i in chosen)
    return f"{text[0].upper()}{text[1:]}."


def synthetic(voice: str, words: list[str], count: int) -> Iterator[Clip]:
    """Sentences read by one synthetic voice, at different speeds and, where the voice can, pitches."""
    program, name = voice.split(":")
    made = 0
    for k in range(2 * count):
        rng = np.random.default_rng(hashed(f"{voice}:{k}"))
        text = sentence(words, rng)
        if made == count or is_held_out(text):
            continue
        made += 1
        read = _flite if program == "flite" else _espeak
        yield Clip(
            id=f"{voice}/{k}",
            audio=leveled(audio.trim(read(text, name, rng), rate=RATE)[: int(LONGEST * RATE)]),
            sample_rate=RATE,
            captions=(text,),
            labels=(voice, "en"),
            source=f"{voice}/{k}",
            licence="Apache-2.0",
        )


def _flite(text: str, voice: str, rng: np.random.Generator) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "speech.wav")
        stretch = f"duration_stretch={rng.uniform(0.85, 1.2):.2f}"
        command = [sources.require("flite", "flite"), "-voice", voice, "--setf", stretch, "-t", text, "-o", str(file)]
        done = subprocess.run(command, capture_output=True)
        if done.returncode or not file.exists():
            raise AudioError(f"flite could not read a sentence with the voice {voice}; reinstall it: apt install flite")
        return audio.decode(file.read_bytes(), voice, RATE)


def _espeak(text: str, voice: str, rng: np.random.Generator) -> np.ndarray:
    from jaxaudio.data.open_sounds import render

    sound = render.speak(text, voice, pitch=int(rng.integers(30, 70)), speed=int(rng.integers(130, 190)))
    return audio.mono(sound[:, None], audio.RATE, voice, RATE)


def leveled(sound: np.ndarray) -> np.ndarray:
    """The sound with its peak at -3 dB."""
    return (sound * (0.7 / max(float(np.abs(sound).max(initial=0)), 1e-4))).astype(np.float32)
