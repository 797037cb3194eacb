"""Writes references.npz: what librosa, torchaudio and pyloudnorm compute on seeded noise.

Not a test, and not needed to run the tests. In an environment of its own:

    pip install numpy librosa==0.11.0 pyloudnorm==0.2.0 torch==2.13.0 && pip install --no-deps torchaudio==2.11.0
    python tests/dsp/make_references.py

If torchaudio's compiled extension does not load beside that torch, rename its `lib` folder: only Python code is used.
"""

import pathlib

import numpy as np

MEL_BANKS = {  # sample_rate, n_fft, n_mels, fmin, fmax, htk, norm
    "slaney": (16000, 256, 24, 0.0, 8000.0, False, "slaney"),
    "slaney_peaks": (22050, 256, 20, 60.0, 7600.0, False, None),
    "htk": (32000, 512, 20, 50.0, 14000.0, True, "slaney"),
    "htk_peaks": (8000, 256, 16, 100.0, 4000.0, True, None),
}
FBANKS = {  # keyword arguments of torchaudio.compliance.kaldi.fbank
    "default": {},
    "audiomae": {"htk_compat": True, "window_type": "hanning", "num_mel_bins": 32},
    "edges": {"snip_edges": False, "window_type": "hamming", "use_energy": True, "low_freq": 50.0, "high_freq": -400.0},
    "energy": {"use_energy": True, "htk_compat": True, "raw_energy": False, "energy_floor": 0.0, "subtract_mean": True},
    "linear": {"use_log_fbank": False, "use_power": False, "preemphasis_coefficient": 0.0, "remove_dc_offset": False},
    "no_rounding": {
        "round_to_power_of_two": False,
        "window_type": "blackman",
        "frame_length": 32.0,
        "frame_shift": 7.5,
    },
}
RESAMPLED = {  # rate_in, rate_out, further keyword arguments
    "44100_16000": (44100, 16000, {}),
    "16000_44100": (16000, 44100, {}),
    "32000_48000": (32000, 48000, {}),
    "48000_32000_wide": (48000, 32000, {"lowpass_filter_width": 16, "rolloff": 0.9475937167399596}),
    "16000_48000_kaiser": (16000, 48000, {"resampling_method": "sinc_interp_kaiser"}),
    "44100_22050_kaiser": (44100, 22050, {"resampling_method": "sinc_interp_kaiser", "beta": 8.0}),
}
LOUDNESS = {
    "mono": (48000, 1, 2.0),
    "stereo": (44100, 2, 3.1),
    "surround": (32000, 5, 1.5),
    "low_rate": (16000, 1, 2.4),
}


def noise(seed: int, *shape: int) -> np.ndarray:
    """The tests' signal: float32 noise of standard deviation 0.1."""
    return (0.1 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def programme(seed: int, rate: int, channels: int, seconds: float) -> np.ndarray:
    """Noise with a silent and a soft stretch, so that both gates of BS.1770 act: (time, channels) float64."""
    time = round(rate * seconds)
    gain = np.ones(time)
    gain[time // 3 : time // 2] = 0
    gain[time // 2 : time // 4 * 3] = 0.05
    return noise(seed, time, channels).astype(np.float64) * gain[:, None]


def main() -> None:
    """Computes and stores every reference."""
    import librosa
    import pyloudnorm
    import torch
    import torchaudio

    out: dict[str, np.ndarray] = {}
    for name, (rate, n_fft, n_mels, fmin, fmax, htk, norm) in MEL_BANKS.items():
        bank = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=htk, norm=norm)
        out[f"bank/{name}"] = bank.T
    x = noise(0, 4000)
    power = librosa.feature.melspectrogram(y=x, sr=16000, n_fft=512, hop_length=128, n_mels=20, pad_mode="reflect")
    out["mel/db"] = librosa.power_to_db(power, ref=0.5, amin=1e-8, top_db=30.0).T
    for name, options in FBANKS.items():
        out[f"fbank/{name}"] = torchaudio.compliance.kaldi.fbank(torch.from_numpy(noise(1, 1, 3000)), **options).numpy()
    for name, (rate_in, rate_out, options) in RESAMPLED.items():
        x = torch.from_numpy(noise(2, 2, 700)).double()
        out[f"resample/{name}"] = torchaudio.functional.resample(x, rate_in, rate_out, **options).numpy()
    for name, (rate, channels, seconds) in LOUDNESS.items():
        meter = pyloudnorm.Meter(rate, filter_class="DeMan")
        out[f"loudness/{name}"] = np.array(meter.integrated_loudness(programme(3, rate, channels, seconds)))
    small = {name: value.astype(np.float32) if value.ndim else value for name, value in out.items()}
    np.savez_compressed(pathlib.Path(__file__).parent / "references.npz", **small)


if __name__ == "__main__":
    main()
