"""Tones, telephones, alarms, horns and bells, synthesised; the conventions are those of `procedural`."""

import numpy as np

from jaxaudio.data.open_sounds.procedural import (
    RATE,
    coloured,
    decay,
    events,
    fade,
    keyed,
    moments,
    normalise,
    paced,
    phase,
    place,
    room,
    struck,
    thud,
    tone,
)

Rng = np.random.Generator


def sine_tone(rng: Rng, seconds: float) -> np.ndarray:
    """A steady pure tone."""
    return normalise(fade(tone(np.exp(rng.uniform(np.log(150), np.log(4000))), round(seconds * RATE)), 0.02))


def buzz_tone(rng: Rng, seconds: float) -> np.ndarray:
    """A steady square or saw wave."""
    n, pitch = round(seconds * RATE), np.exp(rng.uniform(np.log(70), np.log(700)))
    wave = tone(pitch, n, 200)
    return normalise(fade(wave if rng.random() < 0.5 else wave - 0.5 * tone(2 * pitch, n, 100), 0.02))


def sweep(rng: Rng, seconds: float) -> np.ndarray:
    """A tone that glides from low to high, or back."""
    n = round(seconds * RATE)
    low, high = rng.uniform(80, 400), rng.uniform(2500, 9000)
    cycles = rng.integers(1, 4)
    x = (np.arange(n) / n * cycles) % 1
    return normalise(fade(tone(low * (high / low) ** (x if rng.random() < 0.6 else 1 - x), n), 0.02))


def mains_hum(rng: Rng, seconds: float) -> np.ndarray:
    """The hum of a transformer at 50 or 60 Hz."""
    n, base = round(seconds * RATE), float(rng.choice([50.0, 60.0])) * rng.uniform(0.995, 1.005)
    out = sum(rng.uniform(0.1, 1) / k**0.7 * np.sin(phase(base * k, n) + rng.uniform(0, 6)) for k in range(1, 13))
    return normalise(out + 0.03 * coloured(rng, n, 100, 4000, 3))


def dtmf(rng: Rng, seconds: float) -> np.ndarray:
    """Someone dials a number on a push-button telephone."""
    rows, columns = (697, 770, 852, 941), (1209, 1336, 1477)
    out, length = np.zeros(round(seconds * RATE)), rng.uniform(0.08, 0.2)
    for at in paced(rng, seconds - length, rng.uniform(0.2, 0.45), 0.15):
        n = int(length * RATE)
        place(out, fade(tone(rng.choice(rows), n) + tone(rng.choice(columns), n), 0.004), at)
    return normalise(out)


def dial_tone(rng: Rng, seconds: float) -> np.ndarray:
    """The steady or broken tone of a telephone line."""
    n = round(seconds * RATE)
    if rng.random() < 0.5:
        return normalise(tone(350, n) + tone(440, n) if rng.random() < 0.5 else tone(425, n))
    beat = rng.uniform(0.25, 0.5)
    return keyed(seconds, [(beat, tone(480, n) + tone(620, n)), (beat, None)])


def telephone(rng: Rng, seconds: float) -> np.ndarray:
    """An old telephone's bell, two gongs struck in turn."""
    pair = [rng.uniform(900, 1600)] * 2 * np.array([1, rng.uniform(1.1, 1.4)])
    ring = np.zeros(int(2.2 * RATE))
    for k, at in enumerate(np.arange(0, rng.uniform(0.9, 1.7), 1 / rng.uniform(18, 26))):
        f = pair[k % 2]
        place(ring, struck(rng, [(f, 1, 0.12), (2.76 * f, 0.5, 0.06), (5.4 * f, 0.25, 0.03)], 0.5), at)
    return keyed(seconds, [(2.2, ring / np.abs(ring).max()), (rng.uniform(0.2, 1.2), None)])


def beeping(rng: Rng, seconds: float) -> np.ndarray:
    """An electronic alarm: groups of equal beeps."""
    pitch, beep, gap = rng.uniform(700, 3200), rng.uniform(0.06, 0.25), rng.uniform(0.05, 0.2)
    sound = tone(pitch, int(beep * RATE), int(rng.choice([1, 3, 9])), 1.2)
    pattern = [(beep, sound), (gap, None)] * int(rng.integers(1, 5)) + [(rng.uniform(0.1, 0.7), None)]
    return keyed(seconds, pattern)


