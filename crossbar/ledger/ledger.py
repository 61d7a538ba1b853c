"""The ledger: every event of a model's arrays and digital logic, counted as it happens."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from crossbar.carried.analog import is_analog
from crossbar.converters import Digit
from crossbar.costs import Costs
from crossbar.ledger import digital, reads, writes
from crossbar.ledger.bill import Bill, price
from crossbar.ledger.conductance import Conductances
from crossbar.ledger.digital import Count
from crossbar.ledger.events import Counts, Key
from crossbar.ledger.modules import Modules
from crossbar.ledger.performance import (
    Area,
    Latency,
    Performance,
    Schedule,
    area,
    latency,
    performance,
)
from crossbar.model import placed
from crossbar.planes import Planes
from crossbar.probe import Probe
from crossbar.probes import named, observe
from crossbar.pulses.scheme import Lines
from crossbar.read import Call
from devices import Pulses, WritePulse
from devices._check import instance


class Ledger(Probe):
    """Counts of every event, see `crossbar.ledger.events.KINDS`; made by `xb.ledger`.

    Args:
        model: a model with analog layers or matrices in it, or a `Matrix` (named "matrix").
        modules: its digital modules.
    """

    currents: ClassVar[bool] = False

    def __init__(self, model: nn.Module, modules: Modules) -> None:
        self._sums = Counts()
        self._plans: dict[tuple[Any, ...], reads.Plan] = {}
        self.model, self._modules = model, modules
        self._roots = [(model, "")]  # copies that stand for it, or for parts of it, too
        self._places: dict[Any, tuple[str, int]] = {}
        self._parameters: dict[str, Any] = {}
        self._held: dict[Any, Conductances] = {}
        self._phase: str | None = None
        self._lock = threading.RLock()  # of reads in several threads
        for verb in ("used", "repeated", "finished"):  # of forwards
            setattr(self, verb, digital.untraced(getattr(self, verb)))
        self._find()

    def _find(self) -> None:
        for root, prefix in self._roots:
            for matrix, (name, k) in named(root).items():
                self._places[matrix] = (prefix + name, k)
            for name, _, parameter, _ in placed(root):
                self._parameters[prefix + name] = parameter

    @property
    def counts(self) -> Counts:
        """Every event so far."""
        found = Counts({key: self._sums[key] for key in self._sums})
        for (name, k, phase, *_), plan in self._plans.items():
            for (event, of), value in plan.events().items():
                found.add(Key(name, phase, k, event, of), value)
        return found

    def place(self, matrix: Any) -> tuple[str, int]:
        """Name of the weight and number of the matrix in it."""
        if matrix not in self._places:  # made since, by a rule or for another chip
            self._find()
        if matrix not in self._places:
            if matrix.role is None:
                raise TypeError(f"the ledger does not know {matrix!r}, which is not of its model")
            self._places[matrix] = (matrix.role[0], 0)
        return self._places[matrix]

    def held(self, matrix: Any) -> Conductances:
        """What its cells conduct."""
        if matrix not in self._held:
            self._held[matrix] = Conductances(matrix)
        return self._held[matrix]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Reads within count as those of another phase, a drift compensation's say."""
        old, self._phase = self._phase, name
        try:
            yield
        finally:
            self._phase = old

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing within is counted: an evaluation in the midst of a training, say."""
        before, sums, plans = self._phase, self._sums, self._plans
        self._sums, self._plans = Counts(), {}
        try:
            yield
        finally:
            self._phase, self._sums, self._plans = before, sums, plans

    @contextmanager
    def follows(self, model: Any, copy: Any) -> Iterator[Probe | None]:
        """Copies that stand for the model, or for a part of it, count as what they stand for."""
        paths = {m: path for path, m in self.model.named_modules()}
        prefix = ""
        if model in paths:
            prefix = f"{paths[model]}." if paths[model] else ""
        else:  # it holds the ledger's model
            (path,) = [path for path, m in model.named_modules() if m is self.model]
            model, copy = self.model, copy.get_submodule(path)
        kept = dict(self._places), dict(self._held), dict(self._parameters)
        self._roots.append((copy, prefix))
        try:
            with self._modules.followed(model, copy):
                yield self
        finally:
            self._roots.pop()
            self._places, self._held, self._parameters = kept

    @property
    def matrices(self) -> dict[tuple[str, int], Any]:
        """Every matrix by the name of its weight and its number."""
        self._find()
        return {place: matrix for matrix, place in reversed(self._places.items())}

    @property
    def pulses(self) -> dict[tuple[str, int], WritePulse | None]:
        """What a write pulse of each matrix is, as its device says."""
        return {at: m.chip.device.write_pulse for at, m in self.matrices.items()}

    def price(self, costs: Costs) -> Bill:
        """Joules of what was counted, see `bill.price`."""
        tiles = {at: math.prod(self.counts_shape(m)) for at, m in self.matrices.items()}
        return price(self.counts, costs, self.pulses, tiles)

    def latency(self, costs: Costs, schedule: Schedule | None = None) -> Latency:
        """How long it took, see `performance.latency`."""
        return latency(self.counts, costs, self.matrices, self.pulses, schedule)

    def area(self, costs: Costs, schedule: Schedule | None = None, wiring: float = 0.15) -> Area:
        """Of the arrays and what is around them, see `performance.area`."""
        return area(costs, self.matrices, schedule, wiring)

    def performance(self, costs: Costs, schedule: Schedule | None = None) -> Performance:
        """Operations over time and joules, see `performance.performance`."""
        return performance(self.counts, self.price(costs), self.latency(costs, schedule))

    # ---- as it happens -------------------------------------------------------------------------

    def _add(self, matrix: Any, phase: str, event: str, of: Any, value: Any) -> None:
        name, k = self.place(matrix)
        self.add(Key(name, phase, k, event, of), value)

    def add(self, key: Key, value: Any) -> None:
        """So many events more."""
        with self._lock:
            self._sums.add(key, value)

    def used(self, call: Call, digits: Sequence[Digit], planes: Planes) -> None:
        """A read of cells; one of float weights is digital, see `finished`."""
        matrix = call.matrix
        if matrix.cells is None:
            return
        digital.eager()
        phase = self._phase or (None if matrix.role is None else matrix.role[1])
        if phase is None:
            phase = "update" if call.shared else "backward" if call.flipped else "forward"
        with torch.no_grad(), self._lock:
            use = reads.Use(call, digits, planes, self.held(matrix))
            at = (*self.place(matrix), phase, *reads.kind(use))
            if at not in self._plans:
                self._plans[at] = reads.Plan(use)
            self._plans[at].add(use)

    def repeated(self, matrix: Any, port: Any, n: Tensor) -> None:
        """Conversions of a held current, made again."""
        if matrix.cells is not None:
            way = "backward" if port is matrix.backward_port else "forward"
            bits = getattr(port.settings.adc, "bits", None)
            total = torch.zeros(self.counts_shape(matrix), dtype=torch.float64, device=n.device)
            total[0, 0] = n.detach().double()
            self._add(matrix, self._phase or way, "adc", bits, total)

    def counts_shape(self, matrix: Any) -> tuple[int, int]:
        """Tiles down and across."""
        held = self.held(matrix)
        return len(held.down), len(held.across)

    def finished(self, matrix: Any, op: Any, x: Tensor, y: Tensor) -> None:
        """A float weight is multiplied by digitally."""
        if matrix.cells is not None:
            return
        macs, name = float(op.macs(x, y)), self.place(matrix)[0]
        passes = int(x.requires_grad) + int(self._parameters[name].requires_grad)
        self.add(Key(name, self._phase or "forward", 0, "digital_mac"), macs)
        self.later(name, {"digital_mac": macs * passes}, y)

    def later(self, name: str, found: Mapping[str, float], outputs: Any) -> None:
        """What the backward pass through outputs does, if it comes, through any of them."""
        followed = [y for y in digital.tensors(outputs) if y.requires_grad]
        if not any(found.values()):
            return
        passes: set[int] = set()

        def counted(_: Tensor) -> None:
            now = torch._C._current_graph_task_id()
            if now in passes and len(followed) > 1:
                return
            passes.add(now)
            self.found(name, "backward", found)

        for y in followed:
            y.register_hook(counted)

    def found(self, name: str, phase: str, events: Mapping[str, float]) -> None:
        """Events of digital logic."""
        for event, n in events.items():
            if n:
                self.add(Key(name, self._phase or phase, 0, event), n)

    def struck(
        self,
        matrix: Any,
        at: Tensor | None,
        rounds: Sequence[Pulses],
        lines: Lines,
        phase: str,
    ) -> None:
        """Pulses of cells and of lines."""
        phase = self._phase or phase
        with torch.no_grad():
            writes.pulsed(
                *(matrix, at, rounds, lines, self.held(matrix)),
                lambda event, of, value: self._add(matrix, phase, event, of, value),
            )

    def wrote(self, matrix: Any, written: Any) -> None:
        """Cells written."""
        phase = self._phase or "program"
        with torch.no_grad():
            writes.written(
                *(written, matrix.forward_port),
                lambda event, of, value: self._add(matrix, phase, event, of, value),
            )

    def driven(self, matrix: Any, v: Tensor, dt: float) -> None:
        """Waveforms, with the cells as they were before."""
        device, g = matrix.chip.device, self.held(matrix).seen.double()
        v = v.double().expand_as(g)
        current = g * v if device.iv is None else device.iv.current(g, v)
        self._add(matrix, self._phase or "update", "drive", None, (v * current).sum() * dt)

    def advanced(self, matrix: Any, dt: float) -> None:
        """Time."""
        self._add(matrix, self._phase or "advance", "second", None, float(dt))

    def worked(self, matrix: Any, work: Any, phase: str) -> None:
        """Digital work beside a matrix."""
        for event, n in work._asdict().items():
            if n:
                self._add(matrix, self._phase or phase, event, None, float(n))

    def untold(self, matrix: Any, why: str) -> None:
        """Refused: it would be counted as nothing."""
        raise TypeError(f"the ledger cannot count {why}: it happens on {self.place(matrix)[0]}")

    # ---- optimisers ----------------------------------------------------------------------------

    def optimised(
        self, own: Mapping[type, tuple[float, float]], optimiser: Any, args: Any, kwargs: Any
    ) -> None:
        """A step of any optimiser, of the digital parameters of this model."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        for group in optimiser.param_groups:
            for p in group["params"]:
                if id(p) not in names or p.grad is None or _of_cells(p):
                    continue
                ops, size = own.get(type(optimiser)) or digital.stepped(optimiser, group)
                key = Key(names[id(p)], self._phase or "update", 0, "optimiser_op")
                self.add(key, ops * p.numel())
                bytes_ = size * p.element_size() / 4 * p.numel()
                self.add(key._replace(event="optimiser_byte"), bytes_)

    def __hash__(self) -> int:
        """By identity, as a probe."""
        return id(self)

    def __repr__(self) -> str:
        """A line an event and phase."""
        return repr(self.counts)


