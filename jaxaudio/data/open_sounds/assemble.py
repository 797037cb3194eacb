"""From the concept map to the store: find or make every sound, prepare it, drop copies, deal the splits, write."""

import dataclasses
import hashlib
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jaxaudio.data.clips import Clip
from jaxaudio.data.open_sounds import audio, catalogue, midi, sources
from jaxaudio.data.open_sounds.splits import SPLITS, assign, hashed, is_free, recording
from jaxaudio.data.open_sounds.store import Store, StoreWriter, read_store, summary, to_int16
from jaxaudio.errors import AudioError, UsageError

SOUNDFONT_PACKAGE = "fluid-soundfont-gm"
SEED = 20
SECONDS_OF_NOISE = 5.0

Progress = Callable[[str], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A sound before it is prepared: (time,) float32 at 32 kHz, its row of the map, its name and source recording."""

    audio: np.ndarray
    row: catalogue.Row
    name: str
    source: str


def generator_of(*key: object) -> np.random.Generator:
    """A random generator that depends on the key alone."""
    return np.random.default_rng(hashed(":".join(map(str, (SEED, *key)))))


def recorded(package: str, rows: list[catalogue.Row], cache: Path, progress: Progress) -> Iterator[Found]:
    """The files of a Debian package that the map names."""
    folder = sources.package_files(package, cache)
    patterns = [row.glob for row in rows]
    for name in sources.members(folder):
        index = sources.first_match(name, patterns)
        if index is None or rows[index].concept == catalogue.DROP:
            continue
        try:
            sound = audio.decode(sources.read(folder, name), name)
        except AudioError as error:
            progress(f"left out: {error}")
            continue
        row = rows[index]
        yield Found(sound, row, f"{package}/{name}", f"{package}/{recording(name, row.grouping)}")


def programme(row: catalogue.Row) -> list[midi.Phrase]:
    """What is played for a `program:N:LOW-HIGH:STYLE` row."""
    _, _, span, style = row.glob.split(":")
    low, high = map(int, span.split("-"))
    rng = generator_of(row.glob)
    if style == "long":
        held = rng.integers(low, high + 1, 10)
        return [midi.Phrase(((0.0, float(rng.uniform(3, 8)), int(p), 110),), f"long{k}") for k, p in enumerate(held)]
    notes = midi.single_notes(rng, low, high, 6)
    tunes = [midi.melody(rng, low, high, rng.uniform(3, 7), f"melody{k}") for k in range(16 if style == "any" else 26)]
    count = 10 if style == "any" else 0
    return notes + tunes + [midi.chords(rng, low, high, rng.uniform(3, 6), f"chords{k}") for k in range(count)]


DRUM_KITS = (0, 8, 16, 24, 25, 32, 40)
"""Standard, room, power, electronic, TR-808, jazz and brush kits; percussion is the same in all of them."""


def drums(row: catalogue.Row) -> dict[int, list[midi.Phrase]]:
    """What is played for a `drum:KEYS` row, by kit."""
    keys = row.glob.split(":")[1]
    shared = keys in ("54", "56", "58") or (keys != "beat" and min(map(int, keys.split("+"))) >= 60)
    rng, out = generator_of(row.glob), {}
    for kit in DRUM_KITS[:1] if shared else DRUM_KITS:
        names = [f"kit{kit}-{k}" for k in range(30 if shared else 9)]
        lengths = [rng.uniform(2, 6) for _ in names]
        if keys == "beat":
            out[kit] = [midi.drum_beat(rng, seconds, name) for seconds, name in zip(lengths, names)]
        else:
            numbers = [int(key) for key in keys.split("+")]
            hits = [midi.Phrase(((0.0, 0.3, key, 105),), f"kit{kit}-hit{key}") for key in numbers]
            out[kit] = hits + [midi.drum_hits(rng, numbers, seconds, name) for seconds, name in zip(lengths, names)]
    return out


def played(package: str, rows: list[catalogue.Row], cache: Path, progress: Progress) -> Iterator[Found]:
    """Notes, tunes and beats by every instrument of the sound font."""
    from jaxaudio.data.open_sounds import render

    font = sources.package_files(package, cache) / render.SOUNDFONT
    for number, row in enumerate(rows):
        is_drum = row.glob.startswith("drum:")
        scores = drums(row) if is_drum else {int(row.glob.split(":")[1]): programme(row)}
        for program, phrases in scores.items():
            reverb = bool((number + program) % 2)
            sounds = render.play(phrases, program, font, cache, drums=is_drum, reverb=reverb)
            for k, (phrase, sound) in enumerate(zip(phrases, sounds)):
                place = f"{package}/{row.glob}"
                yield Found(sound, row, f"{place}/{program}/{k}", f"{place}/{phrase.source}")


def synthesised(package: str, rows: list[catalogue.Row], cache: Path, progress: Progress) -> Iterator[Found]:
    """Our own generators, 60 sounds of each."""
    from jaxaudio.data.open_sounds.procedural_catalogue import GENERATORS

    for row in rows:
        make = GENERATORS[row.glob.removeprefix("generator:")]
        for k in range(60):
            rng = generator_of(row.glob, k)
            name = f"{package}/{row.glob}/{k}"
            yield Found(make(rng, SECONDS_OF_NOISE * rng.uniform(0.8, 1.2)), row, name, name)


def spoken(package: str, rows: list[catalogue.Row], cache: Path, progress: Progress) -> Iterator[Found]:
    """Sentences read by espeak-ng, 30 by each voice."""
    from jaxaudio.data.open_sounds import render

    for row in rows:
        for k in range(30):
            rng = generator_of(row.glob, row.concept, k)
            low, high = (80, 99) if row.concept == "child speaking" else (30, 60)
            pitch, speed = int(rng.integers(low, high + 1)), int(rng.integers(130, 190))
            text = " ".join(render.sentence(rng) for _ in range(rng.integers(1, 3)))
            sound = render.speak(text, row.glob.removeprefix("voice:"), pitch=pitch, speed=speed)
            name = f"{package}/{row.glob}/{row.concept}/{k}"
            yield Found(render.robotic(rng, sound) if row.concept == "robot voice" else sound, row, name, name)


def sequences(takes: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """Repetitions of short sounds, as they occur in life: single footsteps make a walk, single barks a barking dog.

    Args:
      takes: (time,) float32 prepared sounds of one recording.
      rng: chooses order, pauses and levels.

    Returns:
      Up to eight clips of 2.5 to 6 s; none if the takes last more than 1.2 s in the median.
    """
    if np.median([len(take) for take in takes]) > 1.2 * audio.RATE:
        return []
    made = []
    for _ in range(min(2 + len(takes), 8)):
        pause, until = rng.uniform(0.05, 0.6), rng.uniform(2.5, 5) * audio.RATE
        parts, length = [], 0
        while length < until:
            take = takes[rng.integers(len(takes))]
            gap = np.zeros(int(pause * rng.uniform(0.6, 1.5) * audio.RATE), np.float32)
            parts += [take * np.float32(rng.uniform(0.5, 1)), gap]
            length += len(take) + len(gap)
        made.append(np.concatenate(parts[:-1])[: int(6 * audio.RATE)])
    return made


MAKERS = {SOUNDFONT_PACKAGE: played, "procedural": synthesised, "espeak-ng": spoken}


def collect(cache: Path, only: frozenset[str] | None, progress: Progress) -> Iterator[tuple[dict, np.ndarray]]:
    """(record, int16 samples) of every prepared clip, byte-identical copies dropped."""
    seen = set()
    for package in catalogue.packages():
        if only is not None and package not in only:
            continue
        rows = [row for row in catalogue.rows() if row.package == package]
        recordings, count = defaultdict(list), 0
        for found in MAKERS.get(package, recorded)(package, rows, cache, progress):
            for k, piece in enumerate(audio.prepare(found.audio)):
                samples = to_int16(piece)
                digest = hashlib.sha256(samples.tobytes()).digest()
                if digest not in seen:
                    seen.add(digest)
                    count += 1
                    yield record(found.row, f"{found.name}#{k}", found.source), samples
                    if package not in MAKERS and catalogue.concepts()[found.row.concept].family not in UNREPEATED:
                        recordings[found.source, found.row].append(piece)
        for (source, row), takes in recordings.items():
            for k, sound in enumerate(sequences(takes, generator_of(source, row.glob))):
                count += 1
                repeated = dataclasses.replace(row, caption="")  # "a single step" would no longer be true
                yield record(repeated, f"{source}/{row.glob}/sequence{k}", source), to_int16(sound)
        progress(f"{package}: {count} clips")


UNREPEATED = frozenset({"speech", "keys", "mallets", "synth", "bass", "reeds", "flutes", "brass", "strings", "voice"})
"""Families of which no sequences are made: repeating a word or a chord is not how they sound."""


def record(row: catalogue.Row, name: str, source: str) -> dict:
    """What the store keeps about a clip of that row."""
    concept = catalogue.concepts()[row.concept]
    return {
        "id": name,
        "concept": concept.name,
        "family": concept.family,
        "labels": list(concept.labels),
        "captions": list(concept.phrasings(row.caption)),
        "source": source,
        "licence": row.licence,
        "package": row.package,
        "split": row.split_hint or (None if is_free(row.licence) else "eval_gpl"),
    }


def build(
    out: Path | str,
    cache: Path | str,
    *,
    only: frozenset[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, dict]:
    """Builds the whole set, deterministically, and writes `<out>/<split>.int16` and `.json` for each of `SPLITS`.

    Args:
      out: a directory that holds no built set yet.
      cache: where packages and renders are kept for the next build.
      only: names of the packages to take; all of them by default.
      seed: of the deal into splits.
      progress: called with a line of text now and then.

    Returns:
      For each split its numbers of clips, hours, concepts, families and sources.

    Raises:
      UsageError: `out` holds a set already.
      MissingError: apt-get, fluidsynth, espeak-ng or ffmpeg is not there.
    """
    out, cache, progress = Path(out), Path(cache), progress or (lambda line: None)
    if (out / "train.json").exists():
        raise UsageError(f"{out} already holds a built set; name a new directory")
    cache.mkdir(parents=True, exist_ok=True)
    everything = out / "all"
    with StoreWriter(everything) as writer:
        for entry, samples in collect(cache, only, progress):
            writer.add(entry, samples)
    pool = read_store(everything)
    heldout = frozenset(name for name, concept in catalogue.concepts().items() if concept.heldout)
    deal = assign(((r["source"], r["concept"], r["split"]) for r in pool.records), heldout=heldout, seed=seed)
    report = {}
    for split in SPLITS:
        with StoreWriter(out / split) as writer:
            for index, entry in enumerate(pool.records):
                if deal[entry["source"]] == split:
                    kept = {key: value for key, value in entry.items() if key not in ("split", "start", "length")}
                    writer.add(kept, pool.samples(index))
        report[split] = summary(writer.records)
        progress(f"{split}: {report[split]}")
    del pool
    for suffix in (".int16", ".json"):
        everything.with_name(everything.name + suffix).unlink()
    return report


def clips(cache_dir: Path | str, *, split: str | None = None, progress: Progress | None = None) -> Iterator[Clip]:
    """The clips of one split, or of all in the order of `SPLITS`; builds the set in `cache_dir/built` on first use.

    Raises:
      UsageError: there is no such split.
      MissingError: what is needed to build is not installed.
    """
    if split is not None and split not in SPLITS:
        raise UsageError(f"open_sounds has no split {split!r}; choose one of {', '.join(SPLITS)}")
    out = Path(cache_dir) / "built"
    if not all((out / f"{name}.json").exists() for name in SPLITS):
        shutil.rmtree(out, ignore_errors=True)
        build(out, cache_dir, progress=progress)
    for name in (split,) if split else SPLITS:
        yield from _each(read_store(out / name))


def _each(store: Store) -> Iterator[Clip]:
    for index in range(len(store)):
        yield store[index]
