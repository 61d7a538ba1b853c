"""One logical weight as torch uses it: reads, gradients, and what a step applies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from crossbar.floating import cell_read, float_read, trained
from crossbar.handles import handle_of, held_by
from crossbar.matrix import Matrix
from crossbar.modes import HardwareAware, InSitu
from crossbar.modifiers import Modifier
from crossbar.operations import Lookup, Matmul, Numbers, Operation
from crossbar.placed import Placed
from crossbar.read import Call
from crossbar.regions import EVERYWHERE, Region, flattens
from crossbar.rules import Job, Rule
from crossbar.spelling import read_back, spelled
from crossbar.tape import Entry, joined
from crossbar.uses import physical
from crossbar.windows import Size


class AnalogWeight(Placed):
    """One logical weight; Parameters that are tied share one.

    torch's Parameter stays with its module and carries this object (`carried.Analog`), so that
    whatever code multiplies by it reads the matrices.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._forget()

    def _forget(self) -> None:
        """What belongs to this object alone, not to a copy of it."""
        self.handle = handle_of(self)
        self._scale: Any = None

    # ---- reads -------------------------------------------------------------------------------

    def region(
        self, cells: Tensor, root: Tensor, op: Operation, start: int | None = None
    ) -> Region:
        """The part of the matrix that a view shows to an operation.

        Args:
            cells: the view, of the memory of
            root: which has the weight's shape.
            op: the operation that multiplies by it.
            start: where the view begins in that memory; None: as it says itself.

        Raises:
            TypeError: no range of rows and columns.
        """
        if cells is root and op.form == self.form:
            return EVERYWHERE
        groups, own = op.form.groups or 1, self.form.groups or 1
        alike = op.form.rows_first == self.form.rows_first and groups == own
        # a plain weight of more dimensions than two has the last for its inputs
        alike &= self.form.groups is not None or cells.shape[-1:] == root.shape[-1:]
        if alike and not self.form.stack and not op.form.stack:
            if cells.is_contiguous() and cells.numel() == root.numel():
                if cells.shape[0] == root.shape[0]:
                    return EVERYWHERE
        found = None
        if self.form.stack or op.form.stack:
            if self.form.stack and op.form.groups is None:
                found = self.form.region(cells, root, start)
        elif groups == own == 1:
            if flattens(cells):
                flat = cells if cells.dim() == 2 else cells.flatten(1)
                found = self.form.region(flat.mT if op.form.rows_first else flat, root, start)
        if found is None:
            raise TypeError(
                f"{self.name}: a view of shape {tuple(cells.shape)} is no range of the rows and "
                f"columns of its {tuple(root.shape)} array; multiply by the weight or by slices "
                "of it, or leave it digital with convert(..., exclude=[...])"
            )
        return found

    @property
    def untouched(self) -> bool:
        """Whether nothing happens to a float weight, its input or its output on the way."""
        if self.digital:
            return True
        if not self.rehearsal.bare or self.mode.written or self.modifiers:
            return False
        probe = self.matrix.probe
        return self.matrix.column_gain is None and (probe is None or not probe.currents)

    @property
    def modifiers(self) -> Sequence[Modifier]:
        """What changes the float weight at each read of a training model."""
        mode = self.mode
        return mode.scaled if self.training and isinstance(mode, HardwareAware) else ()

    def read(
        self, x: Tensor, w: Tensor, root: Tensor, region: Region, op: Operation, size: Size = ()
    ) -> Tensor:
        """The product with the weight, or with a part of it, on the array.

        Args:
            x: what `op` takes.
            w: the weight, or a view of it, as torch sees it: gradients go there.
            root: the whole weight.
            region: the part of the matrix that w is.
            op: the operation.
            size: spatial size of the output, where the input does not settle it.

        Raises:
            TypeError: an input of another dtype.
        """
        if autocast(x):
            if x.dtype != torch.float64 and w.dtype != torch.float64:
                x = x.to(torch.get_autocast_dtype(x.device.type))
        elif x.dtype != w.dtype:
            raise TypeError(f"input must have the layer's dtype {w.dtype}, got {x.dtype}")
        if self.untouched:
            return self.finished(op, x, op.forward.whole(x, op.form.matrix(w), size))
        matrix, written = self.matrix, self.mode.written
        gain, offset = matrix.column_gain, matrix.column_offset
        if written and getattr(root, "_is_param", False):
            if not torch.compiler.is_compiling() and self.stale(root):
                self.sync(root)
        quiet = not self.training or not torch.is_grad_enabled()
        call = Call(matrix, op, region, size, False, quiet, keeper=self)
        sensed = op.forward.sensed
        if gain is not None and region.transposed:
            if offset is not None:
                raise TypeError(f"{self.name}: calibrated columns are read from one side only")
            x = x * op.forward.driven(call.columns(gain.unsqueeze(-2))).to(x.dtype)
        if written:
            if torch.compiler.is_compiling():
                cells = matrix.written
                if cells.scaled and torch.is_grad_enabled():
                    raise TypeError(
                        f"{self.name}: torch.compile cannot train compact cells, which share the "
                        "memory of the weight: use InSitu(compact=False), or eager mode"
                    )
                _synced(root.detach(), cells.matrix, cells.variance, self.handle)
            y = self._cells(x, w, call)
        else:
            y = self._float(x, w, root, call)
        if gain is not None and not region.transposed:
            y = y * sensed(call.columns(gain.unsqueeze(-2))).to(y.dtype)
        if offset is not None:
            y = y + sensed(call.columns(offset.unsqueeze(-2))).to(y.dtype)
        return self.finished(op, x, y)

    def finished(self, op: Operation, x: Tensor, y: Tensor) -> Tensor:
        """The end of a use, told to the probe; y."""
        if self.matrix.probe is not None:
            self.matrix.probe.finished(self.matrix, op, x, y)
        return y

    def _cells(self, x: Tensor, w: Tensor, call: Call) -> Tensor:
        wires = self.chip.wires
        adjoint = wires is not None and wires.differentiated and torch.is_grad_enabled()

        def one(gain: float, matrix: Matrix, own: Tensor | None, call: Call) -> Tensor:
            cells = matrix.written
            planes = cells.solved() if adjoint else cells.planes()
            y = physical(x, own, planes, cells.w_max, call)
            return y if gain == 1 else y * gain

        total = one(self.gains[-1], self.matrix, w, call)
        for gain, matrix in list(self.all())[:-1] if len(self.gains) > 1 else ():
            if gain:
                total = total + one(gain, matrix, None, replace(call, matrix=matrix))
        return total

    def _float(self, x: Tensor, w: Tensor, root: Tensor, call: Call) -> Tensor:
        rehearsal, matrix = self.rehearsal, self.matrix
        modifiers = self.modifiers
        if rehearsal.direct:
            if modifiers:
                w = trained(w, self.scale(root), call, modifiers)
            return float_read(x, w, lambda: self.scale(root), rehearsal.variance, call)
        scale = self.scale(root)
        if modifiers:
            root = trained(root, scale, call, modifiers, self.form)
        m = self.form.matrix(root)
        m = m.float() if m.dtype in (torch.float16, torch.bfloat16) else m
        g, planes = rehearsal.cells(m, scale, matrix.order, call.quiet)
        if planes.tiles is not None:
            return cell_read(x, g, planes, scale, call)
        with torch.set_grad_enabled(rehearsal.wired and torch.is_grad_enabled()):
            used = matrix.layout.logical(planes.matrix.clone(), matrix.floor) * scale
        if not used.requires_grad:
            used = m + (used - m).detach()  # straight through the drawing of cells
        part = call.turned(used.unsqueeze(0)).squeeze(0)
        through = call.op.form.weight(part, tuple(w.shape))
        planes = planes._replace(matrix=planes.matrix.detach())
        return float_read(x, through.to(w.dtype), lambda: scale, None, call, planes)

    def scale(self, root: Tensor) -> Tensor:
        """The weight at the full window of a float weight, () or (..., 1, cols).

        Kept between reads that record no gradient while the weight is the same tensor, unwritten
        as far as its version and dispatch tell.
        """
        keeps = not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        keeps = keeps and not root.is_inference()
        keeps = keeps and not torch._C._functorch.is_functorch_wrapped_tensor(root)
        key = (root._version, root.data_ptr()) if keeps else None
        if keeps and self._scale is not None and self._scale[0] is root and not self.dirty:
            if self._scale[1] == key:
                found: Tensor = self._scale[2]
                return found
        w = root.detach()
        w = w.float() if w.dtype in (torch.float16, torch.bfloat16) else w
        found = self.form.alike(self.chip.mapping.scale(self.form.matrix(w), self.mode.headroom))
        self._scale, self.dirty = (root, key, found, {}) if keeps else None, False
        return found

    def kept(self, key: tuple[Any, ...], make: Callable[[], Tensor]) -> Tensor:
        """What was made of a float weight, as long as its scale is kept."""
        if self._scale is None:
            return make()
        found: dict[tuple[Any, ...], Tensor] = self._scale[3]
        if key not in found:
            found[key] = make()
        return found[key]

    def lookup(self, ids: Tensor, w: Tensor, padding: int | None) -> Tensor:
        """Columns of the array as rows of a table (ids..., in): a tied embedding reads them.

        Args:
            ids: indices of columns, any shape.
            w: the weight as torch sees it.
            padding: the index whose errors are zero; None: none.
        """
        count = self.shape[0]
        op: Operation
        if torch.compiler.is_compiling():
            x, op = torch.nn.functional.one_hot(ids, count).to(w.dtype), Matmul()
        else:
            x, op = torch.ones(*ids.shape, 1, dtype=w.dtype, device=w.device), Lookup(ids, count)
        y = self.read(x, w.mT, w, Region(transposed=not self.form.rows_first), op)
        if padding is None:
            return y
        return torch.where((ids != padding).unsqueeze(-1), y, y.detach())

    # ---- gradients and steps -----------------------------------------------------------------

    def gradient(
        self, x: Tensor, d: Tensor, w: Tensor, call: Call, captured: bool
    ) -> Tensor | None:
        """The true gradient of the view w of one read, whose input and error are kept.

        `captured`: it is returned to somebody, and accumulates nowhere.

        Raises:
            TypeError: a programmed weight, or one that makes no gradient which somebody asks for.
        """
        mode = self.mode
        if not isinstance(mode, InSitu):
            raise TypeError(
                f"{self.name}: a Programmed() layer cannot be trained: its cells are only read; "
                "use convert(model, chip, mode=InSitu()) or HardwareAware()"
            )
        if captured and not mode.gradient:
            raise TypeError(
                f"{self.name}: autograd.grad and torch.func ask for the gradient of the weight, "
                "which InSitu(gradient=False) does not make: use InSitu(gradient=True)"
            )
        if call.flipped:
            x, d = d, x
        if torch.compiler.is_compiling():
            noted: Tensor = _noted(x, d, w, self.handle, spelled(call.op, call.region))
            return noted
        if torch._C._functorch.peek_interpreter_stack() is None:
            versions = None if mode.gradient else (x._version, d._version)
            self.tape.note(Entry(call.op, x.detach(), d.detach(), call.region, w.dtype, versions))
        return outer(x, d, w, call.op) if mode.gradient else None

    def commit(self, parameter: Tensor) -> None:
        """The leaf's post-accumulate hook: what waited under this backward counts."""
        mode = self.mode
        if isinstance(mode, InSitu):
            self.tape.commit(parameter.grad if mode.gradient else None)

    def jobs(self, parameter: Tensor, lr: float, gather: Callable[[Any], Any]) -> list[Job]:
        """What a step applies: the tape, or the numbers of a gradient that is not the tape's.

        Raises:
            RuntimeError: without gradients, inputs or errors that were written since.
        """
        mode, tape = self.mode, self.tape
        assert isinstance(mode, InSitu)
        for entry in tape.entries:
            if entry.versions not in (None, (entry.x._version, entry.d._version)):
                raise RuntimeError(
                    f"an input or error of {self.name} was written in place between backward and "
                    "step, and with InSitu(gradient=False) nothing else knows it: keep its buffer"
                )
        tape.entries = gather(tape.entries)
        grad = None if parameter.grad is None else parameter.grad.detach()
        found, numbers = tape.take(grad, without=not mode.gradient)
        found = joined(found)
        if numbers is not None:
            m = self.form.matrix(numbers).to(self.matrix.written.w_max.dtype)
            found.append(Entry(Numbers(), torch.ones_like(m[..., :1]), m, EVERYWHERE, m.dtype))
        jobs = []
        for op, x, d, region, *_ in found:
            if not x.numel() or not d.numel():  # an empty batch
                continue
            matrices = [matrix for _, matrix in self.all()]
            jobs.append(Job(matrices, self.leaf, op, x, d, lr, region))
        return jobs

    def stepped(self, parameter: Tensor, lr: float) -> None:
        """After a rule's update: the Parameter shows what the cells hold."""
        self.regain()
        self.show(parameter)
        for _, matrix in self.all():
            if matrix.probe is not None:
                matrix.probe.stepped(matrix, lr)

    @property
    def rule(self) -> Rule | None:
        """Of in-situ learning."""
        return self.mode.rule if isinstance(self.mode, InSitu) else None

    @property
    def in_situ(self) -> bool:
        """Whether pulses train it."""
        return isinstance(self.mode, InSitu)

    # ---- torch's conventions -----------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_scale": None, "handle": 0}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._forget()

    def extra_repr(self) -> str:
        """Shape, mode and chip."""
        return f"{self.shape}, mode={self.mode!r}, chip={self.chip!r}"


