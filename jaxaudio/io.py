"""Audio files in and out: what is read is whole, what is written appears at once or not at all."""

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from jaxaudio.errors import AudioError, MissingError, UsageError

SUFFIXES = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".aif": "AIFF", ".aiff": "AIFF", ".mp3": "MP3"}
_READABLE = frozenset({*SUFFIXES, ".oga", ".opus", ".au", ".caf", ".w64", ".rf64"})
_BLOCK = 1 << 18  # frames read at a time where a header's word is not enough to allocate memory by
_WAV_LIMIT = (1 << 32) - (1 << 16)  # bytes of samples; a 32-bit size field holds no more


class Recording(NamedTuple):
    """What `read` returns.

    Attributes:
      samples: (time, channels) float32; integer files give [-1, 1), float files what they hold.
      sample_rate: in Hz.
      subtype: the encoding of the samples, as "PCM_16" or "FLOAT".
    """

    samples: np.ndarray
    sample_rate: int
    subtype: str


def read(path: str | os.PathLike) -> Recording:
    """Reads any file that libsndfile knows: WAV, FLAC, Ogg, MP3, AIFF and more.

    Raises:
      MissingError: there is no such file.
      AudioError: it is not audio, is cut short, is damaged or holds no samples.
    """
    import soundfile

    path = Path(path)
    if path.is_dir():
        raise AudioError(f"{path} is a folder; give an audio file.")
    try:
        with open(path, "rb") as stream:
            _refuse_cut_wav(path, stream)
        with soundfile.SoundFile(str(path)) as file:
            samples = _read_all(file, path.stat().st_size)
            if len(samples) < file.frames:
                raise AudioError(f"{path} is cut short: {len(samples)} of {file.frames} frames; get the file again.")
            found = Recording(samples, file.samplerate, file.subtype)
    except FileNotFoundError as error:
        raise MissingError(f"there is no file {path}; check the path.") from error
    except OSError as error:
        raise AudioError(
            f"cannot read {path} ({error.strerror or error}); check the path and its permissions."
        ) from error
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError, MemoryError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"{path} is not audio that can be read ({_reason(error)}); convert it to WAV.") from error
    if not found.samples.size:
        raise AudioError(f"{path} holds no samples; give a recording of at least one.")
    return found


def _read_all(file: Any, size: int) -> np.ndarray:
    """All samples; a header that claims far more than the file can hold does not get to allocate memory."""
    if file.frames * file.channels <= 64 * size:
        return file.read(dtype="float32", always_2d=True)
    blocks = []
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        blocks.append(block)
    return np.concatenate(blocks) if blocks else np.zeros((0, file.channels), np.float32)


def _refuse_cut_wav(path: Path, stream: Any) -> None:
    """Stops at a WAV file that is cut short; libsndfile would quietly take what is left."""
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return
    end = os.fstat(stream.fileno()).st_size
    while len(chunk := stream.read(8)) == 8:
        length = int.from_bytes(chunk[4:], "little")
        if chunk[:4] == b"data":
            left = end - stream.tell()
            if left < length < 0x7FFFF000:  # sizes beyond are written by programs that did not know it yet
                raise AudioError(f"{path} is cut short: {left} of {length} bytes of sound; get the file again.")
            return
        stream.seek(length + length % 2, os.SEEK_CUR)


def readable(folder: str | os.PathLike) -> list[Path]:
    """The audio files in a folder and below, by their suffixes, in order; hidden ones left out."""
    root = Path(folder)
    found = (path for path in root.rglob("*") if path.suffix.lower() in _READABLE and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts))


