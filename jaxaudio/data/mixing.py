"""Mixtures made on the fly, on the host: cut segments, choose interferers, match their energy, add, avoid clipping.

The rule is that of AudioSep's training (Liu et al., "Separate Anything You Describe", data/waveform_mixers.py): each
interferer is brought to the target's RMS and turned up or down by a whole number of decibels, their sum is brought to
the target's RMS and turned again, and mixture and target are scaled when the mixture would clip. What is random is
drawn apart from what is computed: a mixture can be made again from its `Draws`, and AudioSep's way of drawing and ours
share one `mix`.
"""

import random
from collections.abc import Collection, Hashable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import soxr

from jaxaudio.errors import AudioError

Place = Literal["start", "random", "repeat"]

ENERGY_FLOOR = 1e-10  # of the target's mean square
RATIO_RANGE = (0.02, 50.0)  # of RMS(interferer) / RMS(target); beyond it, matching stops short
PEAK = 0.9  # what a clipping mixture is scaled to


class Draws(NamedTuple):
    """The random choices behind a batch of mixtures; S = max_mix_num - 1 interferer slots.

    Attributes:
      mix_num: (B,) sources in each mixture, the target included; 1 leaves the target alone.
      partners: (B, S) row of the batch that each interferer comes from; slots past `mix_num - 1` are not read.
      interferer_db: (B, S) gain of each interferer over the target's level, in dB.
      noise_db: (B,) gain of the summed interferers over the target's level, in dB. With two sources this alone sets the
        signal-to-noise ratio, to `-noise_db`, because matching the sum undoes the interferer's own gain.
    """

    mix_num: np.ndarray
    partners: np.ndarray
    interferer_db: np.ndarray
    noise_db: np.ndarray


