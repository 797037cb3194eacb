"""What speaks like METEOR and SPICE, by the words that captions share with their references: a stand-in for Java.

The environment's STAND_IN says how it fails: "crash", "sleep", "ends", "chatters" or "nan".
"""

import json
import os
import sys
import time

words, how = sys.argv[1:], os.environ.get("STAND_IN", "")
jar = words[words.index("-jar") + 1]
if how == "crash":
    sys.exit('Exception in thread "main" java.lang.NoClassDefFoundError: edu/something\n\tat edu.some.Where(X.java:1)')
if how == "sleep":
    time.sleep(60)


def shared(own, refs):
    """The largest share of the words of a reference."""
    return max(len(set(own.split()) & set(ref.split())) / len(set(ref.split())) for ref in refs)


if jar.endswith("meteor-1.5.jar"):
    assert words[words.index("-jar") + 2 :] == ["-", "-", "-stdio", "-l", "en", "-norm"], words
    for line in sys.stdin:
        name, *parts = (part.strip() for part in line.rstrip("\n").split("|||"))
        if how == "ends":
            break
        if name == "SCORE":
            print("chatter" if how == "chatters" else shared(parts[-1], parts[:-1]), "1.0", flush=True)
        else:
            own = [part.split()[0] for part in parts]
            total = "NaN" if how == "nan" else sum(map(float, own)) / len(own)
            print("\n".join([*own, str(total)]), flush=True)
else:
    at = words.index("-jar") + 2
    assert words[at + 1] == "-out" and words[at + 3 :] == ["-subset", "-silent"], words
    with open(words[at], encoding="utf-8") as file:
        rows = json.load(file)
    made = [{"image_id": row["image_id"], "scores": {"All": {"f": shared(row["test"], row["refs"])}}} for row in rows]
    if how != "ends":
        with open(words[at + 2], "w", encoding="utf-8") as file:
            json.dump([{}] if how == "chatters" else made[::-1], file)  # not in the order of the question