class Outputs:
    """Files that appear together: each is written beside its name, and all are renamed on a clean exit.

    Use it as a context manager. After an error, or a signal that raises, nothing is left behind and older files of the
    same names are untouched. Failures of the file system become a one-line UsageError.
    """

    def __init__(self) -> None:
        self._parts: dict[Path, Path] = {}

    def __enter__(self) -> Self:
        return self

    def add(self, path: str | os.PathLike) -> Path:
        """The file to write instead of `path`, in the same folder, which is made when missing.

        It is made at the first call, so that a path which cannot be written is noticed before the work begins.
        """
        path = Path(path)
        if path in self._parts:
            return self._parts[path]
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        with _reported(path):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, "it is a folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # as `open` would: the umask decides
        self._parts[path] = part
        return part

    def write_text(self, path: str | os.PathLike, text: str) -> None:
        """Adds a text file."""
        part = self.add(path)
        with _reported(path):
            part.write_text(text, encoding="utf-8")

    def write_json(self, path: str | os.PathLike, value: Any) -> None:
        """Adds a JSON file."""
        self.write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write_audio(
        self, path: str | os.PathLike, samples: np.ndarray, sample_rate: int, subtype: str = "PCM_16"
    ) -> None:
        """Adds an audio file, see `write`."""
        _write_audio(self.add(path), Path(path), np.asarray(samples), sample_rate, subtype)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                for path, part in self._parts.items():
                    with _reported(path):
                        _sync(part)
                for path, part in self._parts.items():
                    with _reported(path):
                        os.replace(part, path)
        finally:
            for part in self._parts.values():
                part.unlink(missing_ok=True)


def write(path: str | os.PathLike, samples: np.ndarray, sample_rate: int, subtype: str = "PCM_16") -> None:
    """Writes one audio file, all or nothing; its suffix decides the format.

    Args:
      path: ends in one of `SUFFIXES`; the folder is made when missing.
      samples: (time,) or (time, channels) float.
      sample_rate: in Hz.
      subtype: encoding of the samples, as in `Recording`; formats that lack it get their default. Integer encodings are
        clipped to full scale, never wrapped; "FLOAT" and "DOUBLE" keep what exceeds it.

    Raises:
      UsageError: an unknown suffix, a path that cannot be written, a full disk.
    """
    with Outputs() as outputs:
        outputs.write_audio(path, samples, sample_rate, subtype)


def checked_suffix(path: str | os.PathLike) -> str:
    """The format's name for an output path; UsageError for a suffix that cannot be written."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"cannot tell the audio format of {path}; end its name in {', '.join(SUFFIXES)}.")
    return SUFFIXES[suffix]


def kept_subtype(path: str | os.PathLike, subtype: str) -> str:
    """The encoding for an output made from an input of `subtype`: the same where the output's format has it."""
    import soundfile

    kind = checked_suffix(path)
    known = soundfile.available_subtypes(kind)
    wanted = subtype if subtype.startswith("PCM_") or subtype in ("FLOAT", "DOUBLE") else "PCM_16"
    return next(one for one in (wanted, "PCM_24", "PCM_16", soundfile.default_subtype(kind)) if one in known)


def sidecar(path: str | os.PathLike) -> Path:
    """Where the JSON record of an output file goes: beside it, with `.json` added to the whole name."""
    return Path(path).with_name(Path(path).name + ".json")


def _write_audio(part: Path, path: Path, samples: np.ndarray, sample_rate: int, subtype: str) -> None:
    import soundfile

    kind = checked_suffix(path)
    subtype = subtype if subtype in soundfile.available_subtypes(kind) else kept_subtype(path, subtype)
    if subtype not in ("FLOAT", "DOUBLE"):
        samples = np.clip(samples, -1, 1)
    if kind == "WAV" and samples.size * 8 > _WAV_LIMIT:
        kind = "RF64"  # the same, with 64-bit sizes
    with _reported(path):
        try:
            soundfile.write(str(part), samples, sample_rate, subtype=subtype, format=kind)
            whole = soundfile.info(str(part)).frames
        except soundfile.LibsndfileError as error:
            raise OSError(errno.EIO, _reason(error)) from error
        except AssertionError as error:  # its way to say that fewer samples were written than given
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        if kind in ("WAV", "RF64", "FLAC", "AIFF") and whole != len(samples):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _reported(path: str | os.PathLike) -> Generator[None, None, None]:
    try:
        yield
    except OSError as error:
        way_out = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some space"}.get(
            error.errno or 0, "choose a path you can write to"
        )
        raise UsageError(f"cannot write {path}: {error.strerror or error}; {way_out}.") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _reason(error: BaseException) -> str:
    text = str(getattr(error, "error_string", None) or error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def record(values: Mapping[str, Any]) -> dict[str, Any]:
    """What every JSON record beside an output starts with: when, and by which versions; then `values`."""
    import datetime
    import platform
    from importlib.metadata import version

    names = ("jaxaudio", "jax", "jaxlib", "flax", "numpy", "soundfile", "soxr")
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **values,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in names}},
    }
