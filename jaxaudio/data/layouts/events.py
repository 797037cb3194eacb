"""Data sets that come with class names: AudioSet, ESC-50, FSD50K, MUSIC, VGGSound. Captions are made of the names."""

from collections.abc import Iterator
from pathlib import Path

from jaxaudio.data.layouts.captions import youtube_names
from jaxaudio.data.layouts.listing import AudioIndex, Entry, find_file, read_json, read_rows, words
from jaxaudio.errors import MissingError


def audioset(root: Path, split: str) -> Iterator[Entry]:
    """AudioSet (Gemmeke et al. 2017); the caption lists the display names, as AudioSep's does."""
    names = {row["mid"]: row["display_name"] for row in read_rows(find_file(root, "class_labels_indices.csv"))}
    listing = find_file(root, f"{split}_segments.csv")
    index = AudioIndex(root)
    for row in read_rows(listing, ("video", "start", "end", "mids")):
        labels = tuple(names.get(mid, mid) for mid in row["mids"].split(","))
        path = index.find(*youtube_names(row["video"], float(row["start"]), float(row["end"])))
        yield Entry(f"{row['video']}_{row['start']}", path, (", ".join(labels),), labels, source=row["video"])


def vggsound(root: Path, split: str) -> Iterator[Entry]:
    """VGGSound (Chen et al. 2020): one class per clip."""
    listing = find_file(root, "vggsound.csv")
    index = AudioIndex(root)
    for row in read_rows(listing, ("video", "start", "label", "split")):
        if row["split"].strip() == split:
            path = index.find(*youtube_names(row["video"], float(row["start"])))
            name = f"{row['video']}_{int(row['start']):06d}"
            yield Entry(name, path, (row["label"],), (row["label"],), source=row["video"])


def esc50(root: Path, split: str) -> Iterator[Entry]:
    """ESC-50 (Piczak 2015): folds 1-4 to train, fold 5 to test; no source recording is in two folds."""
    listing = find_file(root, "meta/esc50.csv")
    for row in read_rows(listing):
        if (row["fold"] == "5") == (split == "test"):
            path = listing.parent.parent / "audio" / row["filename"]
            name = words(row["category"])
            yield Entry(path.stem, path, (name,), (name,), source=row["src_file"], licence="CC-BY-NC-3.0")


def fsd50k(root: Path, split: str) -> Iterator[Entry]:
    """FSD50K (Fonseca et al. 2022).

    The ground truth adds each class's ancestors, which all count as labels. The caption is made of the annotated
    classes alone where FSD50K.metadata/collection is at hand, else of the first one listed.
    """
    part = "eval" if split == "eval" else "dev"
    listing = find_file(root, f"FSD50K.ground_truth/{part}.csv")
    folder = root / f"FSD50K.{part}_audio"
    about, annotated = {}, {}
    try:
        about = read_json(find_file(root, f"FSD50K.metadata/{part}_clips_info_FSD50K.json"))
        collection = find_file(root, f"FSD50K.metadata/collection/collection_{part}.csv")
        annotated = {row["fname"]: row["labels"] for row in read_rows(collection)}
    except MissingError:
        pass
    for row in read_rows(listing):
        if row.get("split", split) == split:
            labels = [words(label) for label in row["labels"].split(",")]
            own = [words(label) for label in annotated.get(row["fname"], "").split(",") if label] or labels[:1]
            yield Entry(
                id=row["fname"],
                path=folder / f"{row['fname']}.wav",
                captions=(", ".join(own),),
                labels=tuple(labels),
                licence=about.get(row["fname"], {}).get("license", ""),
            )


def music(root: Path, split: str) -> Iterator[Entry]:
    """MUSIC (Zhao et al. 2018): videos of one or two instruments, whole or in numbered pieces `ID_0`, `ID_1` ..."""
    listing = find_file(root, f"MUSIC_{split}_videos.json")
    index = AudioIndex(root)
    for instruments, videos in read_json(listing)["videos"].items():
        labels = tuple(words(name) for name in instruments.split())
        for video in videos:
            for path in index.pieces(video) or [index.find(video, f"Y{video}")]:
                yield Entry(path.stem, path, (" and ".join(labels),), labels, source=video)
