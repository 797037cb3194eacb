"""What the documentation shows works: its commands parse, its code fits the library, its links lead somewhere."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path

import pytest

from jaxaudio import cli, models
from jaxaudio.train import launch

ROOT = Path(__file__).parents[2]
HOME = "https://github.com/jaxaudio/jaxaudio"
PAGES = sorted([*(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md")])
SOURCES = [*PAGES, *(ROOT / "colab").glob("*"), ROOT / "mkdocs.yml"]

_FENCE = re.compile(r"(<!-- run -->\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)


def blocks(page: Path, *languages: str) -> list[tuple[str, bool]]:
    """Fenced blocks in some languages, and whether they are marked to be run."""
    found = _FENCE.findall(page.read_text(encoding="utf-8"))
    return [(text, bool(mark)) for mark, language, text in found if language in languages]


def commands() -> list[list[str]]:
    """Every `jaxaudio ...` command line in a shell block, as words."""
    found = []
    for page in PAGES:
        for text, _ in blocks(page, "sh", "bash", "console", "shell"):
            for line in text.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|;", line.removeprefix("$ ")):
                    words = shlex.split(part, comments=True)
                    while words and re.fullmatch(r"\w+=.*", words[0]):
                        words = words[1:]
                    if words[:1] == ["jaxaudio"]:
                        found.append(words[1:])
    return found


class _Parsed(Exception):
    pass


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_parse(words, monkeypatch, capsys):
    def stop_after(parse):
        def stopped(*args):
            parse(*args)
            raise _Parsed

        return stopped

    def train(file, overrides, quiet):
        launch.override(launch.load_experiment(file), overrides)
        raise _Parsed

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(launch, "run", train)
    verb, *rest = words
    if verb == "--version":
        return
    assert verb in cli.VERBS
    module = importlib.import_module(f"jaxaudio.cli.{verb}")
    if hasattr(module, "parse"):
        monkeypatch.setattr(module, "parse", stop_after(module.parse))
    with pytest.raises((_Parsed, SystemExit)) as end:
        module.run(rest)
    assert end.type is _Parsed or (end.value.code or 0) == 0  # --help leaves with 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_fits_the_library(page):
    for text, _ in blocks(page, "python", "py"):
        check_names(ast.parse(text))


@pytest.mark.parametrize("page", [page for page in PAGES if any(run for _, run in blocks(page, "python"))], ids=str)
def test_marked_python_runs(page):
    space = {}
    for text, run in blocks(page, "python"):
        if run:
            exec(compile(text, page.name, "exec"), space)


def test_the_experiment_in_the_docs_loads(tmp_path):
    (text,) = (text for text, _ in blocks(ROOT / "docs" / "training.md", "python") if "EXPERIMENT =" in text)
    (tmp_path / "mine.py").write_text(text)
    experiment = launch.override(launch.load_experiment(tmp_path / "mine.py"), ["--data.root", "elsewhere"])
    assert (experiment.data.root, experiment.steps) == ("elsewhere", 5000)


BUNDLES = {"model": "Separator", "writer": "SoundLM"}
"""What goes by which name on the pages."""


def check_names(tree: ast.Module) -> None:
    """Fails where code imports or calls what jaxaudio does not have, or passes a keyword that it does not take."""
    space = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom) and "jaxaudio" in ast.unparse(node):
            exec(ast.unparse(node), space)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        base = node.func
        while isinstance(base, ast.Attribute):
            base = base.value
        if isinstance(base, ast.Name) and base.id in space:
            check_keywords(eval(ast.unparse(node.func), space), node)
        elif isinstance(node.func, ast.Attribute) and ast.unparse(base) in BUNDLES:
            bundle = getattr(models, BUNDLES[ast.unparse(base)])
            check_keywords(getattr(bundle, node.func.attr), node)


def check_keywords(function: object, call: ast.Call) -> None:
    known = inspect.signature(function).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in known.values()):
        assert {word.arg for word in call.keywords} <= known.keys(), ast.unparse(call)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if path.startswith(HOME):
            path = re.sub(rf"{HOME}(/(blob|tree)/main)?/?", "", path)
            target = ROOT / path
        elif "://" in path:
            continue
        else:
            target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r": (\w+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    assert listed == {path.name for path in (ROOT / "docs").glob("*.md")}


def test_the_reference_names_what_there_is():
    page = (ROOT / "docs" / "api.md").read_text()
    for module, members in re.findall(r"^::: ([\w.]+)(?:\n    options: \{members: \[(.*)\]\})?", page, re.M):
        home = importlib.import_module(module)
        for name in filter(None, members.split(", ")):
            assert hasattr(home, name), f"{module}.{name}"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_no_machine_paths(source):
    if source.is_file():
        text = source.read_text(encoding="utf-8")
        assert not re.search(r"(?<![\w.:/])/(work|tmp|home|root|mnt|usr)/", text)
