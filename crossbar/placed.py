"""Where a logical weight lies: its mode, its matrices, and the verbs that write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.cells import Cells
from crossbar.chip import Chip
from crossbar.drawn import Rehearsal
from crossbar.identity import identity, same_chip
from crossbar.matrix import Matrix
from crossbar.modes import HardwareAware, InSitu, Mode, Programmed, after
from crossbar.programming import rescaled
from crossbar.regions import Form
from crossbar.shown import Shown
from crossbar.states import Writer, writing
from crossbar.streams import Streams, derive
from crossbar.tape import Tape


class Placed(Shown):
    """A logical weight on its matrices, W = Σ gain · matrix.

    It holds no parameter: verbs are given torch's Parameter, whose values they take and, where
    the cells are the weight, show.

    Args:
        shape: torch's shape of the weight.
        form: how it is a matrix, rows = inputs.
        chip: the hardware.
        seed: of its random streams; matrices have their own.
        name: of the weight, for messages.
        device: where the weight is.
    """

    matrix: Matrix

    def __init__(
        self,
        shape: tuple[int, ...],
        form: Form,
        chip: Chip,
        seed: int,
        name: str,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.shape, self.form, self.chip, self.name = tuple(shape), form, chip, name
        self.mode: Mode = HardwareAware()
        self.digital = False  # while somebody asks what that would give
        self.computed = False  # by its module, anew at every forward: never in situ
        self.trainable: bool | None = None  # what requires_grad was before Programmed()
        self.tape = Tape(form)
        self.state: Any = None  # of the rule
        self.seen: int | None = None  # version of the Parameter when it was last shown
        self.dirty = False  # written since, as dispatch saw
        self.source: Tensor | None = None  # of a computed weight, what was written
        self.plain = False  # a checkpoint that knows no chip is being loaded
        self.seed = Streams(seed).seed
        self._build(self.mode, (), device)

    def _build(self, mode: Mode, kept: Sequence[Matrix], device: torch.device) -> None:
        """Matrices as the mode's rule wants them; the last of `kept` stays the last."""
        lines = tuple(self.form.matrix(torch.empty(1).expand(self.shape)).shape)
        slots, made = mode.slots(), []
        for k, slot in enumerate(slots[:-1]):
            seed, chip = derive(self.seed, f"matrix {k}"), slot.chip or self.chip
            made.append(Matrix(chip, self.form, lines, seed))
        # the one that is programmed has the weight's own seed, whatever a rule puts before it
        made += kept[-1:] or [Matrix(slots[-1].chip or self.chip, self.form, lines, self.seed)]
        old = self.__dict__.get("matrix")
        for matrix in made:
            matrix.near(device)
            matrix.probe = None if old is None else old.probe
        if old not in (None, made[-1]):
            made[-1].forward_port.inherit(old.forward_port, ("dac_octaves", "adc_octaves"))
        self.gains, self.state = tuple(slot.gain for slot in slots), None
        self.matrices = nn.ModuleList(made).train(self.training)
        self.__dict__["matrix"] = made[-1]  # the one that is programmed, and read in every mode
        self.rehearsal = Rehearsal(self.chip, self.matrix.streams)

    def all(self) -> Iterator[tuple[float, Matrix]]:
        """Every matrix with what it counts."""
        return zip(self.gains, self.matrices, strict=True)  # type: ignore[arg-type]

    @property
    def held(self) -> Tensor:
        """The weight (..., rows, cols) that the cells hold."""
        shown = ((gain, matrix.weight) for gain, matrix in self.all() if gain)
        held: Any = sum(gain * weight if gain != 1 else weight for gain, weight in shown)
        return held

    # ---- verbs -------------------------------------------------------------------------------

    def settle(
        self,
        parameter: Tensor,
        mode: Mode,
        chip: Chip | None = None,
        *,
        scale: Tensor | None = None,
        writer: Writer | None = None,
    ) -> None:
        """Go over to another mode or chip with the weight it has.

        Cells of an equal chip stay as they are where the mode keeps their scale; leaves of equal
        parts in an equal window stay; otherwise the weight is written.

        Raises:
            TypeError: a mode that the chip, or a computed weight, cannot have.
        """
        chip = chip or self.chip
        self.check(mode, chip)
        if mode.written and not self.mode.written:
            self._wanted(parameter)
        old, was = [matrix for _, matrix in self.all()], self.mode
        if was.written and not parameter.is_meta:
            self.sync(parameter)
            meant: Any = sum(g * m.meant for g, m in self.all() if g)
            self.apart(parameter)
            with writing():
                parameter.data.copy_(self.form.weight(meant, self.shape))
        alike = isinstance(mode, InSitu) == isinstance(was, InSitu) and was.written
        moved = chip != self.chip
        if moved and not mode.written:
            chip.mapping.check(self.form.matrix(parameter.detach()))
        self.chip, self.mode = chip, mode
        self.tape.clear()
        self._ask_gradient(parameter, was)
        if moved or mode.slots() != was.slots():
            self._build(mode, () if moved else old, parameter.device)
        elif alike and mode.compact == was.compact:  # nothing to write
            if mode != was:
                self._start_rule()
            self.show(parameter)
            return
        if not mode.written:
            self.matrix.cells = None
        elif not parameter.is_meta:
            last = old[-1]
            kept = last.cells if was.written else None
            if scale is None and alike and kept is not None and chip.mapping.w_max is None:
                scale = kept.w_max
            self._write(parameter, scale, writer, kept, keep=not last.predistorted)
        else:
            self._write(parameter, None)

    def check(self, mode: Mode, chip: Chip) -> None:
        """Refuse what cannot be right."""
        mode.check(chip)
        if isinstance(mode, InSitu) and self.computed:
            raise TypeError(
                f"{self.name} is computed anew at every forward (pruning, a norm, a "
                "parametrization), so pulses cannot train it: make it permanent "
                "(prune.remove, remove_parametrizations), or use HardwareAware() or Programmed()"
            )

    def _ask_gradient(self, parameter: Tensor, was: Mode) -> None:
        """Programmed weights ask for none; whatever the user had asked for comes back after."""
        if not parameter.is_leaf:
            return
        if isinstance(self.mode, Programmed) and not isinstance(was, Programmed):
            self.trainable = parameter.requires_grad
            parameter.requires_grad_(False)
        elif isinstance(was, Programmed) and not isinstance(self.mode, Programmed):
            parameter.requires_grad_(True if self.trainable is None else self.trainable)

    def _write(
        self,
        parameter: Tensor,
        scale: Tensor | None,
        writer: Writer | None = None,
        old: Cells | None = None,
        keep: bool = True,
    ) -> None:
        """Make cells and write the weight; leaves, and cells to `keep`, are those of `old`."""
        with writing(), torch._C.DisableTorchFunctionSubclass():
            w = self._wanted(parameter)
            if scale is None:
                scale = self.form.alike(self.chip.mapping.scale(w, self.mode.headroom))
            for _, matrix in self.all():
                own = matrix is self.matrix
                wanted = w if own and not w.is_meta else None
                own_scale, compact = self._of(matrix, w, scale), self.mode.compact
                matrix.fabricate(own_scale, w.dtype, w.device, wanted, compact)
                if not w.is_meta:
                    if not (own and old is not None and matrix.written.adopt(old) and keep):
                        matrix.program(w if own else torch.zeros_like(w), writer)
            self._zero()
            self._start_rule()
            self.source = parameter.detach().clone() if self.computed else None
        self.show(parameter)

    def _zero(self) -> None:
        """Arrays of the rule whose symmetry points are to stand for weight zero."""
        for slot, (_, matrix) in zip(self.mode.slots(), self.all(), strict=True):
            if slot.zero_pairs is not None and not matrix.written.w_max.is_meta:
                matrix.zero(slot.zero_pairs, reference=True)

    def _of(self, matrix: Matrix, w: Tensor, scale: Tensor) -> Tensor:
        """The scale of a matrix: the weight's, unless a rule's chip has a window of its own."""
        mapping = matrix.chip.mapping
        if matrix is self.matrix or mapping.w_max is None:
            return scale
        return self.form.alike(mapping.scale(w))

    def _start_rule(self) -> None:
        """The rule's digital state, as buffers."""
        for name in [n for n in self._buffers if n.startswith("rule_")]:
            del self._buffers[name]
        mode, self.state = self.mode, None
        if isinstance(mode, InSitu):
            state = mode.rule.fabricate(self.matrix.lines, list(self.matrices))  # type: ignore[arg-type]
            self.state = type(state) if state is not None else None
            for name, value in () if state is None else state._asdict().items():
                self.register_buffer(f"rule_{name}", value)
            self.regain()

    def regain(self) -> None:
        """What matrices count, as the rule's digital state says."""
        if isinstance(self.mode, InSitu):
            gains = self.mode.rule.gains(self.leaf)
            if gains != self.gains and self.matrix.cells is not None:
                self.matrix.cells.moved = None  # another sum is shown
            self.gains = gains

    @property
    def leaf(self) -> Any:
        """The rule's digital state, of the buffers as they are."""
        if self.state is None:
            return None
        return self.state(*(getattr(self, f"rule_{name}") for name in self.state._fields))

    def program(self, parameter: Tensor, writer: Writer | None = None) -> None:
        """Write the weight onto devices, at the scale that was rehearsed; see `xb.program`."""
        if self.mode.written:
            self.rewrite(parameter, self.wanted(parameter), writer)
            return
        mapping = self.chip.mapping
        with torch._C.DisableTorchFunctionSubclass():
            w = self._wanted(parameter)
            scale = self.form.alike(mapping.scale(w, self.mode.headroom))
            if mapping.low > -1:  # weights that training led further were read as the least
                parameter.data.copy_(self.form.weight(w.clamp(min=mapping.low * scale), self.shape))
        self.settle(parameter, after(self.chip, self.computed), scale=scale, writer=writer)

    def wanted(self, parameter: Tensor) -> list[Tensor]:
        """What `program` writes onto each matrix: numbers of a float weight, else what it holds."""
        if not self.mode.written:
            return [self._wanted(parameter).clone()]
        self.sync(parameter)
        return [matrix.weight for _, matrix in self.all()]

    def rewrite(
        self, parameter: Tensor, wanted: Sequence[Tensor], writer: Writer | None = None
    ) -> None:
        """Write weights onto the cells of every matrix anew, at the scale they have."""
        for w, (_, matrix) in zip(wanted, self.all(), strict=True):
            matrix.program(w, writer)
        self._zero()
        self.show(parameter)

    def advance(self, dt: float, temperature: float) -> None:
        """Let dt seconds pass at `temperature` [K]."""
        for _, matrix in self.all():
            matrix.advance(dt, temperature)

    def reseed(self, parameter: Tensor, seed: int) -> None:
        """Move the same weight to another chip of the same kind."""
        self.seed = Streams(seed).seed
        scale = self.matrix.written.w_max if self.mode.written else None
        old = self.matrix
        self._build(self.mode, (), parameter.device)
        self.matrix.forward_port.inherit(old.forward_port, ("dac_scale", "adc_scale"))
        if scale is not None:
            self._write(parameter, scale)

    # ---- the Parameter -----------------------------------------------------------------------

    def sync(self, parameter: Tensor) -> None:
        """Program what somebody wrote into the Parameter.

        Cells of changed weights are programmed, write error included: all, on the scale that
        `convert` would choose, where some do not fit or where all are new and that scale is finer.

        Raises:
            ValueError: a Parameter of another shape, or values that are not finite.
        """
        if not self.mode.written or not self.stale(parameter) or parameter.is_meta:
            return
        if tuple(parameter.shape) != self.shape:
            raise ValueError(
                f"{self.name} is on an array of shape {self.shape}, and cannot become one of shape "
                f"{tuple(parameter.shape)}: convert a model with that shape"
            )
        if self.matrix.written.void:
            self._write(parameter, None)
            return
        with writing(), torch._C.DisableTorchFunctionSubclass():
            w = self._wanted(parameter)
            self.remember(parameter)
            changed: Any = w != self.held.to(parameter.dtype)
            if self.matrix.written.lends(parameter):  # written unseen, into the cells themselves
                changed = torch.ones_like(changed)
            if not bool(changed.any()):  # a copy of one's own values
                self.share(parameter)
                return
            w = w - sum(g * m.weight.to(w.dtype) for g, m in list(self.all())[:-1] if g)
            scale = self.form.alike(self.chip.mapping.scale(w, self.mode.headroom))
            if rescaled(self.chip.mapping, w, changed, self.matrix.written.w_max, scale):
                changed = None
            self.tape.clear()
            self.matrix.program(w, mask=changed)
        self.show(parameter)

    def _wanted(self, parameter: Tensor) -> Tensor:
        """The Parameter as weights (..., rows, cols) to be programmed.

        Raises:
            ValueError: NaN or infinity, before anything is written.
        """
        w = self.form.matrix(parameter.detach())
        w = w if w.dtype == torch.float64 else w.float()
        if not w.is_meta and not bool(w.isfinite().all()):
            raise ValueError(
                f"{self.name}: weight must be finite to be programmed, got NaN or infinity"
            )
        if self.mode.written:
            self.chip.mapping.check(w)
        return w

    def follow(self, value: Tensor) -> Tensor:
        """Of a computed weight, what its module computes now: written where it is new.

        Returns what the cells hold, in torch's shape.
        """
        with writing(), torch._C.DisableTorchFunctionSubclass():
            if self.source is None or not torch.equal(value, self.source):
                self._write(value.detach(), None)
            return self.form.weight(self.held, self.shape).to(value.dtype).contiguous()

    def loaded(self, parameter: Tensor) -> None:
        """After a checkpoint: what a plain one holds is written; else the Parameter is shown."""
        plain, self.plain, self.dirty = self.plain, False, True
        if not self.mode.written:
            return
        self.tape.clear()
        self.regain()
        own = self.matrix.written
        if plain and (own.w_max.is_meta or own.void) and not parameter.is_meta:
            self._write(parameter, None)
        elif plain:
            with writing(), torch._C.DisableTorchFunctionSubclass():
                w = self._wanted(parameter)
                scale = self.form.alike(self.chip.mapping.scale(w, self.mode.headroom))
                for _, matrix in self.all():
                    cells = matrix.written
                    cells.w_max.copy_(self._of(matrix, w, scale).expand_as(cells.w_max))
                    matrix.program(w if matrix is self.matrix else torch.zeros_like(w))
                self._zero()
                self._start_rule()
        else:
            for _, matrix in self.all():
                matrix.written.refresh()
        self.show(parameter)

    # ---- torch's conventions -----------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """The chip's identity, text as uint8."""
        text = identity(self.chip, self.mode).encode()
        return torch.frombuffer(bytearray(text), dtype=torch.uint8)

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse cells of another chip.

        Raises:
            ValueError: it names what differs.
        """
        if self.mode.written:
            same_chip(bytes(state.cpu().tolist()).decode(), self.chip, self.mode, self.name)
