"""Voicebank-DEMAND: speech of 28 speakers, clean and in noise."""

from collections.abc import Iterator
from pathlib import Path

from jaxaudio.data.layouts.listing import AUDIO_SUFFIXES, Entry
from jaxaudio.errors import MissingError

CAPTIONS = ("human speech", "a person speaking")
FOLDERS = {"train": "trainset_28spk_wav", "test": "testset_wav"}


def voicebank_demand(root: Path, split: str) -> Iterator[Entry]:
    """The clean side (Valentini-Botinhao 2017); the speaker is the source. Pairs: `evaluation.voicebank_demand`."""
    for path in speech_files(root, f"clean_{FOLDERS[split]}"):
        speaker = path.stem.split("_")[0]
        yield Entry(path.stem, path, CAPTIONS, ("speech",), source=speaker, licence="CC-BY-4.0")


def speech_files(root: Path, name: str) -> list[Path]:
    """The audio files of a folder found below `root`; archives unpack to a folder in a folder of the same name.

    Raises:
      MissingError: there is no such folder.
    """
    folders = [path for path in sorted(root.rglob(name)) if path.is_dir()]
    if not folders:
        raise MissingError(f"no {name}/ in {root}; unpack {name}.zip of Voicebank-DEMAND there.")
    return [path for path in sorted(folders[-1].iterdir()) if path.suffix.lower() in AUDIO_SUFFIXES]
