"""The procedural generators, the MIDI writer and the text grammar of open_sounds."""

import itertools
import struct

import numpy as np
import pytest

from jaxaudio.data.open_sounds import midi, procedural, render
from jaxaudio.data.open_sounds.procedural_catalogue import GENERATORS


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_is_finite_loud_repeatable_and_varied(name):
    make, seconds = GENERATORS[name], 1.1
    first, again, other = (make(np.random.default_rng(seed), seconds) for seed in (1, 1, 2))
    assert first.shape == (round(seconds * procedural.RATE),) and first.dtype == np.float32
    assert np.isfinite(first).all()
    assert np.abs(first).max() == pytest.approx(0.9, abs=1e-3) and abs(first.mean()) < 0.1
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-2


def test_generators_differ_from_each_other():
    spectra = {}
    for name, make in GENERATORS.items():
        power = np.abs(np.fft.rfft(make(np.random.default_rng(0), 1.0))) ** 2
        spectra[name] = power / np.linalg.norm(power)
    assert len({spectrum.tobytes() for spectrum in spectra.values()}) == len(GENERATORS)


def band(x, low, high):
    power, f = np.abs(np.fft.rfft(x)) ** 2, np.fft.rfftfreq(len(x), 1 / procedural.RATE)
    return power[(f >= low) & (f < high)].sum() / power.sum()


def test_spectra_are_where_the_ear_expects_them():
    def make(name):
        return GENERATORS[name](np.random.default_rng(4), 3.0)

    assert band(make("brown_noise"), 20, 400) > 0.8 > 0.1 > band(make("white_noise"), 20, 400)
    assert band(make("heartbeat"), 20, 300) > 0.9
    assert band(make("crickets"), 3000, 6000) > 0.8
    assert band(make("steam"), 1000, 16000) > 0.9
    assert band(make("dtmf"), 600, 1600) > 0.95
    assert band(make("pink_noise"), 50, 100) == pytest.approx(band(make("pink_noise"), 400, 800), rel=0.3)


def messages(song):
    """(seconds, message) of the single track of a format-0 file."""
    assert song[:4] == b"MThd" and struct.unpack(">HHH", song[8:14]) == (0, 1, midi.TICKS)
    track, at, now, out = song[22:], 0, 0, []
    assert struct.unpack(">I", song[18:22])[0] == len(track)
    while at < len(track):
        delta = 0
        while True:
            byte, at = track[at], at + 1
            delta = delta << 7 | byte & 0x7F
            if byte < 0x80:
                break
        now += delta
        if track[at] == 0xFF:
            length = 3 + track[at + 2]
        else:
            length = 2 if track[at] >> 4 == 0xC else 3
        out.append((now / midi.PER_SECOND, track[at : at + length]))
        at += length
    return out


def test_midi_file_holds_the_notes_at_their_places():
    rng = np.random.default_rng(0)
    phrases = [midi.melody(rng, 50, 80, 4, "a"), midi.chords(rng, 40, 90, 3, "b"), *midi.single_notes(rng, 40, 80, 3)]
    spans = midi.layout(phrases, 0.8)
    assert all(b[0] >= a[1] + 0.9 for a, b in itertools.pairwise(spans))
    events = messages(midi.encode(phrases, 40, tail=0.8))
    on = [(at, m[1], m[2]) for at, m in events if m[0] == 0x90]
    expected = sorted((s + at, pitch, loud) for p, (s, _) in zip(phrases, spans) for at, _, pitch, loud in p.notes)
    assert len(on) == len(expected)
    np.testing.assert_allclose(sorted(on), expected, atol=1 / midi.PER_SECOND)
    assert sum(m[0] == 0x80 for _, m in events) == len(on)
    assert [m for _, m in events if m[0] == 0xC0] == [bytes((0xC0, 40))] and events[-1][1] == b"\xff\x2f\x00"
    cuts = [at for at, m in events if m[0] == 0xB0]
    np.testing.assert_allclose(cuts, [end for _, end in spans], atol=1 / midi.PER_SECOND)


def test_drums_use_channel_ten_and_the_keys_asked_for():
    rng = np.random.default_rng(3)
    song = midi.encode([midi.drum_hits(rng, [60, 61], 3, "x")], 0, drums=True)
    notes = [m for _, m in messages(song) if m[0] >> 4 == 9]
    assert notes and all(m[0] == 0x99 and m[1] in (60, 61) for m in notes)
    assert {pitch for _, _, pitch, _ in midi.drum_beat(rng, 5, "y").notes} >= {36, 38}


def test_pitches_stay_in_range():
    rng = np.random.default_rng(5)
    for phrase in [midi.melody(rng, 55, 70, 5, "m"), *midi.single_notes(rng, 55, 70, 5)]:
        assert all(55 <= pitch <= 70 and 1 <= loud <= 127 for _, _, pitch, loud in phrase.notes)


def test_sentences_and_robot_voice():
    first, again = (render.sentence(np.random.default_rng(7)) for _ in range(2))
    assert first == again and first.endswith(".") and first[0].isupper()
    assert len({render.sentence(np.random.default_rng(k)) for k in range(50)}) > 40
    voice = np.sin(np.arange(8000) / 20).astype(np.float32)
    robot = render.robotic(np.random.default_rng(0), voice)
    assert robot.shape == voice.shape and robot.dtype == np.float32 and np.abs(robot).max() == pytest.approx(1)
