"""Test sets of mixtures as their authors distribute them, for `metrics.protocol.evaluate`.

Each yields `Trial`s, one at a time, in the order of its list, mono and at the sample rate that the model wants. What is
missing or unreadable is an error: a figure over a part of a test set would mislead. How a set's figures are put
together is in `AGGREGATION`, for `metrics.separation.aggregate`.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxaudio.data.layouts.listing import find_file, read_audio, read_rows
from jaxaudio.data.layouts.speech import CAPTIONS, FOLDERS, speech_files
from jaxaudio.data.mixing import mix_at_snr, resample
from jaxaudio.errors import AudioError, MissingError, UsageError
from jaxaudio.metrics.protocol import Trial

AUDIOSEP_SETS = ("audiocaps", "audioset", "clotho", "esc50", "music", "vggsound")
AGGREGATION = {"audioset": "median_then_mean", "music": "mean_then_mean"}
"""The rule for each set; sets that are not named here take the plain mean."""


def audiosep(name: str, root: str | Path, *, sample_rate: int = 32000) -> Iterator[Trial]:
    """One of AudioSep's six test sets of ready-made mixtures.

    Args:
      name: one of `AUDIOSEP_SETS`.
      root: AudioSep's `evaluation` folder: `metadata/NAME_eval.csv` with the mixtures below `data/NAME/`.
      sample_rate: what to convert to, in Hz.

    Raises:
      UsageError: there is no such set.
      MissingError: the list or the folder is not there.
      AudioError: a listed file is missing or unreadable, or a mixture does not fit its target.
    """
    if name not in AUDIOSEP_SETS:
        raise UsageError(f"no test set '{name}'; there are {', '.join(AUDIOSEP_SETS)}.")
    root = Path(root)
    listing = find_file(root, f"metadata/{name}_eval.csv")
    folder = next((path for path in (root / "data" / name, root / name) if path.is_dir()), None)
    if folder is None:
        raise MissingError(f"no data/{name}/ in {root}; unpack AudioSep's evaluation data there.")
    for row in read_rows(listing):
        match name:
            case "audioset":  # whose `noise_wav` is the mixture
                mixture, target = (row[field].split("audioset/", 1)[-1] for field in ("noise_wav", "src_wav"))
                caption, other = row["caption"], ""
            case "vggsound":
                mixture, target, caption, other = row["mix_wav"], row["s0_wav"], row["s0_text"], row["s1_text"]
            case _:
                mixture, target = f"mixture-{row['idx']}.wav", f"segment-{row['idx']}.wav"
                caption, other = row["caption"], ""
        yield _trial(folder / mixture, folder / target, sample_rate, caption, caption, other)


def dcase2024_t9(root: str | Path, *, sample_rate: int = 16000) -> Iterator[Trial]:
    """The validation set of DCASE 2024 task 9: `lass_synthetic_validation.csv`, mixed here from `lass_validation/`.

    Each row names a source, a noise, their ratio of energies in dB and a caption; raises as `audiosep` does.
    """
    root = Path(root)
    folder = root / "lass_validation"
    rows = read_rows(find_file(root, "lass_synthetic_validation.csv"))
    for source, noise, snr, caption in (tuple(row.values())[:4] for row in rows):
        target, other = _same_length(folder / f"{source}.wav", folder / f"{noise}.wav", sample_rate)
        mixture, target = mix_at_snr(target, other, float(snr))
        yield Trial(mixture, target, caption, caption)


def voicebank_demand(root: str | Path, split: str = "test", *, sample_rate: int = 16000) -> Iterator[Trial]:
    """Noisy speech and the clean speech in it; raises as `audiosep` does."""
    clean, noisy = (speech_files(Path(root), f"{side}_{FOLDERS[split]}") for side in ("clean", "noisy"))
    by_name = {path.name: path for path in noisy}
    for path in clean:
        if path.name not in by_name:
            raise AudioError(f"{path.name} has no noisy version; unpack noisy_{FOLDERS[split]}.zip.")
        yield _trial(by_name[path.name], path, sample_rate, CAPTIONS[0], "speech")


def listed(listing: str | Path, *, sample_rate: int) -> Iterator[Trial]:
    """Mixtures of your own: a CSV file with the columns mixture, target, caption and, if you like, label and other.

    Paths are relative to the list; `other` describes the rest of the mixture. Raises as `audiosep` does, and UsageError
    for a column that is missing.
    """
    listing = Path(listing)
    if not listing.is_file():
        raise MissingError(f"no file {listing}; give a CSV file with the columns mixture, target, caption.")
    for row in read_rows(listing):
        if not {"mixture", "target", "caption"} <= row.keys():
            raise UsageError(f"{listing} needs the columns mixture, target, caption; it has {', '.join(row)}.")
        mixture, target = listing.parent / row["mixture"], listing.parent / row["target"]
        label = row.get("label") or row["caption"]
        yield _trial(mixture, target, sample_rate, row["caption"], label, row.get("other", ""))


def captioned(listing: str | Path) -> list[tuple[np.ndarray, int, tuple[str, ...]]]:
    """Clips with what people said of them: a CSV file with a column file or file_name, and caption, or caption_1 etc.

    Paths are relative to the list. Clotho's lists have one row for each clip, with five captions; a clip in several
    rows, as in AudioCaps', has the captions of all.

    Returns:
      (audio (time,) float32 at its own rate, that rate in Hz, its captions) for each clip.

    Raises:
      MissingError: there is no such list, or no such recording.
      UsageError: a column is missing.
    """
    listing = Path(listing)
    if not listing.is_file():
        raise MissingError(f"no file {listing}; give a CSV file with the columns file and caption.")
    found: dict[Path, list[str]] = {}
    for row in read_rows(listing):
        name = row.get("file") or row.get("file_name")
        captions = [text for column, text in row.items() if column.startswith("caption") and text]
        if not name or not captions:
            raise UsageError(f"{listing} needs the columns file and caption, both filled; it has {', '.join(row)}.")
        found.setdefault(listing.parent / name, []).extend(captions)
    return [(*read_audio(path), tuple(captions)) for path, captions in found.items()]


def _trial(mixture: Path, target: Path, sample_rate: int, caption: str, label: str, other: str = "") -> Trial:
    return Trial(*_same_length(mixture, target, sample_rate), caption, label, other)


def _same_length(first: Path, second: Path, sample_rate: int):
    """Two files as (time,) float32 at one rate, which must fit sample by sample as they are."""
    (one, rate), (other, other_rate) = read_audio(first), read_audio(second)
    if len(one) != len(other) or rate != other_rate:
        raise AudioError(f"{first} and {second} differ in length or sample rate; unpack the set again.")
    return resample(one, rate, sample_rate), resample(other, rate, sample_rate)
