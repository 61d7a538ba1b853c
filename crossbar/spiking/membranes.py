"""How membranes charge, leak and are reset, in the conventions of the common simulators."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from crossbar.spiking.resets import Reset, Subtract, To
from crossbar.spiking.surrogates import above
from devices._check import at_least, between, finite, flag, instance, positive

Fire = Callable[[Tensor, bool], Tensor]
"""Spikes of u = v − θ, strictly above threshold or not."""


class Membrane(ABC):
    """How a membrane takes one step.

    Its time constant is `decay`, in the unit of its simulator; a `LIF` may learn it.
    """

    strict: ClassVar[bool] = True
    """Whether it fires at v > θ; else at v >= θ."""

    functions: ClassVar[int] = 0
    """Exponentials and divisions of a step and neuron."""

    decay: float

    @property
    def products(self) -> int:
        """Multiplications of a step and neuron."""
        return 1

    @abstractmethod
    def charge(self, v: Tensor, x: Tensor, decay: Tensor | float) -> Tensor:
        """The membrane v after input x, before any spike."""

    def within(self, decay: Tensor) -> Tensor:
        """A learned time constant kept in its range."""
        return decay.clamp(0, 1)

    def rest(self, like: Tensor) -> Tensor:
        """The membrane before the first input."""
        return torch.zeros_like(like)

    def current(self, x: Tensor, i: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What charges the membrane, and the state of the synapses (None: they have none)."""
        return x, None

    def step(
        self,
        v: Tensor,
        x: Tensor,
        decay: Tensor | float,
        theta: Tensor | float,
        reset: Reset | None,
        fire: Fire,
        detached: bool,
    ) -> tuple[Tensor, Tensor]:
        """Spikes and the membrane: charge, fire, reset within the step."""
        v = self.charge(v, x, decay)
        s = fire(v - theta, self.strict)
        if reset is None:
            return s, v
        return s, reset.after(v, s.detach() if detached else s, theta)


@dataclass(frozen=True)
class SnnTorch(Membrane):
    """snnTorch's `Leaky`: v ← β v + x, S = H(v − θ) at v > θ.

    The reset lands one step later and is not differentiated: with r = H(v_old − θ),

        Subtract   v ← β v + x − r θ          To(0)   v ← β (1 − r) v + x

    With reset_delay=False these are followed, in the same step, by v ← v − (S − r) θ or
    v ← v − (S − r) v. With `Subtract` that equals `SpikingJelly(decay_input=False)`, apart from >=,
    only while v <= 2θ: a membrane still above θ after its reset is reset once, not again.

    Args:
        decay: β in [0, 1], e^(−dt/τ) of a continuous membrane; input gain 1.
        reset_delay: see above.

    Source: Eshraghian et al., Proc. IEEE 111, 1016 (2023), arXiv:2109.12894; snnTorch 1.0.
    """

    decay: float = 0.9
    reset_delay: bool = True

    def __post_init__(self) -> None:
        between("decay", self.decay, 0, 1)
        flag("reset_delay", self.reset_delay)

    def charge(self, v: Tensor, x: Tensor, decay: Tensor | float) -> Tensor:
        """See the class."""
        return decay * v + x

    def step(
        self,
        v: Tensor,
        x: Tensor,
        decay: Tensor | float,
        theta: Tensor | float,
        reset: Reset | None,
        fire: Fire,
        detached: bool,
    ) -> tuple[Tensor, Tensor]:
        """See the class."""
        if reset is None:
            return super().step(v, x, decay, theta, reset, fire, detached)
        if isinstance(reset, To) and reset.value:
            raise ValueError(f"snnTorch's membrane is reset to 0 or by Subtract(), got {reset!r}")
        r = above(v.detach() - theta, self.strict)
        v = reset.later(lambda old: self.charge(old, x, decay), v, r, theta)
        s = fire(v - theta, self.strict)
        if self.reset_delay:
            return s, v
        due = (s.detach() if detached else s) - r  # a spike of the step before is not reset twice
        return s, v - due * (theta if isinstance(reset, Subtract) else v)


