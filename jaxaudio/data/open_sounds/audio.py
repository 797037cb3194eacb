"""From a decoded file to clips: one channel, one rate, no silence at the ends, no piece too long."""

import io

import numpy as np
import soundfile
import soxr

from jaxaudio.errors import AudioError

RATE = 32000
"""Sample rate of the data set, Hz."""

MAX_SECONDS = 12.0
MIN_SECONDS = 0.15
MAX_PIECES = 6


def decode(data: bytes, name: str, to: int = RATE) -> np.ndarray:
    """(time,) float32 at `to` samples per second: the mean of the file's channels.

    Raises:
      AudioError: libsndfile cannot read it, or a sample is not finite.
    """
    try:
        audio, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{name} cannot be read ({error}); drop it from the concept map") from None
    return mono(audio, rate, name, to)


def mono(audio: np.ndarray, rate: int, name: str, to: int = RATE) -> np.ndarray:
    """(time,) float32 at `to` from (time, channels) at `rate`; channels that cancel count as the first alone."""
    if not np.isfinite(audio).all():
        raise AudioError(f"{name} holds samples that are not finite; drop it from the concept map")
    mean = audio.mean(1)
    if audio.shape[1] > 1 and np.sum(mean**2) < 0.05 * np.mean(np.sum(audio**2, 0)):
        mean = audio[:, 0]
    return (mean if rate == to else soxr.resample(mean, rate, to)).astype(np.float32)


def trim(audio: np.ndarray, floor_db: float = -55.0, margin: float = 0.02, rate: int = RATE) -> np.ndarray:
    """Drops leading and trailing 10 ms frames that peak `floor_db` below the loudest; keeps `margin` seconds around."""
    frame = max(rate // 100, 1)
    count = -(-len(audio) // frame)
    peaks = np.abs(np.pad(audio, (0, count * frame - len(audio)))).reshape(count, frame).max(1, initial=0)
    if not count or peaks.max() == 0:
        return audio[:0]
    loud = np.flatnonzero(peaks > peaks.max() * 10 ** (floor_db / 20))
    keep = int(margin * rate)
    return audio[max(loud[0] * frame - keep, 0) : (loud[-1] + 1) * frame + keep]


def pieces(audio: np.ndarray, seconds: float = MAX_SECONDS, most: int = MAX_PIECES) -> list[np.ndarray]:
    """Equal consecutive pieces of at most `seconds`; of a recording that is longer still, `most` spread over it."""
    limit = int(seconds * RATE)
    if len(audio) <= limit:
        return [audio]
    count = -(-len(audio) // limit)
    length = -(-len(audio) // count) if count <= most else limit
    starts = np.linspace(0, len(audio) - length, min(count, most)).astype(int)
    return [audio[start : start + length] for start in starts]


def prepare(audio: np.ndarray) -> list[np.ndarray]:
    """Trimmed, level-checked pieces of a recording: each 0.15 to 12 s, peak between -12 and -1 dB, never silent."""
    out = []
    for piece in pieces(trim(audio)):
        piece = trim(piece)
        peak = np.abs(piece).max(initial=0)
        if len(piece) < MIN_SECONDS * RATE or peak < 1e-3:
            continue
        out.append((piece * (np.clip(peak, 0.25, 0.89) / peak)).astype(np.float32))
    return out
