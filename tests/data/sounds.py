"""Made-up sounds for the tests of data/."""

from pathlib import Path

import numpy as np
import soundfile

from jaxaudio.data.clips import Clip


def noise(samples: int, seed: int = 0, scale: float = 0.1) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def clip(number: int, *, samples: int = 800, rate: int = 8000, labels: tuple[str, ...] | None = None, **rest) -> Clip:
    return Clip(
        id=f"clip{number}",
        audio=noise(samples, number),
        sample_rate=rate,
        captions=(f"sound {number}", f"another name of {number}"),
        labels=(f"kind{number % 5}",) if labels is None else labels,
        **rest,
    )


def write_wav(path: Path, samples: int = 400, rate: int = 8000, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Writes 16-bit noise and returns exactly what a reader should get."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pcm = np.random.default_rng(seed).integers(-3000, 3000, (samples, channels), dtype=np.int16)
    soundfile.write(path, pcm, rate)
    return (pcm.astype(np.float32) / 32768).mean(axis=1)
