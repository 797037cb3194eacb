"""The concept map, the splits and the store of open_sounds."""

import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from jaxaudio.data import open_sounds
from jaxaudio.data.open_sounds import assemble, audio, catalogue, sources, splits
from jaxaudio.data.open_sounds.store import StoreWriter, read_store, summary
from jaxaudio.errors import AudioError, MissingError, UsageError

ROWS, CONCEPTS = open_sounds.rows(), open_sounds.concepts()
NOT_FREE = {"GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-or-later"}


def test_every_row_names_a_known_concept_licence_and_split():
    for row in ROWS:
        assert row.concept == catalogue.DROP or row.concept in CONCEPTS, row
        assert splits.is_free(row.licence) or row.licence in NOT_FREE, row
        assert row.split_hint in ("", *splits.SPLITS) and row.grouping in ("stem", "file", "folder"), row


def test_every_concept_is_used_and_has_short_unique_phrasings():
    assert {row.concept for row in ROWS} - {catalogue.DROP} == set(CONCEPTS)
    for concept in CONCEPTS.values():
        assert 4 <= len(concept.captions) <= 8, concept.name
        assert len({caption.lower() for caption in concept.captions}) == len(concept.captions)
        assert all(1 <= len(caption.split()) <= 10 for caption in concept.captions)
        assert concept.family and concept.labels[0] == concept.name


def test_no_phrasing_fits_two_concepts_that_may_be_mixed():
    owners = {}
    for concept in CONCEPTS.values():
        for caption in concept.captions:
            other = owners.setdefault(caption.lower(), concept)
            assert other is concept or set(other.labels) & set(concept.labels), (caption, other.name, concept.name)


def test_enough_concepts_to_train_on_and_related_ones_held_out():
    free = {row.concept for row in ROWS if splits.is_free(row.licence) and not row.split_hint} - {catalogue.DROP}
    train = {name for name in free if not CONCEPTS[name].heldout}
    heldout = free - train
    assert len(train) >= 150 and 15 <= len(heldout) <= 30
    families = {CONCEPTS[name].family for name in train}
    assert {CONCEPTS[name].family for name in heldout} <= families
    assert sum(CONCEPTS[name].family in ("animal", "water", "signal", "vehicle", "household") for name in heldout) >= 5


def test_rows_of_made_sounds_can_be_made():
    from jaxaudio.data.open_sounds.procedural_catalogue import GENERATORS

    named = {row.glob.removeprefix("generator:") for row in ROWS if row.package == "procedural"}
    assert named == set(GENERATORS)
    font = [row for row in ROWS if row.package == assemble.SOUNDFONT_PACKAGE]
    for row in font[::4] + font[-3:]:
        scores = assemble.drums(row) if row.glob.startswith("drum:") else {0: assemble.programme(row)}
        assert all(len(phrases) >= 7 and all(p.seconds > 0 for p in phrases) for phrases in scores.values()), row


@pytest.mark.parametrize(
    ("name", "rule", "expected"),
    [
        ("a/footstep.1.ogg", "stem", "a/footstep"),
        ("a/footstep.2.ogg", "stem", "a/footstep"),
        ("a/Snare-Hard.wav", "stem", "a/snare"),
        ("a/Snare-Softest.wav", "stem", "a/snare"),
        ("a/cow_die3.wav", "stem", "a/cow_die"),
        ("a/123.wav", "stem", "a/123.wav"),
        ("a/b/c1.wav", "folder", "a/b"),
        ("a/b/c1.wav", "file", "a/b/c1.wav"),
    ],
)
def test_variants_of_one_recording_share_a_source(name, rule, expected):
    assert splits.recording(name, rule) == expected


def test_cut_short_cat_names_the_entry():
    data = cat([("a", wav(b"\0\0" * 50))])
    with pytest.raises(AudioError, match="entry 0"):
        sources.parse_cat(data[:-10])


items = st.lists(
    st.tuples(
        st.integers(0, 30).map(lambda n: f"s{n}"),
        st.sampled_from(["bell", "dog", "rain", "owl"]),
        st.sampled_from([None, None, None, None, "eval_gpl", "eval_speech"]),
    ),
    max_size=60,
)


@given(items, st.integers(0, 5))
def test_no_source_is_on_two_sides_and_unseen_concepts_are_not_trained_on(deck, seed):
    deal = splits.assign(deck, heldout=frozenset({"owl"}), seed=seed)
    assert set(deal) == {source for source, _, _ in deck} and set(deal.values()) <= set(splits.SPLITS)
    for source, concept, forced in deck:
        if concept == "owl":
            assert deal[source] not in ("train", "heldout_clips")
        if forced:
            assert deal[source].startswith("eval_")
    assert deal == splits.assign(deck[::-1], heldout=frozenset({"owl"}), seed=seed) or any(f for _, _, f in deck)


def test_about_an_eighth_of_each_known_concept_is_held_out():
    deck = [(f"{c}{k}", c, None) for c in ("a", "b") for k in range(100)] + [("few0", "few", None)] * 3
    deal = splits.assign(deck, heldout=frozenset())
    for concept in ("a", "b"):
        assert sum(deal[f"{concept}{k}"] == "heldout_clips" for k in range(100)) == 12
    assert deal["few0"] == "train"


