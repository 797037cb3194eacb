"""What every step buys: the published grid of the sampler benchmark.

    python experiments/sampler_steps.py --out runs/sampler_steps
    python experiments/sampler_steps.py --out runs/sampler_steps --systems audioldm-mini --judge concepts-mini \
        --data data/open_sounds

It goes on where it was stopped, and rewrites tables and pictures after every system.
"""

import dataclasses
from pathlib import Path

import tyro

from jaxaudio import benchmark
from jaxaudio.cli import show
from jaxaudio.cli.benchmark import Samplers, setting

SOLVERS = (
    "ddim",
    "dpmpp-2m",
    "dpmpp-3m-exact",
    "dpmpp-3s",
    "unipc",
    "unipc-3",
    "heun",
    "flow-midpoint",
    "flow-rk4",
    "dpmpp-2m-sde",
)
STEPS = (1, 2, 4, 8, 16, 32, 50, 64, 128)
SPACINGS = ("usual", "log-snr", "straight")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure.

    Attributes:
      systems: problems with known answers, and names or folders of models.
      out: folder of the results.
      solvers: names.
      steps: numbers of steps.
      spacings: grids.
      judge: of trained systems: folder of a concept classifier or of a CLAP.
      data: a built data set, for real sounds to compare with.
      items: results that the quality of trained systems is measured over.
      seed: of the noise.
    """

    systems: tuple[str, ...] = ("gaussian", "mixture", "mixture-flow")
    out: Path = Path("runs/sampler_steps")
    solvers: tuple[str, ...] = SOLVERS
    steps: tuple[int, ...] = STEPS
    spacings: tuple[str, ...] = SPACINGS
    judge: str | None = None
    data: Path | None = None
    items: int = 100
    seed: int = 0


def main(options: Options) -> None:
    """Runs one system after the other."""
    for name in options.systems:
        asked = Samplers(system=name, judge=options.judge, data=options.data)
        problem = benchmark.find(name, setting(asked))
        known = problem.exact is not None
        grid = benchmark.Grid(
            solvers=options.solvers,
            steps=options.steps,
            spacings=options.spacings,
            batch=(16 if known else 4,),
        )
        with show.progress(name) as advance:
            items = 1024 if known else options.items
            benchmark.run(problem, grid, options.out, items=items, seed=options.seed, advance=advance)
        for path in benchmark.write_report(options.out):
            print(path)
        for line in benchmark.claims(benchmark.read(options.out)):
            print(line)


if __name__ == "__main__":
    main(tyro.cli(Options))