def mix(waveforms: np.ndarray, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Mixes every row of a batch with the rows that `draws` names (AudioSep's SegmentMixer).

    Args:
      waveforms: (batch, time), float32 or float64; each row is a target and a possible interferer of others.
      draws: what was drawn, see `Draws`.

    Returns:
      mixture, segment: both (batch, time) in the input's dtype, `mixture == segment + interference`; rows whose mixture
      exceeded 1 in magnitude are scaled so that it peaks at 0.9.

    Raises:
      AudioError: `waveforms` is not (batch, time), or `draws` belongs to another batch size.
    """
    waveforms = np.asarray(waveforms)
    if waveforms.ndim != 2 or len(draws.mix_num) != len(waveforms):
        raise AudioError(
            f"waveforms of shape {waveforms.shape} do not fit draws for {len(draws.mix_num)} mixtures; "
            "pass (batch, time) with one draw per row."
        )
    energy = _energy(waveforms)
    rows = np.arange(len(waveforms))
    noise = np.zeros_like(waveforms)
    for slot in range(draws.partners.shape[1]):
        used = rows[draws.mix_num > slot + 1]
        partner = draws.partners[used, slot]
        scale = _decibels(draws.interferer_db[used, slot]) / _ratio(energy[partner], energy[used])
        noise[used] += waveforms[partner] * scale[:, None].astype(waveforms.dtype)
    noise *= (_decibels(draws.noise_db) / _ratio(_energy(noise), energy))[:, None].astype(waveforms.dtype)
    mixture = waveforms + noise
    peak = np.abs(mixture).max(axis=1)
    fit = np.where(peak > 1.0, PEAK / np.maximum(peak, 1.0), 1.0)[:, None].astype(waveforms.dtype)
    return mixture * fit, waveforms * fit


def draw(
    rng: np.random.Generator,
    batch: int,
    labels: Sequence[Collection[Hashable]] | None = None,
    *,
    max_mix_num: int = 2,
    low_db: int = -10,
    high_db: int = 10,
) -> Draws:
    """Draws mixtures in which no two clips share a label.

    Each interferer slot is filled by a random one-to-one assignment of the batch to itself that avoids conflicts, so
    every clip also serves as an interferer once. Where no such assignment exists, a row takes any clip that does not
    conflict with it; one that conflicts with all the others gets fewer sources than drawn, down to a `mix_num` of 1.

    Args:
      rng: source of all randomness.
      batch: number of rows.
      labels: per row, everything that must not meet itself in a mixture (class names, recording names); None or empty
        means that any two different rows may meet.
      max_mix_num: sources per mixture are uniform in 2..max_mix_num.
      low_db: lowest gain, inclusive.
      high_db: highest gain, inclusive; gains are whole decibels.
    """
    mix_num = rng.integers(2, max_mix_num, batch, endpoint=True)
    partners = np.zeros((batch, max_mix_num - 1), np.int64)
    interferer_db = rng.integers(low_db, high_db, partners.shape, endpoint=True)
    noise_db = rng.integers(low_db, high_db, batch, endpoint=True)
    conflict = conflicts(labels if labels is not None else [()] * batch)
    blocked = conflict.copy()
    for slot in range(max_mix_num - 1):
        wanted = mix_num > slot + 1
        partner, found = _assign(rng, blocked)
        mix_num[wanted & ~found] = slot + 1
        partners[:, slot] = partner
        blocked |= conflict[partner]  # the next interferer must not meet this one either
    return Draws(mix_num, partners, interferer_db, noise_db)


def reference_draws(seed: int, batch: int, *, max_mix_num: int = 2, low_db: int = -10, high_db: int = 10) -> Draws:
    """The draws that AudioSep makes for a batch after `random.seed(seed)`, in its own order.

    The reference seeds with the index of the batch within the epoch, so its gains repeat in every epoch and on every
    device, and takes the next rows of the batch as interferers whatever their labels. To train, use `draw`.
    """
    rng = random.Random(seed)
    mix_num = np.zeros(batch, np.int64)
    interferer_db = np.zeros((batch, max_mix_num - 1), np.int64)
    noise_db = np.zeros(batch, np.int64)
    for row in range(batch):
        mix_num[row] = rng.randint(2, max_mix_num)
        for slot in range(mix_num[row] - 1):
            interferer_db[row, slot] = rng.randint(low_db, high_db)
        noise_db[row] = rng.randint(low_db, high_db)
    partners = (np.arange(batch)[:, None] + np.arange(1, max_mix_num)) % batch
    return Draws(mix_num, partners, interferer_db, noise_db)


def conflicts(labels: Sequence[Collection[Hashable]]) -> np.ndarray:
    """(n, n) bool, symmetric and true on the diagonal: which rows share a label."""
    names = {name: column for column, name in enumerate(dict.fromkeys(name for row in labels for name in row))}
    member = np.zeros((len(labels), len(names)), np.float32)
    for row, own in enumerate(labels):
        member[row, [names[name] for name in own]] = 1.0
    return (member @ member.T > 0) | np.eye(len(labels), dtype=bool)


def mix_lassnet(
    target: np.ndarray, noise: np.ndarray, snr_db: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """LASS-Net's evaluation mixtures (Liu et al., "Separate What You Describe", utils/create_mixtures.py).

    Both signals are normalised to peak 1, the noise is divided by 10^(snr/20), and everything by the largest peak of
    mixture, noise and target. The ratio is thus of peaks, not of energies.

    Args:
      target: (time,).
      noise: (time,).
      snr_db: decibels of the target's peak over the noise's.

    Returns:
      mixture, target, noise: each (time,), jointly peaking at 1 (all zero where both inputs are silent).
    """
    target, noise = _unit_peak(target), _unit_peak(noise) * 10.0 ** (-snr_db / 20)
    mixture = target + noise
    top = max(np.abs(x).max(initial=0.0) for x in (mixture, target, noise)) or 1.0
    return mixture / top, target / top, noise / top


def mix_at_snr(target: np.ndarray, noise: np.ndarray, snr_db: float) -> tuple[np.ndarray, np.ndarray]:
    """Mixture and target at an exact ratio of energies; both scaled so that the mixture peaks at 0.9 if it would clip.

    Args:
      target: (time,), not silent.
      noise: (time,), not silent.
      snr_db: 10 log10 of the target's energy over the noise's.

    Raises:
      AudioError: one of the two is silent.
    """
    energies = _energy(target), _energy(noise)
    if min(energies) <= 0:
        raise AudioError("cannot mix silence at a signal-to-noise ratio; leave silent clips out.")
    scale = np.sqrt(energies[0] / energies[1]) * 10.0 ** (-snr_db / 20)
    mixture = target + noise * np.asarray(scale, target.dtype)
    peak = np.abs(mixture).max()
    fit = np.asarray(PEAK / peak if peak > 1 else 1.0, target.dtype)
    return mixture * fit, target * fit


def to_mono(audio: np.ndarray) -> np.ndarray:
    """(time,) or (time, channels) -> (time,), the mean over channels, in float32 or float64."""
    audio = np.asarray(audio)
    if audio.ndim not in (1, 2):
        raise AudioError(f"audio of shape {audio.shape}; expected (time,) or (time, channels).")
    return audio if audio.ndim == 1 else audio.mean(axis=1, dtype=audio.dtype)


def resample(audio: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """(time,) at `rate` -> (time',) at `new_rate`, by soxr in high quality; unchanged when the rates agree."""
    return audio if rate == new_rate else np.asarray(soxr.resample(audio, rate, new_rate), audio.dtype)


def cut(audio: np.ndarray, length: int, rng: np.random.Generator, place: Place = "start") -> np.ndarray:
    """A segment of exactly `length` samples: a random crop of a longer clip, a shorter one filled up.

    Args:
      audio: (time,).
      length: samples wanted.
      rng: chooses the crop or the offset.
      place: where a short clip goes. "start": at the start, zeros after it (AudioSep). "random": anywhere, zeros
        around it. "repeat": over and over from a random phase, without gaps.
    """
    if len(audio) == 0:
        raise AudioError("an empty clip cannot be cut into segments; leave it out.")
    spare = len(audio) - length
    if spare >= 0:
        start = int(rng.integers(0, spare, endpoint=True))
        return audio[start : start + length]
    if place == "repeat":
        return np.roll(np.resize(audio, -(-length // len(audio)) * len(audio)), int(rng.integers(len(audio))))[:length]
    start = int(rng.integers(0, -spare, endpoint=True)) if place == "random" else 0
    segment = np.zeros(length, audio.dtype)
    segment[start : start + len(audio)] = audio
    return segment


def _assign(rng: np.random.Generator, blocked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A random partner per row that is not blocked, each used once if possible; and whether one was found."""
    from scipy.optimize import linear_sum_assignment

    rows = np.arange(len(blocked))
    # Blocked pairs cost more than any number of allowed ones, so the cheapest assignment has as few of them as can be.
    cost = rng.random(blocked.shape)
    partner = linear_sum_assignment(cost + blocked * (len(blocked) + 1.0))[1]
    cheapest = np.argmin(np.where(blocked, np.inf, cost), axis=1)
    partner = np.where(blocked[rows, partner], cheapest, partner)
    return partner, ~blocked[rows, partner]


def _energy(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.mean(np.square(x), axis=-1, dtype=np.float64))


def _ratio(energy: np.ndarray, target_energy: np.ndarray) -> np.ndarray:
    return np.clip(np.sqrt(energy / np.maximum(target_energy, ENERGY_FLOOR)), *RATIO_RANGE)


def _decibels(db: np.ndarray) -> np.ndarray:
    return 10.0 ** (np.asarray(db, np.float64) / 20)


def _unit_peak(x: np.ndarray) -> np.ndarray:
    return x / (np.abs(x).max(initial=0.0) or 1.0)
