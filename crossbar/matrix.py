"""One physical matrix: its cells, converters and random streams, and the autograd of its reads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.cells import Cells
from crossbar.chip import Chip
from crossbar.operations import Lookup, Matmul, Operation
from crossbar.planes import Order, efficacy_of
from crossbar.port import Port
from crossbar.pulses import Scheme
from crossbar.read import Call, Probe
from crossbar.regions import EVERYWHERE, Form, Region
from crossbar.solve import Solution, solve
from crossbar.states import Writer, writing
from crossbar.streams import WRITE, Streams
from crossbar.transposed import Transposed, columns_of
from crossbar.uses import physical
from devices import Pulses

COMPENSATION = ("column_gain", "column_offset", "row_order", "col_order", "tile_gain")


class Matrix(nn.Module):
    """Cells in the shape (..., rows, cols) of one logical matrix, and everything around them.

    `cells` is None until `fabricate`; converters and streams exist from the start, so that a
    calibration survives the writing.

        y = A @ x,   z = A.T @ y      (x (n,) or (n, k), y (m,) or (m, k); see `crossbar.matrix`)
    """

    column_gain: Tensor | None  # (..., cols) digital factor of each output
    column_offset: Tensor | None  # (..., cols) added to it
    tile_gain: Tensor | None  # (..., down, across) digital factor of what each tile gives
    row_order: Tensor | None  # (rows,) and (cols,), see `Order`
    col_order: Tensor | None

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

    @property
    def order(self) -> Order | None:
        """Where the logical rows and columns lie; None: in their own order."""
        if self.row_order is None or self.col_order is None:
            return None
        return self.row_order, self.col_order

    # ---- reads -----------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n) of the matrix that `@` multiplies by."""
        return self.lines[-1], self.lines[-2]

    @property
    def T(self) -> Transposed:  # noqa: N802 - numpy's name
        """The transpose: the same cells read the other way."""
        return Transposed(self)

    def __matmul__(self, x: Tensor) -> Tensor:
        """A @ x for x of shape (n,) or (n, k).

        Raises:
            ValueError: x of another height.
        """
        return columns_of(x, self.shape[1], self.mv)

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
        exact = self.exact if exact is None else exact
        if exact is None:
            raise ValueError("solve needs exact=: the cells have moved since they were written")
        return solve(self, b, exact, **options)

    def mv(self, x: Tensor, op: Operation | None = None) -> Tensor:
        """The forward read of x (..., rows), or of what `op` takes; differentiable in x."""
        return self._physical(x, Call(self, op or Matmul(), quiet=self.quiet))

    def mv_t(self, d: Tensor, op: Operation | None = None) -> Tensor:
        """The transposed read of d (..., cols); differentiable in d."""
        call = Call(self, op or Matmul(), Region(transposed=True), quiet=self.quiet)
        return self._physical(d, call)

    def read_column(self, j: Tensor | int) -> Tensor:
        """Columns j (q,) as the transposed periphery reads them one by one, (q, ..., rows)."""
        at = torch.as_tensor(j, device=self.written.g.device)
        return self._physical(*self._picked(at, self.lines[-1], transposed=True))

    def read_row(self, i: Tensor | int) -> Tensor:
        """Rows i (q,) as the forward periphery reads them one by one, (q, ..., cols)."""
        at = torch.as_tensor(i, device=self.written.g.device)
        return self._physical(*self._picked(at, self.lines[-2], transposed=False))

    def _picked(self, at: Tensor, count: int, transposed: bool) -> tuple[Tensor, Call]:
        """Inputs that drive lines one by one; those of several groups drive that line of each."""
        g, region = self.written.g, Region(transposed=transposed)
        if math.prod(self.lines[:-2]) == 1:
            return g.new_ones(*at.shape, 1), Call(self, Lookup(at, count), region, quiet=self.quiet)
        hot = (
            nn.functional.one_hot(at, count)
            .to(g)
            .unsqueeze(-2)
            .expand(*at.shape, self.lines[0], -1)
        )
        return hot, Call(self, Matmul(), region, quiet=self.quiet)

    def _physical(self, x: Tensor, call: Call) -> Tensor:
        planes = self.written.planes()
        return physical(x.to(self.written.g.dtype), None, planes, self.written.w_max, call)

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
        if self.cells is None:
            raise TypeError("the matrix has no cells yet: program() it first")
        return self.cells

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
        seen = self.layout.logical(self.written.planes().matrix, self.floor)
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

    # ---- verbs -----------------------------------------------------------------------------

    def fabricate(
        self,
        w_max: Tensor,
        dtype: torch.dtype,
        device: torch.device,
        wanted: Tensor | None = None,
    ) -> None:
        """Make the cells, at the bottom of the window; `wanted` is about to be written."""
        chip, form, lines, streams = self.chip, self.form, self.lines, self.streams
        self.cells = Cells(
            chip, form, lines, w_max, streams, dtype=dtype, device=device, wanted=wanted
        )
        self.cells.order = self.order
        self.near(device)

    def near(self, device: torch.device) -> None:
        """Bring the converters to where the weight is."""
        for port in (self.forward_port, self.backward_port):
            port.to(device)

    def program(
        self, weight: Tensor, writer: Writer | None = None, mask: Tensor | None = None
    ) -> None:
        """Write logical weights (..., rows, cols), see `Cells.program`."""
        targets, self.exact = self.written.program(weight, writer, mask), None
        if self.probe is not None:
            self.probe.programmed(self, targets)

    def pulse(self, pulses: Pulses) -> None:
        """Give every weight pulses, counts (..., rows, cols); up raises a weight."""
        self.exact = None
        with writing():
            self._pulse(pulses)
            self.written.refresh()
            self.written.sized()

    def drive(self, v: Tensor, dt: float) -> None:
        """Lay v [V], broadcastable to (K, ..., rows, cols), across the cells for dt [s]."""
        self.written.drive(v, dt)
        if self.probe is not None:
            self.probe.driven(self, v, dt)

    def advance(self, dt: float, temperature: float = 300.0) -> None:
        """Let dt seconds pass at `temperature` [K]."""
        self.written.advance(dt, temperature)

    def zero(self, pairs: int) -> None:
        """Bring every cell to its symmetry point by `pairs` of an up and a down pulse."""
        with writing():
            one = torch.ones(self.lines, dtype=self.written.g.dtype, device=self.written.g.device)
            none = torch.zeros_like(one)
            for _ in range(pairs):
                self._pulse(Pulses(one, none))
                self._pulse(Pulses(none, one))
            self.written.refresh()
            self.written.sized()

    def update(
        self,
        x: Tensor,
        d: Tensor,
        lr: float,
        scheme: Scheme,
        *,
        op: Operation | None = None,
        region: Region = EVERYWHERE,
        step: Tensor | float | None = None,
    ) -> None:
        """One outer-product update of −lr Σ x_i δ_j by pulses.

        Args:
            x: inputs, as `op` takes them.
            d: errors δ.
            lr: learning rate in the units of `torch.optim.SGD`; 0 sends no pulse.
            scheme: how x and δ become pulses.
            op: the operation whose vectors x and d are; None: x (n, rows), d (n, cols).
            region: the part of the matrix they are of.
            step: weight change that one coincidence is reckoned with; None: `granularity`.
        """
        if lr == 0 or not x.numel() or not d.numel():
            return
        self.exact = None
        op, cells = op or Matmul(), self.written
        x, d, rate = self.rated(x, d, lr, op, region, step)
        with writing():
            generator = self.streams.generator(WRITE, cells.g.device)
            efficacy = efficacy_of(self.chip, cells.state, self.order)
            disturbed = efficacy is not None and efficacy.row is not None
            if disturbed and region.transposed:
                raise TypeError("half_select=True counts the pulses of inputs on rows only")
            follows = efficacy is None
            if efficacy is None:
                for at, some in scheme.parcels(op, x, d, rate, generator=generator):
                    rounds = list(some)
                    if at is None:
                        rounds = [self._whole(pulses, region, generator) for pulses in rounds]
                    else:
                        at = region.flat(at, op.extent(x, d), self.lines)
                    self.tell(at, rounds)
                    follows &= cells.pulse_some(at, rounds, generator)
            else:
                for turn, xs, ds in scheme.turns(op, x, d):
                    fired = None
                    if disturbed:
                        pulses, fired = scheme.driven(turn, xs, ds, rate, generator=generator)
                    else:
                        pulses = scheme.pulses(turn, xs, ds, rate, generator=generator)
                    pulses = self._whole(pulses, region, generator)
                    self._pulse(pulses, fired, efficacy, generator)
            if cells.maintain(generator) or not follows:
                cells.refresh()
            cells.paced()

    def tell(self, at: Tensor | None, rounds: Sequence[Pulses]) -> None:
        """Rounds of pulses, of all weights or of the first so many of those `at`, to the probe."""
        if self.probe is None:
            return
        none = torch.zeros(self.lines, device=self.written.g.device).flatten()
        for ahead, pulses in enumerate(rounds):
            whole = pulses
            if at is not None:
                first = at[: len(pulses.up)]
                spread = [None if t is None else none.to(t).index_add(0, first, t) for t in pulses]
                whole = Pulses(*(None if t is None else t.view(self.lines) for t in spread))  # type: ignore[arg-type]
            self.probe.pulsed(self, self.written.given(whole, ahead))

    def rated(
        self,
        x: Tensor,
        d: Tensor,
        lr: float,
        op: Operation,
        region: Region,
        step: Tensor | float | None = None,
    ) -> tuple[Tensor, Tensor, float]:
        """x and δ, and the coincidences per unit of |x_i δ_j|, of an `update`."""
        g = self.written.g
        x, d = x.to(g.dtype), d.to(g.dtype)
        dw = self.granularity if step is None else torch.as_tensor(step, device=g.device)
        if dw.dim() == 0:
            return x, d, lr / float(dw)
        if region.transposed:  # a scale of its own for every column, which the inputs drive
            return x / op.forward.driven(region.of_cols(dw[..., 0, :])), d, lr
        return x, d / op.backward.driven(region.of_cols(dw[..., 0, :])), lr

    def _whole(self, pulses: Pulses, region: Region, generator: torch.Generator) -> Pulses:
        """Pulses of a region as those of the whole matrix, random ones with their fluctuation."""
        whole = Pulses(*(None if t is None else self._all(t, region) for t in pulses))  # type: ignore[arg-type]
        if not self.chip.mapping.alike or whole.up_var is None:
            return whole
        up = whole.up
        z = torch.randn(up.shape, generator=generator, dtype=up.dtype, device=up.device)
        return whole._replace(z=z)

    def _all(self, counts: Tensor, region: Region) -> Tensor:
        """Counts of a region as those of the whole matrix."""
        counts = counts.mT if region.transposed else counts
        if counts.shape == self.lines:
            return counts.contiguous()  # as the cells lie: the passes of a law are faster
        if counts.numel() == region.of(counts.new_empty(1).expand(self.lines)).numel():
            out = counts.new_zeros(self.lines)
            region.of(out).copy_(counts.reshape(region.of(out).shape))
            return out
        return counts

    def _pulse(
        self, pulses: Pulses, fired: Any = None, efficacy: Any = None, generator: Any = None
    ) -> None:
        cells = self.written
        generator = generator or self.streams.generator(WRITE, cells.g.device)
        given = cells.given(pulses)
        if self.probe is not None:
            self.probe.pulsed(self, given)
        cells.pulse(given, fired, efficacy, generator)

    # ---- torch's conventions -----------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Seed and counters, one int64 tensor."""
        return self.streams.state.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue with the counters of a saved matrix."""
        self.streams.state.copy_(state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in COMPENSATION:  # what was measured of the saved matrix is taken over
            given = state_dict.get(f"{prefix}{name}")
            if given is not None and getattr(self, name) is None:
                place = given.device if self.cells is None else self.cells.g.device
                setattr(self, name, torch.empty_like(given, device=place))
        super()._load_from_state_dict(state_dict, prefix, *args)
        if self.cells is not None:
            self.cells.order = self.order

    def __repr__(self) -> str:
        """Shape and chip."""
        return f"Matrix{self.shape} on {self.chip!r}"