@dataclass(frozen=True)
class SpikingJelly(Membrane):
    """SpikingJelly's `LIFNode`: fires at v >= θ, reset in the same step.

        v ← v + (x − (v − v_r))/τ   decay_input=True      v ← v − (v − v_r)/τ + x   else

    Args:
        decay: τ >= 1 in steps (inf: a perfect integrator, its `IFNode`, with decay_input=False);
            β = 1 − 1/τ; input gain 1/τ or 1.
        decay_input: see above.
        rest_at: v_r, its v_reset where that is not None.

    Source: Fang et al., Sci. Adv. 9, eadi1480 (2023); SpikingJelly 2.0.
    """

    strict: ClassVar[bool] = False

    decay: float = 2.0
    decay_input: bool = True
    rest_at: float = 0.0

    def __post_init__(self) -> None:
        flag("decay_input", self.decay_input)
        finite("rest_at", self.rest_at)
        if self.decay != math.inf:
            at_least("decay", self.decay, 1, "steps")
        elif self.decay_input:
            raise ValueError("decay=inf with decay_input=True takes no input: decay_input=False")

    @property
    def products(self) -> int:
        """None where nothing leaks."""
        return int(self.decay != math.inf)

    def charge(self, v: Tensor, x: Tensor, decay: Tensor | float) -> Tensor:
        """See the class."""
        if self.decay_input:
            return v + ((x - v if not self.rest_at else x - (v - self.rest_at)) / decay)
        if isinstance(decay, float) and decay == math.inf:
            return v + x
        return (v - (v if not self.rest_at else v - self.rest_at) / decay) + x

    def within(self, decay: Tensor) -> Tensor:
        """At least one step."""
        return decay.clamp(min=1)

    def rest(self, like: Tensor) -> Tensor:
        """See the class."""
        return torch.full_like(like, self.rest_at)


@dataclass(frozen=True)
class Norse(Membrane):
    """Norse's `LIFBoxCell`: v ← v + (dt/τ)(x + v_leak − v), fires at v > θ, reset at once.

    Args:
        decay: dt/τ in [0, 1]; β = 1 − dt/τ, and the input has the gain dt/τ, 0.1 by default.
        leak: v_leak.

    Source: Pehle & Pedersen, Norse 1.1, doi:10.5281/zenodo.4422025.
    """

    decay: float = 0.1
    leak: float = 0.0

    def __post_init__(self) -> None:
        between("decay", self.decay, 0, 1)
        finite("leak", self.leak)

    def charge(self, v: Tensor, x: Tensor, decay: Tensor | float) -> Tensor:
        """See the class."""
        return v + decay * (x + self.leak - v)


@dataclass(frozen=True)
class Exact(Membrane):
    """τ dv/dt = −v + R I, exact for a current held over each step.

        v ← v e^(−dt/τ) + R I (1 − e^(−dt/τ))

    Fires at v > θ, reset in the same step.

    Args:
        tau: time constant [s], > 0.
        dt: a step [s], > 0.
        r: resistance, units of v per unit of input, > 0.
    """

    tau: float = 20e-3
    dt: float = 1e-3
    r: float = 1.0

    def __post_init__(self) -> None:
        positive("tau", self.tau, "s")
        positive("dt", self.dt, "s")
        positive("r", self.r)

    @property
    def decay(self) -> float:  # type: ignore[override]
        """e^(−dt/τ)."""
        return math.exp(-self.dt / self.tau)

    @property
    def products(self) -> int:
        """The leak and the gain of the input."""
        return 2

    def charge(self, v: Tensor, x: Tensor, decay: Tensor | float) -> Tensor:
        """See the class."""
        return decay * v + (1 - decay) * (self.r * x)


