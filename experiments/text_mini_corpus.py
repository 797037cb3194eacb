"""Short English texts about sounds for text_mini.py: generated captions, and WordNet's names, glosses and examples."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SOUNDS = Path(__file__).with_name("text_mini_sounds.txt")

# Verbs that double their last letter before -ing.
_DOUBLING = {
    *("hum", "drum", "tap", "rap", "flap", "snap", "clap", "slap", "zap", "pop", "drop", "plop", "drip", "trip", "sip"),
    *("chop", "stop", "skid", "chug", "run", "dig", "hit", "cut", "put", "spin", "stab", "rub", "scrub", "grab", "jog"),
    *("chip", "drag", "glug", "lap", "scan", "slam", "spit", "splat", "split", "step", "stir", "swim", "thud", "trot"),
    *("shut", "chat", "sob", "throb", "rip", "zip", "rev", "whiz", "plod", "hop", "flip", "snip", "clip", "whir"),
}  # fmt: skip
_PLACES = (
    *("in the distance", "nearby", "outside", "in the background", "far away", "close by", "indoors", "at night"),
    *("in a large hall", "on the street", "in the morning", "over and over", "in a small room", "next door"),
)
_ADVERBS = (
    *("loudly", "softly", "quietly", "slowly", "quickly", "rapidly", "gently", "repeatedly", "briefly", "faintly"),
    *("steadily", "suddenly", "intermittently", "twice", "continuously", "in short bursts", "aggressively", "happily"),
)
_ADJECTIVES = (
    *("loud", "soft", "distant", "quiet", "faint", "big", "small", "old", "heavy", "low", "high-pitched", "deep"),
    *("rhythmic", "sharp", "muffled", "echoing", "single", "short", "long", "noisy", "gentle", "metallic", "angry"),
)
_MOODS = (
    "sad",
    "happy",
    "slow",
    "fast",
    "gentle",
    "mellow",
    "lively",
    "solo",
    "soft",
    "loud",
    "bright",
    "jazzy",
    "low",
)
_MUSIC = ("melody", "tune", "song", "solo", "note", "scale", "riff", "chord", "rhythm", "phrase", "waltz", "few notes")


class Concept(NamedTuple):
    """One kind of sound: its section, names (usual first), verbs in the infinitive, places, held out or not."""

    kind: str
    names: tuple[str, ...]
    verbs: tuple[str, ...]
    places: tuple[str, ...]
    held_out: bool


def concepts(path: Path = SOUNDS) -> list[Concept]:
    found, kind = [], ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            kind = line.strip("[]")
        elif line.strip() and not line.startswith("#"):
            fields = [tuple(part.strip() for part in field.split(",")) for field in line.lstrip("*").split(":")]
            names, verbs, places = (*fields, (), ())[:3]
            found.append(Concept(kind, names, verbs or ("play", "sound", "ring out"), places, line.startswith("*")))
    return found


def s_form(verb: str) -> str:
    """Third person of the first word of a verb phrase: "fly by" -> "flies by"."""
    head, *rest = verb.split(" ")
    if re.search(r"[^aeiou]y$", head):
        head = head[:-1] + "ies"
    else:
        head += "es" if re.search(r"(s|sh|ch|x|z|[^aeiou]o)$", head) else "s"
    return " ".join([head, *rest])


def ing_form(verb: str) -> str:
    """Present participle of the first word of a verb phrase: "drive by" -> "driving by"."""
    head, *rest = verb.split(" ")
    if head in _DOUBLING:
        head += head[-1]
    elif head.endswith("ie"):
        head = head[:-2] + "y"
    elif head.endswith("e") and not head.endswith(("ee", "oe", "ye")):
        head = head[:-1]
    return " ".join([head + "ing", *rest])


def a(noun: str) -> str:
    """With its article, if it seems to want one."""
    last = noun.split()[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "us", "is"))
    mass = last.endswith("ing") or last in {
        "water",
        "rain",
        "thunder",
        "wind",
        "music",
        "speech",
        "laughter",
        "applause",
    }
    return noun if plural or mass else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def caption(concept: Concept, rng: random.Random) -> str:
    """One random phrase for a concept."""
    name, verb = rng.choice(concept.names), rng.choice(concept.verbs)
    if concept.kind == "instrument" and rng.random() < 0.75:
        return _musical(name, rng)
    place = rng.choice(concept.places or _PLACES) if rng.random() < 0.6 else rng.choice(_PLACES)
    does, doing, adverb, adjective = s_form(verb), ing_form(verb), rng.choice(_ADVERBS), rng.choice(_ADJECTIVES)
    one = rng.choice((a(name), name, f"the {name}"))
    return rng.choice(
        (
            *(name, a(name), f"the {name}", f"{name} sound", f"sound of {a(name)}", f"the sound of {a(name)} {doing}"),
            *(
                f"{name} {doing}",
                f"{one} {doing}",
                f"{one} {does}",
                f"{one} {does}",
                f"{one} is {doing}",
                f"{doing} {name}",
            ),
            *(f"{a(doing)} {name}", f"the {doing} of {a(name)}", f"{one} {does} {place}", f"{one} {doing} {place}"),
            *(
                f"{one} is {doing} {place}",
                f"{one} {does} {adverb}",
                f"{adverb} {doing} {name}",
                f"{one} {doing} {adverb}",
            ),
            *(
                f"{a(adjective)} {name}",
                f"{a(adjective)} {name} {doing}",
                f"{a(adjective)} {name} {does} {place}",
                doing,
            ),
            *(f"{name} noise", f"{name} {place}", f"{place} {a(name)} {does}", f"recording of {a(name)} {doing}"),
            *(f"i can hear {a(name)} {doing}", f"{one} can be heard {doing} {place}", f"there is {a(name)} {place}"),
            *(f"several {name}s {verb}", f"only the {name}", f"the {adjective} {doing} of {one}", f"{name}, {doing}"),
        )
    )


def _musical(name: str, rng: random.Random) -> str:
    mood, music, adverb, place = (rng.choice(x) for x in (_MOODS, _MUSIC, _ADVERBS, _PLACES))
    return rng.choice(
        (
            *(
                name,
                a(name),
                f"the {name}",
                f"{name} music",
                f"{name} solo",
                f"{a(mood)} {name}",
                f"{a(mood)} {name} {music}",
            ),
            *(f"{a(name)} playing", f"{a(name)} plays", f"{a(name)} is playing {place}", f"{name} playing {adverb}"),
            *(f"{a(name)} playing a {mood} {music}", f"{a(name)} plays {a(music)}", f"a {music} on the {name}"),
            *(f"someone plays the {name}", f"someone playing the {name} {adverb}", f"a musician playing {a(name)}"),
            *(
                f"the sound of {a(name)}",
                f"{name} sound",
                f"{a(name)} being played",
                f"{mood} music played on {a(name)}",
            ),
            *(f"{a(music)} played by {a(name)}", f"playing the {name}", f"a {name} note", f"solo {name} recording"),
            *(f"{name} {music}", f"{name} in the background", f"only the {name}", f"the {name} part", f"{name} track"),
        )
    )


def mixed(pool: list[Concept], rng: random.Random) -> str:
    """One random phrase about two concepts."""
    first, second = (caption(c, rng) for c in rng.sample(pool, 2))
    joint = rng.choice(("{} and {}", "{} while {}", "{} followed by {}", "{} with {}", "{}, then {}", "{} over {}"))
    return joint.format(first, second)


def captions(pool: list[Concept], per_name: int, rng: random.Random) -> list[str]:
    """Distinct phrases: about `per_name` for every name of every concept, and a sixth as many about two concepts."""
    single = {caption(c, rng) for c in pool for _ in range(per_name * len(c.names))} | {
        n for c in pool for n in c.names
    }
    return sorted(single | {mixed(pool, rng) for _ in range(len(single) // 6)})


_SENSES = {  # WordNet's lexicographer files whose words can be heard, or describe what is heard
    *range(0, 4), 4, 5, 6, 7, 8, 10, 11, 12, 13, 17, 18, 19, 20, 22, 23, 26, 27,
    *range(29, 44),
}  # fmt: skip


def wordnet(root: Path) -> Iterator[tuple[str, str]]:
    """(head word, text) pairs: names, short glosses and examples from `data.noun`, `data.verb` and `data.adj`."""
    for part in ("noun", "verb", "adj"):
        for line in (root / f"data.{part}").read_text().splitlines():
            if line.startswith("  "):
                continue
            fields, _, gloss = line.partition(" | ")
            words = fields.split()
            names = [re.sub(r"\(\w+\)", "", w).replace("_", " ") for w in words[4 : 4 + 2 * int(words[3], 16) : 2]]
            if int(words[1]) not in _SENSES or any(c.isupper() or c.isdigit() for name in names for c in name):
                continue
            definition, *_ = gloss.split('; "')
            definition = re.sub(r"\([^)]*\)", "", definition).strip(" ;")
            for name in names:
                yield names[0], name
            if 2 < len(definition.split()) <= 18:
                yield names[0], definition
                yield names[0], f"{names[0]}: {definition}"
            for example in re.findall(r'"([^"]+)"', gloss):
                if 2 < len(example.split()) <= 14:
                    yield names[0], example.lower()
