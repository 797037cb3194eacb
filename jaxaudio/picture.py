"""A mixture and what was found in it, as pictures of their spectrograms."""

import os
import warnings
from collections.abc import Sequence

import numpy as np

_RANGE_DB = 80.0
_COLUMNS = 1600  # frames that a picture shows at most; longer audio is looked at less often


def draw_spectrograms(path: str | os.PathLike, panels: Sequence[tuple[str, np.ndarray]], sample_rate: int) -> None:
    """Draws spectrograms one above the other, on one time axis and one scale of decibels.

    Args:
      path: of the PNG file.
      panels: titles with (time,) or (time, channels) audio, whose channels are averaged; all of one length.
      sample_rate: in Hz.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    audio = np.stack([x if x.ndim == 1 else x.mean(1) for _, x in panels]).astype(np.float32)
    levels = _decibels(audio)
    top = levels.max()
    extent = (0.0, audio.shape[1] / sample_rate, 0.0, sample_rate / 2000)

    figure = Figure(figsize=(9, 0.6 + 2.0 * len(panels)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (title, _), level in zip(axes, panels, levels):
        image = axis.imshow(
            level.T - top,
            origin="lower",
            aspect="auto",
            extent=extent,
            cmap="magma",
            vmin=-_RANGE_DB,
            vmax=0,
            interpolation="antialiased",
        )
        axis.set_title(_shortened(title), loc="left", fontsize=10)
        axis.set_ylabel("kHz")
    axes[-1].set_xlabel("seconds")
    figure.colorbar(image, ax=list(axes), label="dB below the loudest", pad=0.01, aspect=18 * len(panels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font lacks
        figure.savefig(path, format="png")


def _decibels(audio: np.ndarray) -> np.ndarray:
    """(panels, time) -> (panels, frames, bins) in dB."""
    import jax

    from jaxaudio import dsp

    size = 1024
    audio = np.pad(audio, ((0, 0), (0, max(0, size - audio.shape[1]))))
    transform = jax.jit(dsp.stft, static_argnums=(1, 2))
    real, imag = transform(audio, size, max(size // 4, audio.shape[1] // _COLUMNS))
    power = np.asarray(real) ** 2 + np.asarray(imag) ** 2
    return 10 * np.log10(power + 1e-12)


def _shortened(title: str) -> str:
    title = " ".join(title.split()).replace("$", r"\$")
    return title if len(title) <= 90 else title[:87] + "..."