def _of_cells(p: Any) -> bool:
    return bool(is_analog(p)) and bool(p.analog.mode.written)


@contextmanager
def ledger(
    model: nn.Module,
    *,
    count: Mapping[type, Count] | None = None,
    optimisers: Mapping[type, tuple[float, float]] | None = None,
    left_out: Sequence[str] = (),
) -> Iterator[Ledger]:
    """Count every event on the arrays of a model, and in its digital logic, while it lasts.

        with xb.ledger(model) as ledger:
            criterion(model(x), y).backward()
            optimizer.step()
        ledger.counts.total("adc")            # conversions of all layers, forward and backward
        print(ledger.counts)

    Outputs, gradients and cells are, bit for bit, those without it. Reads of cells, pulses, writes
    and waveforms are counted where they happen, in tiles; float weights (`HardwareAware`) and
    digital modules as digital products, and of a class that nobody says the events of, each
    function of torch that its forward calls. Chips of `xb.over_time` and arrays of `DirectFeedback`
    count with the model; a user's own copies do not, nor does what asks the emulator alone
    (`summary`, `sensitivity`, `to_neurosim`).

    Args:
        model: a model with analog layers or matrices in it, or a `Matrix`.
        count: of classes of modules, a function of the module, its inputs and its output that
            says the events of one forward.
        optimisers: operations and bytes a weight of 4 bytes, of classes that are not torch's.
        left_out: paths of modules that are not to be counted.

    Raises:
        TypeError: a function, writer, rule, optimiser or circuit that cannot be counted, as it is
            met; a module that came into the model meanwhile.
        ValueError: no analog layer.
    """
    instance("model", model, nn.Module, optional=False)
    modules = Modules(model, dict(count or {}), left_out)
    found = Ledger(model, modules)
    with ExitStack() as stack:
        stack.enter_context(modules.watched(found))
        own = dict(optimisers or {})
        handle = register_optimizer_step_post_hook(
            lambda optimiser, args, kwargs: found.optimised(own, optimiser, args, kwargs)
        )
        stack.callback(handle.remove)
        stack.enter_context(observe(model, found))
        yield found
        modules.same()
