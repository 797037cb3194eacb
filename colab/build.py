"""Makes the notebooks from the percent scripts beside this file, which are what to edit.

    python colab/build.py

The result depends on the scripts alone: cells are numbered, outputs are left out.
"""

import sys
from pathlib import Path

HERE = Path(__file__).parent

METADATA = {
    "accelerator": "GPU",
    "colab": {"gpuType": "T4", "provenance": [], "toc_visible": True},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def scripts() -> list[Path]:
    """The percent scripts."""
    return [path for path in sorted(HERE.glob("*.py")) if path.name != Path(__file__).name]


def notebook(script: Path) -> str:
    """The notebook of a script, as the text of an `.ipynb` file."""
    import jupytext
    import nbformat

    read = jupytext.reads(script.read_text(encoding="utf-8"), fmt="py:percent")
    cells = []
    for number, cell in enumerate(read.cells, 1):
        make = nbformat.v4.new_markdown_cell if cell.cell_type == "markdown" else nbformat.v4.new_code_cell
        cells.append(make(cell.source, id=f"{script.stem}-{number:02d}"))
    made = nbformat.v4.new_notebook(cells=cells, metadata=METADATA, nbformat_minor=5)
    nbformat.validate(made)
    return nbformat.writes(made, indent=1, sort_keys=True, ensure_ascii=False).rstrip("\n") + "\n"


def main() -> int:
    """Writes every notebook."""
    for script in scripts():
        script.with_suffix(".ipynb").write_text(notebook(script), encoding="utf-8")
        print(script.with_suffix(".ipynb").name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
