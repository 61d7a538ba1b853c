"""Text files of numbers as laboratories save them: encoding, separator, decimal sign, headers."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, zip_longest
from pathlib import Path

from devices.fitting.spreadsheet import xlsx_rows
from devices.fitting.units import UNITS, meaning

COMMENT = ("#", "%", "//")
MISSING = {"", "nan", "na", "n/a", "none", "null", "-", "--", "inf", "+inf", "-inf", "#n/a"}
"""What stands for a read that failed."""

AXES = ("x", "y", "")

LONG = 8
"""Fields above which a row may be a whole ramp."""

NAMED = ("pulse", "polarity", "cycle", "conductance", "resistance", "current")

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eEdD][+-]?\d+)?")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(\.\d{3})+,\d+([eE][+-]?\d+)?")


@dataclass
class Sheet:
    """Rows of text under names of columns, with what was understood on the way."""

    names: list[str]  # as they stand in the file; empty where there is no header
    rows: list[list[str]]  # of one width, empty rows left out
    lines: list[int]  # number of each row in the file, from 1
    decimal: str = "."
    notes: list[str] = field(default_factory=list)

    def number(self, row: int, column: int) -> float:
        """One field as a number; NaN where it is missing.

        Raises:
            ValueError: not a number, with its line and column.
        """
        text = self.rows[row][column].strip()
        if text.lower() in MISSING:
            return math.nan
        if self.decimal == ",":
            text = text.replace(".", "").replace(",", ".")
        try:
            return float(text.replace("D", "E").replace("d", "e"))
        except ValueError:
            name = self.names[column] if self.names else f"column {column + 1}"
            raise ValueError(
                f"line {self.lines[row]}: {name} must be a number, got {text!r}"
            ) from None

    def column(self, column: int) -> list[float]:
        """All numbers of a column."""
        return [self.number(row, column) for row in range(len(self.rows))]


def decoded(content: bytes) -> tuple[str, str]:
    """The text of a file and the name of its encoding: UTF-8, UTF-16 or Windows' cp1252."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16"), "UTF-16"
    half = content[:400]
    if half.count(0) > len(half) // 4:
        name = "utf-16-le" if half[1:2] == b"\0" else "utf-16-be"
        return content.decode(name), "UTF-16 without a mark"
    try:
        return content.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace"), "cp1252"


def read_sheet(path: str | Path, decimal: str | None = None, sheet: str | None = None) -> Sheet:
    """The table in a text file, or in a sheet of an .xlsx.

    Args:
        path: the file.
        decimal: "." or ","; None: found from the numbers.
        sheet: name of the sheet; None: the only one with numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no rows, or numbers whose decimal sign cannot be told.
    """
    content = Path(path).read_bytes()
    if content[:4] == b"PK\x03\x04":
        table, name = xlsx_rows(path, sheet)
        rows = [row for _, row in table]
        sign = _decimal(rows, ";", decimal)
        return tidy(rows, [n for n, _ in table], sign, [f"Excel, sheet {name}"])
    if content[:4] == b"\xd0\xcf\x11\xe0":
        raise ValueError(f"{path} is an .xls of old: save it as .xlsx or CSV")
    if sheet is not None:
        raise ValueError(f"sheet={sheet!r} (--sheet) was given, but the file is no .xlsx")
    text, encoding = decoded(content)
    numbered = _uncommented(text.splitlines())
    if not numbered:
        raise ValueError(f"{path}: no reads, the file has no rows")
    separator = _separator([line for _, line in numbered])
    lines = [line for _, line in numbered]
    if separator == " ":
        rows = [line.split() for line in lines]
    else:
        rows = [next(csv.reader([line], delimiter=separator)) for line in lines]
    called = {"\t": "tabs", ";": "semicolons", ",": "commas", " ": "blanks"}[separator]
    notes = [f"{encoding}, columns separated by {called}"]
    sign = _decimal(rows, separator, decimal)
    if sign == ",":
        notes.append("decimal comma")
    return tidy(rows, [i for i, _ in numbered], sign, notes)


