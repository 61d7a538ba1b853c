"""Published figures beside ours: one table, each row with its criterion, failures left in it.

Energies, times and areas follow from published counts and constants and need no run; the studies
A1 … A11 are repeated at a size that their file states, A12 as published where MNIST is there. A row
that is red is one where this emulator and the publication differ by more than was written down
before; an open one is where the 95 % interval of these runs does not tell. Of energies each row
says what it is: an identity of published numbers, counted events times stated costs, a cell that
was fitted, or a prediction.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from experiments.lab.report import Check, Report, Section, Table
from experiments.lab.run import Run
from experiments.lab.store import Store
from experiments.lab.study import Study
from experiments.studies.verify.anchors import ANCHORS, Tables
from experiments.studies.verify.claims import Anchor, Claim
from experiments.tasks.data import Mnist, data_set
from experiments.tasks.published import Row, Summary, rows, summary

ENERGY = "energy"
KEYS = [ENERGY, *(anchor.key for anchor in (*ANCHORS, Tables))]
HEADERS = ["study", "source", "setting", "kind", "unit", "published", "criterion", "ours", "off",
           "verdict", "reason"]  # fmt: skip
VERDICTS = {True: "green", False: "red", None: "open"}


class Verify(Study):
    """The table; `table.csv` beside the report is the same for machines."""

    name = "verify"
    help = "published figures beside ours: source, setting, published, ours, verdict"

    def arguments(self, parser: ArgumentParser) -> None:  # noqa: D102
        told = "; ".join(f"{a.key}: {a.about}" for a in (*ANCHORS, Tables))
        parser.add_argument(
            "--only", choices=KEYS, action="append", metavar="KEY",
            help=f"only this, may be repeated. {ENERGY}: energies, times and areas; {told}",
        )  # fmt: skip
        parser.add_argument(
            "--data-dir", help=f"folder of MNIST's four IDX files: {Tables.key} is computed too"
        )
        parser.add_argument(
            "--quick", action="store_true", help="a size that decides only what no seed moves"
        )

    def anchors(self, options: Namespace) -> list[Anchor]:
        """Those that are asked for, and can be computed from what is there.

        Raises:
            ValueError: A12 alone asked for without its data.
            FileNotFoundError: files that are missing.
        """
        wanted = options.only or KEYS
        made = [anchor(options.quick) for anchor in ANCHORS if anchor.key in wanted]
        if Tables.key in wanted and options.data_dir is not None:
            data = data_set("mnist", options.data_dir)
            assert isinstance(data, Mnist)
            made.append(Tables(options.quick, data))
        elif options.only and Tables.key in options.only:
            raise ValueError(
                f"--only {Tables.key} needs --data-dir, the folder of MNIST's four IDX files"
            )
        return made

    def runs(self, options: Namespace) -> list[Run]:  # noqa: D102
        return [run for anchor in self.anchors(options) for run in anchor.runs()]

    def report(self, options: Namespace, store: Store) -> Report:  # noqa: D102
        lines: list[list[str]] = []
        checks: list[Check] = []
        if not options.only or ENERGY in options.only:
            found = rows()
            lines += [_priced(row) for row in found]
            checks += [_check(row) for row in found if row.verdict != "shown"]
            checks.append(_predicted(summary(found)))
        for anchor in self.anchors(options):
            for claim in anchor.claims(store):
                holds = claim.holds if anchor.exact or not options.quick else None
                lines.append(_claimed(anchor.key, claim, holds))
                name = f"{anchor.key}, {claim.source}: {claim.setting}"
                wanted = f"{claim.criterion} {claim.unit}"
                checks.append(Check(name, wanted, f"{claim.found} {claim.unit}", holds))
        left_out = ""
        if not options.only and options.data_dir is None:
            left_out = f"{Tables.key} is not computed: {Tables.about}, the folder of MNIST."
        table = Table(HEADERS, lines, prose=True)
        verdicts = [line[HEADERS.index("verdict")] for line in lines]
        count = {v: verdicts.count(v) for v in ("green", "red", "open", "shown")}
        said = ", ".join(f"{number} {verdict}" for verdict, number in count.items())
        return Report(
            title="Published figures",
            subtitle=f"{len(lines)} rows: {said}",
            summary=[
                f"Of {len(lines)} published figures {count['green']} meet the criterion that was "
                f"written down before, {count['red']} do not; {count['open']} are left open by the "
                f"runs' own spread or size, {count['shown']} are shown where nothing is claimed.",
                *([left_out] if left_out else []),
            ],
            table=table,
            checks=checks,
            sections=[Section("All rows", [], [table])],
        )


def _predicted(said: Summary) -> Check:
    """Of what constants of other cells predict, together."""
    return Check(
        "Energies and times that other cells predict",
        "median off by ≤ 10 %, none by more than 25 %",
        f"median {100 * said.median:.1f} %, largest {100 * said.largest:.1f} % of {said.rows}; "
        f"{said.unmet} more cannot be met",
        said.holds,
    )


def _priced(row: Row) -> list[str]:
    published, ours = ("" if n is None else f"{n:.5g}" for n in (row.published, row.ours))
    bound = "" if row.tolerance is None else f"± {100 * row.tolerance:.4g} %"
    off = "" if row.error is None else f"{100 * row.error:+.1f} %"
    return [ENERGY, row.source, row.setting, row.kind.value, row.unit, published, bound, ours, off,
            row.verdict, row.reason]  # fmt: skip


def _claimed(key: str, claim: Claim, holds: bool | None) -> list[str]:
    return [key, claim.source, claim.setting, "repeated", claim.unit, claim.published,
            claim.criterion, claim.found, "", VERDICTS[holds], claim.note]  # fmt: skip


def _check(row: Row) -> Check:
    return Check(
        f"{row.source}, {row.setting}",
        f"{row.published:g} {row.unit}" if row.published is not None else "stated",
        "not computed" if row.ours is None else f"{row.ours:.4g} {row.unit}",
        row.verdict == "green",
    )
