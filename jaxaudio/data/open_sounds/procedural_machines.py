"""Engines, tools, daily life, people and bangs, synthesised; the conventions are those of `procedural`."""

import numpy as np

from jaxaudio.data.open_sounds.procedural import (
    RATE,
    coloured,
    decay,
    events,
    fade,
    grains,
    normalise,
    paced,
    phase,
    place,
    resonate,
    room,
    struck,
    thud,
    tone,
    wander,
)

Rng = np.random.Generator


def clock(rng: Rng, seconds: float) -> np.ndarray:
    """Tick, tock."""
    pair, ring = [rng.uniform(1800, 4500)] * 2, rng.uniform(0.002, 0.006)
    pair[1] *= rng.uniform(0.75, 0.97)
    out = np.zeros(round(seconds * RATE))
    for k, at in enumerate(paced(rng, seconds, rng.choice([0.25, 0.5, 0.5, 1.0]) * rng.uniform(0.97, 1.03), 0.003)):
        place(out, thud(rng, pair[k % 2], ring, 0.3), at)
    return normalise(room(rng, out, 0.3, rng.uniform(0.02, 0.2)))


def heartbeat(rng: Rng, seconds: float) -> np.ndarray:
    """Lub-dub."""
    out = np.zeros(round(seconds * RATE))
    low, period = rng.uniform(38, 60), rng.uniform(0.5, 1.1)
    for at in paced(rng, seconds, period, 0.03):
        for delay, pitch, gain in ((0, low, 1.0), (0.3 * period**0.5, 1.25 * low, 0.7)):
            n = int(0.18 * RATE)
            beat = np.sin(phase(pitch * (1 + 0.6 * decay(n, 0.02)), n)) * decay(n, 0.045)
            place(out, fade(beat, 0.006), at + delay, gain)
    return normalise(out + 0.02 * coloured(rng, len(out), 60, 400))


def engine(rng: Rng, seconds: float) -> np.ndarray:
    """A car engine: firing pulses through an exhaust, idling or revving."""
    n = round(seconds * RATE)
    rate = rng.uniform(18, 70) * wander(rng, n, rng.uniform(0.3, 1.2), 0.95, rng.uniform(1.0, 2.2))
    angle = phase(rate, n) / (2 * np.pi)
    pulse = np.exp(-((angle % 1) * rng.uniform(5, 12))) * (1 + 0.25 * np.sin(np.pi * np.floor(angle)))
    pulse = pulse * (1 + 0.5 * coloured(rng, n, 200, 4000, 2))
    pipe = ((rng.uniform(70, 130), 1.0), (rng.uniform(180, 400), 0.7), (900, 0.3))
    out = np.sum([gain * resonate(pulse, hz, 60) for hz, gain in pipe], axis=0)
    return normalise(out + 0.02 * out.std() * coloured(rng, n, 300, 6000, 3))


def propeller(rng: Rng, seconds: float) -> np.ndarray:
    """A small propeller aeroplane droning past."""
    n = round(seconds * RATE)
    bend = 1 - rng.uniform(0, 0.12) / (1 + np.exp(-(np.arange(n) / RATE - seconds / 2) * 2))
    drone = tone(rng.uniform(70, 120) * bend, n, 40, rng.uniform(0.6, 1.0))
    return normalise((drone + 0.4 * coloured(rng, n, 100, 3000, 3)) * wander(rng, n, 0.7, 0.5, 1))


def helicopter(rng: Rng, seconds: float) -> np.ndarray:
    """Blade slap over a turbine's whine."""
    n = round(seconds * RATE)
    angle = phase(rng.uniform(9, 17), n) / (2 * np.pi)
    chop = np.exp(-((angle % 1) * rng.uniform(4, 8)))
    out = coloured(rng, n, 40, rng.uniform(400, 1200), 3) * (0.1 + chop) + 0.5 * tone(rng.uniform(20, 40), n, 6) * chop
    return normalise((out + 0.03 * tone(rng.uniform(900, 2000), n, 4)) * wander(rng, n, 0.4, 0.5, 1))