def _uncommented(lines: Sequence[str]) -> list[tuple[int, str]]:
    """Lines that say something, with their numbers from 1; a header behind a sign counts."""
    given = [(i, line) for i, line in enumerate(lines, 1) if line.strip()]
    out = [(i, line) for i, line in given if not line.lstrip().startswith(COMMENT)]
    # as NumPy saves it: the last comment above the numbers has a name for every column
    above = [(i, line) for i, line in given if out and i < out[0][0]]
    if above and _is_number(re.split(r"[\s,;]+", out[0][1].strip())[0]):
        i, line = above[-1]
        bare = line.lstrip().lstrip("#%/").strip()
        names, numbers = (re.split(r"[,;\t]", text) for text in (bare, out[0][1]))
        if len(names) == 1:
            names, numbers = bare.split(), out[0][1].split()
        if len(names) == len(numbers) and any(map(_says, names)):
            return [(i, bare), *out]
    return out


def _separator(lines: Sequence[str]) -> str:
    """The sign that splits most lines into one number of fields."""
    for sign in ("\t", ";", ","):
        counts = Counter(len(next(csv.reader([line], delimiter=sign))) for line in lines[:200])
        width, often = counts.most_common(1)[0]
        long = sum(often for fields, often in counts.items() if fields > LONG)
        if width > 1 and max(often, long) > 0.6 * min(len(lines), 200):
            if sign == "," and _split_decimals(lines):
                continue
            return sign
    if any(len(line.split()) > 1 and _is_number(line.split()[-1]) for line in lines[-3:]):
        return " "
    return ","


def _split_decimals(lines: Sequence[str]) -> bool:
    """Whether commas are decimal signs of numbers that blanks separate."""
    words = [word for line in lines[-20:] for word in line.split()]
    return bool(words) and all(re.fullmatch(r"[+-]?\d+,\d+([eE][+-]?\d+)?", w) for w in words)


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text.strip())) or bool(_THOUSANDS.fullmatch(text.strip()))


def _decimal(rows: list[list[str]], separator: str, given: str | None) -> str:
    if given is not None:
        if given not in (".", ","):
            raise ValueError(f"decimal must be '.' or ',', got {given!r}")
        return given
    numbers = [f.strip() for row in rows for f in row if _is_number(f)]
    comma = [n for n in numbers if "," in n]
    point = [n for n in numbers if "." in n and "," not in n]
    if not comma:
        return "."
    if point:
        raise ValueError(
            f"numbers with a comma ({comma[0]}) and with a point ({point[0]}) in one file: name "
            "the decimal sign with decimal=',' or decimal='.' (--decimal)"
        )
    if all(re.fullmatch(r"[+-]?[1-9]\d{0,2}(,\d{3})+", n) for n in comma):
        raise ValueError(
            f"{comma[0]} may be a thousand or a decimal: name the decimal sign with decimal=',' "
            "or decimal='.' (--decimal)"
        )
    return ","


