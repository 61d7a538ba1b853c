"""What analog layers share: modes, the array behind the weight, and torch's conventions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from crossbar.array import Array, Order, Plane, Writer, plane_of
from crossbar.chip import Chip, HardwareAware, InSitu, Mode, Programmed
from crossbar.converters import Port
from crossbar.operations import Conv, Matmul, Operation
from crossbar.quantise import balanced
from crossbar.read import AnalogRead, DualRead
from crossbar.streams import WRITE, Streams
from devices._check import instance

COMPENSATION = ("column_gain", "column_offset", "row_order", "col_order")


class AnalogLayer(nn.Module):
    """Base of the drop-in layers; they bring torch's own layer and an operation.

    `weight` has torch's shape. In `HardwareAware` mode it is an ordinary parameter. In the other
    modes the conductances in `array` are the weights and `weight` mirrors them: written by the
    array alone, not saved; overwriting its values changes no read and no update.
    """

    weight: Any  # nn.Parameter, declared by torch's layer
    bias: Any  # nn.Parameter | None
    op: Matmul | Conv
    array: Array | None
    column_gain: Tensor | None  # (columns,) digital factor of each output
    column_offset: Tensor | None  # (columns,) added to it
    row_order: Tensor | None  # (rows,) and (cols,), see `Order`
    col_order: Tensor | None

    def _make_analog(
        self, op: Matmul | Conv, chip: Chip | None, mode: Mode | None, seed: int | None
    ) -> None:
        """Turn the torch layer just initialised into an analog one."""
        instance("chip", chip, Chip)
        instance("mode", mode, Mode)
        self.op = op
        self.streams = Streams(seed)
        self.array = None
        # compensation of the wires, absent until `crossbar.compensation` measures it
        for name in COMPENSATION:
            self.register_buffer(name, None)
        self._stash: list[tuple[Tensor, Tensor]] = []
        self._set_chip(chip or Chip())
        self.mode: Mode = HardwareAware()
        self.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]
        self._enter(mode or HardwareAware())

    def _set_chip(self, chip: Chip) -> None:
        self.chip = chip
        shape = self.as_matrix(self.weight).shape
        tile = chip.tile or (None, None)
        rows, cols = balanced(shape[-2], tile[0]), balanced(shape[-1], tile[1])
        self.forward_port = Port(chip.forward, len(rows))
        self.backward_port = Port(chip.backward or chip.forward.transposed(), len(cols))
        self.to(self.weight.device)

    def _enter(self, mode: Mode, writer: Writer | None = None) -> None:
        """Change from hardware-aware to `mode`, writing the weight onto a new array."""
        in_situ = isinstance(mode, InSitu)
        self._check_mode(mode)
        self.mode = mode
        if isinstance(mode, HardwareAware):
            return
        matrix = self.as_matrix(self.weight.detach())
        w_max = self.chip.mapping.scale(matrix, in_situ=in_situ)
        self._fabricate(matrix, w_max)
        assert self.array is not None
        self.array.program(matrix, writer)
        self._mirror(fresh=True)

    def _check_mode(self, mode: Mode) -> None:
        update = self.chip.device.update
        if not isinstance(mode, InSitu):
            return
        if update is None:
            raise TypeError(
                "mode InSitu() needs a device with an update law, got update=None (a write-only "
                "device): train with HardwareAware() and program() it"
            )
        if update.whole and not mode.scheme.counts:
            raise TypeError(
                f"{type(update).__name__} needs whole pulse counts, which "
                f"{type(mode.scheme).__name__} does not give: use ExactBits or Deterministic"
            )
        write = self.chip.write
        if write is not None and write.half_select and not mode.scheme.parallel:
            raise TypeError(
                f"{type(mode.scheme).__name__} does not pulse whole lines, so no cell is "
                "half-selected: use half_select=False or another scheme"
            )

    def _fabricate(self, matrix: Tensor, w_max: Tensor) -> None:
        wide = matrix.dtype if matrix.dtype == torch.float64 else torch.float32
        self.array = Array(
            self.chip, tuple(matrix.shape), w_max, self.streams, dtype=wide, device=matrix.device
        )

    def _mirror(self, fresh: bool = False) -> None:
        """Show in `weight` what the cells hold."""
        if self.array is None:
            return
        with torch.no_grad():
            g = self.array.g
            if fresh and isinstance(self.op, Matmul):
                # the strides of the array's matrix: the hot path writes straight into the mirror
                self.weight.data = torch.empty_like(g[0], dtype=self.weight.dtype).mT
            shown = self.as_matrix(self.weight.data)
            if shown.is_contiguous() and shown.dtype == g.dtype:
                self.array.weight_into(shown)
            else:
                self.weight.copy_(self._logical(self.array.weight))
        self.weight.requires_grad_(isinstance(self.mode, InSitu))

    # ---- shapes ----------------------------------------------------------------------------

    def as_matrix(self, weight: Tensor) -> Tensor:
        """torch's weight as (..., rows, cols)."""
        return weight.mT if isinstance(self.op, Matmul) else self.op.matrix(weight)

    def _logical(self, matrix: Tensor) -> Tensor:
        """(..., rows, cols) as torch's weight."""
        return matrix.mT if isinstance(self.op, Matmul) else self.op.weight(matrix)

    # ---- reading ---------------------------------------------------------------------------

    @property
    def span(self) -> float:
        """Part of the window that a weight can use."""
        return self.chip.mapping.layout(self.chip.device).span

    @property
    def order(self) -> Order | None:
        """Where the logical rows and columns lie; None: in their own order."""
        if self.row_order is None or self.col_order is None:
            return None
        return self.row_order, self.col_order

    @property
    def physical_backward(self) -> bool:
        """Whether the input gradient is a transposed read of the array."""
        return not isinstance(self.mode, HardwareAware)

    def _read(self, x: Tensor) -> Tensor:
        """The linear operation on the array, without bias."""
        self._check_input(x)
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))
        if self.array is None:
            plane, w_max = self._rehearse()
        else:
            plane, w_max = self.array.plane(self.order), self.array.w_max
        if isinstance(self.mode, InSitu) and torch.is_grad_enabled():
            self._before_grad(x)
        function = AnalogRead if torch.compiler.is_compiling() else DualRead
        # through wires and nonlinear cells the float weight's gradient comes by way of the matrix
        weight = self.weight.detach() if plane.matrix.requires_grad else self.weight
        out: Tensor = function.apply(  # type: ignore[no-untyped-call]
            x, weight, *plane, w_max / self.span, self
        )
        if self.column_gain is None:
            return out
        shape = (-1, 1, 1) if isinstance(self.op, Conv) else (-1,)
        out = out * self.column_gain.to(out.dtype).view(shape)
        if self.column_offset is None:
            return out
        return out + self.column_offset.to(out.dtype).view(shape)

    def _rehearse(self) -> tuple[Plane, Tensor]:
        """The plane a programming of the float weight would give now, and its scale.

        Only wires and nonlinear cells make it differentiable: without them the gradient of the
        product is the weight's.
        """
        device, mapping = self.chip.device, self.chip.mapping
        wired = self.chip.wires is not None or device.iv is not None
        with torch.set_grad_enabled(wired and torch.is_grad_enabled()):
            matrix = self.as_matrix(self.weight if wired else self.weight.detach())
            if matrix.dtype in (torch.float16, torch.bfloat16):
                matrix = matrix.float()
            w_max = mapping.scale(matrix, in_situ=False)
            g = mapping.targets(matrix / w_max, device)
            generator = None
            if device.write is not None or device.draws_reads:
                generator = self.streams.generator(WRITE, g.device)
            state = device.rehearse(g, generator=generator)
            return plane_of(self.chip, state), w_max

    def _check_input(self, x: Tensor) -> None:
        if torch.compiler.is_compiling():
            return
        if not torch.is_autocast_enabled(x.device.type) and x.dtype != self.weight.dtype:
            raise TypeError(f"input must have the layer's dtype {self.weight.dtype}, got {x.dtype}")
        if torch._C._functorch.is_functorch_wrapped_tensor(x):
            return
        # one cheap sum first: it is finite unless a value is not, or it overflows
        if not bool(x.sum().isfinite()) and not bool(x.isfinite().all()):
            raise ValueError("input must be finite, got NaN or infinity")

    # ---- in-situ learning ------------------------------------------------------------------

    # the stash is a side effect: a clean break of the compiled graph
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _before_grad(self, x: Tensor) -> None:
        """Refuse functional gradients; drop (x, δ) that a zero_grad has made stale."""
        if torch._C._functorch.is_functorch_wrapped_tensor(x):
            if torch._C._functorch.is_gradtrackingtensor(x) or x.requires_grad:
                raise TypeError(
                    "torch.func.grad over mode InSitu() is refused: its update keeps (x, δ) on "
                    "the side, which a functional transform would lose; use HardwareAware()"
                )
        if self.weight.grad is None:
            self._stash.clear()

    def stash(self, x: Tensor, d: Tensor) -> Tensor:
        """The weight's gradient; in situ (x, δ) are kept and the gradient is zero.

        A δ that is not finite turns the zero into NaN, which GradScaler and clip_grad_norm_ see.
        """
        if isinstance(self.mode, InSitu):
            self._stash.append((x.detach(), d.detach()))
            return (d.sum() * 0).to(self.weight.dtype).expand_as(self.weight)
        if isinstance(self.mode, Programmed):
            raise TypeError(
                "a Programmed() layer cannot be trained: its cells are only read; use "
                "convert(model, chip, mode=InSitu()) or HardwareAware()"
            )
        return self._logical(self.op.outer(x, d))

    def take_stash(self) -> list[tuple[Tensor, Tensor]]:
        """The (x, δ) kept since the last step, handed over once."""
        kept, self._stash = self._stash, []
        return kept

    def update(self, x: Tensor, d: Tensor, lr: float, op: Operation | None = None) -> None:
        """One outer-product update of the array by pulses, W ← W − lr δᵀx in the mean.

        `op` is what x and d are inputs and errors of; None: the layer's own operation.
        """
        if self.array is None or not isinstance(self.mode, InSitu):
            raise TypeError(f"update needs mode InSitu(), got {self.mode!r}")
        self.array.update(op or self.op, x, d, lr, self.mode.scheme, self.order)
        self._mirror()

    # ---- whole-layer verbs -----------------------------------------------------------------

    def program(self, writer: Writer | None = None) -> None:
        """Write the weight onto devices; see `crossbar.program`."""
        if self.array is not None:
            self.array.program(self.array.weight, writer)
            self._mirror()
            return
        self._enter(InSitu() if self.chip.device.update is not None else Programmed(), writer)

    def advance(self, dt: float, temperature: float) -> None:
        """Let dt seconds pass; see `crossbar.advance`."""
        if self.array is not None:
            self.array.advance(dt, temperature)
            self._mirror()

    def rechip(self, chip: Chip, mode: Mode | None) -> None:
        """Move to another chip of the same seed; see `crossbar.convert`."""
        old, self.array = self.array, None
        for name in COMPENSATION:  # measured on the old chip
            setattr(self, name, None)
        self._set_chip(chip)
        if old is None or (mode is not None and isinstance(mode, HardwareAware)):
            self._enter(mode or self.mode)
            return
        mode = mode or self.mode
        if isinstance(mode, InSitu) and chip.device.update is None:
            mode = Programmed()
        self._check_mode(mode)
        self.mode = mode
        fixed = chip.mapping.w_max
        w_max = old.w_max if fixed is None else torch.full_like(old.w_max, fixed)
        self._fabricate(old.weight, w_max)
        assert self.array is not None
        self.array.adopt(old)
        self._mirror()

    def reseed(self, seed: int) -> None:
        """Move the same weights to another chip of the same kind."""
        self.streams = Streams(seed)
        if self.array is not None:
            old = self.array
            self._fabricate(old.weight, old.w_max)
            self.array.program(old.weight)
            self._mirror()

    # ---- torch's conventions ---------------------------------------------------------------

    def get_extra_state(self) -> Tensor:
        """Seed and counters, one int64 tensor."""
        return self.streams.state.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue with the counters of a saved layer."""
        self.streams.state.copy_(state)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.array is not None:
            del destination[f"{prefix}weight"]

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in COMPENSATION:
            if f"{prefix}{name}" in state_dict and getattr(self, name) is None:
                given = state_dict[f"{prefix}{name}"]
                setattr(self, name, torch.empty_like(given, device=self.weight.device))
        missing: list[str] = []
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing, unexpected_keys, error_msgs
        )
        weight = state_dict.get(f"{prefix}weight")
        optional = {f"{prefix}_extra_state"} if weight is not None else set()
        if self.array is not None:
            optional.add(f"{prefix}weight")
            plain = not any(key.startswith(f"{prefix}array.") for key in state_dict)
            if plain and weight is not None and weight.shape == self.weight.shape:
                matrix = self.as_matrix(weight.to(self.array.g))
                in_situ = isinstance(self.mode, InSitu)
                self.array.w_max.copy_(self.chip.mapping.scale(matrix, in_situ=in_situ))
                self.array.program(matrix)
                self.array.expects_state = False
            elif plain and weight is None:
                optional.clear()
        missing_keys.extend(key for key in missing if key not in optional)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_stash": []}

    def extra_repr(self) -> str:
        """torch's own, the mode and the chip."""
        return f"{super().extra_repr()}, mode={self.mode!r}, chip={self.chip!r}"


def _after_load(layer: nn.Module, incompatible: Any) -> None:
    assert isinstance(layer, AnalogLayer)
    layer._mirror()
