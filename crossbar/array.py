"""An array of differential pairs: the state of every device, and the verbs on all of them."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from crossbar.chip import Chip
from crossbar.mapping import OneSided
from crossbar.operations import Operation
from crossbar.pulses import Scheme
from crossbar.streams import FABRICATION, WRITE, Streams
from crossbar.wires import (
    CellTiles,
    Efficacy,
    Fired,
    GatedTiles,
    effective,
    effective_back,
    tiled_write_shares,
)
from devices import Device, Pulses, State
from devices.device import STATEFUL


class Writer(Protocol):
    """A way of writing an array, `Device.program` or a write-and-verify loop."""

    def __call__(
        self,
        device: Device,
        state: State,
        target: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> State:
        """The array after writing `target` [S]."""


class Plane(NamedTuple):
    """What a read sees of the pairs, relative to the window ΔG."""

    matrix: Tensor  # (..., rows, cols) (g⁺ − g⁻)/ΔG; with wires, of the effective conductances
    variance: Tensor | None  # () or (..., rows, cols) read-noise variance of the pair / ΔG²
    back: Tensor | None = None  # (..., rows, cols) of the transposed read, where it differs
    tiles: CellTiles | None = None  # where no matrix reads the cells; `matrix` is then their g [S]


PAIR = ((1, -1),)
"""The one column of a differential pair."""

Order = tuple[Tensor, Tensor]
"""Logical row and column at each physical place, (rows,) and (cols,), tile by tile."""


def plane_of(chip: Chip, state: State, order: Order | None = None) -> Plane:
    """The plane of a state whose pair dimension comes first.

    The pair is read as one matrix: two float32 products of nearly equal numbers would cancel.
    With wires the matrix is the effective one of every tile, and a cell's noise is seen through
    the share W/g of itself that its effective conductance is: exact to first order in κ but for
    the noise it causes in other columns. Against the sensitivities of the whole circuit the
    standard deviation is on average 3 % off at κ = 0.2 and 12 % (too high) at κ = 1.
    """
    device, span = chip.device, chip.device.window.span
    seen = device.seen(state)
    std = device.std(state)
    back = None
    if device.iv is not None:
        tiles = CellTiles(seen, std, device.iv, chip.wires, chip.solver, chip.tile, PAIR)
        return Plane(seen, None, None, tiles)
    if chip.gate_bits is not None:
        assert chip.wires is not None
        gated = GatedTiles(seen, std, chip.wires, chip.tile, chip.gate_bits, PAIR)
        return Plane(seen, None, None, gated)
    if chip.wires is not None:
        cells = seen
        seen, other = through_wires(chip, cells, order)
        back = None if other is None else torch.sub(other[0], other[1]).mul_(1 / span)
        if std is not None:
            std = std * torch.where(cells > 0, (seen / cells).detach(), 1.0)
    matrix = torch.sub(seen[0], seen[1]).mul_(1 / span)
    if std is None:
        return Plane(matrix, None, back)
    relative = (std / span).square()
    variance = 2 * relative if std.dim() == 0 else relative[0] + relative[1]
    return Plane(matrix, variance, back)


def through_wires(chip: Chip, cells: Tensor, order: Order | None) -> tuple[Tensor, Tensor | None]:
    """Effective conductances of the forward and, where it differs, of the transposed read."""
    assert chip.wires is not None
    if order is not None:
        cells = cells.index_select(-2, order[0]).index_select(-1, order[1])
    found = (
        effective(cells, chip.wires, chip.solver, chip.tile),
        effective_back(cells.detach(), chip.wires, chip.solver, chip.tile),
    )
    if order is None:
        return found
    back = [place.argsort() for place in order]
    there, other = (
        None if w is None else w.index_select(-2, back[0]).index_select(-1, back[1]) for w in found
    )
    assert there is not None
    return there, other


class Array(nn.Module):
    """Pairs of cells in the shape (2, ..., rows, cols), the positive devices first.

    Conductances stay float32 or float64 under `.half()` and autocast, ages float64 always.
    """

    g: Tensor
    age: Tensor
    w_max: Tensor
    updates: Tensor

    def __init__(
        self,
        chip: Chip,
        shape: tuple[int, ...],  # (..., rows, cols) of the logical matrix
        w_max: Tensor,
        streams: Streams,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.chip = chip
        self.streams = streams
        self._plane: tuple[Any, Plane] | None = None
        # False while a plain torch checkpoint, which has no conductances, is being loaded
        self.expects_state = True
        self._leaves: dict[str, Any] = {}  # each leaf with its buffers' names for tensors
        # a fresh chip of this seed: its first number, whatever has been drawn before
        first = torch.Generator().manual_seed(streams.derive(f"{FABRICATION}"))
        state = chip.device.fabricate((2, *shape), generator=first, dtype=dtype, device=device)
        self.register_buffer("w_max", w_max.detach().to(dtype, copy=True))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64, device=device))
        self._register(state)

    def _register(self, state: State) -> None:
        self.register_buffer("g", state.g)
        self.register_buffer("age", state.age)
        for part in STATEFUL:
            self._leaves[part] = self._named(part, getattr(state, part))

    def _named(self, name: str, leaf: Any) -> Any:
        """Register every tensor of a leaf, nested ones too; the leaf with their names instead."""
        if isinstance(leaf, Tensor):
            self.register_buffer(name, leaf)
            return name
        if leaf is None:
            return None
        fields = leaf._asdict().items()
        return type(leaf)(*(self._named(f"{name}_{field}", value) for field, value in fields))

    @property
    def state(self) -> State:
        """The state as one tuple of tensors; assigning it writes the buffers."""

        def held(names: Any) -> Any:
            if isinstance(names, str):
                return getattr(self, names)
            return names if names is None else type(names)(*(held(name) for name in names))

        return State(self.g, self.age, **{part: held(x) for part, x in self._leaves.items()})

    @state.setter
    def state(self, state: State) -> None:
        def hold(names: Any, leaf: Any) -> None:
            if isinstance(names, str):
                setattr(self, names, leaf)
            elif names is not None:
                for name, value in zip(names, leaf, strict=True):
                    hold(name, value)

        self.g, self.age = state.g, state.age
        for part, names in self._leaves.items():
            hold(names, getattr(state, part))

    # ---- reading ---------------------------------------------------------------------------

    @property
    def span(self) -> float:
        """Part of the window that a weight can use."""
        return self.chip.mapping.layout(self.chip.device).span

    @property
    def weight(self) -> Tensor:
        """Logical weights (..., rows, cols) that the cells hold now."""
        return self.weight_into(torch.empty_like(self.g[0]))

    def weight_into(self, out: Tensor) -> Tensor:
        """`weight`, written into a tensor of its shape and dtype."""
        torch.sub(self.g[0], self.g[1], out=out)
        return out.mul_(self.w_max / (self.span * self.chip.device.window.span))

    def plane(self, order: Order | None = None) -> Plane:
        """What reads see; cached until any buffer is written or replaced.

        `order` is where wires find the cells; None: in logical order.
        """
        tensors = [t for t in (*self._buffers.values(), *(order or ())) if t is not None]
        transient = torch.compiler.is_compiling() or any(
            t.is_inference() or torch._C._functorch.is_functorch_wrapped_tensor(t) for t in tensors
        )
        if transient:
            return plane_of(self.chip, self.state, order)
        key = [(id(t), t._version) for t in tensors]
        if self._plane is None or self._plane[0] != key:
            with torch.no_grad():
                self._plane = (key, plane_of(self.chip, self.state, order))
        return self._plane[1]

    # ---- writing ---------------------------------------------------------------------------

    @torch.no_grad()
    def program(self, weight: Tensor, writer: Writer | None = None) -> None:
        """Write logical weights (..., rows, cols) onto the pairs.

        Args:
            weight: wanted weights; beyond ±w_max they are clipped.
            writer: how; None writes once, with the device's write error.

        Raises:
            ValueError: NaN or infinite weights.
        """
        if not bool(torch.isfinite(weight).all()):
            raise ValueError("weight must be finite to be programmed, got NaN or infinity")
        device = self.chip.device
        targets = self.chip.mapping.targets(weight.to(self.g.dtype) / self.w_max, device)
        generator = self.streams.generator(WRITE, self.g.device)
        write = Device.program if writer is None else writer
        self.state = write(device, self.state, targets, generator=generator)

    @torch.no_grad()
    def adopt(self, old: Array) -> None:
        """Carry over from another chip's array what fits this one; faults are laid on top.

        Leaves of equal parts in an equal window stay as they are, and so do the conductances
        where the window and the encoding are the same; otherwise the old weights are written.
        """
        mine, theirs = self.chip.device, old.chip.device
        new, state = self.state, old.state
        if mine.window == theirs.window:
            kept = {
                part: getattr(state, part)
                for part in STATEFUL
                if getattr(mine, part) is not None and getattr(mine, part) == getattr(theirs, part)
            }
            new = new._replace(**_copied(kept))
            if self.chip.mapping.layout(mine) == old.chip.mapping.layout(theirs):
                age = state.age.expand(new.age.shape) if new.age.dim() else state.age.amax()
                self.state = mine.stick(new._replace(g=state.g.clone(), age=age.clone()))
                return
        self.state = new
        self.program(old.weight)

    @torch.no_grad()
    def update(
        self,
        op: Operation,
        x: Tensor,
        d: Tensor,
        lr: float,
        scheme: Scheme,
        order: Order | None = None,
    ) -> None:
        """One outer-product update of −lr Σ x_i δ_j by pulses.

        Args:
            op: the operation whose vectors x and d are.
            x: inputs (..., rows).
            d: errors δ (..., cols).
            lr: learning rate in the units of `torch.optim.SGD`; 0 sends no pulse.
            scheme: how x and δ become pulses.
            order: where the cells lie, which matters where the wires of `chip.write` do.
        """
        if lr == 0 or not x.numel() or not d.numel():
            return
        device, route = self.chip.device, self.chip.mapping.route
        assert device.update is not None
        x, d = x.to(self.g.dtype), d.to(self.g.dtype)
        # weight change of one coincidence: `gain` device steps of the pair
        dw = device.update.step(device.window) / device.window.span
        dw *= route.gain / route.span * float(self.w_max)
        generator = self.streams.generator(WRITE, self.g.device)
        pair = [_device(self.state, k) for k in range(2)]
        efficacy = self._efficacy(order)
        disturbed = efficacy is not None and efficacy.row is not None
        for turn, xs, ds in scheme.turns(op, x, d):
            if disturbed:
                pulses, fired = scheme.driven(turn, xs, ds, lr / dw, generator=generator)
            else:
                pulses, fired = scheme.pulses(turn, xs, ds, lr / dw, generator=generator), None
            pair = self._pulse(pair, pulses, fired, efficacy, generator)
        for k, state in enumerate(pair):
            _put(self.state, k, state)
        self.updates += 1
        if isinstance(route, OneSided) and route.refresh_every is not None:
            if int(self.updates) % route.refresh_every == 0:
                self._refresh(route, generator)

    def _efficacy(self, order: Order | None) -> Efficacy | None:
        """Part of its step that each cell takes at the voltages of the write pulses."""
        chip, update = self.chip, self.chip.device.update
        if chip.write is None:
            return None
        assert update is not None
        if chip.wires is None:
            shares = self.g.new_full((2,), 0.5)
        else:
            cells = self.g
            if order is not None:
                cells = cells.index_select(-2, order[0]).index_select(-1, order[1])
            shares = tiled_write_shares(cells, chip.wires, chip.tile)
            if order is not None:
                back = [place.argsort() for place in order]
                shares = shares.index_select(-2, back[0]).index_select(-1, back[1])
        return chip.write.efficacy(shares, update, self.state.update)

    def _pulse(
        self,
        pair: list[State],
        pulses: Pulses,
        fired: Fired | None,
        efficacy: Efficacy | None,
        generator: torch.Generator,
    ) -> list[State]:
        route, device = self.chip.mapping.route, self.chip.device
        if route.shared and pulses.up_var is not None:
            up = pulses.up
            z = torch.randn(up.shape, generator=generator, dtype=up.dtype, device=up.device)
            pulses = pulses._replace(z=z)
        # lines reach the devices of a pair as the coincidences do
        alone = (
            ((None, None),) * 2 if fired is None else tuple(zip(*map(route, fired), strict=True))
        )
        moved = []
        for k, (state, given) in enumerate(zip(pair, route(pulses), strict=True)):
            if given is not None:
                written = None
                if efficacy is not None:
                    written = (given.up > 0) | (given.down > 0)
                    given = efficacy.of(k).on(given, *alone[k])
                state = device.pulse(state, given, written=written, generator=generator)
            moved.append(state)
        return moved

    def _refresh(self, route: OneSided, generator: torch.Generator) -> None:
        """Rewrite the pairs whose devices have both risen, to the same weight from g_min."""
        window = self.chip.device.window
        places = (self.g - window.g_min) / window.span
        risen = (places.amax(0) > route.high) & (places.amin(0) > route.low)
        if bool(risen.any()):
            device = self.chip.device
            targets = self.chip.mapping.targets(self.weight / self.w_max, device)
            mask = risen.expand_as(self.g)
            self.state = device.program(self.state, targets, mask=mask, generator=generator)

    def advance(self, dt: float, temperature: float) -> None:
        """Let dt seconds pass at `temperature` [K]."""
        generator = self.streams.generator(WRITE, self.g.device)
        with torch.no_grad():
            self.state = self.chip.device.advance(
                self.state, dt, temperature=temperature, generator=generator
            )

    # ---- torch's conventions ---------------------------------------------------------------

    def _apply(self, fn: Any, recurse: bool = True) -> Array:
        """Move devices and change between float32 and float64; never below, never the clock."""

        def move(t: Tensor) -> Tensor:
            probe = fn(t.new_empty(0))
            if not t.is_floating_point():
                return fn(t)
            low = probe.dtype in (torch.float16, torch.bfloat16)
            dtype = torch.float64 if t is self.age else torch.float32 if low else probe.dtype
            if t.is_meta or probe.is_meta or dtype == probe.dtype:
                return fn(t)
            return t.to(device=probe.device, dtype=t.dtype if low else dtype)

        super()._apply(move, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        if self.expects_state:
            super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self.expects_state = True

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plane": None}


def _copied(leaves: dict[str, Any]) -> dict[str, Any]:
    def copied(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.clone()
        return leaf if leaf is None else type(leaf)(*(copied(x) for x in leaf))

    return {part: copied(leaf) for part, leaf in leaves.items()}


def _device(state: State, k: int) -> State:
    """The state of one device of every pair; leaves of cells that are alike stay 0-dim."""

    def cut(t: Any) -> Any:
        if isinstance(t, Tensor):
            return t[k] if t.dim() else t
        return t if t is None else type(t)(*(cut(x) for x in t))

    return State(*(cut(leaf) for leaf in state))


def _put(state: State, k: int, new: State) -> None:
    """Write one device's new state into the pair's, tensor by tensor, where it changed."""

    def put(old: Any, given: Any) -> None:
        if isinstance(old, Tensor):
            place = old[k] if old.dim() else old
            if place.data_ptr() != given.data_ptr():
                place.copy_(given)
        elif old is not None:
            for a, b in zip(old, given, strict=True):
                put(a, b)

    for a, b in zip(state, new, strict=True):
        put(a, b)