@dataclass(frozen=True)
class Current(Membrane):
    """A membrane behind exponential synapses: i ← α i + x, and i charges it.

    snnTorch's `Synaptic` with `membrane=SnnTorch(β)`.

    Args:
        membrane: what is charged.
        alpha: decay of the synaptic current in a step, in [0, 1).
    """

    membrane: Membrane
    alpha: float = 0.8

    def __post_init__(self) -> None:
        instance("membrane", self.membrane, Membrane, optional=False)
        between("alpha", self.alpha, 0, 1)
        if isinstance(self.membrane, Conductance | Current):
            raise TypeError(f"membrane has synapses of its own: {self.membrane!r}")

    @property
    def decay(self) -> float:  # type: ignore[override]
        """The membrane's."""
        return self.membrane.decay

    @property
    def products(self) -> int:
        """The decay of the synapses, and the membrane's."""
        return 1 + self.membrane.products

    def current(self, x: Tensor, i: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        i = x if i is None else self.alpha * i + x
        return i, i

    def within(self, decay: Tensor) -> Tensor:
        """The membrane's."""
        return self.membrane.within(decay)

    def rest(self, like: Tensor) -> Tensor:
        """The membrane's."""
        return self.membrane.rest(like)

    def charge(self, v: Tensor, x: Tensor, decay: Tensor | float) -> Tensor:
        """The membrane's."""
        return self.membrane.charge(v, x, decay)

    def step(
        self,
        v: Tensor,
        x: Tensor,
        decay: Tensor | float,
        theta: Tensor | float,
        reset: Reset | None,
        fire: Fire,
        detached: bool,
    ) -> tuple[Tensor, Tensor]:
        """The membrane's."""
        return self.membrane.step(v, x, decay, theta, reset, fire, detached)


@dataclass(frozen=True)
class Conductance(Membrane):
    """Synapses as conductances to reversal potentials, relative to the leak.

        τ dv/dt = (v_leak − v) + g_e (E_e − v) + g_i (E_i − v),   g ← g e^(−dt/τ_syn) + input

    Positive inputs add to g_e, the magnitude of negative ones to g_i. Exact for conductances held
    over a step: v ← v_∞ + (v − v_∞) e^(−(1 + g_e + g_i) dt/τ). Fires at v > θ, reset at once.

    Args:
        tau: membrane time constant without input [s], > 0.
        dt: a step [s], > 0.
        tau_syn: time constant of both conductances [s], > 0.
        excitatory, inhibitory: reversal potentials E_e and E_i, in units of v.
        leak: v_leak.
    """

    functions: ClassVar[int] = 2

    tau: float = 20e-3
    dt: float = 1e-3
    tau_syn: float = 5e-3
    excitatory: float = 5.0
    inhibitory: float = -1.0
    leak: float = 0.0

    def __post_init__(self) -> None:
        for name in ("tau", "dt", "tau_syn"):
            positive(name, getattr(self, name), "s")
        for name in ("excitatory", "inhibitory", "leak"):
            finite(name, getattr(self, name))

    @property
    def decay(self) -> float:  # type: ignore[override]
        """dt/τ."""
        return self.dt / self.tau

    @property
    def products(self) -> int:
        """Of both conductances the decay and the reversal potential; the two of v_∞."""
        return 6

    def within(self, decay: Tensor) -> Tensor:
        """Not negative."""
        return decay.clamp(min=0)

    def rest(self, like: Tensor) -> Tensor:
        """The leak's potential."""
        return torch.full_like(like, self.leak)

    def current(self, x: Tensor, i: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Both conductances, (2, ...)."""
        new = torch.stack((x.clamp(min=0), (-x).clamp(min=0)))
        g = new if i is None else i * math.exp(-self.dt / self.tau_syn) + new
        return g, g

    def charge(self, v: Tensor, x: Tensor, decay: Tensor | float) -> Tensor:
        """See the class; x holds both conductances."""
        excited, inhibited = x
        total = 1 + excited + inhibited
        pull = self.leak + excited * self.excitatory + inhibited * self.inhibitory
        end = pull / total
        return end + (v - end) * torch.exp(-decay * total)
