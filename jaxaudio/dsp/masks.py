"""Estimates of sources made to add up to their mixture."""

import jax.numpy as jnp
from jax import Array

from jaxaudio.dsp.stft import istft, magnitude, stft
from jaxaudio.errors import UsageError

_SILENT = 1e-20  # on the power: keeps the ratio of nothing to nothing finite


def ratio_masked(mixture: Array, estimates: Array, *, n_fft: int = 1024, hop: int = 256) -> Array:
    """Splits the mixture by the ratio of the estimates' magnitudes; every part keeps the mixture's phase.

    SD-Codec's "sep_mask" (Bie et al., 2024): the results sum to the mixture.

    Args:
      mixture: (..., time), longer than n_fft // 2.
      estimates: (..., sources, time).
      n_fft: length of the Hann window.
      hop: samples between frames.

    Returns:
      (..., sources, time); the original drops the samples after the last whole hop.

    Raises:
      UsageError: the lengths differ.
    """
    if mixture.shape[-1] != estimates.shape[-1]:
        raise UsageError(
            f"The mixture has {mixture.shape[-1]} samples, its parts {estimates.shape[-1]}: cut or pad one."
        )
    size = magnitude(*stft(estimates, n_fft, hop), floor=_SILENT)
    ratio = size / jnp.sum(size, -3, keepdims=True)
    real, imag = (x[..., None, :, :] * ratio for x in stft(mixture, n_fft, hop))
    return istft(real, imag, hop, length=mixture.shape[-1])
