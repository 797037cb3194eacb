"""Data sets that come with sentences: AudioCaps, Clotho, WavCaps."""

from collections.abc import Iterator
from pathlib import Path

from jaxaudio.data.layouts.listing import AudioIndex, Entry, find_file, read_json, read_rows
from jaxaudio.errors import MissingError


def audiocaps(root: Path, split: str) -> Iterator[Entry]:
    """AudioCaps (Kim et al. 2019): one caption per training clip, five per clip of the other splits."""
    clips: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in read_rows(find_file(root, f"{split}.csv", f"dataset/{split}.csv")):
        clips.setdefault((row["youtube_id"], row["start_time"]), []).append(row)
    index = AudioIndex(root)
    for (video, start), rows in clips.items():
        ids = [row["audiocap_id"] for row in rows]
        path = index.find(*ids, *youtube_names(video, float(start)))
        yield Entry(ids[0], path, tuple(row["caption"] for row in rows), source=video)


def clotho(root: Path, split: str) -> Iterator[Entry]:
    """Clotho v2.1 (Drossos et al. 2020): five captions per clip; Freesound keywords serve as labels."""
    listing = find_file(root, f"clotho_captions_{split}.csv")
    try:
        about = {row["file_name"]: row for row in read_rows(find_file(root, f"clotho_metadata_{split}.csv"))}
    except MissingError:
        about = {}
    folder = next((path for path in sorted(root.rglob(split)) if path.is_dir()), root / split)
    for row in read_rows(listing):
        path, known = folder / row["file_name"], about.get(row["file_name"], {})
        yield Entry(
            id=f"{split}/{path.stem}",
            path=path,
            captions=tuple(row[f"caption_{i}"] for i in range(1, 6)),
            labels=tuple(word.strip() for word in known.get("keywords", "").split(";") if word.strip()),
            source=known.get("sound_id", "").strip(),
            licence=known.get("license", "").strip(),
        )


def wavcaps(root: Path, split: str) -> Iterator[Entry]:
    """WavCaps (Mei et al. 2023): one machine-written caption per clip, from four subsets.

    Clips on a list in `json_files/blacklist/` are left out: test sets (AudioCaps, Clotho, ESC-50, VGGSound) hold them.
    """
    folder = next((path for path in sorted(root.rglob("json_files")) if path.is_dir()), None)
    if folder is None:
        raise MissingError(f"no json_files in {root}; download the listings of WavCaps and put them there.")
    barred = {
        (kind, Path(name).stem)
        for path in sorted((folder / "blacklist").glob("*.json"))
        for kind, names in read_json(path).items()
        for name in names
    }
    for listing in sorted(folder.glob("*/*.json")):
        subset = listing.parent.name
        if subset == "blacklist":
            continue
        kind = subset.removesuffix("_SL")  # the blacklists say AudioSet for AudioSet_SL
        places = [path for path in sorted(root.rglob(subset)) if path.is_dir() and path.parent != folder]
        index = AudioIndex(places[0] if places else root / subset)
        data = read_json(listing)
        for row in data["data"] if isinstance(data, dict) else data:
            name = Path(row["id"]).stem
            if (kind, name) not in barred:
                path = index.find(name)
                yield Entry(f"{subset}/{name}", path, (row["caption"],), licence="academic use only")


def youtube_names(video: str, start: float, end: float | None = None) -> list[str]:
    """File names under which people keep an excerpt of a YouTube video, most exact first."""
    second, end = int(start), start + 10 if end is None else end
    excerpts = (
        f"_{second}",
        f"_{second:06d}",
        f"_{second}_{int(end)}",
        f"_{round(start * 1000)}",
        f"_{round(start * 1000)}_{round(end * 1000)}",
        f"_{start:.3f}",
        f"_{start:.3f}_{end:.3f}",
        "",
    )
    return [f"{prefix}{video}{excerpt}" for excerpt in excerpts for prefix in ("", "Y")]
