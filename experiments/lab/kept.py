"""What is kept: `list`, `show`, `compare`, `export` and `prune` of a folder of results."""

from __future__ import annotations

import argparse
import ast
import csv
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.lab.run import Row
from experiments.lab.store import Store


def arguments(commands: Any) -> None:
    """Declare the subcommands."""
    for name, (_, words) in _ALL.items():
        sub = commands.add_parser(name, help=words, description=words)
        sub.add_argument("--out", type=Path, default=Path("results"), help="folder of the results")
        if name in ("list", "export", "prune"):
            sub.add_argument("--study", dest="of", help="of this study only")
        if name == "show":
            sub.add_argument("run", help="the beginning of its key, as `list` prints it")
        if name == "compare":
            sub.add_argument("run", nargs=2, metavar="KEY", help="the beginnings of two keys")
        if name == "export":
            way = sub.add_mutually_exclusive_group(required=True)
            way.add_argument("--csv", type=Path, metavar="FILE", help="a row a run")
            way.add_argument("--epochs", type=Path, metavar="FILE", help="CSV, a row an epoch")
            way.add_argument("--parquet", type=Path, metavar="FILE", help="needs pyarrow")
        if name == "prune":
            sub.add_argument(
                "--before", metavar="DATE", help="finished before this day, 2026-01-31"
            )
            sub.add_argument("--failed", action="store_true", help="runs that raised")
            sub.add_argument("--yes", action="store_true", help="without this, it only says what")


def _list(options: argparse.Namespace, console: Console) -> int:
    with Store(options.out, write=False) as store:
        for name, study, label, status, seconds, finished, metrics in store.index(options.of):
            first = "  ".join(f"{k} {v:.4g}" for k, v in list(metrics.items())[:2])
            said = first if status == "done" else "FAILED"
            print(f"{name[:10]}  {finished[:16]}  {seconds:7.1f} s  {study:12} {label}  {said}")
    return 0


def _show(options: argparse.Namespace, console: Console) -> int:
    with Store(options.out, write=False) as store:
        failed = [f for f in store.failures() if f[0].startswith(options.run)]
        if len(failed) == 1 and not any(store.rows(prefix=options.run)):
            name, label, error = failed[0]
            print(f"{label}  {name}\nFAILED\n\n{error}")
            return 0
        row = _one(store, options.run)
    print(f"{row.label}  {row.key}\n{row.study}, {row.finished}, {row.seconds:.1f} s\n")
    for title, values in (
        ("Settings", flat(row.settings)),
        ("Metrics", row.metrics),
        ("Environment", row.environment),
    ):
        table = Table(title, "", box=None, header_style="bold")
        for name, value in values.items():
            table.add_row(escape(name), escape(str(value)))
        console.print(table)
    for name, values in row.curves.items():
        shown = " ".join(f"{v:.4g}" for v in values[:100])
        said = escape(f"{name} ({len(values)}): {shown}")
        console.print(said, soft_wrap=True, highlight=False)
    return 0


def _compare(options: argparse.Namespace, console: Console) -> int:
    with Store(options.out, write=False) as store:
        rows = [_one(store, prefix) for prefix in options.run]
    for title, sides in (
        ("Settings that differ", [flat(row.settings) for row in rows]),
        ("Metrics", [row.metrics for row in rows]),
        ("Environment", [row.environment for row in rows]),
    ):
        table = Table(title, *(row.key[:10] for row in rows), box=None, header_style="bold")
        for name in dict.fromkeys(itertools.chain(*sides)):
            values = [side.get(name, "—") for side in sides]
            if values[0] != values[1] or title == "Metrics":
                table.add_row(escape(name), *(escape(str(value)) for value in values))
        console.print(table)
    return 0


def _export(options: argparse.Namespace, console: Console) -> int:
    with Store(options.out, write=False) as store:
        if options.epochs:
            path, count = options.epochs, write_csv(options.epochs, _epochs(store, options.of))
        elif options.csv:
            path, count = options.csv, write_csv(options.csv, list(flat_rows(store, options.of)))
        else:
            path, count = options.parquet, _parquet(options.parquet, store, options.of)
    console.print(f"{count} rows in {path}", highlight=False)
    return 0


