"""What the way through a codec has cost a recording, in the figures that papers on codecs report."""

import numpy as np

from jaxaudio.dsp import distances
from jaxaudio.metrics.separation import si_sdr


def fidelity(reference: np.ndarray, estimate: np.ndarray, sample_rate: int) -> dict[str, float]:
    """How far a decoded recording is from the original.

    Args:
      reference: (channels, time).
      estimate: (channels, time).
      sample_rate: in Hz.

    Returns:
      "si_sdr_db" (far below -100 where nothing is left), "mel_distance" and "stft_distance" as DAC computes them
      (0 is perfect); means over the channels.
    """
    reference, estimate = (np.asarray(x, np.float32) for x in (reference, estimate))
    # Filled up to whole seconds, so that few shapes are compiled and no transform is longer than the signal.
    fill = ((0, 0), (0, -reference.shape[1] % max(sample_rate, 4096)))
    padded = [np.pad(x, fill) for x in (reference, estimate)]
    return {
        "si_sdr_db": float(np.mean(si_sdr(reference.astype(np.float64), estimate.astype(np.float64)))),
        "mel_distance": float(np.mean(distances.mel_distance(*padded, sample_rate))),
        "stft_distance": float(np.mean(distances.stft_distance(*padded))),
    }