def test_licences_that_may_be_trained_on():
    assert all(map(splits.is_free, ("CC0-1.0", "PD", "MIT", "CC-BY-3.0", "CC-BY-SA-4.0", "Artistic-1.0", "Apache-2.0")))
    assert not any(map(splits.is_free, ("", "GPL-2.0-only", "CC-BY-NC-3.0", "CC-BY-NC-SA-4.0", "LGPL-2.1", "unclear")))


def test_trim_keeps_the_sound_and_a_margin():
    x = np.zeros(32000, np.float32)
    x[10000:12000] = 0.5
    kept = audio.trim(x)
    assert np.count_nonzero(kept) == 2000
    assert 2000 + 2 * 640 <= len(kept) <= 2000 + 2 * (640 + 320)
    assert len(audio.trim(np.zeros(100, np.float32))) == 0 and len(audio.trim(np.zeros(0, np.float32))) == 0


@settings(deadline=None, max_examples=12)
@given(st.floats(0.16, 80), st.floats(0.002, 1))
def test_prepared_pieces_are_short_audible_and_not_clipped(seconds, level):
    t = np.arange(int(seconds * audio.RATE)) / audio.RATE
    parts = audio.prepare((level * np.sin(2 * np.pi * 300 * t)).astype(np.float32))
    assert 1 <= len(parts) <= audio.MAX_PIECES
    for part in parts:
        assert audio.MIN_SECONDS * audio.RATE <= len(part) <= audio.MAX_SECONDS * audio.RATE
        assert 0.24 < np.abs(part).max() <= 0.891


def test_what_is_silent_or_too_short_is_dropped():
    assert audio.prepare(np.zeros(32000, np.float32)) == []
    assert audio.prepare(np.full(1000, 0.5, np.float32)) == []
    assert audio.prepare(np.full(32000, 1e-5, np.float32)) == []


def test_opposite_channels_do_not_cancel():
    x = np.sin(np.arange(16000) / 10).astype(np.float32)
    np.testing.assert_allclose(audio.mono(np.stack([x, -x], 1), audio.RATE, "x"), x)
    with pytest.raises(AudioError, match="not finite"):
        audio.mono(np.full((10, 1), np.nan, np.float32), audio.RATE, "x")


def wav(samples: bytes) -> bytes:
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + b"data"
    form += struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(form)) + form


def cat(entries: list[tuple[str, bytes]]) -> bytes:
    at, table, body = 8 * len(entries), b"", b""
    for name, data in entries:
        title = name.encode() + b"\0"
        table += struct.pack("<II", (at + len(body)) | 0x80000000, len(data))
        body += bytes([len(title)]) + title + data
    return table + body


def test_cat_container_is_read_back(tmp_path):
    parts = [wav(b"\1\0" * 20), wav(b"\2\0" * 30)]
    data = cat([('"A Cow". By someone. License: CC0.', parts[0]), ("Ship horn", parts[1])])
    (tmp_path / "x.cat").write_bytes(data)
    assert sources.members(tmp_path) == ["x.cat!00_a_cow.wav", "x.cat!01_ship_horn.wav"]
    assert [sources.read(tmp_path, name) for name in sources.members(tmp_path)] == parts
    assert audio.decode(parts[0], "x").shape == (80,)


@given(st.binary(max_size=64))
def test_broken_containers_raise_a_clear_error(data):
    for parse in (sources.parse_cat, sources.parse_rcc):
        try:
            assert isinstance(parse(data), list)
        except AudioError as error:
            assert "fetch the package again" in str(error)


def test_truncated_cat_is_an_error():
    data = cat([("a", wav(b"\0\0" * 50))])
    with pytest.raises(AudioError, match="fetch the package again"):
        sources.parse_cat(data[:20])


def test_rcc_container_lists_its_files_by_path():
    def name(text: str) -> bytes:
        return struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")

    names = name("dir") + name("cow.ogg")
    tree = struct.pack(">IHII", 0, 2, 1, 1) + struct.pack(">IHII", 0, 2, 1, 2)
    tree += struct.pack(">IHHHI", len(name("dir")), 0, 0, 0, 0)
    blob = struct.pack(">I", 4) + b"moo!"
    head = struct.pack(">4sIIII", b"qres", 1, 20, 20 + len(tree), 20 + len(tree) + len(blob))
    data = head + tree + blob + names
    ((path, place),) = sources.parse_rcc(data)
    assert path == "dir/cow.ogg" and data[place] == b"moo!"


def test_zip_members_are_found(tmp_path):
    with zipfile.ZipFile(tmp_path / "public.zip", "w") as archive:
        archive.writestr("audio/dog.ogg", b"woof")
        archive.writestr("art/dog.png", b"")
    assert sources.members(tmp_path) == ["public.zip!audio/dog.ogg"]
    assert sources.read(tmp_path, "public.zip!audio/dog.ogg") == b"woof"