def autocast(x: Tensor) -> bool:
    """Whether autocast is on where x is; torch knows of none on the meta device."""
    return not x.is_meta and torch.is_autocast_enabled(x.device.type)


def outer(x: Tensor, d: Tensor, w: Tensor, op: Operation) -> Tensor:
    """Σ x δ in the shape and dtype of w."""
    kind = x.device.type
    with torch.autocast(kind, enabled=False) if autocast(x) else contextlib.nullcontext():
        if x.dtype != w.dtype:
            x, d = x.to(w.dtype), d.to(w.dtype)
        return op.form.weight(op.outer(x, d), tuple(w.shape))


@torch.library.custom_op("crossbar::synced", mutates_args=("matrix", "variance"))
def _synced(w: Tensor, matrix: Tensor, variance: Tensor | None, handle: int) -> None:
    """In a compiled region: cells are programmed with what was written into the weight since."""
    weight: AnalogWeight = held_by(handle)
    cells = weight.matrix.written
    if tuple(w.shape) == weight.shape and not cells.replaced:
        weight.sync(w)
        for given, held in ((matrix, cells.matrix), (variance, cells.variance)):
            if given is not None and held is not None and given.data_ptr() != held.data_ptr():
                given.copy_(held)


@_synced.register_fake
def _(w: Tensor, matrix: Tensor, variance: Tensor | None, handle: int) -> None:
    return


@torch.library.custom_op("crossbar::noted", mutates_args=())
def _noted(x: Tensor, d: Tensor, w: Tensor, handle: int, spec: list[int]) -> Tensor:
    """The gradient of a read in a compiled region; leaves its entry, of copies."""
    weight: AnalogWeight = held_by(handle)
    op, region = read_back(spec)
    weight.tape.note(Entry(op, x.clone(), d.clone(), region, w.dtype))
    return outer(x, d, w, op).contiguous().clone()


@_noted.register_fake
def _(x: Tensor, d: Tensor, w: Tensor, handle: int, spec: list[int]) -> Tensor:
    return w.new_empty(w.shape)