def siren(rng: Rng, seconds: float) -> np.ndarray:
    """An emergency siren: wail, yelp or two tones."""
    n = round(seconds * RATE)
    t, low, high = np.arange(n) / RATE, rng.uniform(450, 700), rng.uniform(1000, 1700)
    style = rng.integers(3)
    if style == 2:
        pitch = np.where((t / rng.uniform(0.4, 0.8)).astype(int) % 2, low, low * rng.uniform(1.25, 1.4))
    else:
        x = 0.5 - 0.5 * np.cos(2 * np.pi * t * (rng.uniform(0.2, 0.4) if style == 0 else rng.uniform(2, 4)))
        pitch = low * (high / low) ** x
    return normalise(room(rng, tone(pitch, n, 10, 1.1), 0.6, rng.uniform(0, 0.4)))


def reversing_beeper(rng: Rng, seconds: float) -> np.ndarray:
    """A lorry backing up: slow beeps over a dull engine."""
    n, half = round(seconds * RATE), rng.uniform(0.35, 0.6)
    beep = keyed(seconds, [(half, tone(rng.uniform(950, 1400), int(half * RATE), 5, 1.5)), (half, None)])
    return normalise(beep + rng.uniform(0.0, 0.08) * coloured(rng, n, 40, 300, 3))


def morse(rng: Rng, seconds: float) -> np.ndarray:
    """Dots and dashes."""
    dot, pitch = rng.uniform(0.05, 0.1), rng.uniform(500, 1000)
    out, at = np.zeros(round(seconds * RATE)), 0.05
    while at < seconds:
        for _ in range(rng.integers(1, 5)):
            length = dot * int(rng.choice([1, 3]))
            place(out, fade(tone(pitch, int(length * RATE)), 0.004), at)
            at += length + dot
        at += 2 * dot * int(rng.choice([1, 1, 1, 3]))
    return normalise(out)


def sonar(rng: Rng, seconds: float) -> np.ndarray:
    """A ping and its echoes under water."""
    pitch = rng.uniform(700, 1800)
    ping = struck(rng, [(pitch, 1, rng.uniform(0.15, 0.5)), (pitch * 1.005, 0.5, 0.3)], 2.0)
    out = events(rng, seconds, paced(rng, seconds, rng.uniform(1.2, 2.5), 0.01), lambda: ping)
    return normalise(room(rng, out, 2.5, rng.uniform(0.3, 0.8)))


def laser(rng: Rng, seconds: float) -> np.ndarray:
    """Science-fiction zaps: tones that fall fast."""
    top, length = rng.uniform(1800, 6000), rng.uniform(0.12, 0.4)

    def zap() -> np.ndarray:
        n = int(length * RATE)
        fall = top * rng.uniform(0.9, 1.1) * np.exp(-np.arange(n) / n * rng.uniform(2, 4)) + 80
        return fade(tone(fall, n, 4, 1.2) * decay(n, length / 2), 0.002)

    return normalise(events(rng, seconds, paced(rng, seconds, rng.uniform(0.3, 0.8), 0.3), zap))


