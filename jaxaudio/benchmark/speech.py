"""Speech codecs whose decoder samples: how much of what was said is left after so many steps."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import Array

from jaxaudio.benchmark.problems import Inputs, Params, Predict, Problem, Scores, Setting, flow_schedule
from jaxaudio.data.clips import Clip
from jaxaudio.data.mixing import resample, to_mono
from jaxaudio.errors import MissingError
from jaxaudio.models.systems import in_dtype

_SECONDS = 3.0


def of_sitok(name: str, params: Params, config: Any, setting: Setting, guidance: float = 1.0) -> Problem:
    """A SiTok, by the pure functions of `systems.sitok`: the tokens of recordings become spectrograms again.

    Figures are "mel", the mean absolute difference of natural log-mels, and, where a recogniser is installed and the
    recordings are English, "wer", its word error rate in percent against what was said.
    """
    from jaxaudio.systems import sitok

    rate, token = config.sample_rate, config.stack
    tokens = round((setting.seconds or _SECONDS) * config.token_rate)
    samples = tokens * token * config.front_end.hop
    clips = setting.clips or _demo()
    sounds = [_cut(resample(to_mono(clip.audio), clip.sample_rate, rate), samples) for clip in clips]
    lengths = np.array([min(samples, len(clip.audio) * rate // clip.sample_rate) for clip in clips])
    frames = -(-lengths // config.front_end.hop)

    @jax.jit
    def listen(waves: Array, frames: Array) -> tuple[Array, Array]:
        mel = sitok.mel(config, waves)
        return mel, sitok.encode(params, config, mel, frames)

    mels, codes = (np.asarray(x) for x in listen(np.stack(sounds), frames))

    def predict(params: Params, inputs: Inputs, guidance: float, dtype: str) -> Predict:
        return sitok.predictor(params, in_dtype(config, dtype), inputs["codes"], inputs["mask"], guidance)

    def inputs(items: np.ndarray) -> Inputs:
        rows = items % len(clips)
        return {"codes": codes[rows], "mask": np.arange(tokens * token) < frames[rows][:, None]}

    return Problem(
        name,
        (tokens * token, config.front_end.n_mels),
        flow_schedule,
        predict,
        "velocity",
        params=params,
        inputs=inputs,
        guidance=guidance,
        told_steps=config.steps,
        reference_steps=250,
        asked=setting.digest(),
        judged=_judged(params, config, clips, mels, frames),
    )


def _judged(
    params: Params, config: Any, clips: Sequence[Clip], mels: np.ndarray, frames: np.ndarray
) -> Callable[[np.ndarray, np.ndarray], Scores]:
    from jaxaudio.metrics import speech
    from jaxaudio.metrics.wer import edits
    from jaxaudio.systems import sitok

    speak = jax.jit(lambda mel: sitok.waveform(params, config, mel))
    try:
        hear = speech.recogniser() if config.vocoder is not None and config.sample_rate == speech.RATE else None
    except MissingError:
        hear = None

    def judged(states: Any, items: np.ndarray) -> Scores:
        if not np.all(np.isfinite(states)):
            return {}
        away, errors, words = [], 0, 0
        for state, row in zip(states, items % len(clips), strict=True):
            clip, real = clips[row], int(frames[row])
            away.append(np.mean(np.abs(state[:real] - mels[row, :real])) * config.variance**0.5)
            whole = real * config.front_end.hop + 1 > len(clip.audio) * config.sample_rate / clip.sample_rate
            if hear is not None and whole and clip.captions and clip.labels[1:2] in ((), ("en",)):
                made = np.asarray(speak(state[None]))[0, : real * config.front_end.hop]
                said = speech.words(clip.captions[0])
                errors += edits(said, speech.words(hear(np.clip(made, -1, 1)))).distance
                words += len(said)
        return {"mel": float(np.mean(away))} | ({"wer": 100 * errors / words} if words else {})

    return judged


def _cut(sound: np.ndarray, samples: int) -> np.ndarray:
    sound = np.asarray(sound, np.float32)[:samples]
    return np.pad(sound, (0, samples - len(sound)))


def _demo() -> list[Clip]:
    """The sentence that comes with the package."""
    from jaxaudio import io
    from jaxaudio.models.registry import ASSETS

    sound = io.read(ASSETS / "demo" / "speech.flac")
    return [Clip(id="speech", audio=to_mono(sound.samples), sample_rate=sound.sample_rate, captions=())]
