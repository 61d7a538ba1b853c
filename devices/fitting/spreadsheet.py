"""Tables in Excel's .xlsx, which is XML in a zip archive: values of the cells of one sheet."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
STRICT = "{http://purl.oclc.org/ooxml/spreadsheetml/main}"

Rows = list[tuple[int, list[str]]]


def xlsx_rows(path: str | Path, wanted: str | None = None) -> tuple[Rows, str]:
    """Numbered rows of texts of a sheet, and its name.

    Args:
        path: the file.
        wanted: name of the sheet; None: the only one with numbers.

    Raises:
        ValueError: no such sheet, or several with numbers and none wanted.
    """
    try:
        with zipfile.ZipFile(path) as book:
            return _chosen(book, wanted)
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError) as error:
        raise ValueError(f"it is no .xlsx that can be read ({error}); save it as CSV") from None


def _chosen(book: zipfile.ZipFile, wanted: str | None) -> tuple[Rows, str]:
    strings = []
    if "xl/sharedStrings.xml" in book.namelist():
        strings = [_text(item) for item in _tree(book, "xl/sharedStrings.xml").iter(f"{MAIN}si")]
    files = {}
    for link in _tree(book, "xl/_rels/workbook.xml.rels"):
        target = link.attrib["Target"]
        files[link.attrib["Id"]] = target[1:] if target[0] == "/" else f"xl/{target}"
    names = {s.attrib["name"]: s for s in _tree(book, "xl/workbook.xml").iter(f"{MAIN}sheet")}
    if wanted is not None and wanted not in names:
        raise ValueError(f"no sheet is named {wanted!r}; it has {', '.join(names)}")
    found = {}
    for name, sheet in names.items():
        file = files[next(v for k, v in sheet.attrib.items() if k.endswith("}id"))]
        if wanted in (None, name) and file in book.namelist():
            rows = _rows(_tree(book, file), strings)
            if any(re.fullmatch(r"[+-]?\d.*", field) for _, row in rows for field in row):
                found[name] = rows
    if len(found) != 1:
        told = ", ".join(found) or "none"
        raise ValueError(
            f"sheets with numbers: {told}; name the one of the pulses, sheet=... (--sheet)"
        )
    name, rows = found.popitem()
    return rows, name


def _tree(book: zipfile.ZipFile, name: str) -> ElementTree.Element:
    text = book.read(name).decode("utf-8-sig").replace(STRICT[1:-1], MAIN[1:-1])
    if "<!ENTITY" in text:
        raise ValueError("it defines entities, which no spreadsheet needs")
    return ElementTree.fromstring(text)


def _text(item: ElementTree.Element) -> str:
    """The text of an item, however its letters are set, without readings of them."""
    runs = [*item.findall(f"{MAIN}t"), *item.findall(f"{MAIN}r/{MAIN}t")]
    return "".join(run.text or "" for run in runs)


def _rows(sheet: ElementTree.Element, strings: list[str]) -> Rows:
    out: Rows = []
    for number, row in enumerate(sheet.iter(f"{MAIN}row"), 1):
        fields: dict[int, str] = {}
        for place, cell in enumerate(row.findall(f"{MAIN}c")):
            kind, value = cell.attrib.get("t", "n"), cell.find(f"{MAIN}v")
            text = "" if value is None else value.text or ""
            if kind == "s":
                text = strings[int(text)]
            elif kind == "inlineStr":
                inline = cell.find(f"{MAIN}is")
                text = "" if inline is None else _text(inline)
            elif kind == "e":  # an error of a formula, as #DIV/0!
                text = ""
            fields[_column(cell.attrib.get("r", ""), place)] = text
        width = max(fields, default=-1) + 1
        out.append((int(row.attrib.get("r", number)), [fields.get(c, "") for c in range(width)]))
    return out


def _column(name: str, place: int) -> int:
    """Index of the column of a cell's name (B7), or its place in the row."""
    letters = re.match(r"[A-Z]+", name)
    if letters is None:
        return place
    index = 0
    for letter in letters[0]:
        index = 26 * index + ord(letter) - 64
    return index - 1
