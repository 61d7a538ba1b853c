"""One physical matrix: reads, and the verbs that write its cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from crossbar.cells import FEW, Cells
from crossbar.compact import CompactCells
from crossbar.operations import Matmul, Operation, Vectors
from crossbar.planes import efficacy_of
from crossbar.programming import Written
from crossbar.pulses import Cut, Parcel, Scheme
from crossbar.pulses.bits import places
from crossbar.readable import COMPENSATION
from crossbar.regions import EVERYWHERE, Region, fitting, in_lines, logical, placed
from crossbar.states import Writer, writing
from crossbar.streams import WRITE
from crossbar.told import Told
from devices import Pulses
from devices._check import instance, whole


class Matrix(Told):
    """Cells in the shape (..., rows, cols) of one logical matrix, and everything around them.

    `cells` is None until `fabricate`; converters and streams exist from the start, so that a
    calibration survives the writing.

        y = A @ x,   z = A.T @ y      (x (n,) or (n, k), y (m,) or (m, k); see `crossbar.matrix`)
    """

    # ---- verbs -----------------------------------------------------------------------------

    def fabricate(
        self,
        w_max: Tensor,
        dtype: torch.dtype,
        device: torch.device,
        wanted: Tensor | None = None,
        compact: bool = False,
    ) -> None:
        """Make the cells, at the bottom of the window; `wanted` is about to be written."""
        kind = CompactCells if compact else Cells
        own = self.chip, self.form, self.lines, w_max, self.streams
        self.cells = kind(*own, dtype=dtype, device=device, wanted=wanted)
        self.cells.order = self.order
        self.near(device)

    def near(self, device: torch.device) -> None:
        """Bring the converters to where the weight is."""
        for port in (self.forward_port, self.backward_port):
            port.to(device)

    def program(
        self, weight: Tensor, writer: Writer | None = None, mask: Tensor | None = None
    ) -> None:
        """Write logical weights (..., rows, cols), see `Cells.program`.

        Raises:
            ValueError: weights or a mask of another shape; not finite.
        """
        logical("weight", weight, self.lines)
        if mask is not None:
            logical("mask", mask, self.lines)
        targets, written = self.written.program(weight, writer, mask)
        self.exact = None
        if self.probe is not None:
            self.probe.programmed(self, targets)
        self.told(written)

    def pulse(self, pulses: Pulses, lines: Tensor | None = None) -> None:
        """Give weights pulses; up raises a weight.

        Args:
            pulses: counts (..., rows, cols); or (q, ..., cols) of
            lines: input lines (q,), none twice.

        Raises:
            ValueError: counts of another shape, negative or no numbers.
        """
        size = self.lines if lines is None else (len(lines), *self.lines[:-2], self.lines[-1])
        shape = tuple(pulses.up.shape)
        pairs = zip(reversed(shape), reversed(size), strict=False)
        if len(shape) > len(size) or any(own not in (1, all_) for own, all_ in pairs):
            raise ValueError(f"pulses of this array have the shape {tuple(size)}, got {shape}")
        self.exact = None
        with writing():
            pulses = pulses.checked().to(self.written.w_max.dtype)
            generator, at = self.streams.generator(WRITE, self.written.w_max.device), None
            if lines is not None or pulses.up_var is None:
                wide: Any = [None if t is None else t.expand(size) for t in pulses]
                if lines is not None:
                    wide = [None if t is None else t.movedim(0, -2) for t in wide]
                hit = places((wide[0] > 0) | (wide[1] > 0))
                if lines is not None or FEW * len(hit) <= self.written.g[0].numel():
                    at = hit if lines is None else in_lines(self.lines, hit, lines)
                    pulses = Pulses(*(None if t is None else t.flatten()[hit] for t in wide))  # type: ignore[arg-type]
            self._finish(self._take([Parcel(at, [pulses])], generator), generator)

    def drive(self, v: Tensor, dt: float) -> None:
        """Lay v [V], broadcastable to (K, ..., rows, cols), across the cells for dt [s]."""
        if self.probe is not None:
            self.probe.driven(self, v, dt)
        self.exact = None
        self.written.drive(v, dt)

    def advance(self, dt: float, temperature: float = 300.0) -> None:
        """Let dt seconds pass at `temperature` [K]."""
        if self.probe is not None:
            self.probe.advanced(self, dt)
        self.written.advance(dt, temperature)

    def zero(self, pairs: int, reference: bool = False) -> None:
        """Bring every cell to its symmetry point by `pairs` of an up and a down pulse.

        Args:
            pairs: how many, >= 1.
            reference: whether references are then written, with the device's write error, to the
                mean of the last two states of their cells: symmetry points stand for weight zero
                (zero shifting), as far as the noise of the pulses lets.

        Raises:
            TypeError: a mapping without cells that are never pulsed.

        Source: Kim et al., "Zero-shifting Technique for Deep Neural Network Training on Resistive
        Cross-point Arrays", arXiv:1907.10228.
        """
        whole("pairs", pairs, 1)
        self.exact = None
        cells, mapping = self.written, self.chip.mapping
        none = torch.zeros(self.lines, dtype=cells.w_max.dtype, device=cells.w_max.device)
        up = Pulses(none + 1, none)
        idle = [k for k, given in enumerate(mapping.given(up)) if given is None]
        if reference and (len(idle), cells.size[0]) != (1, 2):
            raise TypeError(
                f"{mapping!r} has no reference cell that could take over a symmetry point: use "
                "Differential(route=Reference())"
            )
        with writing():
            for _ in range(pairs):
                self._pulse(up, phase="program")
                high = cells.g.clone()
                self._pulse(up.swapped(), phase="program")
            if reference:
                mask = torch.zeros_like(cells.g, dtype=torch.bool)
                mask[idle[0]] = True
                generator = self.streams.generator(WRITE, cells.w_max.device)
                cells.state = self.chip.device.program(
                    cells.state, (cells.g + high).flip(0) / 2, mask=mask, generator=generator
                )
                self.told([Written(cells.g, mask)])
            cells.refresh()
            cells.sized()

    def update(
        self,
        x: Tensor,
        d: Tensor,
        rate: Tensor | float,
        scheme: Scheme,
        *,
        op: Operation | None = None,
        region: Region = EVERYWHERE,
        g: Tensor | float | None = None,
        reads: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor | None:
        """One outer-product update of −rate Σ x_i δ_j by pulses.

        Args:
            x: inputs, as `op` takes them.
            d: errors δ.
            rate: learning rate in the units of `torch.optim.SGD`; 0 sends no pulse, a negative one
                ascends. (n,) or (n, ...): of every vector, and matrix, its own.
            scheme: how x and δ become pulses.
            op: the operation whose vectors x and d are; None: x (n, ..., rows), d (n, ..., cols).
            region: the part of the matrix they are of.
            g: weight change that one coincidence is reckoned with; None: `granularity`.
            reads: numbers of vectors (q,) and input lines (q,), none twice: each line is read
                one-hot, as it stands after its vector and before the next one.

        Returns:
            What `reads` saw, (q, ..., cols).

        Raises:
            TypeError: no scheme.
            ValueError: vectors that do not fit the lines, without `op`; `reads` of vectors that
                `op` or `region` would first have to take apart.
        """
        instance("scheme", scheme, Scheme, optional=False)
        if op is None:
            fitting(x, d, self.lines, region)
        alone = reads is not None or isinstance(rate, Tensor)
        op = op or (Vectors() if alone else Matmul())
        if alone and (op != Vectors() or region != EVERYWHERE):
            raise ValueError(
                "reads and rates of single vectors need vectors taken apart, of the whole matrix: "
                f"got {op!r} and {region!r}; give op.vectors(x, d)"
            )
        x, d, ratio = self.rated(x, d, rate, op, region, g)
        rate = float(ratio)
        cells, seen, follows = self.written, None, False
        with writing():
            generator = self.streams.generator(WRITE, cells.w_max.device)
            if not (rate and x.numel() and d.numel()):
                return None if reads is None else self.one_hot(reads[1])
            self.exact = None
            if (efficacy := efficacy_of(self.chip, cells, self.order)) is not None:
                seen = self._driven(x, d, rate, scheme, op, region, reads, efficacy, generator)
            elif reads is None:
                parcels = scheme.parcels(op, x, d, rate, generator=generator)
                self.send(parcels, op.extent(x, d), region, generator)
                return None
            else:
                cut = Cut(*reads)
                first, rest = scheme.parted(x, d, rate, cut, generator=generator)
                placed = self._placed(first, op.extent(x, d), region, generator)
                if not self._take(placed, generator):
                    cells.refresh()
                seen = self.one_hot(cut.line)
                follows = self._take(self._of_rows(rest, cut.line, generator), generator)
            self._finish(follows, generator)
        return seen

    def send(self, parcels: Iterable[Parcel], extent: Any, region: Region, generator: Any) -> None:
        """Pulses of a region of this extent, as a scheme gives them."""
        self.exact = None
        placed = self._placed(parcels, extent, region, generator)
        self._finish(self._take(placed, generator), generator)

    def one_hot(self, lines: Tensor) -> Tensor:
        """Rows as the forward periphery reads them in training, (q, ..., cols)."""
        found = self._picked(lines, EVERYWHERE, quiet=False, shared=True)
        return found.reshape(len(lines), *self.lines[:-2], self.lines[-1])

    def _driven(
        self,
        x: Tensor,
        d: Tensor,
        rate: float,
        scheme: Scheme,
        op: Operation,
        region: Region,
        reads: tuple[Tensor, Tensor] | None,
        efficacy: Any,
        generator: torch.Generator,
    ) -> Tensor | None:
        """An `update` whose pulses do a part of their work, by the voltage that reaches a cell."""
        disturbed = efficacy.row is not None
        if disturbed and region.transposed:
            raise TypeError("half_select=True counts the pulses of inputs on rows only")
        cut = [] if reads is None else torch.stack(reads).T[reads[0].argsort()].tolist()
        seen, start = {}, 0
        for vector, line in [*cut, (len(x) - 1, None)]:
            part = slice(start, vector + 1) if cut else slice(None)
            for turn, xs, ds in scheme.turns(op, x[part], d[part]) if start <= vector else ():
                fired = None
                if disturbed or (self.probe is not None and scheme.parallel):
                    pulses, fired = scheme.driven(turn, xs, ds, rate, generator=generator)
                else:
                    pulses = scheme.pulses(turn, xs, ds, rate, generator=generator)
                self._pulse(self._whole(pulses, region, generator), fired, efficacy, generator)
            start = vector + 1
            if line is not None:
                self.written.refresh()
                seen[line] = self.one_hot(torch.tensor([line], device=x.device))
        return None if reads is None else torch.cat([seen[line] for line in reads[1].tolist()])

    def _placed(
        self,
        parcels: Iterable[Parcel],
        extent: tuple[int, ...],
        region: Region,
        generator: torch.Generator,
    ) -> Iterator[Parcel]:
        """Parcels of a region as those of the whole matrix."""
        for at, some, lines in parcels:
            lines = self.lines_of(lines, region)
            if at is None:
                whole = [self._whole(pulses, region, generator) for pulses in some]
                yield Parcel(None, whole, lines)
            else:
                yield Parcel(region.flat(at, extent, self.lines), some, lines)

    def _of_rows(
        self, parcels: Iterable[Parcel], lines: Tensor, generator: torch.Generator
    ) -> Iterator[Parcel]:
        """Parcels of input lines (..., q, cols) as those of the whole matrix."""
        for at, some, fired in parcels:
            rounds = list(some)
            if at is None:
                n = rounds[0].up.numel()
                at = torch.arange(n, device=lines.device)
                rounds = [self._fluctuating(p, generator) for p in rounds]
                rounds = [Pulses(*(None if t is None else t.flatten() for t in p)) for p in rounds]  # type: ignore[arg-type]
            yield Parcel(in_lines(self.lines, at, lines), rounds, fired)

    def _take(self, parcels: Iterable[Parcel], generator: torch.Generator) -> bool:
        """Give cells their parcels; whether what reads see has followed."""
        follows = True
        for at, some, lines in parcels:
            rounds = [pulses.checked() for pulses in some]
            self.tell(at, rounds, lines)
            follows &= self.written.pulse_some(at, rounds, generator)
        return follows

    def _finish(self, follows: bool, generator: torch.Generator) -> None:
        """After pulses: worn pairs are rewritten, reads and full scales follow."""
        cells = self.written
        mask = cells.maintain(generator)
        if mask is not None or not follows:
            cells.refresh()
        self.told([] if mask is None else [Written(cells.g, mask)])
        cells.paced()

    def rated(
        self,
        x: Tensor,
        d: Tensor,
        rate: Tensor | float,
        op: Operation,
        region: Region,
        g: Tensor | float | None = None,
    ) -> tuple[Tensor, Tensor, Tensor | float]:
        """x and δ, and the coincidences per unit of |x_i δ_j|, of an `update`; nobody waits."""
        like = self.written.w_max
        x, d = x.to(like.dtype), d.to(like.dtype)
        dw = self.granularity if g is None else torch.as_tensor(g, device=like.device)
        if isinstance(rate, Tensor):
            rate = rate.to(x).view(*rate.shape, *(1,) * (x.dim() - rate.dim()))
            root = rate.abs().sqrt()
            x, d, rate = x * root, d * (root * rate.sign()), 1.0
        elif rate < 0:  # trains have no negative probabilities
            d, rate = -d, -rate
        most = dw.amax() if dw.dim() else dw
        rate = torch.full_like(most, rate, dtype=torch.float64) / most
        if dw.dim() == 0:
            return x, d, rate
        # a scale of its own for every column, relative to the largest: trains are of numbers alike
        own = region.of_cols(dw[..., 0, :]) / most
        if region.transposed:  # the inputs drive the columns
            return x / op.forward.driven(own), d, rate
        return x, d / op.backward.driven(own), rate

    def _whole(self, pulses: Pulses, region: Region, generator: torch.Generator) -> Pulses:
        """Pulses of a region as those of the whole matrix, random ones with their fluctuation."""
        whole = Pulses(*(None if t is None else placed(t, self.lines, region) for t in pulses))  # type: ignore[arg-type]
        return self._fluctuating(whole, generator)

    def _fluctuating(self, pulses: Pulses, generator: torch.Generator) -> Pulses:
        """Random counts with the fluctuation that devices of a weight share."""
        if not self.chip.mapping.alike or pulses.up_var is None:
            return pulses
        up = pulses.up
        z = torch.randn(up.shape, generator=generator, dtype=up.dtype, device=up.device)
        return pulses._replace(z=z)

    def _pulse(
        self,
        pulses: Pulses,
        fired: Any = None,
        efficacy: Any = None,
        generator: Any = None,
        phase: str = "update",
    ) -> None:
        cells, pulses = self.written, pulses.checked()
        generator = generator or self.streams.generator(WRITE, cells.w_max.device)
        self.tell(None, [pulses], None if fired is None else lambda: fired, phase)
        cells.pulse(cells.given(pulses), fired, efficacy, generator)

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
                place = given.device if self.cells is None else self.cells.w_max.device
                setattr(self, name, torch.empty_like(given, device=place))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.exact = None
        if self.cells is not None:
            self.cells.order = self.order

    def __repr__(self) -> str:
        """Shape and chip."""
        return f"Matrix{self.shape} on {self.chip!r}"
