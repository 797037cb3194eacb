"""Golden cases of mixing and of the separation metrics: ours under the original's tensor names."""

import numpy as np

from jaxaudio.data import mixing
from jaxaudio.metrics.separation import aggregate, sdr, sdri, segmentwise_sdr, si_sdr


def segment_mixer(case: dict, keys: dict, inputs: dict) -> dict:
    """Draws as the reference does after random.seed(seed), then mixes (items, 1, time) waveforms."""
    out = {}
    for prefix, max_mix_num in (("", 2), ("mix3_", 3), ("silent_", 2)):
        if f"{prefix}waveforms" not in inputs:
            continue
        waveforms = inputs[f"{prefix}waveforms"][:, 0]
        for seed in inputs[f"{prefix}seeds"]:
            options = {
                "max_mix_num": max_mix_num,
                "low_db": case["config"]["lower_db"],
                "high_db": case["config"]["higher_db"],
            }
            draws = mixing.reference_draws(int(seed), len(waveforms), **options)
            mixture, segment = mixing.mix(waveforms, draws)
            named = {
                "mix_num": draws.mix_num,
                "interferer_db": draws.interferer_db,
                "noise_db": draws.noise_db,
                "mixture": mixture[:, None],
                "segment": segment[:, None],
                "declipped": np.any(segment != waveforms, axis=1),
            }
            out |= {f"{prefix}seed{seed}_{name}": value for name, value in named.items()}
    return out


def metrics(case: dict, keys: dict, inputs: dict) -> dict:
    """SDR, SDRi, SI-SDR in both precisions, the segment-wise median and the three ways to aggregate."""
    ref, est, mix = (inputs[name] for name in ("ref", "est", "mix"))
    ref64, est64 = ref.astype(np.float64), est.astype(np.float64)
    labels = np.asarray(inputs["labels"]).tolist()
    improvement = sdri(ref, est, mix)
    return {
        "sdr": sdr(ref, est),
        "sdr_mix": sdr(ref, mix),
        "sdri": improvement,
        "sisdr": si_sdr(ref, est),
        "sdr_float64": sdr(ref64, est64),
        "sisdr_float64": si_sdr(ref64, est64),
        "segmentwise_sdr_1600": segmentwise_sdr(ref, est, 1600, keep_last=False),
        "agg_mean_sdri": np.asarray(aggregate(improvement)),
        "agg_median_then_mean_sdri": np.asarray(aggregate(improvement, labels, "median_then_mean")),
        "agg_mean_then_mean_sdri": np.asarray(aggregate(improvement, labels, "mean_then_mean")),
    }


CASES = {"audiosep_segment_mixer": segment_mixer, "audiosep_metrics": metrics}
