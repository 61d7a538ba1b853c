"""Spiking neurons, and what else of a network remembers: recurrence, integrators.

lif = xb.spiking.LIF(xb.spiking.SnnTorch(0.9))
spikes, state = lif(current)              # one step, (B, ...)
spikes, state = lif.run(currents)         # (T, B, ...), only the last membrane is kept
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crossbar.spiking.membranes import Membrane, SnnTorch
from crossbar.spiking.resets import Reset, Subtract
from crossbar.spiking.surrogates import ATan, Surrogate, fire
from devices._check import at_least, between, finite, flag, instance, positive, whole


class Temporal(nn.Module, ABC):
    """A module with a state that goes from one time step to the next.

    The state is explicit: `y, state = module(x, state)`, None to begin with; `detach` cuts the
    graph behind it for truncated backpropagation through time.
    """

    trace: list[Any] | None = None  # where `recorded` wants every step's state

    @abstractmethod
    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One time step of x (B, ...): its output and the new state."""

    def events(self, inputs: tuple[Any, ...], output: Any) -> dict[str, float]:
        """What digital logic does in one step, for `xb.ledger`; a class that computes says it.

        Raises:
            TypeError: the class does not say it.
        """
        raise TypeError(f"{type(self).__name__} does not say its events")

    def run(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """All time steps of x (T, B, ...): outputs (T, B, ...) and the last state."""
        if not len(x):
            return x, state
        outputs = []
        for now in x.unbind(0):
            y, state = self(now, state)
            outputs.append(y)
        return torch.stack(outputs), state


class State(NamedTuple):
    """What a neuron remembers."""

    v: Tensor  # membrane
    i: Tensor | None = None  # synapses, see `Membrane.current`
    a: Tensor | None = None  # adaptation of the threshold
    wait: Tensor | None = None  # steps left of the refractory time


torch.serialization.add_safe_globals([State])  # saved in the midst of a sequence


@dataclass(frozen=True)
class Adaptation:
    """A threshold that every spike raises: θ + a, a ← ρ a + κ S.

    Args:
        decay: ρ in [0, 1].
        jump: κ, >= 0.

    Source: Bellec et al., NeurIPS 2018, arXiv:1803.09574.
    """

    decay: float = 0.95
    jump: float = 0.2

    def __post_init__(self) -> None:
        between("decay", self.decay, 0, 1)
        at_least("jump", self.jump, 0)


class LIF(Temporal):
    """A leaky integrate-and-fire neuron, composed of parts.

    Args:
        membrane: how it charges, leaks, fires and when it is reset: `SnnTorch`, `SpikingJelly`,
            `Norse`, `Exact`, `Current`, `Conductance`.
        threshold: θ > 0, a number or a tensor that broadcasts to the neurons.
        reset: what a spike does; None: nothing.
        adaptation: of the threshold; None: none.
        refractory: steps >= 0 after a spike in which the membrane stays as it is.
        surrogate: derivative of a spike.
        detach_reset: whether the reset is left out of the gradient (`SnnTorch`'s delayed one is).
        start: v before the first input; None: the membrane's rest.
        learn_decay, learn_threshold: whether these are Parameters (decay kept in its range).

    Raises:
        TypeError, ValueError: a part of another kind or out of range.
    """

    def __init__(
        self,
        membrane: Membrane | None = None,
        threshold: float | Tensor = 1.0,
        *,
        reset: Reset | None = Subtract(),  # noqa: B008 - frozen
        adaptation: Adaptation | None = None,
        refractory: int = 0,
        surrogate: Surrogate = ATan(),  # noqa: B008 - frozen
        detach_reset: bool = False,
        start: float | None = None,
        learn_decay: bool = False,
        learn_threshold: bool = False,
    ) -> None:
        super().__init__()
        self.membrane = SnnTorch() if membrane is None else membrane
        instance("membrane", self.membrane, Membrane, optional=False)
        instance("reset", reset, Reset)
        instance("adaptation", adaptation, Adaptation)
        instance("surrogate", surrogate, Surrogate, optional=False)
        for name, value in (("detach_reset", detach_reset), ("learn_decay", learn_decay)):
            flag(name, value)
        flag("learn_threshold", learn_threshold)
        if start is not None:
            finite("start", start)
        self.reset, self.adaptation, self.surrogate = reset, adaptation, surrogate
        self.refractory, self.detach_reset = whole("refractory", refractory, 0), detach_reset
        self.start = start
        self.threshold: Tensor | float
        if isinstance(threshold, Tensor):
            if not bool((threshold > 0).all()):
                raise ValueError(f"threshold must be > 0, got a smallest {float(threshold.min())}")
            given = threshold.detach().clone()
        else:
            given = torch.tensor(positive("threshold", threshold))
        if learn_threshold:
            self.threshold = nn.Parameter(given)
        elif isinstance(threshold, Tensor):
            self.register_buffer("threshold", given)
        else:
            self.threshold = float(threshold)
        self.decay = nn.Parameter(torch.tensor(self.membrane.decay)) if learn_decay else None

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One time step; see `Temporal`."""
        if state is None:
            rest = self.membrane.rest(x)
            state = State(rest if self.start is None else torch.full_like(x, self.start))
        elif state.v.shape != x.shape:
            raise ValueError(
                f"the state is of neurons {tuple(state.v.shape)}, and the input of "
                f"{tuple(x.shape)}: another batch begins without a state"
            )
        decay: Tensor | float = self.membrane.decay
        if self.decay is not None:
            decay = self.membrane.within(self.decay)
        theta, a, wait = self.threshold, state.a, state.wait
        if self.adaptation is not None:
            a = torch.zeros_like(x) if a is None else a
            theta = theta + a
        driven, i = self.membrane.current(x, state.i)
        shoot = partial(fire, surrogate=self.surrogate)
        s, v = self.membrane.step(
            state.v, driven, decay, theta, self.reset, shoot, self.detach_reset
        )
        if self.refractory:
            wait = torch.zeros_like(x) if wait is None else wait
            rests = wait > 0
            s, v = torch.where(rests, torch.zeros_like(s), s), torch.where(rests, state.v, v)
            wait = torch.where(s > 0, float(self.refractory), (wait - 1).clamp(min=0)).detach()
        if self.adaptation is not None and a is not None:
            a = self.adaptation.decay * a + self.adaptation.jump * s
        state = State(v, i, a, wait)
        if self.trace is not None:
            self.trace.append(State(*(None if t is None else t.detach() for t in state)))  # type: ignore[arg-type]
        return s, state

    def events(self, inputs: tuple[Any, ...], output: Any) -> dict[str, float]:
        """Of clocked logic: every neuron in every step, whether it spikes or not.

        Products of the membrane and the adaptation; a comparison, functions of the membrane; an
        addition for a reset, two for the adaptation (of the jump, of the threshold), one for the
        refractory counter. The addition of the input is part of the first product.
        """
        n, adapts = output[0].numel(), self.adaptation is not None
        adds = (self.reset is not None) + 2 * adapts + (self.refractory > 0)
        return {
            "digital_mac": float(n * (self.membrane.products + adapts)),
            "activation": float(n * (1 + self.membrane.functions)),
            "add": float(n * (adds + (self.membrane.products == 0))),
        }

    def extra_repr(self) -> str:
        """Its parts."""
        return f"{self.membrane!r}, threshold={self.threshold}, reset={self.reset!r}"


class Integrator(Temporal):
    """A membrane that never fires: its output is v.

    Args:
        membrane: how it charges and leaks.
    """

    def __init__(self, membrane: Membrane | None = None) -> None:
        super().__init__()
        self.membrane = SnnTorch() if membrane is None else membrane
        instance("membrane", self.membrane, Membrane, optional=False)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One time step; see `Temporal`."""
        v, i = (self.membrane.rest(x), None) if state is None else state[:2]
        driven, i = self.membrane.current(x, i)
        v = self.membrane.charge(v, driven, self.membrane.decay)
        state = State(v, i)
        if self.trace is not None:
            self.trace.append(State(*(None if t is None else t.detach() for t in state)))  # type: ignore[arg-type]
        return v, state

    def events(self, inputs: tuple[Any, ...], output: Any) -> dict[str, float]:
        """Products and functions of the membrane."""
        n, membrane = output[0].numel(), self.membrane
        return {
            "digital_mac": float(n * membrane.products),
            "activation": float(n * membrane.functions),
            "add": float(n * (membrane.products == 0)),
        }


class Recurrent(Temporal):
    """A neuron whose spikes come back through a layer one step later: x_t + layer(S_(t−1)).

    snnTorch's `RLeaky` with the layer as its recurrent one. A layer with a state keeps it, as
    `Synapses` of further delays do.

    Args:
        neuron: what spikes.
        layer: from spikes (B, n) to inputs (B, n), such as an analog linear layer.
    """

    def __init__(self, neuron: Temporal, layer: nn.Module) -> None:
        super().__init__()
        instance("neuron", neuron, Temporal, optional=False)
        instance("layer", layer, nn.Module, optional=False)
        self.neuron, self.layer = neuron, layer

    def forward(
        self, x: Tensor, state: tuple[Tensor, Any, Any] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Any, Any]]:
        """One time step; the state are the last spikes, the neuron's state and the layer's."""
        before, own, kept = (torch.zeros_like(x), None, None) if state is None else state
        if isinstance(self.layer, Temporal):
            back, kept = self.layer(before, kept)
        else:
            back = self.layer(before)
        s, own = self.neuron(x + back, own)
        return s, (s, own, kept)

    def events(self, inputs: tuple[Any, ...], output: Any) -> dict[str, float]:
        """What comes back is added; neuron and layer count their own."""
        return {"add": float(output[0].numel())}


def detach(state: Any) -> Any:
    """The same state, cut off from the graph that made it."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        return type(state)(*(detach(part) for part in state))
    if isinstance(state, (tuple, list)):
        return type(state)(detach(part) for part in state)
    return state
