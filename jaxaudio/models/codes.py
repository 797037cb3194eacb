"""Codes in hand and on disk: a `.jac` file is one safetensors file of packed integers and what decodes them.

Every code takes as many bits as its codebook needs, so that a file is as large as its bit-rate says, and about a
kilobyte of header.
"""

import dataclasses
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxaudio.errors import AudioError, MissingError

FORMAT = 1
SUFFIX = ".jac"

_KEY = "jaxaudio.codes"
_LARGEST = 1 << 30  # entries of a codebook; beyond it, int32 ends


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Codes:
    """A recording as integers, from a codec's `encode`.

    Attributes:
      values: (channels, tracks, frames, books) int32, each in [0, size of its book).
      sizes: entries of each book.
      tracks: what the second axis holds, as ("mixture",) or ("speech", "music").
      frame_rate: frames per second.
      sample_rate: of the recording, in Hz.
      length: of the recording, in samples at that rate; what is decoded has exactly so many.
      squeeze: the recording came as (time,), and is given back so.
      gains: factor of each channel by which what is decoded is multiplied to have the recording's loudness.
      model: name of the codec.
      fingerprint: of the codec's weights; another codec refuses to decode these.
    """

    values: np.ndarray
    sizes: tuple[int, ...]
    tracks: tuple[str, ...]
    frame_rate: float
    sample_rate: int
    length: int
    squeeze: bool
    gains: tuple[float, ...]
    model: str
    fingerprint: str

    def __post_init__(self) -> None:
        shape = np.shape(self.values)
        if len(shape) != 4 or shape[1] != len(self.tracks) or shape[3] != len(self.sizes) or not self.sizes:
            raise AudioError(
                f"codes of shape {shape} do not fit {len(self.tracks)} tracks of {len(self.sizes)} books; give "
                "(channels, tracks, frames, books)."
            )
        if len(self.gains) != shape[0] or self.length < 1:
            raise AudioError("codes of a recording need a gain for each channel and a length; encode it again.")
        values = np.asarray(self.values)
        if values.dtype.kind not in "iu":
            raise AudioError(f"codes of type {values.dtype} are none; give integers.")
        for book, size in enumerate(self.sizes):
            column = values[..., book]
            if column.size and not 0 <= column.min() <= column.max() < size:
                bad = column.min() if column.min() < 0 else column.max()
                raise AudioError(f"the code {bad} is outside book {book}, which has {size} entries; encode again.")

    @property
    def bits_per_second(self) -> float:
        """Of one channel and track: what an ideal packing of the books needs."""
        return self.frame_rate * sum(math.log2(size) for size in self.sizes)

    @property
    def tokens_per_second(self) -> float:
        """Of one channel and track."""
        return self.frame_rate * len(self.sizes)

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return self.length / self.sample_rate

    def of(self, *tracks: str) -> "Codes":
        """The same with these tracks alone.

        Raises:
          AudioError: there is no such track.
        """
        for track in tracks:
            if track not in self.tracks:
                raise AudioError(f"these codes have no track {track!r}, only {', '.join(self.tracks)}.")
        places = [self.tracks.index(track) for track in tracks]
        return dataclasses.replace(self, values=self.values[:, places], tracks=tracks)


def save(path: str | os.PathLike, codes: Codes) -> None:
    """Writes a code file, all or nothing.

    Raises:
      UsageError: it cannot be written there.
    """
    from jaxaudio import io

    with io.Outputs() as outputs:
        write(outputs.add(path), codes)


def write(part: Path, codes: Codes) -> None:
    """Writes the bytes of a code file to `part`."""
    from safetensors.numpy import save_file

    about = {
        "format": FORMAT,
        "shape": list(codes.values.shape),
        **{field.name: getattr(codes, field.name) for field in dataclasses.fields(codes) if field.name != "values"},
    }
    books = {f"book_{i}": _packed(codes.values[..., i], size) for i, size in enumerate(codes.sizes)}
    save_file(books, part, {_KEY: json.dumps(about)})


def load(path: str | os.PathLike) -> Codes:
    """Reads a code file.

    Raises:
      MissingError: there is no such file.
      AudioError: it is cut short, altered, or something else.
    """
    import safetensors

    path = Path(path)
    if not path.is_file():
        raise MissingError(f"there is no file {path}; check the path.")
    try:
        with safetensors.safe_open(path, "np") as file:
            about: dict[str, Any] = json.loads((file.metadata() or {})[_KEY])
            if about.pop("format") > FORMAT:
                raise AudioError(f"{path} was written by a newer jaxaudio; upgrade jaxaudio.")
            shape = tuple(map(int, about.pop("shape")))
            sizes = tuple(map(int, about["sizes"]))
            if len(shape) != 4 or min(shape) < 0 or shape[3] != len(sizes) or not all(1 < s <= _LARGEST for s in sizes):
                raise ValueError("shape and books do not agree")
            count = math.prod(shape[:3])
            books = [_unpacked(file.get_tensor(f"book_{i}"), size, count) for i, size in enumerate(sizes)]
        values = np.stack(books, -1).reshape(shape)
        about |= {"sizes": sizes, "tracks": tuple(about["tracks"]), "gains": tuple(map(float, about["gains"]))}
        return Codes(values=values, **about)
    except AudioError as error:
        raise AudioError(f"{path}: {error}") from error
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise AudioError(
            f"{path} is no code file, or is cut short ({reason}); make one with `jaxaudio codec encode`."
        ) from error


def bits_of(size: int) -> int:
    """Bits that a code of a book with `size` entries takes in a file."""
    return max(1, (size - 1).bit_length())


def _packed(values: np.ndarray, size: int) -> np.ndarray:
    """Integers -> uint8, the highest bit of each first."""
    shifts = np.arange(bits_of(size) - 1, -1, -1)
    return np.packbits((values.reshape(-1, 1) >> shifts & 1).astype(np.uint8))


def _unpacked(packed: np.ndarray, size: int, count: int) -> np.ndarray:
    width = bits_of(size)
    if packed.dtype != np.uint8 or packed.shape != (-(-count * width // 8),):
        raise ValueError("a book has another length than the header says")
    bits = np.unpackbits(packed, count=count * width).reshape(count, width)
    return (bits.astype(np.int32) << np.arange(width - 1, -1, -1, dtype=np.int32)).sum(1, dtype=np.int32)
