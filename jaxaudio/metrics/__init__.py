"""Figures of merit, each checked against a known implementation."""

from jaxaudio.metrics.separation import aggregate, sdr, sdri, segmentwise_sdr, si_sdr

__all__ = ["aggregate", "sdr", "sdri", "segmentwise_sdr", "si_sdr"]
