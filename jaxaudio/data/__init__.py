"""Data sets, mixing and input pipelines.

`build` makes data sets from sounds on disk, `audio_clips` writes and reads them, `MixturePipeline` turns one, or clips
in memory, into training batches. What needs TensorFlow Datasets or Grain imports them on use.
"""

from jaxaudio.data.clips import Clip
from jaxaudio.data.pipeline import MixtureConfig, MixtureIterator, MixturePipeline

__all__ = ["Clip", "MixtureConfig", "MixtureIterator", "MixturePipeline"]
