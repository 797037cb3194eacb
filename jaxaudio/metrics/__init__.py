"""Figures of merit, each checked against a known implementation."""

from jaxaudio.metrics.agreement import cosines, named
from jaxaudio.metrics.frechet import frechet_distance
from jaxaudio.metrics.separation import aggregate, energies_left, sd_sdr, sdr, sdri, segmentwise_sdr, si_sdr

__all__ = [
    "aggregate",
    "cosines",
    "energies_left",
    "frechet_distance",
    "named",
    "sd_sdr",
    "sdr",
    "sdri",
    "segmentwise_sdr",
    "si_sdr",
]