def _prune(options: argparse.Namespace, console: Console) -> int:
    if not (options.before or options.failed or options.of):
        raise ValueError("prune wants at least one of --study, --before, --failed")
    with Store(options.out) as store:
        names = [
            name
            for name, _, _, status, _, finished, _ in store.index(options.of)
            if (not options.before or finished < options.before)
            and (not options.failed or status == "failed")
        ]
        if options.yes:
            console.print(f"{store.prune(names)} runs forgotten")
        else:
            console.print(f"{len(names)} runs would be forgotten; give --yes to do it")
    return 0


_ALL: dict[str, tuple[Callable[[argparse.Namespace, Console], int], str]] = {
    "list": (_list, "every stored run, oldest first"),
    "show": (_show, "all that is stored of one run"),
    "compare": (_compare, "two runs: what differs in settings, metrics, environment"),
    "export": (_export, "all runs as a table, to CSV or Parquet"),
    "prune": (_prune, "forget runs and their networks"),
}
COMMANDS = {name: command for name, (command, _) in _ALL.items()}


def _one(store: Store, prefix: str) -> Row:
    found = list(itertools.islice(store.rows(prefix=prefix), 2))
    if len(found) != 1:
        failed = any(name.startswith(prefix) for name, *_ in store.failures())
        none = "no run that was done begins" if failed else "no run begins"
        many = "more than one run begins" if found else none
        raise ValueError(f"{many} with {prefix!r} in {store.file}; `list` prints the keys")
    return found[0]


# ---------------------------------------------------------------------------- tables


def flat(settings: str) -> dict[str, str]:
    """Fields of a run by dotted path, from its repr, without evaluating it."""
    found: dict[str, str] = {}

    def visit(node: ast.expr, path: str) -> None:
        if isinstance(node, ast.Call) and (node.keywords or not node.args):
            if path:
                found[path] = ast.unparse(node.func)
            for keyword in node.keywords:
                visit(keyword.value, f"{path}.{keyword.arg}" if path else str(keyword.arg))
        else:
            found[path] = ast.unparse(node)

    try:
        visit(ast.parse(settings, mode="eval").body, "")
    except SyntaxError:  # a repr of one's own
        found["settings"] = settings
    return found


def flat_rows(store: Store, study: str | None = None) -> Iterator[dict[str, Any]]:
    """A flat record of every result: key, study, settings by path, metrics."""
    for row in store.rows(study):
        yield {
            "key": row.key,
            "study": row.study,
            "kind": row.kind,
            "label": row.label,
            "finished": row.finished,
            "seconds": row.seconds,
            **{f"settings.{name}": value for name, value in flat(row.settings).items()},
            **row.metrics,
        }


def _epochs(store: Store, study: str | None) -> list[dict[str, Any]]:
    return [
        {"key": row.key, "label": row.label, "curve": name, "index": index, "value": value}
        for row in store.rows(study)
        for name, values in row.curves.items()
        for index, value in enumerate(values)
    ]


def write_csv(path: Path, records: list[dict[str, Any]]) -> int:
    """Records with any fields as one table; how many."""
    names = list(dict.fromkeys(itertools.chain.from_iterable(records)))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(records)
    return len(records)


def frame(store: Store, study: str | None = None) -> Any:
    """The results as a pandas DataFrame, a row a run; needs pandas."""
    import pandas

    return pandas.DataFrame.from_records(list(flat_rows(store, study)))


def _parquet(path: Path, store: Store, study: str | None) -> int:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError("--parquet needs the package pyarrow; --csv needs none") from None
    records = list(flat_rows(store, study))
    names = list(dict.fromkeys(itertools.chain.from_iterable(records)))
    table = pyarrow.table({name: [record.get(name) for record in records] for name in names})
    pyarrow.parquet.write_table(table, path)
    return len(records)
