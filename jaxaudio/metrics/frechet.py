"""Frechet distance between two sets of embeddings (Dowson & Landau 1982; Heusel et al. 2017; Kilgour et al. 2019).

What it means depends on the embedding, so a figure is to be given with the embedding's name.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jaxaudio.errors import UsageError


class Moments(NamedTuple):
    """Mean (width,) and covariance (width, width) of a set, in float64."""

    mean: np.ndarray
    covariance: np.ndarray


def moments(embeddings: ArrayLike) -> Moments:
    """The mean and the unbiased covariance of (items, width) embeddings.

    Raises:
      UsageError: not a table, fewer than two items, or numbers that are not finite.
    """
    x = np.asarray(embeddings, np.float64)
    if x.ndim != 2:
        raise UsageError(f"embeddings of shape {x.shape}: give (items, width).")
    if len(x) < 2:
        raise UsageError(f"{len(x)} embedding(s) have no covariance; give at least 2 items, better thousands.")
    if not np.all(np.isfinite(x)):
        raise UsageError("the embeddings hold NaN or infinity; leave out the items that they come from.")
    mean = x.mean(0)
    away = x - mean
    return Moments(mean, away.T @ away / (len(x) - 1))


def between(a: Moments, b: Moments) -> float:
    """|mean_a - mean_b|^2 + trace(C_a + C_b - 2 (C_a C_b)^(1/2)), the squared 2-Wasserstein distance of two normals.

    The trace of the root is the sum of the roots of the eigenvalues of C_a^(1/2) C_b C_a^(1/2), which is symmetric: no
    root of an unsymmetric matrix is taken, so singular covariances of small sets are no trouble.

    Raises:
      UsageError: widths that differ.
    """
    if a.mean.shape != b.mean.shape:
        raise UsageError(f"embeddings of width {len(a.mean)} and {len(b.mean)}: compare those of one network.")
    values, vectors = np.linalg.eigh(a.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    cross = np.linalg.eigvalsh(root @ b.covariance @ root)
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.sum(np.sqrt(np.maximum(cross, 0)))
    return float(max(np.sum((a.mean - b.mean) ** 2) + spread, 0.0))


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """The distance between the normals that fit two sets of embeddings, (items_a, width) and (items_b, width).

    Small sets are biased upwards, by about the width over the number of items: compare figures of equal counts.

    Raises:
      UsageError: as `moments` and `between`.
    """
    return between(moments(a), moments(b))
