"""Fetching Debian packages and looking inside them: downloads, the sound files they hold, and their containers."""

import fnmatch
import functools
import gzip
import os
import re
import shutil
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from jaxaudio.errors import AudioError, MissingError

SOUNDS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff")
"""Suffixes of the files that are kept when a package is unpacked."""

CONTAINERS = (".cat", ".zip", ".rcc", ".sf2")
"""Suffixes of archives that hold sounds; a member is written `path/to/archive.zip!path/of/member`."""


def require(command: str, package: str) -> str:
    """Path of an external program.

    Raises:
      MissingError: it is not installed; the message names the Debian package that brings it.
    """
    if path := shutil.which(command):
        return path
    raise MissingError(f"`{command}` is not installed, and open_sounds needs it: apt-get install {package}")


def download(package: str, cache: Path) -> Path:
    """The package's .deb in `cache/debs`, downloaded by `apt-get download` unless it is there already."""
    folder = cache / "debs"
    folder.mkdir(parents=True, exist_ok=True)
    if found := sorted(folder.glob(f"{package}_*.deb")):
        return found[-1]
    apt = require("apt-get", "apt  # open_sounds is built on Debian or Ubuntu")
    done = subprocess.run([apt, "download", package], cwd=folder, capture_output=True, text=True)
    if done.returncode or not (found := sorted(folder.glob(f"{package}_*.deb"))):
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MissingError(f"apt-get could not download {package} ({reason}); run `apt-get update` and try again")
    return found[-1]