def test_missing_program_names_the_package_to_install():
    with pytest.raises(MissingError, match="apt-get install fluidsynth"):
        sources.require("no-such-program-here", "fluidsynth")


def test_store_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    sounds = [rng.uniform(-1, 1, n).astype(np.float32) for n in (5, 0, 700)]
    record = {"concept": "dog barking", "family": "animal", "labels": ["dog barking", "dog"], "captions": ["a dog"]}
    record |= {"source": "s", "licence": "CC0-1.0"}
    with StoreWriter(tmp_path / "train") as writer:
        for k, sound in enumerate(sounds):
            writer.add(record | {"id": f"c{k}"}, sound)
    store = read_store(tmp_path / "train")
    assert [clip.id for clip in store] == ["c0", "c1", "c2"] and len(store[1:]) == 2
    for clip, sound in zip(store, sounds):
        np.testing.assert_allclose(clip.audio, sound, atol=0.51 / 32767)
        assert clip.audio.dtype == np.float32 and clip.sample_rate == 32000
        assert clip.labels == ("dog barking", "dog") and clip.licence == "CC0-1.0"
    assert summary(store.records)["clips"] == 3 and summary(store.records)["sources"] == 1


def test_store_that_is_absent_or_cut_short(tmp_path):
    with pytest.raises(MissingError, match="data build open_sounds"):
        read_store(tmp_path / "train")
    (tmp_path / "train.int16").write_bytes(b"\0" * 10)
    (tmp_path / "train.json").write_text(json.dumps([{"start": 0, "length": 6}]))
    with pytest.raises(AudioError, match="build the set again"):
        read_store(tmp_path / "train")


def test_only_short_sounds_are_repeated():
    rng = np.random.default_rng(0)
    short, long = np.full(8000, 0.5, np.float32), np.full(60000, 0.5, np.float32)
    assert assemble.sequences([long, long], rng) == []
    made = assemble.sequences([short] * 3, rng)
    assert len(made) == 5
    for clip in made:
        assert 2 * audio.RATE < len(clip) <= 6 * audio.RATE and clip.dtype == np.float32
        assert 0.5 >= clip.max() > 0.2 and (clip == 0).any() and clip[0] > 0 and clip[-1] > 0


def test_build_writes_every_split_from_a_local_package(tmp_path, monkeypatch):
    """A made-up package stands in for Debian's: the whole path from files to splits, without network."""
    folder = tmp_path / "cache" / "packages" / "pkg"
    folder.mkdir(parents=True)
    (folder / ".complete").touch()
    rng = np.random.default_rng(1)
    for name in ("dog1.wav", "dog2.wav", "owl.wav", "cow.wav", "unknown.wav", "voice.wav"):
        (folder / name).write_bytes(wav((rng.uniform(-9000, 9000, 4000)).astype("<i2").tobytes()))
    (folder / "dog3.wav").write_bytes((folder / "dog1.wav").read_bytes())
    (folder / "dog4.wav").write_bytes(wav(bytes(8000)))
    (folder / "dog5.wav").write_bytes(b"not a sound")

    def row(glob, concept, licence="CC0-1.0", split=""):
        return catalogue.Row(
            package="pkg",
            glob=glob,
            concept=concept,
            caption="",
            licence=licence,
            split_hint=split,
            grouping="stem",
            notes="",
        )

    table = (
        row("dog*", "dog barking"),
        row("owl*", "ride cymbal"),
        row("cow*", "cow mooing", "GPL-2.0-only"),
        row("voice*", "man speaking", "CC-BY-3.0", "eval_speech"),
    )
    monkeypatch.setattr(catalogue, "rows", lambda: table)
    lines = []
    report = assemble.build(tmp_path / "out", tmp_path / "cache", progress=lines.append)
    assert {split: counts["clips"] for split, counts in report.items()} == {
        "train": 2 + 4,
        "heldout_clips": 0,
        "heldout_concepts": 1 + 3,
        "eval_gpl": 1 + 3,
        "eval_speech": 1,
    }
    assert any("dog5.wav" in line for line in lines)
    train = read_store(tmp_path / "out" / "train")
    assert {clip.source for clip in train} == {"pkg//dog"} and train[0].captions[0] == "a dog barking"
    assert len({clip.id for clip in train}) == 6
    assert all(abs(len(clip.audio) - 16000) < 32 for clip in train if "sequence" not in clip.id)
    assert all(2 * 32000 <= len(clip.audio) <= 6 * 32000 for clip in train if "sequence" in clip.id)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(
        f"{split}{suffix}" for split in splits.SPLITS for suffix in (".int16", ".json")
    )
    with pytest.raises(UsageError, match="name a new directory"):
        assemble.build(tmp_path / "out", tmp_path / "cache")
    again = list(open_sounds.clips(tmp_path / "cache", split="train"))
    assert [clip.id for clip in again] == [clip.id for clip in train]
    with pytest.raises(UsageError, match="choose one of"):
        next(open_sounds.clips(tmp_path / "cache", split="test"))
