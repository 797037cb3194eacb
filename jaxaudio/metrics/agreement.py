"""How well sounds agree with what was asked for: by a text-audio network such as CLAP, or by a classifier."""

import numpy as np
from numpy.typing import ArrayLike

from jaxaudio.errors import UsageError


def cosines(text: ArrayLike, audio: ArrayLike) -> np.ndarray:
    """Cosine between each text and its sound: (items, width) embeddings twice -> (items,), in [-1, 1].

    With CLAP's embeddings the mean is what publications call the CLAP score.

    Raises:
      UsageError: shapes that differ, or embeddings that are zero or not finite.
    """
    a, b = (np.asarray(x, np.float64) for x in (text, audio))
    if a.ndim != 2 or a.shape != b.shape:
        raise UsageError(f"texts {a.shape} and sounds {b.shape}: give one embedding of each per item, (items, width).")
    sizes = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not np.all(np.isfinite(sizes) & (sizes > 0)):
        raise UsageError("an embedding is zero or not finite; leave out the item that it comes from.")
    return np.clip(np.sum(a * b, 1) / sizes, -1, 1)


def named(logits: ArrayLike, wanted: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """What a classifier says of sounds that were asked for by their class.

    Args:
      logits: (items, classes).
      wanted: (items,) places of the classes that were asked for.

    Returns:
      (items,) probability of that class, and (items,) whether it is the most probable.

    Raises:
      UsageError: shapes that do not fit, places outside of the classes, or logits that are not finite.
    """
    x, places = np.asarray(logits, np.float64), np.asarray(wanted)
    if x.ndim != 2 or places.shape != x.shape[:1] or np.any((places < 0) | (places >= x.shape[1])):
        raise UsageError(f"logits {x.shape} and classes {places.shape}: give (items, classes) and one class per item.")
    if not np.all(np.isfinite(x)):
        raise UsageError("the logits hold NaN or infinity; look at the sounds that they come from.")
    x = np.exp(x - x.max(1, keepdims=True))
    rows = np.arange(len(x))
    return x[rows, places] / x.sum(1), np.argmax(x, 1) == places