def unpack(deb: Path, folder: Path) -> Path:
    """Unpacks the sounds, sound containers and copyright notes of a .deb, nothing else; returns `folder`.

    The archive is read as a stream, so that a package of a gigabyte costs no more disk than its sounds.
    """
    done = folder / ".complete"
    if done.exists():
        return folder
    reader = subprocess.Popen([require("dpkg-deb", "dpkg"), "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE)
    with tarfile.open(fileobj=reader.stdout, mode="r|") as archive:
        for member in archive:
            name = member.name.lower()
            if member.isfile() and name.endswith((*SOUNDS, *CONTAINERS, ".g722", "/copyright")):
                archive.extract(member, folder, filter="data")
    if reader.wait():
        raise MissingError(f"dpkg-deb could not read {deb.name}; delete it and build again")
    g722_to_wav(folder)
    done.touch()
    return folder


def package_files(package: str, cache: Path) -> Path:
    """The folder with the sounds of a Debian package, downloaded and unpacked on first use."""
    folder = cache / "packages" / package
    return folder if (folder / ".complete").exists() else unpack(download(package, cache), folder)


def documents(package: str, cache: Path, pattern: str) -> dict[str, bytes]:
    """The files of a Debian package whose path matches a shell pattern, unpacked if they are gzipped, by their path."""
    command = [require("dpkg-deb", "dpkg"), "--fsys-tarfile", str(download(package, cache))]
    found = {}
    reader = subprocess.Popen(command, stdout=subprocess.PIPE)
    with reader, tarfile.open(fileobj=reader.stdout, mode="r|") as archive:
        for member in archive:
            file = archive.extractfile(member) if fnmatch.fnmatchcase(member.name, pattern) else None
            if file is not None:
                data = file.read()
                found[member.name] = gzip.decompress(data) if member.name.endswith(".gz") else data
    if not found:
        raise MissingError(f"{package} has no {pattern}; another version of it may: see SOURCES.md")
    return found


def members(folder: Path) -> list[str]:
    """Names of every sound below `folder`, sorted; those inside containers as `archive!member`."""
    names = []
    for parent, _, files in os.walk(folder):
        for file in files:
            path = Path(parent, file)
            name = path.relative_to(folder).as_posix()
            if name.lower().endswith(SOUNDS):
                names.append(name)
            elif name.lower().endswith(CONTAINERS) and not name.lower().endswith(".sf2"):
                names += [f"{name}!{member}" for member in container(path)]
    return sorted(names)


def read(folder: Path, name: str) -> bytes:
    """The bytes of one of `members(folder)`."""
    archive, _, member = name.partition("!")
    return container(folder / archive)[member]() if member else (folder / archive).read_bytes()


@functools.lru_cache(maxsize=4)
def container(path: Path) -> dict[str, Callable[[], bytes]]:
    """Name -> function that gives the bytes, of every sound in a .zip, .cat or .rcc archive."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        archive = zipfile.ZipFile(path)
        return {name: partial(archive.read, name) for name in archive.namelist() if name.lower().endswith(SOUNDS)}
    data = path.read_bytes()
    entries = parse_cat(data) if suffix == ".cat" else parse_rcc(data)
    return {name: partial(data.__getitem__, span) for name, span in entries if name.lower().endswith(SOUNDS)}


def parse_cat(data: bytes) -> list[tuple[str, slice]]:
    """Places of the sounds in an OpenTTD sound container (`.cat`).

    The file starts with a table of little-endian (offset, size) pairs, one per sound; the first offset is the table's
    length and the top bit of an offset is a flag. At each offset stand a name (a length byte, the text with its closing
    zero) and a RIFF file. Sounds are named `NN_title.wav`: NN counts from 0, the title is the name up to its first full
    stop.

    Raises:
      AudioError: the table does not fit the data.
    """
    mask = 0x7FFFFFFF
    try:
        table = struct.unpack_from("<I", data)[0] & mask
        pairs = list(struct.iter_unpack("<II", data[:table]))
    except struct.error:
        raise AudioError("not a sound container: it ends inside its table; fetch the package again") from None
    entries = []
    for index, (offset, _) in enumerate(pairs):
        offset &= mask
        name_length = data[offset] if offset < len(data) else 0
        start = offset + 1 + name_length
        size = 8 + int.from_bytes(data[start + 4 : start + 8], "little")
        if data[start : start + 4] != b"RIFF" or start + size > len(data):
            raise AudioError(f"not a sound container: no whole RIFF data for entry {index}; fetch the package again")
        title = data[offset + 1 : start].split(b"\0")[0].decode("latin-1").lstrip('"')
        name = re.sub(r"[^a-z0-9]+", "_", re.split('[".]', title)[0].lower()).strip("_")
        entries.append((f"{index:02d}_{name}.wav", slice(start, start + size)))
    return entries


def parse_rcc(data: bytes) -> list[tuple[str, slice]]:
    """Places of the stored (uncompressed) files in a Qt binary resource (`.rcc`), named by their full path.

    A big-endian header gives the places of a tree of nodes, of UTF-16 names and of length-prefixed data; a directory
    node points at its first child. Compressed members are left out: sounds are stored as they are.

    Raises:
      AudioError: the data is not such a file.
    """
    try:
        magic, version, tree, blobs, names = struct.unpack_from(">4sIIII", data)
        if magic != b"qres":
            raise AudioError("not a Qt resource file; fetch the package again")
        size = 14 if version == 1 else 22
        found: list[tuple[str, slice]] = []
        pending = [(0, "")]
        while pending:
            node, prefix = pending.pop()
            name_at, flags, first, second = struct.unpack_from(">IHII", data, tree + node * size)
            length = struct.unpack_from(">H", data, names + name_at)[0] if node else 0
            text = data[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
            path = f"{prefix}/{text}".lstrip("/")
            if flags & 2:
                pending += [(second + child, path) for child in range(first)]
            elif not flags & 5:
                start = blobs + second
                length = struct.unpack_from(">I", data, start)[0]
                found.append((path, slice(start + 4, start + 4 + length)))
        return sorted(found, key=lambda entry: entry[0])
    except struct.error:
        raise AudioError("a Qt resource file that ends too early; fetch the package again") from None


def first_match(name: str, patterns: Sequence[str]) -> int | None:
    """Index of the first pattern that matches `name` (shell wildcards; `*` also crosses `/`; case counts), or None."""
    return next((index for index, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, pattern)), None)


def g722_to_wav(folder: Path, batch: int = 60) -> None:
    """Turns every G.722 file below `folder` into a 16 kHz WAV: libsndfile cannot read that telephone codec, ffmpeg can.

    Many files go through one run of ffmpeg, since starting it takes longer than decoding a prompt.
    """
    files = sorted(folder.rglob("*.g722"))
    for begin in range(0, len(files), batch):
        command = [require("ffmpeg", "ffmpeg"), "-v", "error", "-y"]
        for file in files[begin : begin + batch]:
            command += ["-f", "g722", "-i", str(file)]
        for index, file in enumerate(files[begin : begin + batch]):
            command += ["-map", str(index), "-ar", "16000", str(file.with_suffix(".wav"))]
        if subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL).returncode:
            raise AudioError(
                f"ffmpeg could not decode the G.722 files below {folder}; delete that folder and build again"
            )
    for file in files:
        file.unlink()
