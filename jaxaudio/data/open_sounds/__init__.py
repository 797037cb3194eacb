"""`open_sounds`: freely licensed sound from Debian packages, a sound font, a speech synthesiser and our own generators.

The map of what is what is kept beside this file (`concepts.csv`, `captions.json`; attribution in `SOURCES.md`). Build
with `python -m jaxaudio.data.open_sounds OUT --cache DIR`, or take `clips(cache_dir)`, which builds on first use.
"""

from jaxaudio.data.open_sounds.assemble import build, clips
from jaxaudio.data.open_sounds.catalogue import attribution, concepts, rows
from jaxaudio.data.open_sounds.splits import SPLITS
from jaxaudio.data.open_sounds.store import open_split, read_store, summary

__all__ = ["SPLITS", "attribution", "build", "clips", "concepts", "open_split", "read_store", "rows", "summary"]
