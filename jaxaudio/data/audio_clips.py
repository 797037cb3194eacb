"""Captioned clips on disk: TensorFlow Datasets in array_record files, written and read without TensorFlow.

Import this module only where data is written or read: it needs the `data` extra. `tfds.features.Audio` would import
TensorFlow, so audio is a plain tensor of 16-bit samples, which also reads faster. Any other program reads the result
with `tfds.builder_from_directory(folder).as_data_source()`.
"""

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxaudio.data.clips import Clip
from jaxaudio.errors import AudioError, MissingError, UsageError

try:
    import tensorflow_datasets as tfds
    from etils import epath
    from tensorflow_datasets.core import shuffle
except ImportError as error:
    raise MissingError("data sets on disk need TensorFlow Datasets; pip install 'jaxaudio[data]'.") from error

FULL_SCALE = 32768  # so that audio decoded from 16-bit files survives the round trip unchanged
VERSION = "1.0.0"


class _Info(tfds.core.DatasetInfo):
    def initialize_from_bucket(self) -> None:
        """Does not look for published facts about this data set, which would leave an empty temporary folder behind."""


class AudioClips(tfds.core.GeneratorBasedBuilder):
    """A TFDS data set of `Clip`s; `write_dataset` makes one of any name.

    Subclass it, with `clips` overridden, for a data set of your own under `tfds build`.

    Features: audio (time,) int16, sample_rate, id, captions, labels, source, licence.
    """

    VERSION = tfds.core.Version(VERSION)
    pkg_dir_path = epath.Path(__file__).parent

    def __init__(self, *, clips: Mapping[str, Iterable[Clip]] | None = None, **options: Any):
        self._given = clips
        super().__init__(**options)

    def clips(self) -> Mapping[str, Iterable[Clip]]:
        """The clips of each split."""
        if self._given is None:
            raise NotImplementedError("override clips(), or pass clips=.")
        return self._given

    def _info(self) -> tfds.core.DatasetInfo:
        return _Info(
            builder=self,
            description=f"{self.name}: captioned audio clips, mono, 16 bit, each at its own sample rate.",
            features=tfds.features.FeaturesDict(
                {
                    "id": tfds.features.Text(),
                    "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding=tfds.features.Encoding.BYTES),
                    "sample_rate": tfds.features.Scalar(np.int32),
                    "captions": tfds.features.Sequence(tfds.features.Text()),
                    "labels": tfds.features.Sequence(tfds.features.Text()),
                    "source": tfds.features.Text(),
                    "licence": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        return {split: self._generate_examples(split, clips) for split, clips in self.clips().items()}

    def _generate_examples(self, split: str, clips: Iterable[Clip]) -> Iterator[tuple[int, dict[str, Any]]]:
        seen: set[str] = set()
        for key, clip in enumerate(clips):
            if clip.id in seen:
                raise UsageError(f"two clips of split '{split}' have the id '{clip.id}'; ids must be unique.")
            seen.add(clip.id)
            yield key, to_record(clip)
        if not seen:
            raise UsageError(f"split '{split}' has no clips; check the folder, or leave the split out.")


class ClipSource:
    """Random access to the clips of one split: `len(source)`, `source[i] -> Clip`."""

    def __init__(self, records: Any, folder: str | Path):
        self._records, self._folder = records, folder

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int, /) -> Clip:
        if index >= len(self):  # which ends a loop over the clips
            raise IndexError(f"no clip {index}; there are {len(self)}")
        with _damage_reported(self._folder):
            return from_record(self._records[index])


def write_dataset(
    name: str,
    splits: Mapping[str, Iterable[Clip]],
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> dict[str, int]:
    """Writes clips as a TFDS data set, all or nothing.

    The files are made beside `out` and renamed when complete: a failure leaves nothing partial and an earlier data set
    untouched.

    Args:
      name: what TFDS calls it: a lower-case identifier.
      splits: the clips of each split; consumed once, one clip at a time.
      out: the folder to make.
      overwrite: replace a data set that is already there; anything else that is there is never replaced.
      progress: show a progress bar.

    Returns:
      the number of clips in each split.

    Raises:
      UsageError: `out` exists, a split is empty, an id occurs twice, the disk is full or the folder cannot be written.
      AudioError: a clip is empty or not finite.
    """
    out = Path(out)
    if out.exists() and not (overwrite and is_dataset(out)):
        way_out = "pass --force to replace it" if is_dataset(out) else "choose another folder"
        raise UsageError(f"{out} already exists; {way_out}.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise UsageError(f"cannot write {out}: {error.strerror}; choose a folder you can write to.") from error
    try:
        counts = _write(name, splits, beside, progress)
        if out.exists():
            os.rename(out, beside / "replaced")
        os.rename(beside / name / VERSION, out)
    except (OSError, RuntimeError) as error:  # array_record reports a full disk as a RuntimeError
        if isinstance(error, RuntimeError) and "write() failed" not in str(error):
            raise
        reason = "no space left" if "No space left" in str(error) else error
        raise UsageError(f"cannot write {out}: {reason}; free some space or choose another folder.") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return counts


def open_dataset(folder: str | Path) -> dict[str, ClipSource]:
    """The splits of a data set that `write_dataset` made.

    Raises:
      UsageError: there is no data set in the folder, or it is not one of clips.
    """
    if not is_dataset(folder):
        raise UsageError(f"no data set in {folder}; make one with `jaxaudio data build NAME`.")
    with _damage_reported(folder):
        builder: Any = tfds.builder_from_directory(os.fspath(folder))
        missing = {"audio", "sample_rate", "captions"} - set(builder.info.features or ())
        if missing:
            raise UsageError(f"the data set in {folder} has no {', '.join(sorted(missing))}; it is not one of clips.")
        return {split: ClipSource(source, folder) for split, source in builder.as_data_source().items()}


def is_dataset(folder: str | Path) -> bool:
    """Whether a folder holds a TFDS data set."""
    return (Path(folder) / "dataset_info.json").is_file()


def to_record(clip: Clip) -> dict[str, Any]:
    """What is stored of a clip: audio rounded to 16 bit, clipped to full scale."""
    audio = np.asarray(clip.audio)
    if audio.ndim != 1 or not audio.size or not np.isfinite(audio).all():
        raise AudioError(f"clip '{clip.id}' is empty, not finite or not mono; leave it out or mend it.")
    samples = np.clip(np.rint(audio * np.float32(FULL_SCALE)), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return {
        "id": clip.id,
        "audio": samples,
        "sample_rate": clip.sample_rate,
        "captions": list(clip.captions),
        "labels": list(clip.labels),
        "source": clip.source,
        "licence": clip.licence,
    }


def from_record(record: Mapping[str, Any]) -> Clip:
    """The clip of a stored record; text fields that a foreign data set lacks are empty."""
    return Clip(
        id=_text(record.get("id", b"")),
        audio=np.asarray(record["audio"], np.float32) / FULL_SCALE,
        sample_rate=int(record["sample_rate"]),
        captions=tuple(_text(caption) for caption in record["captions"]),
        labels=tuple(_text(label) for label in record.get("labels", ())),
        source=_text(record.get("source", b"")),
        licence=_text(record.get("licence", b"")),
    )


def _write(name: str, splits: Mapping[str, Iterable[Clip]], folder: Path, progress: bool) -> dict[str, int]:
    with tfds.core.registered.skip_registration():
        builder_class = type(
            name, (AudioClips,), {"name": name, "__module__": __name__, "pkg_dir_path": AudioClips.pkg_dir_path}
        )
    with _progress_bar(progress), _kept_in_memory(), contextlib.redirect_stdout(io.StringIO()):  # TFDS announces itself
        builder = builder_class(clips=splits, data_dir=os.fspath(folder), file_format="array_record")
        builder.download_and_prepare()
    return {split: info.num_examples for split, info in builder.info.splits.items()}


@contextlib.contextmanager
def _damage_reported(folder: str | Path) -> Generator[None, None, None]:
    """Whatever a damaged file makes the readers below raise becomes one error that says what to do."""
    try:
        yield
    except (UsageError, IndexError):
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"cannot read the data set in {folder} ({reason}); build it again.") from error


@contextlib.contextmanager
def _kept_in_memory() -> Generator[None, None, None]:
    """A split waits in memory until it is written: past a gigabyte, TFDS would put it aside through TensorFlow."""
    limit = shuffle.MAX_MEM_BUFFER_SIZE
    setattr(shuffle, "MAX_MEM_BUFFER_SIZE", sys.maxsize)  # noqa: B010
    try:
        yield
    finally:
        setattr(shuffle, "MAX_MEM_BUFFER_SIZE", limit)  # noqa: B010


@contextlib.contextmanager
def _progress_bar(shown: bool) -> Generator[None, None, None]:
    (tfds.enable_progress_bar if shown else tfds.disable_progress_bar)()
    try:
        yield
    finally:
        tfds.enable_progress_bar()


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
