"""Sequences (T, B, ...): layers without memory read all steps at once, neurons go through them.

net = xb.spiking.Sequential(analog_linear, LIF(), another, LIF(), dt=1e-3, block=20)
spikes, states = net(x)                   # (T, B, ...)
spikes, states = net(x2, detach(states))  # truncated backpropagation through time
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from crossbar.model import placements
from crossbar.spiking.neurons import State, Temporal
from devices._check import instance, positive, whole

PEERS = ("snntorch", "spikingjelly", "norse")
"""Libraries whose neurons remember what they saw: folded time steps would be a batch to them."""


class Stepped(Temporal):
    """A module that keeps its own state, called step by step.

    For neurons of other libraries within `Sequential`: snnTorch's with init_hidden=True,
    SpikingJelly's in step_mode "s". Their own resets apply between sequences
    (`snntorch.utils.reset`, `functional.reset_net`).

    Args:
        module: takes and gives one tensor.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        instance("module", module, nn.Module, optional=False)
        self.module = module

    def forward(self, x: Tensor, state: None = None) -> tuple[Tensor, None]:
        """One step; the state is the module's own."""
        return self.module(x), None

    def events(self, inputs: tuple[Any, ...], output: Any) -> dict[str, float]:
        """The module counts its own."""
        return {}


class Carried(Temporal):
    """A module that takes and gives its state: (y, state) = module(x, state).

    For Norse's cells, and snnTorch's neurons, within `Sequential`.

    Args:
        module: takes (x, state) and gives (y, state), state None to begin with.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        instance("module", module, nn.Module, optional=False)
        self.module = module

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step."""
        y, state = self.module(x, state)
        return y, state

    def events(self, inputs: tuple[Any, ...], output: Any) -> dict[str, float]:
        """The module counts its own."""
        return {}


class Sequential(nn.Sequential):
    """Modules one after another over time steps (T, B, ...).

    A `Temporal` module goes through the steps; every other one sees `block` steps as one batch
    (block · B, ...): one product, read with noise of its own for every step. Cells are held while
    a block is read, then `dt` passes for each of its steps: drift and slow noise advance. What
    holding them costs, against step by step, is at most the change of conductance in a block: of a
    power-law drift G ∝ (t + t0)^−ν, 1 − (1 + block dt/(t + t0))^−ν ≤ ν block dt/(t + t0) of each,
    t since programming.

    Of a call that records a graph of cells all time passes before the next call: its backward
    reads the cells that its forward read.

    Args:
        modules: layers and neurons.
        dt: a time step [s]; None: no time passes for the cells. Weights without cells have none.
        block: steps that are read as one product, >= 1; None: all of a call.

    Raises:
        TypeError: a neuron of another library that is not wrapped.
    """

    def __init__(self, *modules: nn.Module, dt: float | None = None, block: int | None = None):
        super().__init__(*modules)
        self.dt = None if dt is None else positive("dt", dt, "s")
        self.block = None if block is None else whole("block", block, 1)
        self.owed = 0.0  # [s] that is still to pass
        for module in modules:
            check(module)

    def forward(self, x: Tensor, states: Sequence[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """Outputs (T, B, ...) of x (T, B, ...), and the state of every module (None: stateless).

        Raises:
            ValueError: states of another net; no time step.
        """
        modules = list(self)
        states = [None] * len(modules) if states is None else list(states)
        if len(states) != len(modules):
            raise ValueError(f"{len(states)} states for {len(modules)} modules")
        if not len(x):
            raise ValueError("a sequence needs at least one time step, got none")
        age(self, self.owed)
        self.owed, found = 0.0, []
        for part in x.split(self.block or len(x)):
            steps, y = len(part), part
            for k, module in enumerate(modules):
                if isinstance(module, Temporal):
                    y, states[k] = module.run(y, states[k])
                elif getattr(module, "step_mode", None) == "m":  # SpikingJelly's word for (T, B)
                    y = module(y)
                elif y.dim() < 3 and y.is_floating_point():
                    raise ValueError(f"a sequence must be (T, B, ...), got {tuple(x.shape)}")
                else:
                    y = module(y.flatten(0, 1)).unflatten(0, (steps, -1))
            self.owed += 0.0 if self.dt is None else steps * self.dt
            if not y.requires_grad:
                age(self, self.owed)
                self.owed = 0.0
            found.append(y)
        return (found[0] if len(found) == 1 else torch.cat(found)), states

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.owed:
            destination[f"{prefix}owed"] = torch.tensor(self.owed, dtype=torch.float64)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        own, unexpected = f"{prefix}owed", rest[3]
        self.owed = float(state_dict.get(own, 0.0))
        unexpected[:] = [key for key in unexpected if key != own]

    def extra_repr(self) -> str:
        """Its clock."""
        return f"dt={self.dt}, block={self.block}"


def check(module: nn.Module) -> None:
    """Whether folding time steps into the batch of a module is right.

    Raises:
        TypeError: it remembers what it saw, or holds what does.
    """
    if isinstance(module, Temporal):
        return
    if type(module).__module__.split(".")[0] in PEERS:
        if getattr(module, "step_mode", None) == "m":
            return
        bases = type(module).__mro__
        if not any(b.__module__.startswith("torch.nn.") and b is not nn.Module for b in bases):
            raise TypeError(
                f"{type(module).__name__} of another library remembers what it saw, and folded "
                "time steps would be a batch to it: wrap it in Stepped() (keeps its own state) or "
                "Carried() (takes and gives it)"
            )
    for child in module.children():
        if isinstance(child, Temporal):
            raise TypeError(
                f"{type(module).__name__} holds a {type(child).__name__}, which goes through time "
                "step by step: give Sequential its modules one by one"
            )
        check(child)


@torch.no_grad()
def age(model: nn.Module, seconds: float) -> None:
    """Let time pass for the cells of a model, where it has any; floats do not age."""
    for parameter, weight in _written(model) if seconds else ():
        weight.sync(parameter)
        weight.advance(seconds, 300.0)
        weight.show(parameter)


def _written(model: nn.Module) -> Iterator[tuple[Any, Any]]:
    try:
        found = placements(model)
    except ValueError:  # no analog layer at all
        return
    for _, _, parameter, weight in found:
        if weight.mode.written:
            yield parameter, weight


@contextmanager
def recorded(net: nn.Module) -> Iterator[dict[str, list[State]]]:
    """Keep the state of every neuron at every step while the context lasts, by qualified name.

        with xb.spiking.recorded(net) as states:
            net(x)
        torch.stack([s.v for s in states["1"]])  # (T, B, ...)

    Without it a neuron keeps its last state alone.
    """
    found: dict[str, list[State]] = {}
    modules = {name: m for name, m in net.named_modules() if isinstance(m, Temporal)}
    for name, module in modules.items():
        found[name] = module.trace = []
    try:
        yield found
    finally:
        for module in modules.values():
            module.trace = None
