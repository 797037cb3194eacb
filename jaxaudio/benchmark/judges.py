"""Who says how good sounds are: embeddings of real sounds to be near to, and agreement with what was asked for."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxaudio.data.mixing import cut, resample, to_mono
from jaxaudio.errors import UsageError
from jaxaudio.metrics import agreement, concepts, frechet


class Judge(NamedTuple):
    """An embedding, and what it says.

    Attributes:
      name: of the embedding, in the names of the figures.
      rate: samples per second that it hears.
      embed: (items, time) -> (items, width).
      agree: (embeddings, what was asked for) -> figures; none where it knows no words.
      labels: what it can be asked about; empty for anything.
      real: moments of the embeddings of real sounds; None without any.
    """

    name: str
    rate: int
    embed: Callable[[np.ndarray], np.ndarray]
    agree: Callable[[np.ndarray, Sequence[str]], dict[str, float]]
    labels: tuple[str, ...] = ()
    real: frechet.Moments | None = None

    def scores(self, audio: np.ndarray, rate: int, asked: Sequence[str]) -> dict[str, float]:
        """Figures for (items, time) at `rate`: distance to the real sounds, and agreement with what was asked for."""
        heard = np.stack([resample(x, rate, self.rate) for x in audio])
        embedded = self.embed(heard)
        found = {f"{name}/{self.name}": value for name, value in self.agree(embedded, asked).items()}
        if self.real is not None and len(embedded) > 1:
            found[f"frechet/{self.name}"] = frechet.between(frechet.moments(embedded), self.real)
        return found


def classifier(folder: str | Path, name: str = "concepts-mini") -> Judge:
    """The judge that `metrics.concepts` loads: the share of sounds it names as asked, and the mean probability."""
    params, config = concepts.load(folder)
    head = params["params"]["logits"]

    @jax.jit
    def one(waveform: jax.Array) -> jax.Array:
        return concepts.embed(params, config, concepts.log_mels(config, waveform))

    def embed(audio: np.ndarray) -> np.ndarray:
        return _by(16, one, audio)

    def agree(embedded: np.ndarray, asked: Sequence[str]) -> dict[str, float]:
        # Prompts that are none of its labels are not its business.
        rows = [i for i, label in enumerate(asked) if label in config.labels]
        if not rows:
            return {}
        logits = embedded[rows] @ head["kernel"] + head["bias"]
        probability, right = agreement.named(logits, concepts.named(config, [asked[i] for i in rows]))
        return {"agreement": float(np.mean(probability)), "named": float(np.mean(right))}

    return Judge(name, config.mel.sample_rate, embed, agree, config.labels)


def clap(model: Any) -> Judge:
    """A CLAP, as `jaxaudio.load` gives it: the mean cosine between a sound and its sentence."""

    def embed(audio: np.ndarray) -> np.ndarray:
        return np.stack([model.embed_audio(x, sample_rate=model.sample_rate) for x in audio])

    def agree(embedded: np.ndarray, asked: Sequence[str]) -> dict[str, float]:
        return {"agreement": float(np.mean(agreement.cosines(model.embed(list(asked)), embedded)))}

    return Judge(model.name, model.sample_rate, embed, agree)


def open_judge(name: str) -> Judge:
    """The concept classifier or the CLAP of this name, shipped or in a folder.

    Raises:
      MissingError: there is none.
      UsageError: a model of another kind.
    """
    from jaxaudio.models.registry import ASSETS

    folder = ASSETS / name if (ASSETS / name / "config.json").is_file() else Path(name)
    file = folder / "config.json"
    if file.is_file() and '"labels"' in file.read_text(encoding="utf-8", errors="replace"):
        return classifier(folder, folder.name)
    import jaxaudio

    model = jaxaudio.load(name)
    if model.card.system != "clap":
        raise UsageError(f"{name} is a model of {model.card.system}, which cannot judge; give a classifier or a CLAP.")
    return clap(model)


def with_real(judge: Judge, clips: Any, *, seconds: float, count: int = 500, seed: int = 0) -> Judge:
    """The judge, told how real sounds look to it.

    Args:
      judge: as made above.
      clips: `len` and `[index] -> Clip`; where the judge has labels, only clips of those are used, as many of each.
      seconds: length of the sounds that will be compared.
      count: most clips that are taken.
      seed: of the choice.

    Raises:
      UsageError: fewer than two clips are of its labels.
    """
    rng = np.random.default_rng(seed)
    chosen: dict[str, list[int]] = {}
    for i in rng.permutation(len(clips)):
        label = (clips[int(i)].labels or ("",))[0]
        if not judge.labels or label in judge.labels:
            chosen.setdefault(label if judge.labels else "", []).append(int(i))
    most = -(-count // max(len(chosen), 1))
    rows = [i for own in chosen.values() for i in own[:most]]
    if len(rows) < 2:
        raise UsageError(f"the real clips hold nothing that {judge.name} knows; give --data with clips of its labels.")
    sounds = []
    for i in rows:
        clip = clips[i]
        audio = resample(to_mono(clip.audio), clip.sample_rate, judge.rate)
        sounds.append(cut(audio, round(seconds * judge.rate), rng, "random"))
    return judge._replace(real=frechet.moments(judge.embed(np.stack(sounds))))


def _by(rows: int, apply: Callable[[Any], Any], audio: np.ndarray) -> np.ndarray:
    """Applies a compiled function to batches of one size."""
    found = []
    for i in range(0, len(audio), rows):
        part = audio[i : i + rows]
        full = np.concatenate([part, np.repeat(part[-1:], rows - len(part), 0)]) if len(part) < rows else part
        found.append(np.asarray(apply(full))[: len(part)])
    return np.concatenate(found)
