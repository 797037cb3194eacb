"""Seeded music: phrases for any General MIDI programme or drum, laid out in one file to be rendered and then cut."""

import dataclasses
import struct
from collections.abc import Sequence

import numpy as np

TICKS = 480
TEMPO = 500_000  # microseconds per quarter: 960 ticks a second
PER_SECOND = TICKS * 1_000_000 // TEMPO
DRUM_CHANNEL = 9

Note = tuple[float, float, int, int]  # start and length in seconds, MIDI pitch, velocity 1..127


@dataclasses.dataclass(frozen=True, slots=True)
class Phrase:
    """Notes that sound together as one clip.

    Attributes:
      notes: what is played.
      source: phrases with one source stay on one side of a split (the same note at another velocity).
    """

    notes: tuple[Note, ...]
    source: str

    @property
    def seconds(self) -> float:
        """Until the last note is released."""
        return max(start + length for start, length, _, _ in self.notes)


SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9), (0, 3, 5, 7, 10))


def velocity(rng: np.random.Generator) -> int:
    """From soft to loud."""
    return int(rng.integers(55, 120))


def single_notes(rng: np.random.Generator, low: int, high: int, count: int) -> list[Phrase]:
    """`count` pitches spread over the range, each softly and loudly."""
    phrases = []
    for pitch in np.unique(np.linspace(low, high, count).astype(int)):
        length = float(rng.uniform(0.8, 2.5))
        for loud in (int(rng.integers(45, 80)), int(rng.integers(90, 125))):
            phrases.append(Phrase(((0.0, length, int(pitch), loud),), f"note{pitch}"))
    return phrases


def melody(rng: np.random.Generator, low: int, high: int, seconds: float, name: str) -> Phrase:
    """A walk over a scale in a plain rhythm, now legato, now detached."""
    root, scale = int(rng.integers(low, low + 12)), SCALES[rng.integers(len(SCALES))]
    steps = [p for p in range(low, high + 1) if (p - root) % 12 in scale] or [low]
    beat, held, place, at, notes = (
        rng.uniform(0.18, 0.42),
        rng.uniform(0.5, 1.05),
        int(rng.integers(len(steps))),
        0.0,
        [],
    )
    while at < seconds:
        length = beat * float(rng.choice([1, 1, 2, 2, 3, 4]))
        if rng.random() > 0.08:
            notes.append((at, length * held, steps[place], velocity(rng)))
        place = int(np.clip(place + rng.choice([-4, -2, -1, -1, 0, 1, 1, 2, 4]), 0, len(steps) - 1))
        at += length
    return Phrase(tuple(notes) or ((0.0, seconds, steps[place], 90),), name)


def chords(rng: np.random.Generator, low: int, high: int, seconds: float, name: str) -> Phrase:
    """Triads and sevenths, struck together or broken into arpeggios."""
    notes, at, broken = [], 0.0, rng.random() < 0.5
    while at < seconds:
        root = int(rng.integers(low, max(high - 14, low) + 1))
        shape = [(0, 4, 7), (0, 3, 7), (0, 4, 7, 12), (0, 3, 7, 10), (0, 5, 7)][rng.integers(5)]
        length, loud = float(rng.uniform(0.6, 1.6)), velocity(rng)
        for k, step in enumerate(shape):
            start = at + (k * length / len(shape) if broken else 0.012 * k)
            notes.append((start, at + length - start, min(root + step, 127), loud))
        at += length
    return Phrase(tuple(notes), name)


def drum_hits(rng: np.random.Generator, keys: Sequence[int], seconds: float, name: str) -> Phrase:
    """One drum, struck in a random steady rhythm."""
    beat, at, notes = rng.uniform(0.11, 0.5), 0.0, []
    while at < seconds:
        if not notes or rng.random() < 0.8:
            notes.append((at, 0.3, int(rng.choice(keys)), velocity(rng)))
        at += beat * int(rng.choice([1, 1, 1, 2]))
    return Phrase(tuple(notes), name)


def drum_beat(rng: np.random.Generator, seconds: float, name: str) -> Phrase:
    """Kick, snare and hi-hat or ride in a random two-bar groove, with fills on the toms and a crash."""
    step = rng.uniform(0.1, 0.17)
    kick = [1, *(rng.random(15) < 0.22)]
    snare = [k % 8 == 4 or rng.random() < 0.06 for k in range(16)]
    hat = [k % int(rng.choice([1, 2, 4])) == 0 for k in range(16)]
    top, notes = int(rng.choice([42, 42, 46, 51])), [(0.0, 0.3, 49, velocity(rng))] if rng.random() < 0.4 else []
    for k in range(int(seconds / step)):
        fill = k % 32 >= 28
        for on, key in ((kick[k % 16], 36), (snare[k % 16] and not fill, 38), (hat[k % 16] and not fill, top)):
            if on:
                notes.append((k * step, 0.2, key, velocity(rng)))
        if fill:
            notes.append((k * step, 0.2, int(rng.choice([41, 45, 47, 50])), velocity(rng)))
    return Phrase(tuple(notes), name)


def layout(phrases: Sequence[Phrase], tail: float) -> list[tuple[float, float]]:
    """(start, end) in seconds of every phrase when they follow each other, with `tail` seconds to ring."""
    spans, at = [], 0.1
    for phrase in phrases:
        end = at + phrase.seconds + tail
        spans.append((at, end))
        at = end + 1.0
    return spans


def encode(phrases: Sequence[Phrase], program: int, *, drums: bool = False, tail: float = 0.8) -> bytes:
    """A format-0 MIDI file of the phrases at the places of `layout`; all sound is cut off at the end of each."""
    channel, events = DRUM_CHANNEL if drums else 0, []
    for phrase, (start, end) in zip(phrases, layout(phrases, tail)):
        for at, length, pitch, loud in phrase.notes:
            on = round((start + at) * PER_SECOND)
            events.append((on, 1, bytes((0x90 | channel, pitch, loud))))
            events.append((on + max(round(length * PER_SECOND), 1), 0, bytes((0x80 | channel, pitch, 0))))
        events.append((round(end * PER_SECOND), 2, bytes((0xB0 | channel, 120, 0))))
    events.sort(key=lambda event: event[:2])
    track = b"\0" + bytes((0xC0 | channel, program)) + b"\0\xff\x51\x03" + TEMPO.to_bytes(3, "big")
    now = 0
    for tick, _, message in events:
        track += _varlen(tick - now) + message
        now = tick
    track += _varlen(PER_SECOND) + b"\xff\x2f\0"
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS) + b"MTrk" + struct.pack(">I", len(track)) + track


def _varlen(value: int) -> bytes:
    """MIDI's variable-length number."""
    out = [value & 0x7F]
    while value := value >> 7:
        out.append(0x80 | value & 0x7F)
    return bytes(reversed(out))