def vacuum_cleaner(rng: Rng, seconds: float) -> np.ndarray:
    """A motor's whine inside a strong rush of air."""
    n = round(seconds * RATE)
    pitch = rng.uniform(180, 330) * wander(rng, n, 2, 0.98, 1.02)
    return normalise(0.25 * tone(pitch, n, 25, 0.8) + 0.5 * coloured(rng, n, 250, 6000, 2.5))


def drill(rng: Rng, seconds: float) -> np.ndarray:
    """An electric drill, run in bursts."""
    n = round(seconds * RATE)
    on = np.convolve((wander(rng, n, 1.2, -1, 1.6) > 0).astype(float), np.ones(2000) / 2000, "same")
    pitch = rng.uniform(250, 500) * (0.35 + 0.65 * on) * wander(rng, n, 8, 0.97, 1.03)
    grind = tone(pitch, n, 24, 0.5) * (1 + 0.5 * coloured(rng, n, 20, 300))
    return normalise((grind + 0.5 * coloured(rng, n, 1500, 7000)) * on + 1e-4 * rng.standard_normal(n))


def sawing(rng: Rng, seconds: float) -> np.ndarray:
    """A hand saw going to and fro through wood."""
    n = round(seconds * RATE)
    stroke = np.abs(np.sin(phase(rng.uniform(0.7, 1.3), n))) ** 1.5
    teeth = 0.5 + 0.5 * np.sin(phase(rng.uniform(90, 180) * (0.4 + stroke), n))
    return normalise(coloured(rng, n, rng.uniform(400, 900), rng.uniform(4000, 7000), 2) * teeth * stroke)


def typing(rng: Rng, seconds: float) -> np.ndarray:
    """A computer keyboard: bursts of key strokes."""
    pitch = rng.uniform(1500, 3500)

    def key() -> np.ndarray:
        down = thud(rng, pitch * rng.uniform(0.85, 1.15), rng.uniform(0.001, 0.003), 0.6)
        out = np.zeros(int(0.15 * RATE))
        place(out, down, 0)
        place(out, 0.4 * thud(rng, 1.3 * pitch, 0.001, 0.6), rng.uniform(0.05, 0.1))
        return out

    at = paced(rng, seconds, rng.uniform(0.1, 0.22), 0.45)
    return normalise(room(rng, events(rng, seconds, at, key), 0.2, 0.1))


def footsteps(rng: Rng, seconds: float) -> np.ndarray:
    """Shoes on a hard or a gritty floor, at a walking pace."""
    heel, grit = rng.uniform(90, 260), rng.uniform(0, 0.6)

    def step() -> np.ndarray:
        n = int(0.22 * RATE)
        out = np.zeros(n)
        place(out, thud(rng, heel * rng.uniform(0.9, 1.1), 0.012, 0.5), 0)
        place(out, 0.5 * thud(rng, 1.7 * heel, 0.008, 0.4), rng.uniform(0.05, 0.1))
        return out + grit * 0.3 * coloured(rng, n, 1000, 7000) * decay(n, 0.03)

    return normalise(room(rng, events(rng, seconds, paced(rng, seconds, rng.uniform(0.4, 0.7), 0.05), step), 0.5, 0.25))


def knocking(rng: Rng, seconds: float) -> np.ndarray:
    """Knuckles on a wooden door, a few at a time."""
    wood, gap = rng.uniform(150, 380), rng.uniform(0.16, 0.3)
    starts = paced(rng, seconds, rng.uniform(1.2, 2.0), 0.2)
    at = np.concatenate([s + gap * np.arange(rng.integers(2, 5)) for s in starts])
    out = events(rng, seconds, at, lambda: thud(rng, wood * rng.uniform(0.95, 1.05), 0.018, 0.2))
    return normalise(room(rng, out, 0.4, 0.2))


