"""The command line: run a study, keep its results, write its report."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from experiments.lab.engine import RunsFailed, execute
from experiments.lab.report import show, write
from experiments.lab.store import Store
from experiments.lab.study import Study, studies


def parser(known: dict[str, Study]) -> argparse.ArgumentParser:
    """The command line: one subcommand per study, and the options that all of them share."""
    top = argparse.ArgumentParser(prog="python -m experiments", description=__doc__)
    commands = top.add_subparsers(dest="study", required=True, metavar="STUDY")
    for name, study in known.items():
        sub = commands.add_parser(name, help=study.help, description=study.help)
        study.arguments(sub)
        sub.add_argument(
            "--out",
            type=Path,
            default=Path("results"),
            help="folder of the results and reports (default: %(default)s)",
        )
        sub.add_argument(
            "--workers", type=int, help="processes, one thread each (default: one per core)"
        )
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    known = studies()
    options = parser(known).parse_args(given)
    study, console = known[options.study], Console()
    command = shlex.join(["python", "-m", "experiments", *given])
    options.command = command
    try:
        runs = study.runs(options)
        if options.workers is not None and options.workers < 1:
            raise ValueError(f"--workers must be >= 1, got {options.workers}")
    except (ValueError, TypeError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with Store(options.out) as store:
        try:
            execute(study.name, runs, store, workers=options.workers)
        except KeyboardInterrupt:
            print(
                f"\nstopped; {len(store)} results are kept in {store.file}\n"
                f"go on where it stopped: {command}"
            )
            return 130
        except RunsFailed as error:
            print(f"error: {error}\nall other results are kept in {store.file}", file=sys.stderr)
            return 1
        report = study.report(options, store)
        page = write(report, options.out / study.folder(options))
    show(report, console)
    console.print(f"\nreport: {page}\nresults: {store.file}", soft_wrap=True)
    return 0
