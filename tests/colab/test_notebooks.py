"""The committed notebooks are those of their scripts, and run from top to bottom."""

import importlib.util
import os
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

COLAB = Path(__file__).parents[2] / "colab"


def _build():
    spec = importlib.util.spec_from_file_location("colab_build", COLAB / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _separation(said, kinds):
    assert "3 recordings on 2 device(s)" in said
    first, last = map(float, re.search(r"loss (-?[\d.]+) -> (-?[\d.]+) dB", said).groups())
    assert last < first
    assert kinds.count("text/html") >= 8  # players
    assert kinds.count("image/png") >= 4  # spectrograms and the loss


def _sampler_steps(said, kinds):
    assert "9 cells, 9 of them defined" in said
    assert re.search(r"mixture: .* with 8 evaluations, .* beats DDIM with 50", said)
    assert re.search(r"mine: error 0\.\d+ with 8 evaluations", said)
    assert kinds.count("image/png") >= 2
    assert kinds.count("text/markdown") >= 1


def _text_to_audio(said, kinds):
    assert "2 prompts, 2 sounds each, on 2 device(s)" in said
    assert "10.24 s asked 10.24 s" in said
    assert "upsampled from 8000 to 16000 Hz: 10240 samples become 20480" in said
    assert "waveforms (2, 20480), latents on the way (5, 2, " in said
    assert re.search(r"after the span there is [\d.e-]+\n", said)
    assert kinds.count("text/html") >= 15  # players
    assert kinds.count("image/png") >= 7  # spectrograms


def _codecs(said, kinds):
    assert "33.3333 tokens/s, 817 bit/s" in said and "32000 samples, 32000 back" in said
    assert "shape (channels, tracks, frames, books): (1, 1, 67, 1)" in said
    assert float(re.search(r"equal to those of the whole: (\d+)%", said)[1]) >= 95
    assert "50 tokens/s, 500 bit/s" in said
    assert all(1 < float(figure) < 3 for figure in re.findall(r"in [12] step\(s\), mel distance ([\d.]+)", said))
    mixed, masked = map(float, re.search(r"speech: (-?[\d.]+) dB in the mixture, (-?[\d.]+) dB by", said).groups())
    assert masked > mixed + 0.3  # a made-up chord, unlike the music that it learnt from; 0.7 on one machine
    assert "3 recordings on 2 device(s): (3, 67, 1)" in said
    before, after = map(float, re.search(r"mel distance ([\d.]+) -> ([\d.]+) after 20", said).groups())
    assert after < before
    assert kinds.count("text/html") >= 8  # players
    assert kinds.count("image/png") >= 1


def _captioning(said, kinds):
    assert all(f"{name}: " in said for name in ("rain", "siren", "owl", "clock", "piano"))
    assert int(re.search(r"(\d+) different sentences", said)[1]) > 1
    assert "an owl hooting: owl +" in said and "a clock ticking: clock +" in said  # found first
    assert "3 recordings on 2 device(s): tokens (4, 3, 20)" in said
    mine = re.search(r"mine: (.*)", said)[1].split("; ")
    right = sum(kind in text for kind, text in zip(("hum", "whistle", "hiss") * 2, mine, strict=True))
    assert right >= 5, mine
    assert kinds.count("text/html") >= 4  # players
    assert kinds.count("image/png") >= 1


WHAT_IT_SHOWS = {
    "captioning": _captioning,
    "codecs": _codecs,
    "separation": _separation,
    "sampler_steps": _sampler_steps,
    "text_to_audio": _text_to_audio,
}
BUILD = _build()
SCRIPTS = BUILD.scripts()


def test_every_notebook_has_a_script():
    assert {path.stem for path in COLAB.glob("*.ipynb")} == {path.stem for path in SCRIPTS} == set(WHAT_IT_SHOWS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_committed_is_generated(script):
    assert script.with_suffix(".ipynb").read_text(encoding="utf-8") == BUILD.notebook(script), "run colab/build.py"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_notebook_is_clean(script):
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    badge = re.search(
        r"colab\.research\.google\.com/github/jaxaudio/jaxaudio/blob/main/(\S+?)\)", notebook.cells[0].source
    )
    assert badge and COLAB.parent / badge[1] == script.with_suffix(".ipynb")
    setup = code[0].source
    assert "print(name, version(name))" in setup and "jax.devices()" in setup and "Change runtime type" in setup
    for cell in code:  # what belongs to Colab is guarded, and nothing is installed elsewhere
        assert not re.search(r"^[!%]", cell.source, re.M)
        for line in re.findall(r"^(.*(?:import files|pip|google\.colab import).*)$", cell.source, re.M):
            assert line.startswith("    "), line


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_notebook_runs(script, tmp_path):
    notebook = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
    environment = {
        **{name: value for name, value in os.environ.items() if name != "MPLBACKEND"},  # the kernel has its own
        "JAXAUDIO_SMALL": "1",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(COLAB.parent), os.environ.get("PYTHONPATH")])),
        "TMPDIR": str(tmp_path),
        "XLA_FLAGS": (  # the suite's own, see conftest, and two devices, so that three recordings are an uneven batch
            f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
        ),
    }
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=environment)
    said = "".join(
        output.text
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )
    shown = [o for cell in notebook.cells if cell.cell_type == "code" for o in cell.outputs if "data" in o]
    WHAT_IT_SHOWS[script.stem](said, [kind for output in shown for kind in output.data])