def tidy(
    rows: Sequence[Sequence[str]], lines: Sequence[int], decimal: str, notes: list[str]
) -> Sheet:
    """The table in raw rows: lines above it, empty rows and empty columns set aside, and said.

    Raises:
        ValueError: nothing that looks like a table.
    """
    kept = [(n, [f.strip() for f in row]) for n, row in zip(lines, rows, strict=True)]
    full = [(n, row) for n, row in kept if any(row)]
    if len(full) < len(kept):
        notes.append(f"{len(kept) - len(full)} empty rows left out")
    if not full:
        raise ValueError("no reads: every row is empty")
    full = _turned(full, notes)
    numeric = [any(map(_is_number, row)) for _, row in full]
    if len(full) > 1 and any(meaning(f).role in NAMED for f in full[0][1]):
        numeric[0] = False  # a header whose columns of reads are numbered
    # the header is the last row of words before the rows of numbers
    first = next((i for i, yes in enumerate(numeric) if yes and _like(full, i)), len(full))
    head = [row for _, row in full[:first]]
    width = Counter(len(row) for _, row in full[first:] or full).most_common(1)[0][0]
    titles = [i for i, row in enumerate(head) if len(row) <= width and any(map(_says, row))]
    title = titles[0] if titles else len(head) - 1
    names: list[str] = []
    if head:
        notes.extend(f"line {n} above the table not used" for n, _ in full[:title])
        units = head[title + 1] if len(head) > title + 1 else []
        axes = any(units) and all(f.lower() in AXES for f in units)
        below = axes or (any(units) and all(not f or f.strip("()[]") in UNITS for f in units))
        names = _columns(head[title : title + 1 + below], width)
        full = full[title + 1 + below :]
    body = full
    odd = [n for n, row in body if len(row) > width and any(row[width:])]
    if odd:
        raise ValueError(
            f"line {odd[0]} has more fields than the {width} of the table: a decimal comma in a "
            "file separated by commas? Save it with semicolons"
        )
    table = [(row + [""] * width)[:width] for _, row in body]
    used = [c for c in range(width) if (names and names[c].strip()) or any(row[c] for row in table)]
    return Sheet(
        [names[c].strip() for c in used] if names else [],
        [[row[c] for c in used] for row in table],
        [n for n, _ in body],
        decimal,
        notes,
    )


def _like(full: list[tuple[int, list[str]]], i: int) -> bool:
    """Whether row i has the shape of the rows after it."""
    ahead = [len(row) for _, row in full[i : i + 5]]
    return ahead.count(ahead[0]) * 2 > len(ahead) or len(ahead) == 1


def _says(header: str) -> bool:
    """Whether a field is the name of a column that is known."""
    found = meaning(header)
    return bool(found.role or found.kind)


def _columns(head: list[list[str]], width: int) -> list[str]:
    """The names of the columns, each with the unit or the axis that stands below it."""
    rows = [(row + [""] * width)[:width] for row in head]
    if len(rows) == 1:
        return rows[0]
    if all(f.lower() in AXES for f in rows[1]):  # of digitised figures: a name over an x and a y
        names = list(accumulate(rows[0], _filled))
        return [f"{name} {axis}" for name, axis in zip(names, rows[1], strict=True)]
    return [f"{name} ({u.strip('()[]')})" if u else name for name, u in zip(*rows, strict=True)]


def _filled(before: str, name: str) -> str:
    return name or before


def _turned(full: list[tuple[int, list[str]]], notes: list[str]) -> list[tuple[int, list[str]]]:
    """Rows that each are a name and its numbers, as columns under a header."""
    named = [
        (n, row)
        for n, row in full
        if len(row) > LONG
        and not _is_number(row[0])
        and all(f == "" or _is_number(f) for f in row[1:])
    ]
    if len(named) < 2 or 2 * len(named) < len(full):
        return full
    used = {n for n, _ in named}
    others = [(n, row) for n, row in full if n not in used]
    if any(len(row) > 1 and not any(map(_is_number, row)) for _, row in others):  # a header
        return full
    notes.extend(f"line {n} not used" for n, _ in others)
    notes.append(f"{len(named)} rows of a name and its numbers: taken as columns")
    columns = [row for _, row in named]
    return list(enumerate(map(list, zip_longest(*columns, fillvalue="")), 1))


def matlab_arrays(text: str) -> dict[str, list[list[float]]]:
    """`name = [ ... ];` of a MATLAB script, rows by lines or semicolons."""
    found = {}
    for name, body in re.findall(r"(\w+)\s*=\s*\[([^\]]*)\]", text):
        rows = [re.split(r"[\s,]+", row.strip()) for row in re.split(r"[;\n]", body)]
        rows = [row for row in rows if row != [""]]
        try:
            found[name] = [[float(v) for v in row] for row in rows]
        except ValueError:
            continue
    return {name: rows for name, rows in found.items() if len(rows) > 2}
