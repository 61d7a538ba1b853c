"""A report as data, and its faces: one self-contained HTML page, figure files, a terminal table."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table as RichTable

from experiments.lab import plots, readout
from experiments.lab.svg import thin


@dataclass(frozen=True)
class Picture:
    """A figure, the name of its files, and what one sees in it."""

    name: str
    figure: Figure
    caption: str
    seen: str = ""  # the same for who does not see it; the caption where empty


@dataclass(frozen=True)
class Table:
    """Rows of text under headers; the first column is a name, the others are set to the right."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    prose: bool = False  # all columns to the left


@dataclass(frozen=True)
class Section:
    """A heading, some paragraphs, and what they speak of, in the order given."""

    title: str
    text: Sequence[str] = ()
    items: Sequence[Picture | Table] = ()


@dataclass(frozen=True)
class Check:
    """A claim, the figure that would prove it wrong, and what was measured."""

    claim: str
    wanted: str
    found: str
    holds: bool | None  # None: these runs cannot decide it


@dataclass(frozen=True)
class Fact:
    """One number of the headline."""

    value: str
    name: str
    note: str = ""


@dataclass(frozen=True)
class Report:
    """All that a study has to say, every number of it computed from stored runs."""

    title: str
    subtitle: str
    summary: Sequence[str]
    table: Table
    facts: Sequence[Fact] = ()
    checks: Sequence[Check] = ()
    sections: Sequence[Section] = ()
    held: Table | None = None  # what is compared, and what is held equal
    provenance: dict[str, str] = field(default_factory=dict)


def write(report: Report, folder: Path) -> Path:
    """Write `report.html`, `table.csv` and `figures/*` into the folder; the path of the page."""
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    images: dict[str, _Image] = {}
    for section in report.sections:
        for item in section.items:
            if isinstance(item, Picture):
                images[item.name] = _save(item, figures)
    source = resources.files("experiments.lab").joinpath("templates/report.html")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["prose"] = _prose
    environment.tests["picture"] = lambda item: isinstance(item, Picture)
    page = environment.from_string(source.read_text(encoding="utf-8"))
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([report.table.headers, *report.table.rows])
    path = folder / "report.html"
    path.write_text(page.render(report=report, images=images), encoding="utf-8")
    return path


@dataclass(frozen=True)
class _Image:
    """A saved figure as the page has it."""

    uri: Markup
    width: int  # [px]
    seen: str
    data: Markup


def _save(picture: Picture, folder: Path) -> _Image:
    """Save the figure's files; the SVG as a data URI, which keeps its internal names to itself."""
    figure = picture.figure
    with plots.style():
        figure.savefig(folder / f"{picture.name}.png", dpi=160)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    (folder / f"{picture.name}.svg").write_bytes(buffer.getvalue())
    data = readout.data(figure)
    (folder / f"{picture.name}.csv").write_text(data, encoding="utf-8")
    return _Image(
        _uri("image/svg+xml", thin(buffer.getvalue().decode())),
        round(96 * figure.get_figwidth()),
        picture.seen or readout.seen(figure),
        _uri("text/csv", data),
    )


def _uri(kind: str, content: str) -> Markup:
    """Content as an address that may stand in an attribute: no quotes, no <, >, & in it."""
    return Markup(f"data:{kind};charset=utf-8," + quote(content, safe=" /:;=,.()!*+-_@[]{}|^~`$?'"))


def _prose(text: str) -> Markup:
    """Text with `code` and **strong** marks as HTML, everything else escaped."""
    safe = re.sub(r"(?<=\d) (?=[%±])|(?<=±) ", "\u00a0", str(escape(text)))
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe))


def show(report: Report, console: Console) -> None:
    """The summary table, the numbers of the headline and the checks, in the terminal."""
    table = RichTable(
        title=_plain(report.title), title_justify="left", header_style="bold", box=None
    )
    for index, header in enumerate(report.table.headers):
        left = index == 0 or report.table.prose
        table.add_column(_plain(header), justify="left" if left else "right")
    for row in report.table.rows:
        first, *rest = (_plain(cell) for cell in row)
        table.add_row(first, *(cell.replace(" ", "\u00a0") for cell in rest))
    console.print(table)
    for fact in report.facts:
        console.print(_plain(f"{fact.value}  {fact.name}{fact.note and ', ' + fact.note}"))
    for check in report.checks:
        mark = {True: "[green]holds[/green]", False: "[red]FAILS[/red]", None: "[dim]open[/dim]"}
        console.print(f"{mark[check.holds]}  {_plain(check.claim)}: {_plain(check.found)}")


def _plain(text: str) -> str:
    return text.replace("`", "").replace("**", "").replace("[", r"\[")