def hammering(rng: Rng, seconds: float) -> np.ndarray:
    """A hammer on metal, each blow ringing."""
    bar = rng.uniform(600, 2200)
    partials = [(bar * r, g, rng.uniform(0.05, 0.25)) for r, g in ((1, 1), (2.76, 0.7), (5.4, 0.5), (8.9, 0.3))]

    def blow() -> np.ndarray:
        ring = struck(rng, partials, 0.9)
        burst = int(0.01 * RATE)
        ring[:burst] += 2 * rng.standard_normal(burst) * decay(burst, 0.002)
        return ring

    return normalise(room(rng, events(rng, seconds, paced(rng, seconds, rng.uniform(0.4, 0.9), 0.06), blow), 0.5, 0.15))


def steam(rng: Rng, seconds: float) -> np.ndarray:
    """Steam escaping in long hisses."""
    n = round(seconds * RATE)
    gate = wander(rng, n, rng.uniform(0.5, 1.5), -0.3, 1).clip(0, 1) ** 0.5
    return normalise(coloured(rng, n, rng.uniform(1500, 3500), 14000) * (gate + 0.01))


def chuffing(rng: Rng, seconds: float) -> np.ndarray:
    """A steam locomotive: four exhaust beats a turn, now and then its whistle."""
    n = round(seconds * RATE)
    angle = phase(rng.uniform(2, 6) * np.linspace(1, rng.uniform(1, 1.4), n), n) / (2 * np.pi)
    puff = np.exp(-((angle % 1) * rng.uniform(3, 6))) * np.array([1, 0.7, 0.85, 0.65])[np.floor(angle).astype(int) % 4]
    out = coloured(rng, n, 120, rng.uniform(1500, 4000), 2.5) * (puff + 0.08)
    if rng.random() < 0.4:
        m = int(rng.uniform(0.6, 1.4) * RATE)
        chord = sum(tone(f, m, 3) for f in rng.uniform(380, 450) * np.array([1, 1.25, 1.5]))
        place(out, fade(chord + 0.5 * rng.standard_normal(m), 0.08), rng.uniform(0, seconds / 2), 0.5)
    return normalise(out)


def kettle(rng: Rng, seconds: float) -> np.ndarray:
    """A whistling kettle coming to the boil."""
    n = round(seconds * RATE)
    rise = np.linspace(rng.uniform(0.7, 1), 1, n)
    whistle = tone(rng.uniform(1800, 3000) * rise * wander(rng, n, 8, 0.995, 1.005), n, 3, 2)
    return normalise((whistle + 0.25 * coloured(rng, n, 1500, 9000)) * rise**3)


def whistling(rng: Rng, seconds: float) -> np.ndarray:
    """A person whistles a tune."""
    n = round(seconds * RATE)
    scale = rng.uniform(900, 1400) * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
    pitch, loud, at = np.zeros(n), np.zeros(n), 0
    while at < n:
        length = int(rng.choice([0.18, 0.25, 0.36, 0.5]) * RATE)
        note = slice(at, at + length)
        pitch[note] = rng.choice(scale)
        loud[note] = rng.random() > 0.12
        at += length
    smooth = np.ones(1200) / 1200
    pitch = np.convolve(np.pad(pitch, 1200, "edge"), smooth, "same")[1200:-1200]
    pitch *= 1 + 0.012 * np.sin(phase(5.5, n))
    return normalise((tone(pitch, n, 2, 3.5) + 0.05 * coloured(rng, n, 1500, 6000)) * np.convolve(loud, smooth, "same"))


def bouncing_ball(rng: Rng, seconds: float) -> np.ndarray:
    """A ball let fall, its bounces ever closer."""
    out, pitch = np.zeros(round(seconds * RATE)), rng.uniform(120, 420)
    at, gap, gain = 0.05, rng.uniform(0.5, 0.75), 1.0
    while at < seconds:
        place(out, thud(rng, pitch, rng.uniform(0.012, 0.016), 0.1), at, gain)
        at, gap, gain = at + gap, gap * 0.82, gain * 0.8
        if gap < 0.03:
            at, gap, gain = at + 0.5, rng.uniform(0.5, 0.75), 1.0
    return normalise(room(rng, out, 0.5, 0.2))


