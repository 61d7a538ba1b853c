"""The tutorials as Jupyter notebooks, unexecuted: `make notebooks` writes build/notebooks.

They are the site's own pages: nothing is written twice. Files are read by paths that hold for two
folders below the checkout.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat
from myst_nb.core.read import read_myst_markdown_notebook

PAGES = Path(__file__).resolve().parent / "tutorials"


def notebook(page: Path) -> nbformat.NotebookNode:
    """The notebook of a page; what only the site understands becomes plain text."""
    made = read_myst_markdown_notebook(page.read_text(encoding="utf-8"))
    for cell in made.cells:
        if cell.cell_type == "markdown":
            named = re.sub(r"\{\w+\}`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", cell.source)
            cell.source = re.sub(r"\[([^\]]+)\]\([\w./-]+\.md[^)]*\)", r"\1", named)
    return made


def main(folder: Path) -> None:
    """Write every tutorial that has code."""
    folder.mkdir(parents=True, exist_ok=True)
    for page in sorted(PAGES.glob("*.md")):
        if "{code-cell}" in page.read_text(encoding="utf-8"):
            nbformat.write(notebook(page), folder / f"{page.stem}.ipynb")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
