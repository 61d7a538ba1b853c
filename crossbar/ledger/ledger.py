"""The ledger: every event of a model's arrays and digital logic, counted as it happens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from crossbar.carried.analog import is_analog
from crossbar.carried.owner import Arrays, Owner, weights
from crossbar.converters import Digit
from crossbar.costs import Costs
from crossbar.ledger import digital, reads, writes
from crossbar.ledger.bill import Bill, price
from crossbar.ledger.conductance import Conductances
from crossbar.ledger.digital import Count
from crossbar.ledger.events import Counts, Key
from crossbar.ledger.performance import (
    Area,
    Latency,
    Performance,
    Schedule,
    area,
    latency,
    performance,
)
from crossbar.matrix import Matrix
from crossbar.model import placements
from crossbar.planes import Planes
from crossbar.probe import Probe
from crossbar.probes import observe
from crossbar.pulses.scheme import Lines
from crossbar.read import Call
from devices import Pulses, WritePulse


class Ledger(Probe):
    """Counts of every event, see `crossbar.ledger.events.KINDS`; made by `xb.ledger`.

    Args:
        model: a model with analog layers, or a `Matrix` (named "matrix").
    """

    currents: ClassVar[bool] = False

    def __init__(self, model: nn.Module) -> None:
        self._sums = Counts()
        self._plans: dict[tuple[Any, ...], reads.Plan] = {}
        self.model = model
        self._places: dict[Any, tuple[str, int]] = {}
        self._parameters: dict[str, Any] = {}
        self._held: dict[Any, Conductances] = {}
        self._phase: str | None = None
        self._find()

    def _find(self) -> None:
        if isinstance(self.model, Matrix):
            self._places[self.model] = ("matrix", 0)
            return
        for name, _, parameter, weight in placements(self.model):
            self._parameters[name] = parameter
            for k, (_, matrix) in enumerate(weight.all()):
                self._places[matrix] = (name, k)

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

    @property
    def matrices(self) -> dict[tuple[str, int], Any]:
        """Every matrix by the name of its weight and its number."""
        self._find()
        return {place: matrix for matrix, place in self._places.items()}

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
        self._sums.add(Key(name, phase, k, event, of), value)

    def used(self, call: Call, digits: Sequence[Digit], planes: Planes) -> None:
        """A read of cells; one of float weights is digital, see `finished`."""
        matrix = call.matrix
        if matrix.cells is None:
            return
        wrapped = torch._C._functorch.peek_interpreter_stack() is not None
        if torch.compiler.is_compiling() or wrapped:
            raise TypeError(
                "the ledger counts what runs: not in regions that torch.compile traces, nor under "
                "torch.func transforms"
            )
        phase = self._phase
        if phase is None:
            phase = "update" if call.shared else "backward" if call.flipped else "forward"
        with torch.no_grad():
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
        self._sums.add(Key(name, self._phase or "forward", 0, "digital_mac"), macs)
        self._later(name, {"digital_mac": macs * passes}, y)

    def _later(self, name: str, found: Mapping[str, float], outputs: Any) -> None:
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
            for event, n in found.items():
                if n:
                    self._sums.add(Key(name, "backward", 0, event), n)

        for y in followed:
            y.register_hook(counted)

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

    def worked(self, matrix: Any, work: Any) -> None:
        """Digital work of a rule."""
        for event, n in work._asdict().items():
            if n:
                self._add(matrix, self._phase or "update", event, None, float(n))

    # ---- digital modules and optimisers ----------------------------------------------------------

    def watch(self, stack: ExitStack, own: dict[type, Count], left_out: Sequence[str]) -> None:
        """Follow the modules of the model.

        Raises:
            TypeError: one that nobody says how to count.
        """
        if isinstance(self.model, Matrix):
            return
        arrays = [path for path, m in self.model.named_modules() if isinstance(m, Arrays)]
        skipped = tuple(f"{path}." for path in (*left_out, *arrays))
        for path, module in self.model.named_modules():
            if f"{path}.".startswith(skipped):
                continue
            count = digital.count_of(module, own)
            if count is None:
                if _computes(module):
                    raise TypeError(
                        f"the ledger cannot count {path or 'the model'} "
                        f"({type(module).__name__}): give ledger(model, count={{"
                        f"{type(module).__name__}: f}}), f(module, inputs, output) -> "
                        "{event: number}, the class a method events(inputs, output), or its path "
                        "in left_out"
                    )
                continue
            hook = self._hook(path, module, count)
            stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)

    def _hook(self, path: str, watched: nn.Module, count: Count) -> Any:
        def hook(module: Any, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
            if module is not watched:  # a copy, made while this lasts
                return
            inputs = signature(module.forward).bind(*args, **named).args if named else args
            found = dict(count(module, inputs, output))
            inner = found.pop("inner", 0.0)
            asks = any(x.requires_grad for x in digital.tensors(inputs))
            trains = any(p.requires_grad and p.dim() > 1 for p in module.parameters(recurse=False))
            product = found.pop("digital_mac", 0.0)
            backward = product * (float(asks) + float(trains)) + 2 * inner
            now = {**found, "digital_mac": product + inner}
            for event, n in now.items():
                if n:
                    self._sums.add(Key(path, self._phase or "forward", 0, event), n)
            self._later(path, {**found, "digital_mac": backward}, output)

        return hook

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
                self._sums.add(key, ops * p.numel())
                bytes_ = size * p.element_size() / 4 * p.numel()
                self._sums.add(key._replace(event="optimiser_byte"), bytes_)

    def __hash__(self) -> int:
        """By identity, as a probe."""
        return id(self)

    def __repr__(self) -> str:
        """A line an event and phase."""
        return repr(self.counts)


def _computes(module: nn.Module) -> bool:
    """Whether a module that nobody counts may hide work: it has no children to do it."""
    if isinstance(module, Owner) and weights(module):
        return not any(True for _ in module.children()) and not _plain_owner(module)
    return next(module.children(), None) is None


def _plain_owner(module: Any) -> bool:
    """A user's own module of analog weights alone."""
    return all(is_analog(p) for p in module.parameters(recurse=False))


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
    digital modules as digital products. Functions that a module's own forward calls between its
    children, and products of activations there, are not seen. Copies of the model are not watched:
    of `xb.over_time` count within its score.

    Args:
        model: a model with analog layers, or a `Matrix`.
        count: of classes of modules that are not torch's, a function of the module, its inputs
            and its output that says the events of one forward.
        optimisers: operations and bytes a weight of 4 bytes, of classes that are not torch's.
        left_out: paths of modules that are not to be counted.

    Raises:
        TypeError: a module, writer, rule or optimiser that cannot be counted.
        ValueError: no analog layer.
    """
    found = Ledger(model)
    with ExitStack() as stack:
        found.watch(stack, dict(count or {}), left_out)
        if not isinstance(model, Matrix):
            own = dict(optimisers or {})
            handle = register_optimizer_step_post_hook(
                lambda optimiser, args, kwargs: found.optimised(own, optimiser, args, kwargs)
            )
            stack.callback(handle.remove)
        stack.enter_context(observe(model, found))
        yield found