def game_blips(rng: Rng, seconds: float) -> np.ndarray:
    """An old video game: square-wave blips, coins and jumps."""

    def blip() -> np.ndarray:
        length, pitch = int(rng.uniform(0.06, 0.25) * RATE), rng.uniform(250, 1200)
        curve = {0: np.linspace(1, 2.5, length), 1: np.linspace(1, 0.4, length)}.get(
            int(rng.integers(3)), np.where(np.arange(length) < length // 3, 1, 1.335)
        )
        return fade(np.sign(np.sin(phase(pitch * curve, length))) * decay(length, 0.15), 0.002)

    return normalise(events(rng, seconds, paced(rng, seconds, rng.uniform(0.2, 0.5), 0.35), blip))


def geiger(rng: Rng, seconds: float) -> np.ndarray:
    """Random clicks of a Geiger counter."""
    rate = np.exp(rng.uniform(np.log(5), np.log(45)))
    click = thud(rng, rng.uniform(1500, 4000), 0.0008, 1)
    return normalise(events(rng, seconds, moments(rng, seconds, rate), lambda: click))


def horn(rng: Rng, seconds: float) -> np.ndarray:
    """A car horn, short and long."""
    base = rng.uniform(350, 480)
    n = round(seconds * RATE)
    both = tone(base, n, 25, 0.6) + tone(base * rng.uniform(1.18, 1.27), n, 25, 0.6)
    pattern = [(rng.uniform(0.15, 0.9), both), (rng.uniform(0.12, 0.5), None)] * int(rng.integers(1, 3))
    return normalise(room(rng, keyed(seconds, pattern + [(rng.uniform(0.1, 0.9), None)]), 0.6, 0.2))


def foghorn(rng: Rng, seconds: float) -> np.ndarray:
    """A ship's deep horn across water."""
    n = round(seconds * RATE)
    pitch = rng.uniform(70, 140) * (1 - 0.04 * decay(n, 0.2))
    blast = tone(pitch, n, 30, rng.uniform(0.7, 1.1)) * (1 + 0.1 * coloured(rng, n, 5, 60))
    length = rng.uniform(1.2, 2.6)
    return normalise(
        room(rng, keyed(seconds, [(length, fade(blast[: int(length * RATE)], 0.15)), (0.8, None)]), 2, 0.5)
    )


def church_bell(rng: Rng, seconds: float) -> np.ndarray:
    """A large bell tolling: hum, prime, tierce, quint, nominal and above."""
    prime = rng.uniform(140, 500)
    ratios = (
        (0.5, 0.6, 3.5),
        (1, 0.8, 2.5),
        (1.19, 0.7, 2),
        (1.5, 0.4, 1.5),
        (2, 1, 1.5),
        (2.51, 0.5, 0.8),
        (3.01, 0.4, 0.6),
    )
    partials = [(prime * r * rng.uniform(0.995, 1.005), g * rng.uniform(0.6, 1.2), tau) for r, g, tau in ratios]
    partials += [(prime * r, 0.25, 0.25) for r in (4.1, 5.4, 6.8)]
    stroke = struck(rng, partials, min(seconds, 6))
    return normalise(events(rng, seconds, paced(rng, seconds, rng.uniform(1.3, 2.6), 0.02), lambda: stroke))


def hand_bell(rng: Rng, seconds: float) -> np.ndarray:
    """A small bell shaken."""
    f = rng.uniform(1200, 3200)
    partials = [(f, 1, 0.25), (2.6 * f, 0.5, 0.1), (4.9 * f, 0.3, 0.06)]
    at = paced(rng, seconds, rng.uniform(0.1, 0.3), 0.2)
    return normalise(events(rng, seconds, at, lambda: struck(rng, partials, 0.6)))


def wind_chimes(rng: Rng, seconds: float) -> np.ndarray:
    """Metal tubes that the wind lets touch."""
    scale = rng.uniform(700, 1300) * np.array([1, 9 / 8, 5 / 4, 3 / 2, 5 / 3, 2])

    def chime() -> np.ndarray:
        f = float(rng.choice(scale))
        return rng.uniform(0.3, 1) * struck(rng, [(f, 1, 0.9), (2.76 * f, 0.5, 0.4), (5.4 * f, 0.2, 0.15)], 3)

    return normalise(events(rng, seconds, moments(rng, seconds, rng.uniform(1.5, 5)), chime))


def gong(rng: Rng, seconds: float) -> np.ndarray:
    """A big gong: many inharmonic partials that bloom after the stroke."""
    low = rng.uniform(60, 130)
    n = round(seconds * RATE)
    out = np.zeros(n)
    for _ in range(60):
        f = low * rng.uniform(1, 22)
        bloom = 1 - decay(n, 0.01 + 0.02 * f / low / 4)
        out += np.sin(phase(f, n) + rng.uniform(0, 6)) * decay(n, 4 / (1 + f / low / 3)) * bloom / (f / low) ** 0.7
    return normalise(out)