def clapping(rng: Rng, seconds: float) -> np.ndarray:
    """One person claps."""
    palm = rng.uniform(900, 1800)

    def clap() -> np.ndarray:
        n = int(0.09 * RATE)
        x = rng.standard_normal(n) * decay(n, rng.uniform(0.004, 0.01))
        return resonate(x, palm * rng.uniform(0.9, 1.1), 700) + 0.05 * x

    return normalise(room(rng, events(rng, seconds, paced(rng, seconds, rng.uniform(0.22, 0.5), 0.05), clap), 0.6, 0.3))


def gunfire(rng: Rng, seconds: float) -> np.ndarray:
    """Rifle or machine-gun shots in the open."""

    def shot() -> np.ndarray:
        n = int(0.7 * RATE)
        boom = coloured(rng, n, 50, 800, 3) * decay(n, rng.uniform(0.03, 0.08))
        return coloured(rng, n, 300, 10000) * decay(n, 0.006) * 2 + boom

    period = rng.uniform(0.09, 0.14) if rng.random() < 0.4 else rng.uniform(0.5, 1.3)
    return normalise(room(rng, events(rng, seconds, paced(rng, seconds, period, 0.06), shot), 1.5, 0.3))


def explosion(rng: Rng, seconds: float) -> np.ndarray:
    """A blast: a shock, a low boom and debris."""
    n = round(seconds * RATE)
    boom = coloured(rng, n, 20, rng.uniform(120, 300), 3) * decay(n, rng.uniform(0.3, 0.8))
    shock = coloured(rng, n, 100, rng.uniform(2500, 8000), 2) * decay(n, rng.uniform(0.05, 0.2))
    debris = grains(rng, seconds, 40, coloured(rng, 400, 500, 6000) * decay(400, 0.003)) * decay(n, 0.9)
    out = np.tanh(1.5 * (boom + shock)) + 0.15 * debris / max(debris.std(), 1e-9) * decay(n, 0.7)
    return normalise(fade(out, 0.002))


def snoring(rng: Rng, seconds: float) -> np.ndarray:
    """Slow, rattling breaths of a sleeper."""
    n = round(seconds * RATE)
    breath = np.sin(phase(rng.uniform(0.22, 0.4), n) - rng.uniform(0, 0.5)).clip(0) ** 0.7
    flutter = np.exp(-((phase(rng.uniform(22, 45) * wander(rng, n, 3, 0.85, 1.15), n) / (2 * np.pi)) % 1) * 4)
    rattle = coloured(rng, n, 80, 1200, 2) * flutter
    return normalise((resonate(rattle, rng.uniform(180, 350), 120) * 3 + 0.15 * coloured(rng, n, 300, 3000)) * breath)


def ratchet(rng: Rng, seconds: float) -> np.ndarray:
    """A mechanism wound up, click by click."""
    tooth, pace = rng.uniform(1000, 3000), rng.uniform(0.03, 0.07)
    bursts = paced(rng, seconds, rng.uniform(0.7, 1.2), 0.1)
    at = np.concatenate([b + pace * np.arange(rng.integers(6, 14)) for b in bursts])
    return normalise(events(rng, seconds, at, lambda: thud(rng, tooth * rng.uniform(0.95, 1.05), 0.003, 0.5)))


def camera_wind(rng: Rng, seconds: float) -> np.ndarray:
    """A camera's shutter and its motor."""

    def shot() -> np.ndarray:
        n = int(0.5 * RATE)
        out = np.zeros(n)
        place(out, thud(rng, 2200, 0.002, 1), 0)
        place(out, thud(rng, 1700, 0.002, 1), rng.uniform(0.03, 0.08))
        m = int(rng.uniform(0.15, 0.3) * RATE)
        place(out, fade(tone(rng.uniform(350, 600), m, 20, 0.6), 0.02), 0.12, 0.15)
        return out

    return normalise(events(rng, seconds, paced(rng, seconds, rng.uniform(0.7, 1.6), 0.2), shot))
