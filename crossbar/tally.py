"""What the arrays of a model did, counted: reads, conversions, clipping, pulses."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crossbar.converters import Digit
from crossbar.port import Port
from crossbar.probe import Probe
from crossbar.probes import matrices, named
from devices import Pulses


class Counted(NamedTuple):
    """What one weight's matrices did.

    `clipped` is the share of conversions at or beyond full scale, `used` the largest current that
    was converted relative to full scale (beyond 1 it was cut), both of the reads of one direction;
    NaN without conversions.
    """

    reads: int  # uses of the matrix, batches, in either direction
    lines: float  # driven lines whose voltage is not zero, summed over digits and vectors
    conversions: int
    clipped: float
    used: float
    back_conversions: int  # of transposed reads
    back_clipped: float
    back_used: float
    pulses: float  # mean counts of potentiation and depression, summed over cells
    programmed: int  # cells written


class Tally(Probe, Mapping[str, Counted]):
    """Counts of every analog weight of a model, by module path and parameter name.

        with xb.observe(model, xb.Tally(model)) as tally:
            model(x)
        print(tally)                          # a line a weight
        tally["0.weight"].clipped             # share of conversions at full scale

    Args:
        model: a model with analog layers or matrices in it, or a `Matrix` (named "matrix").

    Raises:
        ValueError: no analog layer.
    """

    def __init__(self, model: nn.Module) -> None:
        matrices(model)  # refuses what has none
        self._names = {matrix: name for matrix, (name, _) in named(model).items()}
        self._sums: dict[str, dict[str, Any]] = {name: {} for name in self._names.values()}

    # ---- as it happens -------------------------------------------------------------------------

    def encoded(
        self, matrix: Any, port: Port, x: Tensor, scale: Tensor | None, digits: Sequence[Digit]
    ) -> None:
        """A read, and the lines it drives."""
        self._add(matrix, "reads", 1)
        for digit in digits:
            self._add(matrix, "lines", digit.v.detach().count_nonzero())

    def converted(
        self, matrix: Any, port: Port, tile: int, column: int, i: Tensor, full: Any
    ) -> None:
        """Conversions, and those at full scale."""
        if full is None or not i.numel():
            return
        way = "back_" if port is matrix.backward_port else ""
        full = torch.as_tensor(full).detach()  # a learned one has a gradient
        adc = port.settings.adc
        assert adc is not None
        share = adc.needs(i.detach()) / full
        # a current that rounding alone lifts over full scale is at it, not beyond
        edge = 1 - 8 * torch.finfo(share.dtype).eps
        cut = adc.cuts(i.detach(), full, edge)
        self._add(matrix, f"{way}conversions", i.numel())
        self._add(matrix, f"{way}clipped", cut.sum())
        self._top(matrix, f"{way}used", share.amax())

    def repeated(self, matrix: Any, port: Port, n: Tensor) -> None:
        """Conversions too."""
        self._add(matrix, f"{'back_' if port is matrix.backward_port else ''}again", n)

    def pulsed(self, matrix: Any, given: tuple[Pulses | None, ...]) -> None:
        """Pulses of every device."""
        for pulses in given:
            if pulses is not None:
                self._add(matrix, "pulses", pulses.up.sum() + pulses.down.sum())

    def programmed(self, matrix: Any, target: Tensor) -> None:
        """Cells written."""
        self._add(matrix, "programmed", target.numel())

    def _add(self, matrix: Any, field: str, n: Any) -> None:
        sums = self._of(matrix)
        sums[field] = sums.get(field, 0) + n

    def _of(self, matrix: Any) -> dict[str, Any]:
        if matrix not in self._names and matrix.role is not None:
            self._names[matrix] = matrix.role[0]
        return self._sums.setdefault(self._names[matrix], {})

    def _top(self, matrix: Any, field: str, value: Tensor) -> None:
        sums = self._of(matrix)
        sums[field] = torch.maximum(sums[field], value) if field in sums else value

    # ---- what was counted ------------------------------------------------------------------------

    def __getitem__(self, name: str) -> Counted:
        """Of one weight."""
        sums = {key: float(value) for key, value in self._sums[name].items()}
        fields = {key: sums.get(key, 0.0) for key in Counted._fields}
        for way in ("", "back_"):
            n = fields[f"{way}conversions"]
            fields[f"{way}clipped"] = fields[f"{way}clipped"] / n if n else math.nan
            fields[f"{way}used"] = fields[f"{way}used"] if n else math.nan
            fields[f"{way}conversions"] = n + sums.get(f"{way}again", 0.0)
        for key in ("reads", "conversions", "back_conversions", "programmed"):
            fields[key] = int(fields[key])
        return Counted(**fields)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[str]:
        """Names of the weights."""
        return iter(self._sums)

    def __len__(self) -> int:
        """Number of weights."""
        return len(self._sums)

    def __hash__(self) -> int:
        """By identity, as a probe."""
        return id(self)

    def __repr__(self) -> str:
        """A table, a line a weight."""
        heads = ("weight", "reads", "lines", "conversions", "clipped", "used", "", "pulses")
        rows = [heads]
        for name, n in self.items():
            back = "" if not n.back_conversions else f"back: {n.back_clipped:.2%} of "
            back += "" if not n.back_conversions else f"{n.back_conversions:,}, {n.back_used:.2f}"
            shares = ("", "") if not n.conversions else (f"{n.clipped:.2%}", f"{n.used:.2f}")
            rows.append(
                (name, f"{n.reads:,}", f"{n.lines:,.0f}", f"{n.conversions:,}", *shares, back)
                + (f"{n.pulses:,.4g}",)
            )
        wide = [max(len(row[k]) for row in rows) for k in range(len(heads))]
        return "\n".join(
            "  ".join(
                cell.ljust(w) if k == 0 else cell.rjust(w)
                for k, (cell, w) in enumerate(zip(row, wide, strict=True))
            ).rstrip()
            for row in rows
        )
