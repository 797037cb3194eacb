# %% [markdown]
# # What every step buys
#
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/jaxaudio/jaxaudio/blob/main/colab/sampler_steps.ipynb)
#
# Which solver, with how many evaluations of the network, comes how close to the exact answer, and at which
# latency? First on problems whose answer is known, then on a model that makes sound from words. Nothing is
# downloaded but the library. Runs on a GPU, a TPU or a CPU: *Runtime > Run all*.

# %%
# @title Install, and look at the machine (about a minute on Colab)
import os
import subprocess
import sys
from importlib.metadata import version

IN_COLAB = "google.colab" in sys.modules
SMALL = os.environ.get("JAXAUDIO_SMALL") == "1"  # few cells, as the tests want it
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # read when JAX first looks for devices

if IN_COLAB:
    # JAX is named with the version that is here, so that nothing can replace it: it fits this machine's drivers.
    own = [f"{name}=={version(name)}" for name in ("jax", "jaxlib")]
    source = "jaxaudio @ git+https://github.com/jaxaudio/jaxaudio"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *own, source], check=True)

import jax

for name in ("jaxaudio", "jax", "jaxlib", "flax", "numpy"):
    print(name, version(name))
print("devices:", *jax.devices())
if IN_COLAB and jax.default_backend() == "cpu":
    assert not os.path.exists("/dev/nvidia0"), "JAX does not see this machine's GPU: Runtime > Restart session"
    print("This is a CPU, which works, slowly. For more: Runtime > Change runtime type > T4 GPU or TPU, then Run all.")

# %% [markdown]
# ## A problem whose answer is known
#
# Where the data are a mixture of two normals the best network has a closed form, and the exact solution of the
# diffusion equation can be had to any precision. So an error is an error of the solver, and of nothing else. Each
# cell of the grid is compiled ahead of time, and all solvers of one number of steps are timed in turns.

# %%
import tempfile
from pathlib import Path

from IPython.display import Image, Markdown, display
from jaxaudio import benchmark
from jaxaudio.benchmark import Grid

FOLDER = Path(tempfile.mkdtemp(prefix="jaxaudio-"))  # for what this notebook writes

mixture = benchmark.find("mixture")
grid = Grid(
    solvers=("ddim", "unipc", "flow-midpoint") if SMALL else ("ddim", "dpmpp-2m", "unipc", "unipc-3", "flow-midpoint"),
    steps=(4, 8, 50) if SMALL else (1, 2, 4, 8, 16, 32, 50),
    spacings=("straight",) if SMALL else ("usual", "log-snr", "straight"),
    batch=(16,),
)
rows = benchmark.run(mixture, grid, FOLDER / "known", items=256 if SMALL else 1024, rounds=3)
print(f"{len(rows)} cells, {sum(row['status'] == 'ok' for row in rows)} of them defined")
for line in benchmark.claims(rows):
    print(line)

# %%
for path in benchmark.write_report(FOLDER / "known"):
    if path.suffix == ".png":
        display(Image(path, width=900))

# %% [markdown]
# Every cell is a line of `cells.jsonl`. Ask again, and what is there is not run again: a session that ends loses
# nothing but the cells under way.

# %%
again = benchmark.run(mixture, grid, FOLDER / "known", items=256 if SMALL else 1024, rounds=3)
assert again == rows
display(Markdown(benchmark.report.best_table(benchmark.best_at(rows))))

# %% [markdown]
# ## A model
#
# A trained network is neither perfect nor smooth. Its solvers are compared with the model's own solution in 1,000
# steps from the same noise. With a judge, an embedding that is told how real sounds look, there would be two more
# figures: the Frechet distance to real sounds, and the agreement with what was asked for.

# %%
MODEL = "audioldm-mini"  # @param {type: "string"}

from jaxaudio.models.registry import shipped

if MODEL in shipped() or Path(MODEL).exists():
    problem = benchmark.find(MODEL, benchmark.Setting(prompts=("rain", "a dog barking", "a piano playing")))
    if SMALL:
        problem = problem._replace(reference_steps=20)
    grid = Grid(
        solvers=("ddim", "unipc") if SMALL else ("ddim", "dpmpp-2m", "unipc", "flow-midpoint"),
        steps=(2,) if SMALL else (2, 4, 8, 16, 32),
        spacings=("log-snr",) if SMALL else ("usual", "log-snr", "straight"),
        batch=(2,),
    )
    found = benchmark.run(problem, grid, FOLDER / "model", items=2 if SMALL else 8, rounds=1 if SMALL else 5)
    for path in benchmark.write_report(FOLDER / "model"):
        if path.suffix == ".png":
            display(Image(path, width=900))
    display(Markdown(benchmark.report.best_table(benchmark.best_at(found))))
else:
    print(f"{MODEL} is not part of this installation: the ones that are are {', '.join(shipped())}")

# %% [markdown]
# ## A solver of your own
#
# A solver is a function from a schedule to a table of coefficients. One line makes it known to the benchmark.

# %%
from jaxaudio import samplers
from jaxaudio.samplers.plan import Row, assemble
from jaxaudio.samplers.solvers import Solver


def euler(schedule):
    """Euler in sigma / alpha, written about the data: DDIM in other words, on another grid."""
    lines = []
    for k in range(schedule.steps):
        here, there = schedule.level(k), schedule.level(k + 1)
        kept = there.sigma / here.sigma
        lines.append(Row(here, {"x": {"x": kept, "m": there.alpha - kept * here.alpha}}))
    return assemble(schedule, "x0", lines)


samplers.SOLVERS["mine"] = Solver(euler, ("vp", "edm", "flow"), 1, "S", {"spacing": "trailing"})
few = Grid(solvers=("mine", "ddim"), steps=(8,), batch=(16,))
for row in benchmark.run(mixture, few, FOLDER / "mine", items=64, rounds=1):
    print(f"{row['solver']}: error {row['quality']['error']:.3f} with {row['nfe']} evaluations")

# %% [markdown]
# ## Further
#
# - [The benchmark](https://github.com/jaxaudio/jaxaudio/blob/main/docs/benchmark.md): the command line, every
#   column, what the measurements say.
# - [Samplers](https://github.com/jaxaudio/jaxaudio/blob/main/docs/samplers.md): schedules, solvers, guidance.
