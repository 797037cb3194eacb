"""Sounds made from nothing but numbers: weather, water, fire, insects and steady noises.

Every generator is `(rng, seconds) -> (time,) float32 at RATE`, peak about 1, and draws all that may vary (pitch, pace,
timbre) from `rng`, so one seed always gives one sound. `procedural_signals` and `procedural_machines` add more;
`procedural_catalogue` names them all.
"""

import numpy as np
from scipy.signal import fftconvolve, lfilter

RATE = 32000


def times(seconds: float) -> np.ndarray:
    """(time,) seconds from 0."""
    return np.arange(round(seconds * RATE)) / RATE


def normalise(x: np.ndarray) -> np.ndarray:
    """Removes the mean and scales to a peak of 0.9."""
    x = x - x.mean()
    return (0.9 * x / max(np.abs(x).max(), 1e-9)).astype(np.float32)


def coloured(rng: np.random.Generator, n: int, low: float, high: float, slope: float = 0.0) -> np.ndarray:
    """Gaussian noise of unit variance between `low` and `high` Hz (soft edges), falling `slope` dB per octave."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    f = np.maximum(np.fft.rfftfreq(n, 1 / RATE), 1.0)
    gain = f ** (-slope / 6.02) / np.sqrt((1 + (low / f) ** 6) * (1 + (f / high) ** 6))
    x = np.fft.irfft(spectrum * gain, n)
    return x / max(x.std(), 1e-12)


def wander(rng: np.random.Generator, n: int, rate: float, low: float, high: float) -> np.ndarray:
    """A smooth random curve between `low` and `high` that changes about `rate` times a second."""
    knots = max(int(n / RATE * rate) + 3, 4)
    values = rng.uniform(low, high, knots)
    position = np.linspace(0, knots - 1.001, n)
    index = position.astype(int)
    blend = 0.5 - 0.5 * np.cos(np.pi * (position - index))
    return values[index] * (1 - blend) + values[index + 1] * blend


def phase(frequency: np.ndarray | float, n: int) -> np.ndarray:
    """Phase in radians of an oscillator whose frequency in Hz may change in time."""
    return 2 * np.pi * np.cumsum(np.broadcast_to(frequency, n)) / RATE


def decay(n: int, seconds: float) -> np.ndarray:
    """exp(-t / seconds)."""
    return np.exp(-np.arange(n) / (seconds * RATE))


def fade(x: np.ndarray, seconds: float = 0.01) -> np.ndarray:
    """Raised-cosine fades at both ends."""
    n = min(int(seconds * RATE), len(x) // 2)
    if n:
        ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(n) / n)
        x = x.copy()
        x[:n] *= ramp
        x[len(x) - n :] *= ramp[::-1]
    return x


def place(out: np.ndarray, x: np.ndarray, at: float, gain: float = 1.0) -> None:
    """Adds `x` into `out` at `at` seconds; what would stick out is cut."""
    start = int(at * RATE)
    if 0 <= start < len(out):
        part = x[: len(out) - start]
        out[start : start + len(part)] += gain * part


def moments(rng: np.random.Generator, seconds: float, per_second: float) -> np.ndarray:
    """Times of a Poisson process, at least one."""
    return np.sort(rng.uniform(0, seconds, max(rng.poisson(per_second * seconds), 1)))


def paced(rng: np.random.Generator, seconds: float, period: float, jitter: float = 0.05) -> np.ndarray:
    """Times of roughly regular events, the first shortly after 0."""
    steps = period * (1 + jitter * rng.standard_normal(int(seconds / period) + 2)).clip(0.3, 2)
    at = rng.uniform(0.02, 0.3) * period + np.concatenate([[0], np.cumsum(steps)])
    return at[at < seconds - 0.03]


def resonate(x: np.ndarray, frequency: float, width: float) -> np.ndarray:
    """A two-pole resonance at `frequency` with bandwidth `width`, both in Hz."""
    radius = np.exp(-np.pi * width / RATE)
    return lfilter([1 - radius], [1, -2 * radius * np.cos(2 * np.pi * frequency / RATE), radius**2], x)


def room(rng: np.random.Generator, x: np.ndarray, seconds: float, wet: float = 0.3) -> np.ndarray:
    """Adds a decaying, darkening noise tail: a plain room of that reverberation time."""
    n = int(seconds * RATE)
    tail = coloured(rng, n, 80, 5000, 3) * decay(n, seconds / 5)
    return x + wet * fftconvolve(x, tail / np.sqrt((tail**2).sum()))[: len(x)]


def grains(rng: np.random.Generator, seconds: float, per_second: float, shape: np.ndarray) -> np.ndarray:
    """Many copies of `shape` at random times with heavy-tailed random gains, by convolution."""
    clicks = np.zeros(round(seconds * RATE))
    at = (moments(rng, seconds, per_second) * RATE).astype(int)
    np.add.at(clicks, at, rng.lognormal(0, 0.9, len(at)) * rng.choice([-1, 1], len(at)))
    return fftconvolve(clicks, shape)[: len(clicks)]


def tone(frequency: float | np.ndarray, n: int, harmonics: int = 1, slope: float = 1.0) -> np.ndarray:
    """A sum of `harmonics` sinusoids with amplitudes 1/k^slope, those above Nyquist left out."""
    top = float(np.max(frequency))
    base = phase(frequency, n)
    return sum(np.sin(k * base) / k**slope for k in range(1, harmonics + 1) if k * top < 0.48 * RATE)


def keyed(seconds: float, pattern: list[tuple[float, np.ndarray | None]]) -> np.ndarray:
    """Repeats a pattern of (duration, sound or silence) until the time is full."""
    out, at = np.zeros(round(seconds * RATE)), 0.0
    while at < seconds:
        for length, sound in pattern:
            if sound is not None:
                place(out, fade(sound[: int(length * RATE)], 0.003), at)
            at += length
    return normalise(out)


def struck(rng: np.random.Generator, partials: list[tuple[float, float, float]], seconds: float) -> np.ndarray:
    """A sum of decaying sinusoids given as (Hz, gain, decay seconds): bells, bars, cups."""
    n = round(seconds * RATE)
    return sum(
        gain * np.sin(phase(hz, n) + rng.uniform(0, 6)) * decay(n, tau) for hz, gain, tau in partials if hz < 15000
    )


def thud(rng: np.random.Generator, pitch: float, ring: float, click: float = 0.2) -> np.ndarray:
    """A short knock on something solid that resonates at `pitch`."""
    n = int((ring * 8 + 0.02) * RATE)
    hit = np.zeros(n)
    burst = rng.standard_normal(int(0.003 * RATE)) * decay(int(0.003 * RATE), 0.001)
    hit[: len(burst)] = burst
    body = sum(resonate(hit, pitch * r, 1 / (np.pi * ring)) * g for r, g in ((1, 1), (1.83, 0.5), (2.7, 0.3)))
    return body / np.abs(body).max() + click * hit


def events(rng: np.random.Generator, seconds: float, at: np.ndarray, make) -> np.ndarray:
    """Sums `make()` placed at every time in `at`."""
    out = np.zeros(round(seconds * RATE))
    for moment in at:
        place(out, make(), moment, rng.uniform(0.6, 1))
    return out


def rain(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Rain on the ground: a hiss of far drops and the patter of near ones."""
    n = round(seconds * RATE)
    hiss = coloured(rng, n, rng.uniform(300, 900), rng.uniform(8000, 13000), rng.uniform(1, 3)) * wander(
        rng, n, 0.5, 0.8, 1
    )
    out = hiss * rng.uniform(0.15, 0.5)
    for _ in range(4):
        pitch, length = rng.uniform(900, 5000), int(rng.uniform(0.002, 0.01) * RATE)
        drop = np.sin(phase(pitch, length)) * decay(length, length / RATE / 4)
        patter = grains(rng, seconds, rng.uniform(20, 250), drop)
        out += patter / max(patter.std(), 1e-9) * rng.uniform(0.1, 0.4)
    return normalise(out)


