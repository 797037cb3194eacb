"""Signal processing: pure functions without parameters."""

from jaxaudio.dsp.distances import Resolution, log_mel_distance, mel_distance, resolution_distance, stft_distance
from jaxaudio.dsp.kaldi import FbankConfig, fbank
from jaxaudio.dsp.levels import (
    amplitude_to_db,
    db_to_amplitude,
    db_to_power,
    normalize_peak,
    normalize_rms,
    peak,
    power_to_db,
    rms,
)
from jaxaudio.dsp.loudness import integrated_loudness, normalize_loudness
from jaxaudio.dsp.masks import ratio_masked
from jaxaudio.dsp.mel import MelConfig, hz_to_mel, log_mel, mel_filters, mel_spectrogram, mel_to_hz, spectrogram
from jaxaudio.dsp.resample import resample, resample_numpy
from jaxaudio.dsp.stft import frame, istft, magnitude, overlap_add, stft
from jaxaudio.dsp.window import get_window

__all__ = [
    "FbankConfig",
    "MelConfig",
    "Resolution",
    "amplitude_to_db",
    "db_to_amplitude",
    "db_to_power",
    "fbank",
    "frame",
    "get_window",
    "hz_to_mel",
    "integrated_loudness",
    "istft",
    "log_mel",
    "log_mel_distance",
    "magnitude",
    "mel_distance",
    "mel_filters",
    "mel_spectrogram",
    "mel_to_hz",
    "normalize_loudness",
    "normalize_peak",
    "normalize_rms",
    "overlap_add",
    "peak",
    "power_to_db",
    "ratio_masked",
    "resample",
    "resample_numpy",
    "resolution_distance",
    "rms",
    "spectrogram",
    "stft",
    "stft_distance",
]
