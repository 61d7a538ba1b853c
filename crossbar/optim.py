"""Stochastic gradient descent in situ."""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.sgd import sgd

from crossbar.carried.analog import is_analog
from crossbar.host import numbers
from crossbar.modes import Programmed
from crossbar.probe import Probe
from crossbar.rules import Job, Load
from crossbar.streams import Streams
from crossbar.tape import Entry
from crossbar.weight import AnalogWeight
from devices._check import at_least, positive


class InSituSGD(Optimizer):
    """Pulses to the cells of in-situ weights, plain SGD to every other parameter.

        cells: each weight's rule, W ← W − lr Σ δᵀx in the mean; others: torch.optim.SGD

    What is pulsed is what `.grad` says: the (x, δ) of the backward passes where it is theirs, with
    δ scaled where it was scaled (clipping, GradScaler); its numbers, row by row, where it is
    something else (noise, a penalty on the weight). A gradient that was zeroed is forgotten.

    Given a `DistributedDataParallel` model, every replica applies the (x, δ) of all of them and
    stays the same chip; where batches are not of equal size, and given the module alone, the
    averaged numbers are applied.

    Args:
        model: the model whose parameters are trained; parameters that belong to no model are
            added with `add_param_group`.
        lr: learning rate, > 0, in the units of `torch.optim.SGD`; 0 in a scheduler sends no pulse
            and leaves the memory of rules as it is.
        momentum, dampening, weight_decay, nesterov, maximize: as in `torch.optim.SGD`. With
            in-situ weights momentum and weight_decay are refused: cells have nowhere to keep them.
        digital: settings of their own for the digital parameters, which then are a group of their
            own, such as {"momentum": 0.9}.
        max_norm: largest bound Σ‖x‖‖δ‖ of a weight's gradient in one step, > 0: δ is scaled down
            to it; None does not clip.

    Raises:
        TypeError: not a model, a model without parameters to train, programmed weights.
        ValueError: a number out of range.
    """

    pulses = True  # analog weights let it write them

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        digital: Mapping[str, Any] | None = None,
        max_norm: float | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                "InSituSGD takes the model, not its parameters: InSituSGD(model, lr), got "
                f"{type(model).__name__}"
            )
        positive("lr", lr)
        if max_norm is not None:
            positive("max_norm", max_norm)
        at_least("momentum", momentum, 0)
        at_least("weight_decay", weight_decay, 0)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("nesterov needs momentum > 0 and dampening = 0")
        self.max_norm = max_norm
        self.streams = Streams(0)
        parallel = isinstance(model, nn.parallel.DistributedDataParallel)
        self.group: Any = model.process_group if parallel else None
        # frozen weights too: whoever thaws one later trains it
        params = list(model.parameters())
        modes = [p.analog.mode for p in params if is_analog(p)]
        if modes and all(isinstance(mode, Programmed) for mode in modes):
            raise TypeError(
                "InSituSGD cannot train programmed layers: their cells are only read; "
                "convert the model with mode=InSitu() or train it with HardwareAware()"
            )
        if not any(p.requires_grad for p in params):
            raise TypeError("model must have parameters to train, got none")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        if digital is None:
            super().__init__(params, defaults)
            return
        if unknown := set(digital) - set(defaults):
            raise ValueError(f"digital must set some of {sorted(defaults)}, got {sorted(unknown)}")
        kinds = {kind: [p for p in params if is_analog(p) is kind] for kind in (True, False)}
        groups = [{"params": kinds[True]}, {"params": kinds[False], **digital}]
        super().__init__([g for g in groups if g["params"]], defaults)

    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.__dict__[name] for name in ("max_norm", "streams", "group")}
        return {**super().__getstate__(), **own}

    def state_dict(self) -> dict[str, Any]:
        """As torch's, and how far the random streams of rules have got."""
        return {**super().state_dict(), "streams": self.streams.state.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As torch's."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "streams"})
        if "streams" in state_dict:
            self.streams.state.copy_(state_dict["streams"])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's.

        Raises:
            TypeError: momentum or weight_decay on analog weights, which cannot keep them.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for p in group["params"]:
            if not is_analog(p):
                continue
            self._keepable(group, p.analog)

    @staticmethod
    def _keepable(group: dict[str, Any], analog: AnalogWeight) -> None:
        for name in ("momentum", "weight_decay"):
            if group[name] and analog.mode.written:
                raise TypeError(
                    f"{name}={group[name]!r} needs a memory beside the cells of {analog.name}: "
                    f"give InSituSGD(model, lr, digital={{{name!r}: {group[name]!r}}}) for the "
                    "digital parameters alone, InSitu(rule=...) a rule that keeps it, a scheduler "
                    "cycle_momentum=False, or train with HardwareAware()"
                )

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; consumes what the backward passes left.

        Raises:
            ValueError: a gradient or error that is not finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        analog: dict[AnalogWeight, tuple[Tensor, float]] = {}
        jobs: dict[int, tuple[Any, list[Job]]] = {}
        given: list[tuple[str, Job]] = []
        for group in self.param_groups:
            for p in group["params"]:
                if is_analog(p) and p.analog.in_situ:
                    self._keepable(group, p.analog)
                    p.analog.sync(p)
                    lr = float(group["lr"])
                    found = self._jobs(p, lr, group["maximize"])
                    given += [(p.analog.name, job) for job in found]
                    if found and lr:
                        analog[p.analog] = (p, lr)
                        rule = p.analog.rule
                        jobs.setdefault(id(rule), (rule, []))[1].extend(found)
        finite(given)
        for group in self.param_groups:
            self._digital(group)
        for rule, work in jobs.values():
            rule.update(work, streams=self.streams)
            tell(rule, work)
        for weight, (p, lr) in analog.items():
            weight.stepped(p, lr)
        return loss

    def _jobs(self, p: Any, lr: float, maximize: bool) -> list[Job]:
        gather = functools.partial(self._gathered, p.analog)
        jobs: list[Job] = p.analog.jobs(p, lr, gather)
        if maximize:  # of the errors: what rules do beside (decay) keeps its direction
            jobs = [job._replace(d=-job.d) for job in jobs]
        if self.max_norm is None:
            return jobs
        bounds = []
        for job in jobs:
            xs, ds = job.op.vectors(job.x, job.d)
            bounds.append((xs.norm(dim=-1) * ds.norm(dim=-1)).sum())
        factor = (self.max_norm / sum(bounds)).clamp(max=1.0) if bounds else 1.0
        return [job._replace(d=job.d * factor) for job in jobs]

    def _digital(self, group: dict[str, Any]) -> None:
        """torch's SGD of the parameters that are numbers."""
        params: list[Tensor] = []
        buffers: list[Tensor | None] = []
        for p in group["params"]:
            if p.grad is None or (is_analog(p) and p.analog.in_situ):
                continue
            if is_analog(p) and p.analog.mode.written:
                continue
            params.append(p)
            buffers.append(self.state[p].get("momentum_buffer") if group["momentum"] else None)
        if not params:
            return
        sgd(
            params,
            [p.grad for p in params],  # type: ignore[misc]
            buffers,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            has_sparse_grad=any(p.grad.is_sparse for p in params),  # type: ignore[union-attr]
            foreach=False,
        )
        if group["momentum"]:
            for p, buffer in zip(params, buffers, strict=True):
                self.state[p]["momentum_buffer"] = buffer

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients and the errors kept for the cells."""
        super().zero_grad(set_to_none)
        for group in self.param_groups:
            for p in group["params"]:
                if is_analog(p):
                    p.analog.tape.clear()

    def _gathered(self, weight: AnalogWeight, entries: list[Entry]) -> list[Entry]:
        """The entries of every data-parallel replica, so that all chips take the same pulses.

        Where replicas read a weight in other ways, or batches of other sizes, there are none: the
        averaged gradient is applied as numbers.

        Raises:
            RuntimeError: and there is no gradient.
        """
        if self.group is None:
            return entries
        world = dist.get_world_size(self.group)
        mine = 0
        for e in entries:
            said = repr((type(e.op), e.region, e.x.shape, e.d.shape)).encode()
            mine = zlib.crc32(said + e.op.key(), mine)
        sign = torch.tensor(mine, device=weight.matrix.written.w_max.device)
        signs = [torch.empty_like(sign) for _ in range(world)]
        dist.all_gather(signs, sign, group=self.group)
        if len({int(s) for s in signs}) > 1:
            if not weight.mode.gradient:  # type: ignore[attr-defined]
                raise RuntimeError(
                    f"{weight.name} was read in other ways, or with batches of other sizes, on "
                    "each replica: with InSitu(gradient=False) they cannot stay one chip"
                )
            return []
        found = []
        for entry in entries:
            both = []
            for t in (entry.x, entry.d / world):
                parts = [torch.empty_like(t) for _ in range(world)]
                dist.all_gather(parts, t.contiguous(), group=self.group)
                both.append(parts)
            found += [entry._replace(x=x, d=d) for x, d in zip(*both, strict=True)]
        return found


def finite(jobs: Sequence[tuple[str, Job]]) -> None:
    """Refuse inputs and errors that are not; the host waits once for those of all weights.

    Raises:
        ValueError: it names the weight.
    """
    asked = numbers([(*job.x.aminmax(), *job.d.aminmax()) for _, job in jobs])
    for (name, _), ends in zip(jobs, asked, strict=True):
        if not all(map(math.isfinite, ends)):
            raise ValueError(
                f"the error δ reaching {name}, and the input it is multiplied by, must be "
                "finite, got NaN or infinity"
            )


def tell(rule: Any, jobs: list[Job]) -> None:
    """What digital logic did, to probes that listen."""
    found: dict[Any, list[Job]] = {}
    for job in jobs:
        probe = job.matrices[-1].probe
        if probe is not None and type(probe).worked is not Probe.worked:
            found.setdefault(job.matrices[-1], []).append(job)
    for matrix, own in found.items():
        matrix.probe.worked(matrix, rule.work(Load.of(own)), "update")
