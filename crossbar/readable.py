"""One physical matrix that is read: its cells, converters and random streams."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.cells import Cells
from crossbar.chip import Chip
from crossbar.operations import Lookup, Matmul, Operation
from crossbar.planes import Lying, Order
from crossbar.port import Port
from crossbar.probe import Probe
from crossbar.read import Call
from crossbar.regions import EVERYWHERE, Form, Region
from crossbar.solve import Solution
from crossbar.streams import Streams
from crossbar.transposed import Part, columns_of, numbers, part_of, rows_of, solved
from crossbar.uses import physical

COMPENSATION = ("column_gain", "column_offset", "row_order", "col_order", "tile_gain")


class Readable(nn.Module):
    """What `Matrix` is to whoever reads it."""

    column_gain: Tensor | None  # (..., cols) digital factor of each output
    column_offset: Tensor | None  # (..., cols) added to it
    tile_gain: Tensor | None  # (..., down, across) digital factor of what each tile gives
    row_order: Tensor | None  # (rows,) and (cols,), see `Order`
    col_order: Tensor | None

    role: tuple[str, str] | None = None
    """Name and phase that probes know an array beside a model by; None: it is of the model."""

    __array_ufunc__ = None  # an array on the left leaves the product to `__rmatmul__`

    def __init__(
        self, chip: Chip, form: Form, shape: tuple[int, ...], seed: int | None = None
    ) -> None:
        super().__init__()
        self.chip, self.form, self.lines = chip, form, tuple(shape)
        self.streams = Streams(seed)
        self.cells: Cells | None = None
        self.probe: Probe | None = None
        self.exact: Tensor | None = None  # (m, n) what `matrix` wrote, until cells are pulsed
        for name in COMPENSATION:
            self.register_buffer(name, None)
        self.layout, self.floor, self.span = chip.layout, chip.floor, chip.device.window.span
        columns = len(self.layout.columns)
        lead, (rows, cols) = shape[:-2], shape[-2:]
        name = f"{self.streams.seed}/converters"
        down, across = (len(chip.tiles(self.lines, transposed)) for transposed in (False, True))
        ends = (*lead, rows), (*lead, cols)
        self.forward_port = Port(chip.forward, down, columns, ends[1], ends[0], f"{name}/0")
        self.backward_port = Port(chip.backwards, across, columns, *ends, f"{name}/1")

    def __getstate__(self) -> dict[str, Any]:
        """Copies are watched by nobody: who watches the one did not ask for the other."""
        return {**self.__dict__, "probe": None}

    @property
    def order(self) -> Order | None:
        """Where the logical rows and columns lie; None: in their own order."""
        if self.row_order is None or self.col_order is None:
            return None
        return self.row_order, self.col_order

    @property
    def lies(self) -> Order | Lying | None:
        """The same, among spare lines too."""
        return (self.cells and self.cells.lying) or self.order

    # ---- reads -----------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n) of the matrix that `@` multiplies by."""
        return self.lines[-1], self.lines[-2]

    @property
    def T(self) -> Part:  # noqa: N802 - numpy's name
        """The transpose: the same cells read the other way."""
        return Part(self, Region(transposed=True))

    def __getitem__(self, key: Any) -> Part:
        """Some rows and columns of A, by slices: `A[2:5, ::2] @ x` drives and senses these alone.

        Raises:
            TypeError: no slices. ValueError: nothing, or backwards.
        """
        return part_of(self, EVERYWHERE, self.shape, key)

    def __matmul__(self, x: Tensor) -> Tensor:
        """A @ x for x of shape (n,) or (n, k).

        Raises:
            ValueError: x of another height.
        """
        return columns_of(x, self, self.mv)

    def __rmatmul__(self, x: Any) -> Tensor:
        """x @ A for x of shape (m,) or (k, m): read from the columns."""
        return rows_of(x, self.T, self.mv_t)

    def solve(self, b: Tensor, exact: Tensor | None = None, **options: Any) -> Solution:
        """x of A x = b to float64, by corrections that the array computes; see `crossbar.solve`.

        Args:
            b: (n,), finite.
            exact: A as digital logic knows it, (n, n); None: what was written last.
            options: method "gmres" or "refinement"; terms of the correction (8: 7 products; None
                inverts it in a feedback loop); rtol of the residual (1e-10); most iterations (200).

        Raises:
            ValueError: not square, b of another size, or cells pulsed since (exact is unknown).
        """
        return solved(self, b, exact, options)

    def mv(self, x: Tensor, op: Operation | None = None) -> Tensor:
        """The forward read of x (..., rows), or of what `op` takes; differentiable in x."""
        return self.mv_of(x, EVERYWHERE, op)

    def mv_t(self, d: Tensor, op: Operation | None = None) -> Tensor:
        """The transposed read of d (..., cols); differentiable in d."""
        return self.mv_of(d, Region(transposed=True), op)

    def mv_of(self, v: Tensor, region: Region, op: Operation | None = None) -> Tensor:
        """The read of a part of the matrix; differentiable in v."""
        return self._physical(v, Call(self, op or Matmul(), region, quiet=self.quiet))

    def read_column(self, j: Tensor | int) -> Tensor:
        """Columns j (q,) as the transposed periphery reads them one by one, (q, ..., rows).

        Raises:
            TypeError: no whole numbers. ValueError: a column that is not there.
        """
        return self._picked(_lines(j, self.lines[-1]), Region(transposed=True), self.quiet)

    def read_row(self, i: Tensor | int) -> Tensor:
        """Rows i (q,) as the forward periphery reads them one by one, (q, ..., cols).

        Raises:
            TypeError: no whole numbers. ValueError: a row that is not there.
        """
        return self._picked(_lines(i, self.lines[-2]), EVERYWHERE, self.quiet)

    def _picked(
        self, line: Tensor | int, region: Region, quiet: bool, shared: bool = False
    ) -> Tensor:
        """A read that drives lines one by one; those of several groups drive that line of each."""
        g = self.written.w_max
        at, count = (
            torch.as_tensor(line, device=g.device),
            self.lines[-1 if region.transposed else -2],
        )
        if math.prod(self.lines[:-2]) == 1:
            call = Call(self, Lookup(at, count), region, quiet=quiet, shared=shared)
            return self._physical(g.new_ones(*at.shape, 1), call)
        hot = nn.functional.one_hot(at, count).to(g).unsqueeze(-2)
        hot = hot.expand(*at.shape, self.lines[0], -1)
        return self._physical(hot, Call(self, Matmul(), region, quiet=quiet, shared=shared))

    def _physical(self, x: Tensor, call: Call) -> Tensor:
        planes = self.written.planes()
        return physical(x.to(self.written.w_max.dtype), None, planes, self.written.w_max, call)

    def __dir__(self) -> list[str]:
        """Without what only cells answer where there are none: `torch.jit` asks for all of it."""
        names: list[str] = super().__dir__()  # type: ignore[no-untyped-call]
        return names if self.cells is not None else sorted({*names} - {"written", "granularity"})

    @property
    def quiet(self) -> bool:
        """Whether a read now is an evaluation, with random streams of its own."""
        return not self.training or not torch.is_grad_enabled()

    @property
    def written(self) -> Cells:
        """The cells.

        Raises:
            TypeError: there are none yet.
        """
        cells: Any = self._modules.get("cells")
        if cells is None:
            raise TypeError("the matrix has no cells yet: program() it first")
        return cells

    @property
    def weight(self) -> Tensor:
        """Logical weights (..., rows, cols) that the cells hold now."""
        if self.cells is None:  # for whoever asks every module of a model for its weight
            raise AttributeError("the matrix has no cells yet: program() it first")
        return self.cells.weight

    @property
    def predistorted(self) -> bool:
        """Whether the cells hold other weights than they compute with."""
        return self.column_gain is not None and self.column_offset is None

    @property
    def meant(self) -> Tensor:
        """The weights to take elsewhere: what predistorted cells compute, else what cells hold."""
        if not self.predistorted:
            return self.weight
        seen = self.layout.logical(self.written.relative().matrix, self.floor)
        assert self.column_gain is not None
        return seen * self.written.w_max * self.column_gain.unsqueeze(-2)

    @property
    def granularity(self) -> Tensor:
        """Weight change of one coincidence, () or (..., 1, cols).

        Raises:
            TypeError: a device or mapping that pulses cannot train.
        """
        device = self.chip.device
        if device.update is None:
            raise TypeError("this device has no update law (update=None): it has no granularity")
        step = device.update.step(device.window) / device.window.span
        return self.written.w_max * (step * self.chip.mapping.gain)


def _lines(given: Any, count: int) -> Tensor:
    """Numbers of lines, of so many."""
    at = numbers(given)
    if at.is_floating_point() or at.is_complex() or at.dtype == torch.bool:
        raise TypeError(f"lines are told by whole numbers, got {given!r}")
    if not torch.compiler.is_compiling() and at.numel():
        low, high = torch.stack(at.aminmax()).tolist()
        if low < 0 or high >= count:
            raise ValueError(f"lines must be in 0 … {count - 1}, got {given!r}")
    return at
