"""The site without Sphinx: every page is reached, every link leads somewhere, every name is there.

The slow test builds it, which executes its pages and makes any warning an error.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GALLERY, FIGURES = DOCS / "gallery", DOCS / "figures"  # scripts, and what the build makes of them
PAGES = sorted(
    page
    for page in DOCS.rglob("*")
    if page.suffix in (".md", ".rst") and not {GALLERY, FIGURES} & set(page.parents)
)
FENCE = re.compile(r"^(`{3,}|~{3,}|:{3,})(.*?)\n(.*?)^\1\s*$", re.S | re.M)
SPEC = importlib.util.spec_from_file_location("versions", DOCS / "versions.py")
assert SPEC is not None and SPEC.loader is not None
versions = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(versions)
PUBLIC = ("crossbar", "devices", "devices.presets", "crossbar.spiking", "crossbar.costs")


def text(page: Path) -> str:
    """A page without its code."""
    said = page.read_text()
    return re.sub(
        r"^(```+)(\{code-cell\}|python|text|toml|console).*?^\1", "", said, flags=re.S | re.M
    )


def children(page: Path) -> list[Path]:
    """The pages in the toctrees of a page."""
    found = []
    for _, head, body in FENCE.findall(page.read_text()):
        if head.strip() == "{toctree}":
            entries = [line for line in body.splitlines() if line and not line.startswith(":")]
            found += [(page.parent / entry.split("<")[-1].rstrip(">")) for entry in entries]
    return [named(entry) for entry in found if FIGURES not in entry.parents]


def named(entry: Path) -> Path:
    """The file of a document's name."""
    for suffix in ("", ".md", ".rst"):
        path = entry.with_name(entry.name + suffix)
        if path.is_file():
            return path.resolve()
    raise AssertionError(f"{entry.relative_to(DOCS)} is no page")


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub and MyST make it."""
    plain = re.sub(r"[`*]|\{\w+\}", "", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def test_every_page_is_reached_from_the_front_page_once() -> None:
    reached, waiting = [], [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        reached.append(page)
        waiting += children(page)
    assert sorted(reached) == PAGES


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda p: p.name)
def test_every_internal_link_leads_somewhere(page: Path) -> None:
    said = text(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", said):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{target} of {page.name}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(), re.M)
            assert anchor in [slug(h) for h in headings], f"{target} of {page.name}"
    for target in re.findall(r"\{doc\}`(?:[^<`]*<)?([^>`]+)>?`|:doc:`([^`]+)`", said):
        entry = next(filter(None, target))
        named(DOCS / entry[1:] if entry.startswith("/") else page.parent / entry)
    for entry in re.findall(r"^:link: (\S+)$", said, re.M):
        named(page.parent / entry)


def documented() -> list[str]:
    """Every name of the reference pages."""
    found = []
    for page in (DOCS / "reference").glob("*.rst"):
        body = page.read_text()
        for home, names in re.findall(r"^\.\. api:: (\S+)\n((?:\n|   .*\n)*)", body + "\n", re.M):
            found += [f"{home}.{name}" for name in names.replace(":bare:", "").split()]
    return found


def test_the_reference_has_every_public_name_once() -> None:
    names = documented()
    assert len(names) == len(set(names))
    for home in PUBLIC:
        source = Path(importlib.import_module(home).__file__ or "").read_text()
        imported = [node for node in ast.parse(source).body if isinstance(node, ast.ImportFrom)]
        public = {alias.asname for node in imported for alias in node.names if alias.asname}
        shown = {n for n in public if not isinstance(getattr(sys.modules[home], n), ModuleType)}
        assert {f"{home}.{name}" for name in shown} <= set(names)


def test_every_documented_name_exists() -> None:
    for name in documented():
        home, _, own = name.rpartition(".")
        assert hasattr(importlib.import_module(home), own), name


def test_executed_pages_are_python_and_say_nothing_of_this_machine() -> None:
    executed = [page for page in PAGES if "file_format: mystnb" in page.read_text()]
    assert len(executed) >= 15
    for page in executed:
        cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```", page.read_text(), re.S | re.M)
        assert cells, page.name
        for cell in cells:
            ast.parse(re.sub(r"^:.*\n", "", cell, flags=re.M))
    for page in PAGES:
        assert not re.search(r"/(home|root|work|tmp|Users)/", page.read_text()), page.name


def test_scripts_of_the_gallery_are_one_idea_and_one_figure() -> None:
    scripts = sorted(GALLERY.glob("*.py"))
    assert len(scripts) >= 8
    for script in scripts:
        said = ast.get_docstring(ast.parse(script.read_text())) or ""
        assert re.match(r"[^\n]+\n=+\n\n\S", said), script.name
        assert script.read_text().count("plt.show()") == 1, script.name
        assert len(script.read_text().splitlines()) <= 60, script.name


def test_both_languages_show_the_same_experiments() -> None:
    found = []
    for name in ("concepts.md", "concepts-ko.md"):
        said = (DOCS / name).read_text()
        found.append(re.findall(r"^```\{code-cell\}.*?^```|^\$\$.*?\$\$", said, re.S | re.M))
    assert len(found[0]) >= 10
    assert [re.sub(r"[\s.,]+", "", part) for part in found[0]] == [
        re.sub(r"[\s.,]+", "", part) for part in found[1]
    ]


def test_the_version_is_the_same_wherever_it_stands() -> None:
    version = versions.release()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"{{version {version}}}" in (ROOT / "README.md").read_text()
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0].rstrip(",") == version
    assert headings == sorted(headings, key=versions.key, reverse=True)


def test_sites_of_versions_are_kept_beside_each_other(tmp_path: Path) -> None:
    html, site = tmp_path / "html", tmp_path / "site"
    with pytest.raises(FileNotFoundError, match="make docs"):
        versions.keep(html, site, "0.9.0")
    html.mkdir()
    for version in ("0.9.0", "0.10.0", "0.9.0rc1"):
        (html / "index.html").write_text(version)
        versions.keep(html, site, version)
    listed = (site / "index.html").read_text()
    assert re.findall(r'<a href="(\S+)/index', listed) == ["0.10.0", "0.9.0", "0.9.0rc1"]
    assert "url=0.10.0/index.html" in listed
    assert (site / "0.9.0" / "index.html").read_text() == "0.9.0"


def test_the_speed_page_has_its_benchmark_and_all_its_batches() -> None:
    made = json.loads((DOCS / "data" / "speed.json").read_text())
    assert {"command", "date", "machine", "versions", "threads", "load"} <= set(made)
    assert (ROOT / made["command"].split()[1]).is_file()
    assert list(made["ratios"]) == ["1", "4", "16", "64", "256"]
    for row in made["ratios"].values():
        few, many = (row[f"{kind}: pulses a weight"] for kind in ("few", "many"))
        assert few < 0.1 and many > 1


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("myst_nb", reason="pip install '.[docs]'")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "html")],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "analoglinear" in (tmp_path / "html" / "searchindex.js").read_text().lower()
    read = {page: Links(page.read_text()) for page in (tmp_path / "html").rglob("*.html")}
    assert len(read) > len(PAGES)
    for page, links in read.items():
        assert not links.loaded, f"{page.name} needs a network: {links.loaded}"
        for target in links.targets:
            path, _, anchor = target.partition("#")
            place = (page.parent / path).resolve() if path else page
            assert place.exists(), f"{page.name}: {target}"
            if anchor and place in read:
                assert anchor in read[place].ids, f"{page.name}: {target}"


class Links(HTMLParser):
    """Of a built page: where its links lead, what can be linked to, what comes from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.ids = {"top", ""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            value = unquote(value or "")
            if name == "id":
                self.ids.add(value)
            elif name in ("href", "src"):
                if not re.match(r"[a-z]+:", value):
                    self.targets.append(value.partition("?")[0] if tag != "a" else value)
                elif tag in ("script", "link", "img", "iframe") and not value.startswith("data:"):
                    self.loaded.append(value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["first", "device"])
def test_a_tutorial_is_a_notebook_that_runs(name: str, tmp_path: Path) -> None:
    """Your first analog network; is my device good enough?"""
    pytest.importorskip("myst_nb", reason="pip install '.[docs]'")
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path[1:]])}
    command = [sys.executable, str(DOCS / "notebooks.py"), str(tmp_path)]
    subprocess.run(command, env=environment, check=True)
    book = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    text = "".join(cell.source for cell in book.cells if cell.cell_type == "markdown")
    assert text.startswith("# ") and not re.search(r"\{\w+\}`|\.md\)", text)
    client = nbclient.NotebookClient(book, timeout=300, resources={
        "metadata": {"path": str(DOCS / "tutorials")}
    })  # fmt: skip
    client.execute(env=environment)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert len(code) >= 4 and any("image/png" in o.get("data", {}) for c in code for o in c.outputs)
