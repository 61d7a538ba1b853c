"""The command line: run a study, keep its results, write its report; look at what is kept.

Exit status: 0 done, 1 some runs failed, 2 wrong input, 3 a claim of the report fails, 130 stopped.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from experiments.lab import kept
from experiments.lab.engine import Engine, NoCluster, RunsFailed, cores, share
from experiments.lab.epochs import EpochsFile
from experiments.lab.plan import Plan
from experiments.lab.progress import duration
from experiments.lab.report import Report, show, write
from experiments.lab.run import Run
from experiments.lab.store import Store, StoreError
from experiments.lab.study import Study, listed, provenance, studies, study_of


def parser(known: dict[str, Study]) -> argparse.ArgumentParser:
    """The command line: one subcommand per study, and those that look at results."""
    top = argparse.ArgumentParser(
        prog="python -m experiments",
        description=__doc__,
        epilog="A file my_study.py in place of STUDY runs the study that it defines; `report` "
        "before any of these writes the report of what is there and computes nothing.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="study", required=True, metavar="STUDY")
    for name, study in known.items():
        sub = commands.add_parser(name, help=study.help, description=study.help)
        study.arguments(sub)
        _common(sub)
    kept.arguments(commands)
    return top


def _common(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--out",
        type=Path,
        default=Path("results"),
        help="folder of the results and reports (default: %(default)s)",
    )
    sub.add_argument("--page", type=Path, help="folder of the report (default: inside --out)")
    place = sub.add_mutually_exclusive_group()
    place.add_argument(
        "--workers", type=int, help="processes, one thread each (default: one per core)"
    )
    place.add_argument("--scheduler", help="address of a Dask scheduler, tcp://host:8786")
    sub.add_argument(
        "--dry-run", action="store_true", help="say how many runs, time and disk; run nothing"
    )
    sub.add_argument(
        "--epochs-to", type=Path, metavar="FILE", help="epochs as they go: a CSV, or a folder for "
        "TensorBoard"
    )  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    command, console = shlex.join(["python", "-m", "experiments", *given]), Console()
    try:
        compute = given[:1] != ["report"]
        given = given if compute else given[1:]
        known = studies()
        if given and given[0].endswith(".py"):
            own = study_of(Path(given[0]))
            known, given = {**known, own.name: own}, [own.name, *given[1:]]
        options = parser(known).parse_args(given)
        if options.study in kept.COMMANDS:
            return kept.COMMANDS[options.study](options, console)
        study = known[options.study]
        runs = study.runs(options)
        engine = Engine(options.workers, options.scheduler, EpochsFile.of(options.epochs_to))
    except (ValueError, TypeError, OSError, StoreError) as error:
        return _wrong(error)
    try:
        if options.dry_run:
            return _dry(study, runs, options, console)
        return _run(study, runs, options, engine if compute else None, command, console)
    except (StoreError, NoCluster, OSError) as error:
        return _wrong(error)


def _wrong(error: Exception) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or 'a file'}: {error.strerror}"
    print(f"error: {text}", file=sys.stderr)
    return 2


def _run(
    study: Study,
    runs: list[Run],
    options: argparse.Namespace,
    engine: Engine | None,
    command: str,
    console: Console,
) -> int:
    status = 0
    with Store(options.out, write=engine is not None) as store:
        try:
            if engine is not None:
                with engine:
                    engine.execute(study.name, runs, store)
                    while found := study.more(options, store):
                        engine.execute(study.name, found, store)
                        runs = [*runs, *found]
        except KeyboardInterrupt:
            status = 130
            print(f"\nstopped; {len(store)} results are kept in {store.file}")
            print(f"go on where it stopped: {command}", flush=True)
        except RunsFailed as error:
            status = 1
            print(f"error: {error}\nall other results are kept in {store.file}", file=sys.stderr)
        except ValueError as error:  # of a search that cannot go on
            status = _wrong(error)
        try:
            given_up = status == 2
            report = (
                listed(study.name, runs, store)
                if given_up
                else _report(study, runs, options, store)
            )
        except StoreError:
            raise
        except Exception:  # of the study's own code: what was computed is shown all the same
            status = 1
            print(f"error: the report of {study.name} failed:", file=sys.stderr)
            traceback.print_exc()
            report = listed(study.name, runs, store)
        report = replace(report, provenance=provenance(runs, store, command))
        page = write(report, options.page or options.out / study.folder(options))
    show(report, console)
    console.print(f"\nreport: {page}\nresults: {options.out / 'results.sqlite'}", soft_wrap=True)
    fails = any(check.holds is False for check in report.checks)
    return 3 if fails and not status else status


def _report(study: Study, runs: list[Run], options: argparse.Namespace, store: Store) -> Report:
    """The study's own where all is there, otherwise a list of what is there and what is not."""
    if not all(run in store for run in runs):
        return listed(study.name, runs, store)
    report = study.report(options, store)
    small = study.too_small(options)
    if not small:
        return report
    checks = [replace(c, found=f"{c.found} ({small})", holds=None) for c in report.checks]
    return replace(report, checks=checks)


def size(count: float) -> str:
    """Bytes in words: kB below a tenth of a megabyte."""
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{math.ceil(count / 1e3)} kB"


START = 3.0
"""Seconds until workers are there and have imported torch."""

OFF = 10.0
"""How many times the guess a study may take on a machine where none of it was measured."""


def _dry(study: Study, runs: list[Run], options: argparse.Namespace, console: Console) -> int:
    """Say what would be done."""
    slower, took = 1 / share(), defaultdict[type[Run], list[tuple[float, float]]](list)
    if (options.out / "results.sqlite").is_file():
        with Store(options.out, write=False) as store:
            plan = Plan(runs, store.has)
            for run in plan.kept:
                took[type(run)].append((store[run].seconds, run.cost()))
    else:
        plan = Plan(runs, lambda name: False)
    # this very work, on this machine: each kind of run is as far off its guess as it was before
    scales = {
        kind: sum(seconds for seconds, _ in found) / max(sum(cost for _, cost in found), 1e-9)
        for kind, found in took.items()
        if len(found) >= 3
    }
    waiting = plan.waiting.values()
    workers = min(options.workers or cores(), max(1, len(waiting)))
    work = sum(run.cost() * scales.get(type(run), slower) for run in waiting)
    guessed = sum(run.cost() * slower for run in waiting if type(run) not in scales)
    seconds = (START * slower + work / workers) if waiting else 0.0
    about = f"about {duration(seconds)}"
    if guessed > work / 2:  # a processor that is slower or shared is not known before it was tried
        about += f" (a guess: up to {duration(OFF * seconds)} where little was measured here)"
    console.print(
        f"{study.name}: {len(waiting)} runs to do, {plan.stored} already stored; {about} on "
        f"{workers} workers, {size(sum(run.disk() for run in waiting))} of disk",
        soft_wrap=True,
    )
    return 0