def wind(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Gusts through a few wandering resonances."""
    n = round(seconds * RATE)
    gust = wander(rng, n, rng.uniform(0.3, 0.9), 0.1, 1) ** 1.5
    out = coloured(rng, n, 40, rng.uniform(300, 700), 4) * gust
    for _ in range(rng.integers(1, 4)):
        centre = wander(rng, n, 0.6, 250, 1100) * (0.6 + 0.6 * gust)
        carrier = coloured(rng, n, 2, rng.uniform(20, 60))
        out += rng.uniform(0.2, 0.7) * carrier * np.sin(phase(centre, n)) * gust**2
    return normalise(out)


def thunder(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A crack and its long rumble, once or twice."""
    n = round(seconds * RATE)
    out = np.zeros(n)
    for at in [rng.uniform(0, 0.15 * seconds)] + ([rng.uniform(0.4, 0.6) * seconds] if rng.random() < 0.4 else []):
        length = n - int(at * RATE)
        rumble = coloured(rng, length, 20, rng.uniform(90, 220), 3) * decay(length, rng.uniform(0.8, 1.8))
        rumble *= wander(rng, length, 4, 0.2, 1) * (1 - decay(length, rng.uniform(0.02, 0.3)))
        crack = coloured(rng, length, 150, rng.uniform(1500, 5000), 4) * decay(length, rng.uniform(0.1, 0.4))
        place(out, rumble + crack * wander(rng, length, 25, 0, 1) * rng.uniform(0.1, 0.7), at)
    return normalise(out)


def surf(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Waves that swell, break and draw back."""
    n = round(seconds * RATE)
    out = coloured(rng, n, 60, 900, 3) * 0.12
    for at in paced(rng, seconds + 3, rng.uniform(2.5, 5), 0.2) - rng.uniform(0.5, 2.5):
        length = int(rng.uniform(3.5, 5.5) * RATE)
        x = np.linspace(0, 1, length)
        swell = np.where(x < 0.35, (x / 0.35) ** 2, np.exp(-(x - 0.35) * 5))
        body = coloured(rng, length, 100, 1500, 3) + 0.8 * coloured(rng, length, 1000, 9000, 2) * x.clip(0.1, 1)
        begin = int(at * RATE)
        piece = (body * swell)[max(-begin, 0) :]
        place(out, piece, max(at, 0), rng.uniform(0.5, 1))
    return normalise(out)


def bubble(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """One rising, ringing bubble (Minnaert's decaying sinusoid)."""
    length = int(rng.uniform(0.02, 0.12) * RATE)
    pitch = np.exp(rng.uniform(np.log(low), np.log(high)))
    rise = pitch * (1 + rng.uniform(0.1, 0.9) * np.linspace(0, 1, length))
    return fade(np.sin(phase(rise, length)) * decay(length, length / RATE / 5), 0.001)


def stream(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Running water: thousands of bubbles over a soft hiss."""
    n = round(seconds * RATE)
    out = np.zeros(n)
    low, high = rng.uniform(250, 500), rng.uniform(1500, 3500)
    for at in moments(rng, seconds, rng.uniform(60, 220)):
        place(out, bubble(rng, low, high), at, rng.lognormal(-1, 0.7))
    return normalise(out + coloured(rng, n, 400, 6000, 2) * rng.uniform(0.03, 0.15))


def bubbles(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Separate, large bubbles under water."""
    out = np.zeros(round(seconds * RATE))
    for at in moments(rng, seconds, rng.uniform(4, 14)):
        place(out, bubble(rng, 180, 900), at, rng.lognormal(-0.5, 0.5))
    return normalise(out)


def dripping(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Single drops of water falling into a basin in a bare room."""
    out = np.zeros(round(seconds * RATE))
    low = rng.uniform(500, 1200)
    for at in paced(rng, seconds, rng.uniform(0.35, 1.3), rng.uniform(0.02, 0.4)):
        place(out, bubble(rng, low, 1.6 * low), at + 0.012, rng.uniform(0.5, 1))
        click = rng.standard_normal(60) * decay(60, 0.0004)
        place(out, click, at, rng.uniform(0.05, 0.3))
    return normalise(room(rng, out, rng.uniform(0.3, 1.5), rng.uniform(0.1, 0.5)))


def waterfall(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """The broad, steady roar of falling water."""
    n = round(seconds * RATE)
    roar = coloured(rng, n, rng.uniform(60, 200), rng.uniform(4000, 9000), rng.uniform(2.5, 4.5)) * wander(
        rng, n, 6, 0.85, 1
    )
    return normalise(roar)


def fire(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A camp fire: low flames and dry crackles."""
    n = round(seconds * RATE)
    out = coloured(rng, n, 40, rng.uniform(250, 700), 3) * wander(rng, n, 5, 0.4, 1) * rng.uniform(0.1, 0.3)
    for _ in range(3):
        length = int(rng.uniform(0.001, 0.006) * RATE)
        snap = coloured(rng, max(length, 64), 800, 9000) * decay(max(length, 64), 0.0015)
        crackle = grains(rng, seconds, rng.uniform(4, 25), snap)
        out += crackle * rng.uniform(0.4, 1) / max(np.abs(crackle).max(), 1e-9) * 3
    return normalise(out)


def crickets(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """One to three crickets, each chirping in its own pulse trains."""
    n = round(seconds * RATE)
    out = coloured(rng, n, 100, 3000, 4) * 0.01
    for _ in range(rng.integers(1, 4)):
        pitch, pulse, gain = rng.uniform(3500, 5500), rng.uniform(0.012, 0.025), rng.uniform(0.3, 1)
        count = rng.integers(3, 7)
        length = int(pulse * RATE)
        one = np.sin(phase(pitch, length)) * np.sin(np.pi * np.arange(length) / length) ** 2
        for at in paced(rng, seconds, rng.uniform(0.35, 0.9), 0.08):
            for k in range(count):
                place(out, one, at + k * pulse * 1.5, gain * (0.6 + 0.4 * k / count))
    return normalise(out)


def cicadas(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A rattling, buzzing band of noise that swells."""
    n = round(seconds * RATE)
    centre, beat = rng.uniform(4000, 7000), rng.uniform(60, 180)
    buzz = coloured(rng, n, centre * 0.8, centre * 1.25) * (0.5 + 0.5 * np.sin(phase(beat, n))) ** 3
    return normalise(buzz * wander(rng, n, rng.uniform(0.4, 2), 0.35, 1))


def buzzing_insect(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A bee or a fly that comes and goes."""
    n = round(seconds * RATE)
    pitch = rng.uniform(140, 260) * wander(rng, n, 3, 0.92, 1.1)
    tone = phase(pitch, n)
    wings = sum(np.sin(k * tone + rng.uniform(0, 6)) / k ** rng.uniform(0.5, 1.0) for k in range(1, 22))
    near = wander(rng, n, rng.uniform(0.5, 1.5), 0.15, 1) ** 1.5
    return normalise((wings + 0.1 * coloured(rng, n, 500, 5000)) * near)


def mosquito(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A thin high whine that drifts in pitch and distance."""
    n = round(seconds * RATE)
    tone = phase(rng.uniform(450, 750) * wander(rng, n, 4, 0.94, 1.06), n)
    whine = sum(np.sin(k * tone) / k**1.3 for k in range(1, 9))
    return normalise(whine * wander(rng, n, rng.uniform(0.5, 1.5), 0.1, 1) ** 2)


def frogs(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Croaks: trains of pulses that ring in a throat."""
    n = round(seconds * RATE)
    out = np.zeros(n)
    for _ in range(rng.integers(1, 4)):
        throat, pulses, gain = rng.uniform(350, 1300), rng.uniform(25, 60), rng.uniform(0.4, 1)
        for at in paced(rng, seconds, rng.uniform(0.5, 1.5), 0.2):
            length = int(rng.uniform(0.15, 0.4) * RATE)
            train = np.zeros(length)
            train[:: int(RATE / pulses)] = 1
            croak = resonate(train, throat, 120) + 0.5 * resonate(train, 2.3 * throat, 200)
            place(out, croak / np.abs(croak).max() * np.sin(np.pi * np.arange(length) / length), at, gain)
    return normalise(out)


def owl(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Soft hoots in a rhythm."""
    out = np.zeros(round(seconds * RATE))
    pitch = rng.uniform(280, 450)
    for at in paced(rng, seconds, rng.uniform(1.6, 2.6), 0.1):
        for k, length in enumerate([0.15, 0.12, 0.45] if rng.random() < 0.7 else [0.5]):
            n = int(length * RATE * rng.uniform(0.9, 1.1))
            bend = pitch * (1 + 0.06 * np.sin(np.pi * np.arange(n) / n))
            hoot = np.sin(phase(bend, n)) + 0.15 * np.sin(2 * phase(bend, n)) + 0.02 * rng.standard_normal(n)
            place(out, hoot * np.sin(np.pi * np.arange(n) / n), at + 0.3 * k)
    return normalise(room(rng, out, 0.8, 0.3))


def white_noise(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Equal power at all frequencies."""
    return normalise(rng.standard_normal(round(seconds * RATE)).clip(-3.5, 3.5))


def pink_noise(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Falling 3 dB per octave."""
    return normalise(coloured(rng, round(seconds * RATE), 20, 16000, 3))


def brown_noise(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """Falling 6 dB per octave: a deep rumble."""
    return normalise(coloured(rng, round(seconds * RATE), 20, 16000, 6))


def static(rng: np.random.Generator, seconds: float) -> np.ndarray:
    """A radio between stations: band-limited hiss, crackle, drifting whistles."""
    n = round(seconds * RATE)
    hiss = coloured(rng, n, 300, rng.uniform(3000, 5000)) * (0.4 + 0.6 * wander(rng, n, 12, 0, 1) ** 2)
    crackle = grains(rng, seconds, rng.uniform(5, 40), coloured(rng, 128, 500, 5000) * decay(128, 0.001))
    whistle = np.sin(phase(wander(rng, n, 1.5, 300, 2500), n)) * wander(rng, n, 2, 0, 0.4) ** 2
    return normalise(hiss + crackle / max(np.abs(crackle).max(), 1e-9) * 4 + whistle * rng.uniform(0, 2))
