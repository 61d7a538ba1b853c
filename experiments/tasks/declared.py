"""A sweep in TOML: what is wrong in it is said with line, key and value, before anything runs."""

from __future__ import annotations

import difflib
import math
import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.lab import paths
from experiments.tasks.data import SETS, data_set
from experiments.tasks.networks import CNN, MLP
from experiments.tasks.sweeps import Axis, Sweep, axis, chosen_chip, chosen_mode, possible
from experiments.tasks.training import Best, Recipe

NETWORKS = {"MLP": MLP, "CNN": CNN}
DEFAULTS: dict[str, Any] = {
    "name": "Sweep",
    "data": "digits",
    "data_dir": None,
    "network": "MLP",
    "chip": "soft",
    "mode": None,
    "epochs": 10,
    "batch": 25,
    "lr": 0.1,
    "seeds": 3,
    "after": 1.0,
    "axes": None,
}
AXIS = ("field", "fields", "title", "values", "log", "linear", "random")
RANGE = ("from", "to", "count", "seed", "log")


class Wrong(ValueError):
    """Something in the file, with its line."""


class _File:
    """The text beside its values, to find lines."""

    def __init__(self, path: Path) -> None:
        try:
            self.path, self.text = path, path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise Wrong(f"{path}: not UTF-8 at byte {error.start}") from None
        self.lines = self.text.splitlines()

    def wrong(self, key: str, words: str, nth: int | None = None) -> Wrong:
        """An error at a key of the head, or of the nth axis."""
        part, place = -1, None
        for number, line in enumerate(self.lines, 1):
            bare = line.split("#")[0].strip()
            if bare.replace(" ", "") == "[[axes]]":
                part += 1
                if nth == part and place is None:
                    place = number
            elif (nth if nth is not None else -1) == part:
                inside = re.search(rf"[{{,]\s*{re.escape(key)}\s*=", bare)
                if inside or bare.split("=")[0].strip() == key:
                    place = number
        if place is None:  # tables within lines
            inside = [n for n, line in enumerate(self.lines, 1) if re.search(rf"\b{key}\b", line)]
            place = inside[0] if key and inside else None
        where = f", line {place}" if place else ""
        return Wrong(f"{self.path}{where}: {key}: {words}")

    def keys(self, table: dict[str, Any], known: Sequence[str], nth: int | None = None) -> None:
        """Refuse keys that mean nothing."""
        for key in table:
            if key not in known:
                close = difflib.get_close_matches(key, known, 1)
                hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
                raise self.wrong(key, f"no such key{hint}", nth)


