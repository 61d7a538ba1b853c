"""The reference: names of a module by autodoc, docstrings as they are written in the sources.

    .. api:: crossbar

       Chip Periphery
       matrix

Our docstrings are plain text with names in single backticks, equations indented. Here those become
literal blocks, and the signs that reStructuredText would read as markup stay signs.
"""

import importlib
import inspect
import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

CODE = re.compile(r"(`[^`]+`)")
MARKUP = re.compile(r"[*|\\]|_(?![\w])")
SECTION = re.compile(r"(Args|Raises|Returns|Yields|Attributes|Examples?):$")
WHOLE = ("attribute", "property")
untouched: dict[str, list[str]] = {}
ADDRESS = re.compile(r"doi:(10\.[^\s,;]+[^\s,;.)])|arXiv:(\d{4}\.\d{4,5})(v\d+)?")


class Api(SphinxDirective):
    """Each name of the content, documented where it stands."""

    has_content = True
    required_arguments = 1
    option_spec = {"bare": directives.flag}  # without methods

    def run(self) -> list[nodes.Node]:
        """Hand every name to autodoc."""
        lines = StringList()
        for name in " ".join(self.content).split():
            home, _, own = f"{self.arguments[0]}.{name}".rpartition(".")
            value = getattr(importlib.import_module(home), own)
            kind = "autoclass" if inspect.isclass(value) else "py:data"
            kind = "autofunction" if inspect.isroutine(value) else kind
            said = ["   :no-members:"] if "bare" in self.options else []
            if kind == "py:data":  # an instance has the docstring of its class
                said = [f"   :type: {type(value).__name__}", "", f"   {plain(summary(value))}"]
            for line in (f".. {kind}:: {self.arguments[0]}.{name}", *said, ""):
                lines.append(line, self.get_source_info()[0], self.lineno)
        return self.parse_text_to_nodes(lines)


def summary(value: object) -> str:
    """What an instance says of itself in a line."""
    if boundary := getattr(value, "boundary", None):
        return f"{len(value.energy)} entries with ranges and sources; boundary: {boundary}."
    return str(getattr(value, "source", None) or repr(value).split("(", 1)[0] or value)


def plain(line: str) -> str:
    """The line with its markup signs escaped outside backticks; publications become links."""
    parts = CODE.split(line)
    for k in range(0, len(parts), 2):
        parts[k] = MARKUP.sub(lambda sign: "\\" + sign[0], parts[k])
        parts[k] = ADDRESS.sub(link, parts[k])
    return "".join(parts)


def link(found: re.Match[str]) -> str:
    """The address of a publication."""
    if found[1]:
        return f"`doi:{found[1]} <https://doi.org/{found[1]}>`__"
    return f"`arXiv:{found[2]}{found[3] or ''} <https://arxiv.org/abs/{found[2]}>`__"


def row(line: str, first: bool) -> list[str]:
    """A row of a Markdown table as one of a list table; the first is its header."""
    cells = [plain(cell) for cell in line.strip("| ").split(" | ")]  # |V| is a cell's own
    if set(line) <= set("|-: "):
        return []
    said = [".. list-table::", "   :header-rows: 1", ""] if first else []
    return [*said, f"   * - {cells[0]}", *(f"     - {cell}" for cell in cells[1:])]


def docstring(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Indented blocks of the prose become literal; sections are left to napoleon."""
    if what in WHOLE:
        untouched[name] = [plain(line) for line in lines]
    result: list[str] = []
    inside = section = False
    for line in lines:
        if line.startswith("|"):
            result += row(line, first=not result or not result[-1].startswith("     "))
            continue
        if line and not line.startswith(" "):
            section, inside = bool(SECTION.match(line)), False
        elif line and not section and not inside and (not result or not result[-1]):
            result += [".. code-block:: text", ""]
            inside = True
        result.append(line if inside else plain(line))
    lines[:] = result


def restored(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Of what has no sections, napoleon would take the words before a colon for a type."""
    if what in WHOLE:
        lines[:] = untouched.pop(name)


def skipped(app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples say nothing by themselves: the class docstring has them."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("api", Api)
    app.connect("autodoc-process-docstring", docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-docstring", restored, priority=600)  # after it
    app.connect("autodoc-skip-member", skipped)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
