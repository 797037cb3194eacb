"""`jaxaudio eval`."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from jaxaudio import io
from jaxaudio.cli import show
from jaxaudio.cli.parse import parse
from jaxaudio.errors import MissingError, UsageError
from jaxaudio.metrics.protocol import Trial, pair_trials
from jaxaudio.metrics.separation import aggregate, sdr, si_sdr


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measures a model: a separator on mixtures whose parts are known (SDRi and SI-SDR in dB, overall and per class),
    or a captioner on sounds that people described (BLEU, ROUGE-L, CIDEr-D, and how often it names what is heard).

    jaxaudio eval --model separation-mini --data data/my_sounds --count 200

    jaxaudio eval --model models/audiosep --data AudioSep/evaluation --set audiocaps

    jaxaudio eval --model captioning-mini --data data/open_sounds --split heldout_clips --seconds 4

    jaxaudio eval experiments/separation_mini.py   (the evaluation of a training run, on its best weights)
    """

    file: Annotated[Path | None, tyro.conf.Positional] = None
    """An experiment, to be measured by its own evaluation; instead of --model and --data."""

    model: str | None = None
    """Name of a shipped model, or path of a model's folder."""

    data: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """A CSV file with the columns mixture, target, caption, for captioners file and caption; a data set that
    `jaxaudio data build` made; or the folder of a published test set, named by --set."""

    set: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Published test set: audiocaps, audioset, clotho, esc50, music, vggsound (of AudioSep), dcase2024_t9 or
    voicebank_demand."""

    split: str = "test"
    """Split of a built data set."""

    count: int | None = None
    """Number of mixtures; by default all, or one for each clip."""

    seconds: float = 5.0
    """Length of the mixtures made of a built data set."""

    snr_db: float = 0.0
    """Level of the target in them over the other sound."""

    seed: int = 0
    """Of the mixtures made of a built data set."""

    chunk: Annotated[str, tyro.conf.arg(metavar="auto|off|SECONDS")] = "off"
    """As in jaxaudio separate; the published figures are of one pass."""

    beam: int = 3
    """As in jaxaudio caption."""

    meteor: Annotated[Path | None, tyro.conf.arg(metavar="JAR")] = None
    """Path of meteor-1.5.jar, to measure captions by METEOR too; by default what JAXAUDIO_METEOR_JAR names, if set."""

    spice: Annotated[Path | None, tyro.conf.arg(metavar="JAR")] = None
    """Path of spice-1.0.jar, for SPICE and SPIDEr; by default what JAXAUDIO_SPICE_JAR names, if set."""

    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """JSON file to write, with the figures of every mixture."""

    quiet: bool = False
    """Say nothing but errors."""

    json: bool = False
    """Print the summary as JSON instead of tables."""


def run(words: Sequence[str]) -> int:
    """Runs the verb."""
    options = parse(Evaluate, words, "eval")
    if (options.file is None) == (options.model is None):
        raise UsageError("give an experiment FILE, or --model and --data; jaxaudio eval --help shows examples.")
    record = _of_experiment(options.file) if options.file else _of_model(options)
    record = io.record({"command": show.command("eval", words), **record})
    if options.out:
        with io.Outputs() as outputs:
            outputs.write_json(options.out, record)
    if options.json:
        print(json.dumps({name: value for name, value in record.items() if name != "items"}, indent=2))
    elif not options.quiet:
        _show(record)
    return 0


def score(model: Any, trials: Iterable[Trial], *, chunk: Any = "off", aggregation: Any = "mean") -> dict[str, Any]:
    """AudioSep's protocol: the whole mixture at its own length, the caption as the query.

    Args:
      model: a `jaxaudio.models.Separator`.
      trials: at the model's rate.
      chunk: as `Separator.separate` takes it.
      aggregation: how the set's SDRi is put together, see `jaxaudio.metrics.separation.aggregate`.

    Returns:
      "summary" (means in dB, the set's own "sdri_aggregated", and "wrong_gap", how much worse the query for the other
      sound does, where there is one), "classes" (medians per class) and "items".
    """
    items = []
    for trial in trials:
        queries = [trial.caption, *([trial.other] if trial.other else [])]
        made = model.separate(trial.mixture, queries, sample_rate=model.sample_rate, chunk=chunk)
        right, before = float(sdr(trial.target, made[0])), float(sdr(trial.target, trial.mixture))
        item: dict[str, Any] = {"query": trial.caption, "label": trial.label}
        item |= {"sdri": right - before, "sdr": right, "si_sdr": float(si_sdr(trial.target, made[0]))}
        if trial.other:
            item |= {"other": trial.other, "wrong_gap": right - float(sdr(trial.target, made[1]))}
        items.append(item)
    if not items:
        raise UsageError("there is nothing to measure: the data holds no mixture; check --data and --split.")
    names = ("sdri", "si_sdr", "sdr", "wrong_gap")
    columns = {name: [item[name] for item in items if name in item] for name in names}
    labels = [item["label"] or item["query"] for item in items]
    summary: dict[str, Any] = {"mixtures": len(items)}
    summary |= {name: float(np.mean(values)) for name, values in columns.items() if values}
    summary["sdri_class_median"] = aggregate(columns["sdri"], labels, "median_then_mean")
    summary["sdri_aggregated"] = aggregate(columns["sdri"], labels, aggregation)
    classes = {
        label: {
            "mixtures": sum(one == label for one in labels),
            **{
                name: float(np.median([x for x, one in zip(columns[name], labels) if one == label]))
                for name in ("sdri", "si_sdr")
            },
        }
        for label in sorted(set(labels))
    }
    return {"summary": summary, "classes": classes, "items": items}


def _of_model(options: Evaluate) -> dict[str, Any]:
    if options.data is None:
        raise UsageError("give --data: a CSV file, a built data set, or with --set an evaluation folder.")
    clock = show.Clock()
    model = show.open_model(str(options.model), clock, ("separate", "caption"))
    if hasattr(model, "caption"):
        return _of_captioner(options, options.data, model, clock)
    trials, aggregation = _trials(options, options.data, model.sample_rate)
    with clock.phase("separate"), show.progress("separating", options.quiet) as advance:
        measured = score(model, _counted(trials, options.count, advance), chunk=options.chunk, aggregation=aggregation)
    return {
        "data": {"path": str(options.data), "set": options.set, "split": options.split, "seed": options.seed},
        "chunk": options.chunk,
        "aggregation": aggregation,
        "model": show.describe(model),
        "timings": clock.rounded(),
        **measured,
    }


def _of_captioner(options: Evaluate, data: Path, model: Any, clock: show.Clock) -> dict[str, Any]:
    from jaxaudio.cli.eval_captions import of_captioner

    if options.set is not None:
        raise UsageError(f"{options.set} is a test set for separators; give --data with clips that have captions.")
    made = of_captioner(
        model,
        data,
        split=options.split,
        count=options.count,
        seconds=options.seconds,
        beam=options.beam,
        jars={name: jar for name, jar in (("meteor", options.meteor), ("spice", options.spice)) if jar},
        quiet=options.quiet,
        clock=clock,
    )
    return {
        "data": {"path": str(data), "split": options.split},
        "model": show.describe(model),
        "timings": clock.rounded(),
        **made,
    }


def _counted(trials: Iterable[Trial], count: int | None, advance: Any) -> Iterator[Trial]:
    for done, trial in enumerate(itertools.islice(trials, count)):
        advance(done, count)
        yield trial


def _trials(options: Evaluate, root: Path, rate: int) -> tuple[Iterable[Trial], str]:
    """The mixtures at the model's rate, and the way in which the set's figure is put together."""
    from jaxaudio.data import evaluation

    if options.set in evaluation.AUDIOSEP_SETS:
        return evaluation.audiosep(options.set, root, sample_rate=rate), evaluation.AGGREGATION.get(options.set, "mean")
    others = {"dcase2024_t9": evaluation.dcase2024_t9, "voicebank_demand": evaluation.voicebank_demand}
    if options.set in others:
        return others[options.set](root, sample_rate=rate), "mean"
    if options.set is not None:
        known = ", ".join((*evaluation.AUDIOSEP_SETS, *others))
        raise UsageError(f"there is no test set '{options.set}'; give one of {known}.")
    if root.suffix.lower() == ".csv":
        return evaluation.listed(root, sample_rate=rate), "mean"
    if not root.is_dir():
        raise MissingError(f"there is no data at {root}; give a CSV file or a folder.")
    clips = clips_of(root, options.split)
    made = pair_trials(
        clips,
        clips,
        count=len(clips) if options.count is None else options.count,
        seconds=options.seconds,
        sample_rate=rate,
        snr_db=options.snr_db,
        seed=options.seed,
    )
    return made, "mean"


def clips_of(root: Path, split: str) -> Any:
    """A split of a data set, in either of the two forms that `jaxaudio data build` writes."""
    if (root / f"{split}.int16").exists():
        from jaxaudio.data.open_sounds import read_store

        return read_store(root / split)
    from jaxaudio.data.audio_clips import open_dataset

    splits = open_dataset(root)
    if split not in splits:
        raise UsageError(f"{root} has no split '{split}'; it has {', '.join(splits)}.")
    return splits[split]


def _of_experiment(file: Path) -> dict[str, Any]:
    """The evaluation that an experiment does while it trains, on its best or else its last weights."""
    from jaxaudio.compile_cache import enable_compile_cache

    enable_compile_cache()
    from jaxaudio.train import launch, writers
    from jaxaudio.train.checkpoint import load_params

    experiment = launch.load_experiment(file)
    folders = [Path(experiment.out) / name for name in ("best", "final")]
    weights = next((folder for folder in folders if (folder / "config.json").is_file()), None)
    if weights is None:
        raise MissingError(f"{experiment.out} holds no trained weights; train first: jaxaudio train {file}")
    task = experiment.build(experiment)
    if task.evaluate is None:
        raise UsageError(f"{file} defines no evaluation; measure its weights with --model {weights} --data ...")
    params, config = load_params(weights)
    values = writers.scalars(task.evaluate(params))
    return {"weights": str(weights), "step": config.get("step"), "summary": values}


def _show(record: dict[str, Any]) -> None:
    title = "in dB, except counts"
    if "decoding" in record:
        from jaxaudio.cli.eval_captions import BOUNDS

        settings = ", ".join(f"{name} {value}" for name, value in record["decoding"].items())
        title = f"{BOUNDS}; {settings}"
    show.table(title, ("measure", "value"), list(record["summary"].items()))
    if record.get("not_measured"):
        show.say(record["not_measured"])
    if record.get("classes"):
        rows = [(label, c["mixtures"], c["sdri"], c["si_sdr"]) for label, c in record["classes"].items()]
        show.table("medians per class", ("class", "mixtures", "SDRi, dB", "SI-SDR, dB"), rows)