def declared(path: Path) -> Sweep:
    """The sweep of a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: anything wrong in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    file = _File(path)
    try:
        table = tomllib.loads(file.text)
    except tomllib.TOMLDecodeError as error:
        raise Wrong(f"{path}: no TOML: {error}") from None
    file.keys(table, list(DEFAULTS))
    found = {**DEFAULTS, **table}
    for key, kind, least in (("epochs", int, 1), ("batch", int, 1), ("seeds", int, 1),
                             ("after", float, 0), ("lr", float, 0)):  # fmt: skip
        values = found[key] if key == "lr" and isinstance(found[key], list) else [found[key]]
        for value in values:
            right = isinstance(value, int | kind) and not isinstance(value, bool)
            if not right or not math.isfinite(value) or value < least:
                raise file.wrong(key, f"must be a {kind.__name__} >= {least}, got {value!r}")
            if key == "lr" and value == 0:
                raise file.wrong(key, "must be > 0, got 0")
    if found["lr"] == []:
        raise file.wrong("lr", "a list of rates needs at least one")
    for key in ("name", "data_dir"):
        _text(file, key, found[key])
    for key, known in (("data", list(SETS)), ("network", list(NETWORKS))):
        if found[key] not in known:
            raise file.wrong(key, f"must be one of {', '.join(known)}, got {found[key]!r}")
    rate = Best(tuple(map(float, found["lr"]))) if isinstance(found["lr"], list) else found["lr"]

    def at(key: str, make: Any) -> Any:
        try:
            return make()
        except (ValueError, TypeError, FileNotFoundError) as error:
            raise file.wrong(key, str(error)) from None

    base = at("chip", lambda: chosen_chip(found["chip"]))
    digital = found["mode"] == "digital"
    mode = None if digital else at("mode", lambda: chosen_mode(found["mode"], base))
    axes = found["axes"]
    if not isinstance(axes, list) or not axes:
        raise file.wrong("axes", "at least one table [[axes]] with field and values is needed")
    read = tuple(_axis(file, n, one) for n, one in enumerate(axes))
    data = at("data", lambda: data_set(found["data"], found["data_dir"]))
    sweep = at("axes", lambda: Sweep(
        found["name"],
        data,
        NETWORKS[found["network"]](),
        Recipe(found["epochs"], found["batch"], rate),
        base,
        mode,
        read,
        found["seeds"],
        float(found["after"]),
    ))  # fmt: skip
    for n, one in enumerate(sweep.axes):  # alone, so that the axis at fault is known
        try:
            for point in Sweep(**{**vars(sweep), "axes": (one,)}).points():
                possible(point.chip, point.mode)
        except (ValueError, TypeError) as error:
            raise file.wrong("field" if len(one.fields) == 1 else "fields", str(error), n) from None
    sweep.points()
    return sweep


def _text(file: _File, key: str, value: Any, n: int | None = None) -> None:
    if value is not None and not (isinstance(value, str) and value):
        raise file.wrong(key, f"must be text, got {value!r}", n)


def _axis(file: _File, n: int, table: Any) -> Axis:
    """The nth axis; what is wrong in it is said with its line."""
    if not isinstance(table, dict):
        raise file.wrong("axes", f"each must be a table, got {table!r}")
    file.keys(table, AXIS, n)
    _text(file, "title", table.get("title"), n)
    try:
        return _made(file, n, table)
    except Wrong:
        raise
    except ValueError as error:
        raise file.wrong("values", str(error), n) from None


def _made(file: _File, n: int, table: dict[str, Any]) -> Axis:
    ways = [key for key in ("values", "log", "linear", "random") if key in table]
    if len(ways) != 1:
        raise file.wrong("values", f"one of values, log, linear, random is needed, got {ways}", n)
    if ("field" in table) == ("fields" in table):
        raise file.wrong("field", "either field or fields is needed", n)
    _text(file, "field", table.get("field"), n)
    fields = table.get("fields", [])
    if not isinstance(fields, list) or ("fields" in table and not fields):
        raise file.wrong("fields", f"must be a list of dotted paths, got {fields!r}", n)
    if ways[0] != "values":
        numbers = _range(file, n, ways[0], table[ways[0]])
        if "fields" in table:
            raise file.wrong(ways[0], "paired fields need their values written out", n)
        made = axis(table["field"], numbers, table.get("title", ""))
        return replace(made, log=ways[0] == "log" or table[ways[0]].get("log", False))
    values = table["values"]
    if not isinstance(values, list) or not values:
        raise file.wrong("values", f"must be a list with at least one value, got {values!r}", n)
    if "field" in table:
        return axis(table["field"], [_read(file, n, v) for v in values], table.get("title", ""))
    for field in fields:
        _text(file, "fields", field, n)
    for value in values:
        if not isinstance(value, list) or len(value) != len(fields):
            raise file.wrong("values", f"each must be a list of {len(fields)}, got {value!r}", n)
    read = tuple(tuple(_read(file, n, v) for v in value) for value in values)
    names = tuple(" / ".join(map(paths.short, value)) for value in read)
    return Axis(tuple(fields), read, names, table.get("title", " / ".join(fields)))


def _read(file: _File, n: int, value: Any) -> Any:
    """Text is a constructor call or a literal."""
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    try:
        return paths.parse(value)
    except ValueError as error:
        raise file.wrong("values", str(error), n) from None


def _range(file: _File, n: int, way: str, table: Any) -> list[float]:
    if not isinstance(table, dict):
        raise file.wrong(way, "wants {from = …, to = …, count = …}, got " + repr(table), n)
    file.keys(table, RANGE, n)
    low, high, count = (table.get(key) for key in ("from", "to", "count"))
    ends = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high))
    if not ends or type(count) is not int:
        raise file.wrong(way, f"needs numbers from, to and a whole count, got {table!r}", n)
    straight = way == "linear" or (way == "random" and not table.get("log", False))
    if not 2 <= count <= 10_000 or not (math.isfinite(low) and math.isfinite(high)) or low == high:
        raise file.wrong(way, f"needs two ends and 10000 >= count >= 2, got {table!r}", n)
    if not straight and min(low, high) <= 0:
        raise file.wrong(way, f"a log range needs ends above 0, got {table!r}", n)
    if type(table.get("seed", 0)) is not int or type(table.get("log", False)) is not bool:
        raise file.wrong(way, f"seed must be whole, log true or false, got {table!r}", n)
    if way != "random" and table.keys() & {"seed", "log"}:
        raise file.wrong(way, f"seed and log are of random ranges, got {table!r}", n)
    if way == "random":
        drawn = random.Random(table.get("seed", 0))
        parts = sorted(drawn.random() for _ in range(count))
    else:
        parts = [k / (count - 1) for k in range(count)]
    found = [low + p * (high - low) if straight else low * (high / low) ** p for p in parts]
    found = [float(f"{value:.12g}") for value in found]  # .3, not .30000000000000004
    whole = type(low) is type(high) is int and all(value.is_integer() for value in found)
    return [int(value) for value in found] if whole else found
