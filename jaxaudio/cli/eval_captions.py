"""The part of `jaxaudio eval` that measures captioners."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxaudio.cli import show
from jaxaudio.errors import MissingError, UsageError

BOUNDS = "BLEU, ROUGE-L, METEOR, SPICE and rates in [0, 1], CIDEr-D in [0, 10], SPIDEr in [0, 5.5]"


def of_captioner(
    model: Any,
    data: Path,
    *,
    split: str,
    count: int | None,
    seconds: float,
    beam: int,
    quiet: bool,
    clock: show.Clock,
    jars: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Scores of what a captioner says of sounds that have captions.

    Args:
      model: a `jaxaudio.models.Captioner`.
      data: a CSV file as `data.evaluation.captioned` reads it, or a data set that `jaxaudio data build` made. Where all
        clips of the latter have labels, those are asked for too, in single clips and in half as many mixtures of two.
      split: of the data set.
      count: clips to measure; all by default.
      seconds: length of the clips of a data set with labels.
      beam: see `Captioner.captions`.
      quiet: show no progress.
      clock: of the verb.
      jars: see `metrics.java.measure`.

    Returns:
      "summary", "decoding" and "items", and "not_measured", a line, where a score lacks its program.

    Raises:
      MissingError: there is no such data, or no such jar.
      UsageError: it has no captions.
    """
    from jaxaudio.data import evaluation
    from jaxaudio.metrics import java

    for name, jar in (jars or {}).items():
        java.find(name, jar)  # before all is captioned

    def measured(heard: Sequence[np.ndarray], references: Sequence[Iterable[str]]) -> dict[str, Any]:
        return _measured(model, heard, references, beam, quiet, clock, jars)

    if data.suffix.lower() == ".csv":
        listed = evaluation.captioned(data)
        heard = [model.hear(audio, sample_rate=rate) for audio, rate, _ in listed[:count]]
        return measured(heard, [captions for *_, captions in listed[:count]])
    if not data.is_dir():
        raise MissingError(f"there is no data at {data}; give a CSV file or a folder.")
    from jaxaudio.cli.eval import clips_of

    clips = clips_of(data, split)
    if len(clips) and all(clips[i].labels and clips[i].captions for i in range(len(clips))):
        return _of_concepts(model, clips, count, seconds, beam, quiet, clock, measured)
    chosen = [clip for clip in (clips[i] for i in range(len(clips))) if clip.captions][:count]
    heard = [model.hear(clip.audio, sample_rate=clip.sample_rate) for clip in chosen]
    return measured(heard, [clip.captions for clip in chosen])


def _of_concepts(
    model: Any,
    clips: Any,
    count: int | None,
    seconds: float,
    beam: int,
    quiet: bool,
    clock: show.Clock,
    measured: Callable[[Sequence[np.ndarray], Sequence[Iterable[str]]], dict[str, Any]],
) -> dict[str, Any]:
    """Of clips whose concepts are known: as above, and how often they are named."""
    from jaxaudio.data.described import DescribedConfig
    from jaxaudio.metrics.naming import Names, naming_rate
    from jaxaudio.train.captioning import Judged, phrases

    known = phrases(clips)
    names, config = Names(known), DescribedConfig(sample_rate=model.sample_rate, seconds=seconds)
    judged = Judged(clips, names, config, len(clips) if count is None else count, set(known) & set(model.tags) or None)
    (single, labels), (mixed, both) = judged.single, judged.pairs
    heard = [model.hear(x, sample_rate=model.sample_rate) for x in single]
    made = measured(heard, judged.captions)
    made["summary"] |= {"concepts": len({own[0][0] for own in labels})}
    made["summary"] |= {"named": naming_rate(names, [item["caption"] for item in made["items"]], labels)}
    made["summary"] |= {"mixtures": len(both)}
    if both:
        pairs = [model.hear(x, sample_rate=model.sample_rate) for x in mixed]
        with clock.phase("caption"), show.progress("mixtures of two", quiet) as advance:
            said = [own[0].text for own in model.describe(pairs, beam=beam, progress=advance)]
        made["summary"] |= {"both_named": naming_rate(names, said, both)}
    if model.tags:
        best = model.tag_probabilities(heard).argmax(-1)
        right = [model.tags[i] in own[0] for i, own in zip(best, labels, strict=True)]
        made["summary"] |= {"tagged": float(np.mean(right))}
    made["items"] = [item | {"labels": list(own[0])} for item, own in zip(made["items"], labels, strict=True)]
    return made


def _measured(
    model: Any,
    heard: Sequence[np.ndarray],
    references: Sequence[Iterable[str]],
    beam: int,
    quiet: bool,
    clock: show.Clock,
    jars: Mapping[str, Path] | None,
) -> dict[str, Any]:
    from jaxaudio.metrics import captions, java
    from jaxaudio.text.vocabulary import words_of

    if not heard:
        raise UsageError(
            "there is nothing to measure: the data holds no clip with a caption; check --data and --split."
        )
    with clock.phase("caption"), show.progress("captioning", quiet) as advance:
        said = [own[0] for own in model.describe(heard, beam=beam, progress=advance)]
    told = [[" ".join(words_of(text)) for text in own] for own in references]
    texts = [one.text for one in said]
    scores = captions.scores(texts, told)
    with clock.phase("java"):
        more = java.measure(texts, told, scores.each["cider_d"], jars=jars)
    summary: dict[str, Any] = {"clips": len(heard)}
    summary |= {f"bleu_{n}": value for n, value in enumerate(scores.bleu, 1)}
    summary |= {"rouge_l": scores.rouge_l, "cider_d": scores.cider_d} | more.scores
    summary |= captions.diversity(texts)
    items = [
        {"caption": one.text, "score": one.score, "references": own, "cider_d": float(cider)}
        for one, own, cider in zip(said, told, scores.each["cider_d"], strict=True)
    ]
    items = [item | {name: float(x[i]) for name, x in more.each.items()} for i, item in enumerate(items)]
    made = {"summary": summary, "decoding": {"beam": beam}, "items": items}
    return made | ({"not_measured": more.missing} if more.missing else {})
