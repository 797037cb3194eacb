"""Known data sets as their publishers distribute them: one small function each.

A layout turns listings into what they say of every clip, `entries(root, split) -> Iterator[Entry]`; `clips` reads the
audio. Nothing is downloaded: `root` is where the user unpacked the set.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from jaxaudio.data.clips import Clip
from jaxaudio.data.layouts import captions, events, speech
from jaxaudio.data.layouts.listing import Entry, OnError, load
from jaxaudio.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """A data set that can be read where it was unpacked.

    Attributes:
      entries: (root, split) -> what the listing says of each clip.
      splits: names of its splits, as its publisher calls them.
      needs: what must lie in the root folder.
      where: who distributes it.
    """

    entries: Callable[[Path, str], Iterator[Entry]]
    splits: tuple[str, ...]
    needs: str
    where: str


LAYOUTS = {
    "audiocaps": Layout(
        entries=captions.audiocaps,
        splits=("train", "val", "test"),
        needs="{train,val,test}.csv; audio anywhere below, by audiocap or YouTube id",
        where="github.com/cdjkim/audiocaps (listings; audio from YouTube)",
    ),
    "audioset": Layout(
        entries=events.audioset,
        splits=("balanced_train", "unbalanced_train", "eval"),
        needs="{balanced_train,unbalanced_train,eval}_segments.csv, class_labels_indices.csv; audio by YouTube id",
        where="research.google.com/audioset (listings; audio from YouTube)",
    ),
    "clotho": Layout(
        entries=captions.clotho,
        splits=("development", "validation", "evaluation"),
        needs="clotho_captions_*.csv, folders development/ validation/ evaluation/; clotho_metadata_*.csv if at hand",
        where="zenodo.org, 'Clotho dataset' v2.1",
    ),
    "esc50": Layout(
        entries=events.esc50,
        splits=("train", "test"),
        needs="meta/esc50.csv, audio/ (train is folds 1-4, test is fold 5)",
        where="github.com/karolpiczak/ESC-50",
    ),
    "fsd50k": Layout(
        entries=events.fsd50k,
        splits=("train", "val", "eval"),
        needs="FSD50K.ground_truth/, FSD50K.dev_audio/, FSD50K.eval_audio/; FSD50K.metadata/ if at hand",
        where="zenodo.org/record/4060432",
    ),
    "music": Layout(
        entries=events.music,
        splits=("solo", "duet"),
        needs="MUSIC_solo_videos.json, MUSIC_duet_videos.json; audio named by YouTube id",
        where="github.com/roudimit/MUSIC_dataset (listings; audio from YouTube)",
    ),
    "vggsound": Layout(
        entries=events.vggsound,
        splits=("train", "test"),
        needs="vggsound.csv; audio named ID_SECONDS, seconds with six digits",
        where="robots.ox.ac.uk/~vgg/data/vggsound",
    ),
    "voicebank_demand": Layout(
        entries=speech.voicebank_demand,
        splits=("train", "test"),
        needs="clean_trainset_28spk_wav/, clean_testset_wav/ (and the noisy_ folders, to evaluate)",
        where="datashare.ed.ac.uk/handle/10283/2791",
    ),
    "wavcaps": Layout(
        entries=captions.wavcaps,
        splits=("train",),
        needs="json_files/SUBSET/*.json, audio in folders SUBSET/; json_files/blacklist/ to leave test clips out",
        where="huggingface.co/datasets/cvssp/WavCaps",
    ),
}


def clips(
    name: str, root: str | Path, split: str, *, on_error: OnError = "skip", min_samples: int = 0
) -> Iterator[Clip]:
    """The clips of one split of a known data set.

    Args:
      name: a key of `LAYOUTS`.
      root: the folder where it was unpacked.
      split: one of its splits.
      on_error: "skip" leaves out files that are missing or unreadable and warns once with their number; "fail" raises.
      min_samples: leave out clips with fewer samples at their own rate (AudioSep: 32000).

    Raises:
      UsageError: no such data set or split, or none of the listed files could be read.
      MissingError: the listing is not in `root`.
      AudioError: under "fail", for the first file that cannot be read.
    """
    if name not in LAYOUTS:
        raise UsageError(f"no data set '{name}'; known are {', '.join(LAYOUTS)}.")
    layout = LAYOUTS[name]
    if split not in layout.splits:
        raise UsageError(f"{name} has no split '{split}'; it has {', '.join(layout.splits)}.")
    return load(layout.entries(Path(root), split), on_error=on_error, min_samples=min_samples)
